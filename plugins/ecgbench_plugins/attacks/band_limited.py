"""A perturbation that holds no frequency outside a band, such as what moving electrodes add to an ECG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ecgbench import (
    Attack,
    Ball,
    EcgbenchError,
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
ROUNDS = 10  # between ball and band; on random linear losses 98 % of the optimum that a linear programme finds


@dataclass(frozen=True)
class BandLimited(Attack):
    """PGD over the waves of a band: signals whose discrete Fourier transform is 0 below `low` and above `high`, in Hz.

    Guo et al. 2019 (arXiv 1809.08758) and Sharma et al. 2019 (arXiv 1903.00073) confine attacks to low frequencies of
    images; here they are those of the last axis, time, at `rate` in Hz, by default the dataset's. What is added is a
    wave over the whole window that is nowhere larger than the ball allows: ball and band are projected onto in turn,
    ten times, and what then stands out of the ball is scaled into it, not clipped. Mask and bounds cut the wave, as the
    end of a recording and the range of an amplifier would; these edges are not of the band. Without them the
    perturbation is of the band to within rounding.

    `steps` steps of `rel_step * eps` go along the gradient's part in the band; `loss` and `start` are those of `pgd`.

    `band-limited` ends at 15 Hz, where the filter of `sap` does (-3 dB at 14.8 Hz), `baseline-wander` at 1 Hz. Moody,
    Muldrow and Mark 1984 (Computers in Cardiology 11, 381) recorded such noise of electrodes, muscles and baseline, of
    which that of muscles reaches far beyond 15 Hz.
    Friesen et al. 1990 (IEEE Trans. Biomed. Eng. 37, 85) model muscle noise by 10 % and drift of the baseline by 15 %
    of an ECG's height: 0.2 mV for one of 1.3 to 2 mV. A wave is less than the ball allows, so this is no worst case.
    """

    low: float = 0.0
    high: float = 15.0
    steps: int = 40
    rel_step: float = 0.25
    loss: Literal["ce", "margin", "targeted-margin"] = "ce"
    start: Literal["random", "zero"] = "random"
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rel_step <= 0:
            raise ValueError(f"steps={self.steps}, rel_step={self.rel_step} given; expected 1 or more, and above 0")
        if not 0 <= self.low <= self.high < float("inf"):
            raise ValueError(f"low={self.low}, high={self.high} given; expected 0 <= low <= high, in Hz")
        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise ValueError(f"rate={self.rate} given; expected a positive number of Hz, or none for the dataset's")

    def unfit(self, task: Task, threat: Threat) -> str | None:
        rate = self.rate or task.rate
        if task.features:
            return f"a band is one of time, the last axis; that of {task.name} holds its features."
        if rate is None:
            return f"a band is given in Hz; {task.name} states no sampling rate: give rate=<Hz>."
        if self.high >= rate / 2:
            return f"high={self.high:g} Hz leaves out nothing at a rate of {rate:g} Hz; expected less than half of it."
        if not bool(self._band(task.shape[-1], rate).any()):
            apart = f"waves of {task.shape[-1]} samples at {rate:g} Hz are {rate / task.shape[-1]:.3g} Hz apart"
            return f"{apart}: none lies between low={self.low:g} and high={self.high:g} Hz."
        return None

    def reach(self, eps: float) -> float | None:
        return self.steps * self.rel_step * eps

    def longer(self) -> Attack:
        return replace(self, steps=2 * self.steps)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        if self.loss != "targeted-margin" or not trial.goal.untargeted:
            return self._ascend(trial, rng)
        rivals = trial.rivals()
        parts = [partial(self._toward, rivals=rivals[:, rank], rng=rng) for rank in range(rivals.shape[1])]
        return run_sequentially(trial, parts)

    def _toward(self, trial: Trial, at: Tensor, rivals: Tensor, rng: RandomStream) -> Tensor:
        return self._ascend(trial.toward(rivals[at]), rng)

    def _ascend(self, trial: Trial, rng: RandomStream) -> Tensor:
        """From a wave of the band, which is carried beside what mask and bounds leave of it."""
        rate = self.rate or trial.rate
        if rate is None:
            raise EcgbenchError("a band is given in Hz, and the dataset states no sampling rate; expected rate=<Hz>.")
        band = self._band(trial.shape[-1], rate).to(trial.batch.x.device)
        wave = torch.zeros_like(trial.batch.x)
        if self.start == "random":
            free = _unlimited(trial.ball)
            draw = free.sample(trial.batch.ids, trial.shape, rng)
            wave = _resized(free, _of_band(draw, band), free.size(draw))
        loss = LOSSES[self.loss] if trial.goal.untargeted or self.loss == "ce" else margin
        step = partial(self._step, band=band)
        return iterate(trial, trial.ball.project(wave), loss, step, self.steps, (wave,))

    def _step(
        self, ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState, band: Tensor
    ) -> tuple[Tensor, StepState]:
        """Along the gradient for the wave, made as large as a step in the norm of the ball."""
        free = _unlimited(ball)
        gradient = grad.gradient if ball.mask is None else torch.where(ball.mask, grad.gradient, 0.0)
        step = _resized(free, _of_band(gradient, band), self.rel_step * ball.eps)
        wave = _limited(free, state[0] + step, band)
        return ball.project(wave), (wave,)

    def _band(self, length: int, rate: float) -> Tensor:
        """Which waves of a signal of `length` samples are of the band: (length // 2 + 1,) bool."""
        hertz = torch.fft.rfftfreq(length, 1 / rate, dtype=torch.float64)
        return (hertz >= self.low) & (hertz <= self.high)


def _unlimited(ball: Ball) -> Ball:
    """The ball without mask and bounds."""
    return Ball.around(ball.norm, ball.eps, ball.eps, unit=ball.unit, sides=ball.sides)


def _limited(ball: Ball, wave: Tensor, band: Tensor) -> Tensor:
    """A point of ball and band near `wave` (n, *shape)."""
    for _ in range(ROUNDS):
        wave = _of_band(ball.project(wave), band)
    return _resized(ball, wave, torch.minimum(ball.size(wave), ball.eps.flatten()))


def _of_band(signal: Tensor, band: Tensor) -> Tensor:
    """The part of `signal` (n, ..., time) that lies in the band."""
    return torch.fft.irfft(torch.fft.rfft(signal) * band, n=signal.shape[-1])


def _resized(ball: Ball, wave: Tensor, size: Tensor) -> Tensor:
    """Each row of `wave` (n, *shape) at this size, in the unit of the threat; a row of zeros stays."""
    wave = wave / wave.flatten(1).abs().amax(1).clamp_min(1e-38).view_as(ball.eps)  # or squares of it leave float32
    return wave * (size.view_as(ball.eps) / ball.size(wave).clamp_min(1e-38).view_as(ball.eps))


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"band-limited": BandLimited(), "baseline-wander": BandLimited(high=1.0)}
