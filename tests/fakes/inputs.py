"""Fakes by what they do to the signal before the honest victim sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from faking import Fake, frozen_class
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import avg_pool1d

from ecgbench.hookspecs import hookimpl
from ecgbench.interfaces import Defense


@dataclass(frozen=True)
class Quantised(Fake):
    """Rounded to so many levels: a gradient of 0 everywhere."""

    levels: int = 64

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        return honest((x * self.levels).round() / self.levels)


@dataclass(frozen=True)
class Filtered(Fake):
    """Fourier coefficients rounded to a grid, as a lossy recording would; the gradient is cut in shreds by a ripple."""

    grid: float = 0.05
    ripple: float = 1e-3

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x)
        kept = torch.complex(*((part / self.grid).round() * self.grid for part in (spectrum.real, spectrum.imag)))
        return honest(torch.fft.irfft(kept, x.shape[-1]) + self.ripple * (x / self.ripple).sin())


@dataclass(frozen=True)
class Detecting(Fake):
    """A signal rougher than `limit` is refused: it gets the class of a smoothed one, and nothing to climb."""

    limit: float = 0.015

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        smooth = avg_pool1d(x, 5, 1, 2, count_include_pad=False)
        rough = x.diff(n=2).abs().flatten(1).median(1, keepdim=True).values > self.limit
        return torch.where(rough, frozen_class(honest(smooth)), honest(x))


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"quantised": Quantised(), "filtered": Filtered(), "detecting": Detecting()}
