"""Momentum iterative FGSM: steps along a running sum of gradients, each of them first made equally large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ecgbench import Attack, Ball, RandomStream, StepState, Trial, ValueAndGrad, cross_entropy, hookimpl, iterate


@dataclass(frozen=True)
class MIFGSM(Attack):
    """MI-FGSM of Dong et al. 2018 (arXiv 1710.06081), algorithm 1, on the cross-entropy, on any ball.

    `steps` steps of `rel_step * eps` from the clean sample, along g = `decay` * g + gradient / ||gradient||_1;
    the paper's step is eps / steps and its decay 1.
    """

    steps: int = 10
    decay: float = 1.0
    rel_step: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps} given; expected 1 or more")
        if self.decay < 0 or self.rel_step <= 0:
            raise ValueError(
                f"decay={self.decay}, rel_step={self.rel_step} given; expected a decay of 0 or more, a step above 0"
            )

    def reach(self, eps: float) -> float | None:
        return self.steps * self.rel_step * eps

    def longer(self) -> Attack:
        return replace(self, steps=2 * self.steps)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        start = torch.zeros_like(trial.batch.x)
        return iterate(trial, start, cross_entropy, self._step, self.steps, (torch.zeros_like(start),))

    def _step(self, ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState) -> tuple[Tensor, StepState]:
        size = grad.gradient.flatten(1).abs().sum(1).clamp_min(1e-38)
        momentum = self.decay * state[0] + grad.gradient / size.view_as(ball.eps)
        return ball.project(delta + self.rel_step * ball.eps * ball.steepest(momentum)), (momentum,)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"mifgsm": MIFGSM()}
