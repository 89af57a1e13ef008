"""Fakes by what they do to the signal before the honest victim sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import avg_pool1d

from ecgbench.core.data import Task
from ecgbench.core.hookspecs import hookimpl
from ecgbench.core.interfaces import Defense
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.testing.fakes.faking import Fake, frozen_class


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


class Guard(Module):
    """Signals rougher than `limit` are refused: they get the class of a smoothed signal, and no gradient."""

    def __init__(self, honest: Module) -> None:
        super().__init__()
        self.honest = honest
        self.limit: Tensor
        self.register_buffer("limit", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        smooth = avg_pool1d(x, 5, 1, 2, count_include_pad=False)
        refused = (roughness(x) > self.limit)[:, None]
        return torch.where(refused, frozen_class(self.honest(smooth)), self.honest(x))


def roughness(x: Tensor) -> Tensor:
    """Median size of the second difference: (n,)."""
    return x.diff(n=2).abs().flatten(1).median(1).values


@dataclass(frozen=True)
class Detecting(Fake):
    """Refuses what is rougher than half of the training signals."""

    def wrap(self, module: Module, task: Task) -> Module:
        return Guard(module)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        assert isinstance(model, Guard)
        model.limit.copy_(roughness(task.train.x[:20_000]).quantile(0.5))
        return model


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"quantised": Quantised(), "filtered": Filtered(), "detecting": Detecting()}
