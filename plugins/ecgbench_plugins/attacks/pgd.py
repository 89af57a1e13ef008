"""Projected gradient descent: many small steps uphill on a loss, projected back into the ball."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ecgbench import (
    Attack,
    Ball,
    RandomStream,
    StepState,
    Task,
    Threat,
    Trial,
    ValueAndGrad,
    cross_entropy,
    hookimpl,
    iterate,
    margin,
    pair_margin,
    run_sequentially,
)

LOSSES = {"ce": cross_entropy, "margin": margin, "targeted-margin": pair_margin}


@dataclass(frozen=True)
class PGD(Attack):
    """PGD of Madry et al. 2018, section 2.1, on any ball.

    `steps` gradient steps of `rel_step * eps`, or of `abs_step` in the unit of eps where that is given, from a
    random point of the ball or from the clean sample; `restarts` > 1 begins again at random for what remains.
    `loss`: "ce", "margin" (best other logit minus the true one), or "targeted-margin", the margin toward every
    other class in turn, likeliest first (with a target: that one). `update=adamax` feeds the gradient's sign
    to Adamax, a momentum-sign step (Ma and Liang 2020, as coded); L-inf only. The margin of a target is its
    least lead over several rivals: its gradient jumps between them and is averaged over steps. `eot` draws of a
    randomised victim make one answer.
    """

    steps: int = 40
    rel_step: float = 0.1
    abs_step: float | None = None
    loss: Literal["ce", "margin", "targeted-margin"] = "ce"
    start: Literal["random", "zero"] = "random"
    restarts: int = 1
    update: Literal["plain", "adamax"] = "plain"
    eot: int = 1

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts, self.eot) < 1:
            raise ValueError(f"steps={self.steps}, restarts={self.restarts}, eot={self.eot} given; expected 1 or more")
        if (self.rel_step if self.abs_step is None else self.abs_step) <= 0:
            raise ValueError("a step of 0 or less given; expected a positive one")

    def unfit(self, task: Task, threat: Threat) -> str | None:
        if self.update == "adamax" and threat.norm != "linf":
            return f"update=adamax is a rule of signs for linf; threat {threat.norm} needs update=plain."
        return None

    def reach(self, eps: float) -> float | None:
        return self.steps * (self.rel_step * eps if self.abs_step is None else self.abs_step)

    def longer(self) -> Attack:
        return replace(self, steps=2 * self.steps, start="random")

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return run_sequentially(trial, self._descents(trial, rng))

    def _descents(self, trial: Trial, rng: RandomStream) -> Iterator[partial[Tensor]]:
        """Every restart with every rival, in the order they are tried."""
        paired = self.loss == "targeted-margin" and trial.goal.untargeted
        rivals = trial.rivals() if paired else None
        for restart in range(self.restarts):
            for rank in range(rivals.shape[1] if rivals is not None else 1):
                toward = None if rivals is None else rivals[:, rank]
                yield partial(self._descent, rng=rng.fold_in(restart), restart=restart, toward=toward)

    def _descent(self, trial: Trial, at: Tensor, rng: RandomStream, restart: int, toward: Tensor | None) -> Tensor:
        if toward is not None:
            trial = trial.toward(toward[at])
        zero = torch.zeros_like(trial.batch.x)
        fresh = self.start == "random" or restart > 0
        start = trial.ball.sample(trial.batch.ids, trial.shape, rng) if fresh else zero
        loss = LOSSES[self.loss] if trial.goal.untargeted or self.loss == "ce" else margin
        if self.update == "adamax":
            return iterate(trial, start, loss, self._adamax, self.steps, (zero, zero.clone(), 0))
        if not trial.goal.untargeted and loss is margin:
            return iterate(trial, start, loss, self._averaged, self.steps, (zero,))
        return iterate(trial, start, loss, self._plain, self.steps)

    def _plain(self, ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState) -> tuple[Tensor, StepState]:
        return ball.project(torch.addcmul(delta, self._length(ball), ball.steepest(grad.gradient))), state

    def _averaged(self, ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState) -> tuple[Tensor, StepState]:
        """A plain step along the running mean of gradients: what converges on a loss with kinks."""
        mean = state[0].lerp(grad.gradient, 0.1)
        return ball.project(torch.addcmul(delta, self._length(ball), ball.steepest(mean))), (mean,)

    def _adamax(self, ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState) -> tuple[Tensor, StepState]:
        """Adamax (Kingma and Ba 2015, algorithm 2) on the sign; betas 0.9 and 0.999, as in torch."""
        mean, peak, step = state
        sign = grad.gradient.sign()
        mean = mean.lerp(sign, 0.1)
        peak = torch.maximum(0.999 * peak, sign.abs() + 1e-8)
        rate = self._length(ball) / (1 - 0.9 ** (step + 1))
        return ball.project(torch.addcdiv(delta, rate * mean, peak)), (mean, peak, step + 1)

    def _length(self, ball: Ball) -> Tensor:
        """The step of each row, (n, 1, ..., 1)."""
        return self.rel_step * ball.eps if self.abs_step is None else ball.length(self.abs_step)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {
        "pgd": PGD(),
        "pgd20": PGD(steps=20, rel_step=0.25),
        "pgd100": PGD(steps=100),
        "pgd-cinc-study": PGD(steps=20, abs_step=0.02, start="zero"),
    }
