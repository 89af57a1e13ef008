"""Auto-PGD: gradient ascent with momentum that halves its own step, and goes back to its best point, when stuck."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor

from ecgbench import (
    Attack,
    Ball,
    Loss,
    RandomStream,
    StepState,
    Task,
    Threat,
    Trial,
    ValueAndGrad,
    chunks,
    cross_entropy,
    dlr,
    hookimpl,
    iterate,
    margin,
    pair_margin,
    run_sequentially,
)

LOSSES = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
PAIRED = {"margin": pair_margin, "dlr": dlr}
FORWARD = 0.75  # alpha: the share of the new step; the rest is the last one's
RISING = 0.75  # rho: the share of steps that must have raised the loss
LARGER = 0.9  # of the steps, shared by all but one of three radii: 30, 30 and 40 %


@dataclass(frozen=True)
class APGD(Attack):
    """APGD of Croce and Hein 2020 (arXiv 2003.01690), algorithm 1, on any ball.

    `steps` gradients from a random point of the ball or from the clean sample, `restarts` times for what is still
    robust. The step begins at 2 eps. At checkpoints every row for itself halves it and goes on from its best point if
    less than 75 % of the steps since the last checkpoint raised its loss, or if neither step nor best loss has changed
    since. The last point is the best one. `loss`: "ce", "margin" (best other logit minus the true one) or "dlr".

    `rival=each` ascends toward every other class at once, each from its own start, on the margin over that class or
    the targeted DLR (APGD-T of AutoAttack, which takes one class after another). `radii`, in units of eps, descend to
    1: the ascent begins in the largest ball, is projected into each next one and begins anew there (Croce and Hein
    2021, arXiv 2103.01208, section 3.3: 3, 2 and 1 eps for 30, 30 and 40 % of the steps). `eot` draws of a randomised
    victim make one answer.
    """

    steps: int = 100
    restarts: int = 1
    loss: Literal["ce", "dlr", "margin"] = "ce"
    rival: Literal["none", "each"] = "none"
    radii: tuple[float, ...] = (1.0,)
    start: Literal["random", "zero"] = "random"
    eot: int = 1

    def __post_init__(self) -> None:
        if self.steps < 2 * len(self.radii) or self.restarts < 1 or self.eot < 1:
            raise ValueError(
                f"steps={self.steps}, restarts={self.restarts}, eot={self.eot} given; "
                "expected 2 or more steps for each radius, 1 or more restarts and draws"
            )
        if list(self.radii) != sorted(set(self.radii), reverse=True) or self.radii[-1:] != (1,):
            raise ValueError(f"radii={self.radii} given; expected descending multiples of eps that end with 1")
        if self.rival == "each" and self.loss == "ce":
            raise ValueError("rival=each with loss=ce given; expected loss=margin or loss=dlr")

    def unfit(self, task: Task, threat: Threat) -> str | None:
        paired = threat.target is not None or self.rival == "each"
        needed = 4 if paired else 3
        if self.loss == "dlr" and not task.outputs.exclusive:
            return f"loss=dlr compares classes of which one holds; {task.name} has several at once: use loss=margin."
        if self.loss == "dlr" and len(task.classes) < needed:
            goal = " to reach one of them" if paired else ""
            return f"loss=dlr needs {needed} classes{goal}; {task.name} has {len(task.classes)}: use loss=margin."
        return None

    def longer(self) -> Attack:
        return replace(self, steps=2 * self.steps)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return run_sequentially(trial, self._climbs(rng))

    def _climbs(self, rng: RandomStream) -> Iterator[partial[Tensor]]:
        climb = self._toward_each if self.rival == "each" else self._ascend
        for restart in range(self.restarts):
            yield partial(climb, rng=rng.fold_in(self.loss, restart), random=self.start == "random" or restart > 0)

    def _ascend(self, trial: Trial, at: Tensor, rng: RandomStream, random: bool) -> Tensor:
        return self._climb(trial, LOSSES[self.loss], rng, random)

    def _toward_each(self, trial: Trial, at: Tensor, rng: RandomStream, random: bool) -> Tensor:
        """Of each row the end with the largest margin among its ascents, one toward each other class."""
        if not trial.goal.untargeted:
            return self._ascend(trial, at, rng, random)
        answer, rivals = torch.zeros_like(trial.batch.x), trial.rivals()
        for rows in chunks(torch.arange(len(trial), device=answer.device), (rivals.shape[1], *trial.shape)):
            copies = trial[rows].toward_each(rivals[rows])
            ends = self._climb(copies, PAIRED[self.loss], rng, random)
            best = margin(copies.logits(ends), copies.goal).view(len(rows), -1).argmax(1)
            answer[rows] = ends.view(len(rows), -1, *trial.shape)[torch.arange(len(rows)), best]
        return answer

    def _climb(self, trial: Trial, loss: Loss, rng: RandomStream, random: bool) -> Tensor:
        """One ascent, radius by radius; rows that fall leave it where they are."""
        largest = trial.ball.scaled(self.radii[0], trial.batch.x)
        zero = torch.zeros_like(trial.batch.x)
        delta = largest.sample(trial.batch.ids, trial.shape, rng) if random else zero
        for radius, steps in zip(self.radii, self._phases(), strict=True):
            rows = (~trial.is_adversarial).nonzero().squeeze(1)
            part = trial[rows]
            ball = part.ball.scaled(radius, part.batch.x)
            start = ball.project(delta[rows])
            rule, state = partial(self._step, steps=steps), self._begin(ball, start)
            delta[rows] = iterate(part, start, loss, rule, steps, state, ball=ball)
        return delta

    def _phases(self) -> list[int]:
        """Steps at each radius."""
        larger = [int(LARGER / len(self.radii) * self.steps)] * (len(self.radii) - 1)
        return [*larger, self.steps - sum(larger)]

    def _begin(self, ball: Ball, start: Tensor) -> StepState:
        lowest = torch.full_like(ball.eps.flatten(), -torch.inf)
        before = (start, -lowest)
        best = (start, torch.zeros_like(start), lowest)
        check = (2 * ball.eps, torch.zeros_like(lowest), lowest, lowest < 0)
        return (0, *before, *best, *check)

    def _step(
        self, ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState, steps: int
    ) -> tuple[Tensor, StepState]:
        """x(k) and its loss and gradient -> x(k + 1). What has to be known of x(k) is noted first."""
        k, before, value, best, best_gradient, top, length, rises, mark, halved = state
        rises = rises + (grad.value > value)
        higher = grad.value > top
        best, best_gradient = _pick(higher, delta, best), _pick(higher, grad.gradient, best_gradient)
        top = torch.where(higher, grad.value, top)
        if k == steps - 1:
            return best, state

        gradient = grad.gradient
        if k in (since := _checkpoints(steps)):
            stuck = (rises < RISING * since[k]) | (~halved & (top <= mark))
            length = _pick(stuck, length / 2, length)
            delta, gradient = _pick(stuck, best, delta), _pick(stuck, best_gradient, gradient)
            rises, mark, halved = torch.zeros_like(rises), top, stuck

        ahead = ball.project(torch.addcmul(delta, length, ball.steepest(gradient)))
        if k > 0:
            ahead = ball.project(delta.lerp(ahead, FORWARD).add_(delta - before, alpha=1 - FORWARD))
        return ahead, (k + 1, delta, grad.value, best, best_gradient, top, length, rises, mark, halved)


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
