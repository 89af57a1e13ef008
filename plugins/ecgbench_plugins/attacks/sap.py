"""Smooth adversarial perturbation: what is added has passed a low-pass, so that a signal shows no square waves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv1d

from ecgbench import (
    Attack,
    Ball,
    Loss,
    RandomStream,
    StepState,
    Trial,
    ValueAndGrad,
    cross_entropy,
    hookimpl,
    iterate,
    margin,
)

PUBLISHED = 300.0  # Hz
Smooth = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SAP(Attack):
    """SAP of Han et al. 2020 (Nature Medicine 26, 360; arXiv 1905.05163): delta = S(theta), theta in the ball.

    S is the mean of Gaussian kernels of all `sizes` and `sigmas`, in samples at 300 Hz, along the last axis. They
    are scaled to `rate` in Hz, the dataset's sampling rate by default; where it has none they are as published. The
    taps are 0 or more and sum to 1, so delta is no larger than theta, in L-inf and in L2; it is cut off at the mask
    and the bounds. theta starts from `rough` steps of PGD, which are not smooth and count as no answer, and takes
    `steps` steps up the gradient through S, of `rel_step * eps`, or of `abs_step` in the unit of eps. No random
    start; a smooth perturbation is less than the ball allows, so this is no worst case.
    """

    rough: int = 20
    steps: int = 40
    rel_step: float = 0.1
    abs_step: float | None = None
    loss: Literal["ce", "margin"] = "ce"
    rate: float | None = None
    sizes: tuple[int, ...] = (5, 7, 11, 15, 19)
    sigmas: tuple[float, ...] = (1.0, 3.0, 5.0, 7.0, 10.0)

    def __post_init__(self) -> None:
        if self.rough < 0 or self.steps < 1:
            raise ValueError(f"rough={self.rough}, steps={self.steps} given; expected 0 or more, and 1 or more")
        if (self.rel_step if self.abs_step is None else self.abs_step) <= 0:
            raise ValueError("a step of 0 or less given; expected a positive one")
        if not self.sizes or any(size < 1 or size % 2 == 0 for size in self.sizes):
            raise ValueError(f"sizes {self.sizes} given; expected at least one, all of them odd")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise ValueError(f"rate={self.rate} given; expected a positive number of Hz, or none for the dataset's")
        if min(self.sigmas, default=0) <= 0:
            raise ValueError(f"sigmas {self.sigmas} given; expected at least one, all of them positive")

    def reach(self, eps: float) -> float | None:
        return (self.rough + self.steps) * (self.rel_step * eps if self.abs_step is None else self.abs_step)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        loss = cross_entropy if self.loss == "ce" else margin
        smooth = partial(_smoothed, taps=self.taps(trial.rate).to(trial.batch.x.device))
        theta = self._roughly(trial, loss)
        step = partial(self._step, smooth=smooth)
        return iterate(trial, trial.ball.project(smooth(theta)), loss, step, self.steps, (theta,))

    def taps(self, rate: float | None = None) -> Tensor:
        """S at a dataset's `rate` as one kernel: an odd number of taps, the middle one on the sample itself."""
        samples = (self.rate or rate or PUBLISHED) / PUBLISHED
        halves = [max(0, round((size * samples - 1) / 2)) for size in self.sizes]
        place = torch.arange(-max(halves), max(halves) + 1, dtype=torch.float64)
        total = torch.zeros_like(place)
        for half, sigma in product(halves, self.sigmas):
            bell = torch.exp(-((place / (sigma * samples)) ** 2) / 2) * (place.abs() <= half)
            total += bell / bell.sum()
        return (total / total.sum()).float()

    def _roughly(self, trial: Trial, loss: Loss) -> Tensor:
        """Where plain PGD gets to, (n, *shape); an adversarial point on its way is none of a smooth perturbation."""
        unseen = replace(trial, watch="last") if trial.watch == "first" else trial
        theta = torch.zeros_like(trial.batch.x)
        for _ in range(self.rough):
            theta = self._climbed(trial.ball, theta, unseen.gradient(theta, loss)[1])
        return theta

    def _step(
        self, ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState, smooth: Smooth
    ) -> tuple[Tensor, StepState]:
        """The gradient for theta is S of that for delta, the kernel being symmetric."""
        open_to = grad.gradient if ball.mask is None else torch.where(ball.mask, grad.gradient, 0.0)
        theta = self._climbed(ball, state[0], smooth(open_to))
        return ball.project(smooth(theta)), (theta,)

    def _climbed(self, ball: Ball, theta: Tensor, gradient: Tensor) -> Tensor:
        length = self.rel_step * ball.eps if self.abs_step is None else ball.length(self.abs_step)
        return ball.project(torch.addcmul(theta, length, ball.steepest(gradient)))


def _smoothed(signal: Tensor, taps: Tensor) -> Tensor:
    """`signal` (n, ..., time) convolved along time, with zeros outside."""
    rows = signal.reshape(-1, 1, signal.shape[-1])
    return conv1d(rows, taps.view(1, 1, -1), padding=len(taps) // 2).view_as(signal)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"sap": SAP()}
