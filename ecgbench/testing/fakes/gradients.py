"""Fakes by what they tell an attack about the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.hookspecs import hookimpl
from ecgbench.core.interfaces import Defense
from ecgbench.testing.fakes.faking import Fake


class _Lie(torch.autograd.Function):
    """x, with a gradient that points elsewhere: it is shifted along time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0].roll(7, -1)


@dataclass(frozen=True)
class Lying(Fake):
    """A backward pass of its own."""

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        return honest(_Lie.apply(x))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Dodging(Fake):
    """Where a gradient can be asked for it is another victim: one that has seen the signal backwards."""

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        return honest(x) + honest(x.flip(-1)) if x.requires_grad else honest(x)


@dataclass(frozen=True)
class Undefined(Fake):
    """Adds the root of 0, whose slope is infinite: every gradient is NaN."""

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        return honest(x + (x - x).sqrt())


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"lying": Lying(), "dodging": Dodging(), "undefined": Undefined()}
