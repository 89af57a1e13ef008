"""The loop of iterative attacks, written once: submit, drop the adversarial rows, step.

An attack is its own update rule; adversarial rows leave delta, ball, state and batch together, at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ecgbench.core.data import take
from ecgbench.core.losses import margin
from ecgbench.core.threat import Ball
from ecgbench.core.trial import Loss, Trial, ValueAndGrad

StepState = tuple[Any, ...]
"""What a rule carries from step to step: tensors of one row per sample, and plain numbers."""
Step = Callable[[Ball, Tensor, ValueAndGrad, StepState], tuple[Tensor, StepState]]
"""ball, delta, loss and gradient at delta, state -> next delta (inside the ball), next state."""
GradientOracle = Callable[[Trial, Tensor, Loss], tuple[Tensor, ValueAndGrad]]
"""trial, delta, loss -> which rows are adversarial at delta, loss and gradient there, or an estimate of it."""


def iterate(
    trial: Trial,
    start: Tensor,
    loss: Loss,
    step: Step,
    steps: int,
    state: StepState = (),
    oracle: GradientOracle = Trial.value_and_grad,
    ball: Ball | None = None,
) -> Tensor:
    """Walk `steps` steps from `start` (n, *shape): one gradient each, and a last submission at the end.

    The rule steps in `ball`, by default the trial's own; found is what lies in the trial's own. A row that stands
    several times in the trial (`Trial.toward_each`) leaves it with its first fall. Returns delta (n, *shape): the first
    adversarial iterate of adversarial rows, the last one of the others.
    """
    answer = start.clone()
    rows = torch.arange(len(trial), device=start.device)
    delta, ball = start, trial.ball if ball is None else ball
    for _ in range(steps):
        hit, grad = oracle(trial, delta, loss)
        hit = hit | trial.is_adversarial
        if bool(hit.any()):
            gone, stay = hit.nonzero().squeeze(1), (~hit).nonzero().squeeze(1)
            answer[rows[gone]] = delta[gone]
            rows, delta, grad, trial, ball = rows[stay], take(delta, stay), grad[stay], trial[stay], ball[stay]
            state = tuple(take(part, stay) if isinstance(part, Tensor) else part for part in state)
            if not len(rows):
                return answer
        delta, state = step(ball, delta, grad, state)
    trial.submit(delta)
    answer[rows] = delta
    return answer


def run_sequentially(trial: Trial, parts: Iterable[Callable[[Trial, Tensor], Tensor]]) -> Tensor:
    """Run the parts of an attack (restarts, losses, components), each on the rows that remain.

    A part gets the sub-trial and its rows' places in `trial` (m,), and gives delta (m, *shape). An adversarial row
    keeps the perturbation that made it so, any other that of the last part. Unwatched (inside a training) no row
    counts as adversarial: every part meets all rows, and each row keeps the perturbation of the largest margin.
    """
    if trial.watch == "never":
        return _strongest(trial, parts)
    answer = torch.zeros_like(trial.batch.x)
    for part in parts:
        at = (~trial.is_adversarial).nonzero().squeeze(1)
        if not len(at):
            break
        whole = len(at) == len(trial)
        answer[at] = part(trial if whole else trial[at], at)
    return trial.best(answer)


def _strongest(trial: Trial, parts: Iterable[Callable[[Trial, Tensor], Tensor]]) -> Tensor:
    rows = torch.arange(len(trial), device=trial.batch.x.device)
    found = [part(trial, rows) for part in parts]
    if len(found) == 1:
        return found[0]
    leads = torch.stack([margin(trial.logits(delta), trial.goal) for delta in found])
    return torch.stack(found)[leads.argmax(0), rows]
