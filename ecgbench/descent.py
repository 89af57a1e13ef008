"""The loop of iterative attacks, written once: look, drop the fallen, step.

An attack is its own update rule; fallen rows leave delta, ball, state and batch together, at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ecgbench.data import take
from ecgbench.losses import margin
from ecgbench.threat import Ball
from ecgbench.trial import Loss, Slope, Trial

State = tuple[Any, ...]
"""What a rule carries from step to step: tensors of one row per sample, and plain numbers."""
Step = Callable[[Ball, Tensor, Slope, State], tuple[Tensor, State]]
"""ball, delta, slope at delta, state -> next delta (inside the ball), next state."""
Slopes = Callable[[Trial, Tensor, Loss], tuple[Tensor, Slope]]
"""trial, delta, loss -> which rows are adversarial at delta, the slope there: the gradient or an estimate of it."""


def descend(
    trial: Trial,
    start: Tensor,
    loss: Loss,
    step: Step,
    steps: int,
    state: State = (),
    slopes: Slopes = Trial.slope,
    ball: Ball | None = None,
) -> Tensor:
    """Walk `steps` steps from `start` (n, *shape): one slope each and a last look at the end.

    The rule steps in `ball`, by default the trial's own; found is what lies in the trial's own. A row that stands
    several times in the trial (`Trial.toward_each`) leaves it with its first fall. Returns delta (n, *shape): the first
    adversarial iterate of rows that fell, the last one of the others.
    """
    answer = start.clone()
    rows = torch.arange(len(trial), device=start.device)
    delta, ball = start, trial.ball if ball is None else ball
    for _ in range(steps):
        hit, slope = slopes(trial, delta, loss)
        hit = hit | trial.fell
        if bool(hit.any()):
            gone, stay = hit.nonzero().squeeze(1), (~hit).nonzero().squeeze(1)
            answer[rows[gone]] = delta[gone]
            rows, delta, slope, trial, ball = rows[stay], take(delta, stay), slope[stay], trial[stay], ball[stay]
            state = tuple(take(part, stay) if isinstance(part, Tensor) else part for part in state)
            if not len(rows):
                return answer
        delta, state = step(ball, delta, slope, state)
    trial.look(delta)
    answer[rows] = delta
    return answer


def in_turn(trial: Trial, parts: Iterable[Callable[[Trial, Tensor], Tensor]]) -> Tensor:
    """Run the parts of an attack (restarts, losses, components), each on the rows still standing.

    A part gets the sub-trial and its rows' places in `trial` (m,), and gives delta (m, *shape). A fallen row
    keeps the perturbation that felled it, any other that of the last part. Unwatched (inside a training) nothing
    falls: every part meets all rows, and each row keeps the perturbation of the largest margin.
    """
    if trial.watch == "never":
        return _worst(trial, parts)
    answer = torch.zeros_like(trial.batch.x)
    for part in parts:
        at = (~trial.fell).nonzero().squeeze(1)
        if not len(at):
            break
        whole = len(at) == len(trial)
        answer[at] = part(trial if whole else trial[at], at)
    return trial.best(answer)


def _worst(trial: Trial, parts: Iterable[Callable[[Trial, Tensor], Tensor]]) -> Tensor:
    rows = torch.arange(len(trial), device=trial.batch.x.device)
    found = [part(trial, rows) for part in parts]
    if len(found) == 1:
        return found[0]
    leads = torch.stack([margin(trial.scores(delta), trial.aim) for delta in found])
    return torch.stack(found)[leads.argmax(0), rows]
