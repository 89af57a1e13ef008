"""Auto-PGD: gradient ascent with momentum that halves its own step, and goes back to its best point, when stuck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor

from ecgbench.data import Task
from ecgbench.descent import State, descend, in_turn
from ecgbench.hookspecs import hookimpl
from ecgbench.interfaces import Attack
from ecgbench.keyed import Keyed
from ecgbench.losses import cross_entropy, dlr, margin
from ecgbench.threat import Ball, Threat
from ecgbench.trial import Slope, Trial

LOSSES = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
FORWARD = 0.75  # alpha: the share of the new step; the rest is the last one's
RISING = 0.75  # rho: the share of steps that must have raised the loss


@dataclass(frozen=True)
class APGD(Attack):
    """APGD of Croce and Hein 2020 (arXiv 2003.01690), algorithm 1, on any ball.

    `steps` gradients from a random point of the ball, `restarts` times for what still stands. The step begins
    at 2 eps. At checkpoints every row for itself halves it and goes on from its best point if less than 75 % of
    the steps since the last checkpoint raised its loss, or if neither step nor best loss has changed since. The
    last point is the best one. `loss`: "ce", "margin" (best other logit minus the true one) or "dlr". `eot` draws of a
    randomised victim make one answer.
    """

    steps: int = 100
    restarts: int = 1
    loss: Literal["ce", "dlr", "margin"] = "ce"
    eot: int = 1

    def __post_init__(self) -> None:
        if self.steps < 2 or self.restarts < 1 or self.eot < 1:
            raise ValueError(
                f"steps={self.steps}, restarts={self.restarts}, eot={self.eot} given; "
                "expected 2 or more steps, 1 or more restarts and draws"
            )

    def unfit(self, task: Task, threat: Threat) -> str | None:
        needed = 3 if threat.target is None else 4
        if self.loss == "dlr" and len(task.classes) < needed:
            goal = "" if threat.target is None else " to reach one of them"
            return f"loss=dlr needs {needed} classes{goal}; {task.name} has {len(task.classes)}: use loss=margin."
        return None

    def longer(self) -> Attack:
        return replace(self, steps=2 * self.steps)

    def perturb(self, trial: Trial, rng: Keyed) -> Tensor:
        return in_turn(trial, self._climbs(rng))

    def _climbs(self, rng: Keyed) -> Iterator[partial[Tensor]]:
        for restart in range(self.restarts):
            yield partial(self._climb, rng=rng.at(self.loss, restart))

    def _climb(self, trial: Trial, at: Tensor, rng: Keyed) -> Tensor:
        start = trial.ball.sample(trial.batch.ids, trial.shape, rng)
        eps, lowest = trial.ball.eps, torch.full_like(trial.ball.eps.flatten(), -torch.inf)
        before = (start, -lowest)
        best = (start, torch.zeros_like(start), lowest)
        check = (2 * eps, torch.zeros_like(lowest), lowest, lowest < 0)
        return descend(trial, start, LOSSES[self.loss], self._step, self.steps, (0, *before, *best, *check))

    def _step(self, ball: Ball, delta: Tensor, slope: Slope, state: State) -> tuple[Tensor, State]:
        """x(k) and its loss and gradient -> x(k + 1). What has to be known of x(k) is noted first."""
        k, before, value, best, climb, top, length, rises, mark, halved = state
        rises = rises + (slope.value > value)
        higher = slope.value > top
        best, climb = _pick(higher, delta, best), _pick(higher, slope.gradient, climb)
        top = torch.where(higher, slope.value, top)
        if k == self.steps - 1:
            return best, state

        gradient = slope.gradient
        if k in (since := _checkpoints(self.steps)):
            stuck = (rises < RISING * since[k]) | (~halved & (top <= mark))
            length = _pick(stuck, length / 2, length)
            delta, gradient = _pick(stuck, best, delta), _pick(stuck, climb, gradient)
            rises, mark, halved = torch.zeros_like(rises), top, stuck

        ahead = ball.project(delta + length * ball.steepest(gradient))
        if k > 0:
            ahead = ball.project(delta + FORWARD * (ahead - delta) + (1 - FORWARD) * (delta - before))
        return ahead, (k + 1, delta, slope.value, best, climb, top, length, rises, mark, halved)


def _pick(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Rows (n,) of `yes` where true, of `no` elsewhere: (n, *shape)."""
    return torch.where(rows.view(-1, *[1] * (yes.ndim - 1)), yes, no)


@cache
def _checkpoints(steps: int) -> dict[int, int]:
    """The steps at which to check, each with the number of steps since the check before it (section 3.2)."""
    percent, gap, last, since = 22, 22, 0, {}
    while percent <= 100:
        at = -(-percent * steps // 100)
        if at > last:
            since[at], last = at - last, at
        gap = max(gap - 3, 6)
        percent += gap
    return since


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"apgd": APGD(), "apgd-margin": APGD(loss="margin"), "apgd-dlr": APGD(loss="dlr")}
