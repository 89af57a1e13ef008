"""Faulty models, each refused by the promise meant for it: a promise that nothing can break is none."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Flatten, Linear, Module, Sequential, Softmax, init

from ecgbench.core.data import Task
from ecgbench.core.interfaces import Model
from ecgbench.testing import SmallModel, check_model


class Unnamed(SmallModel):
    default_dataset: ClassVar[Any] = None


class Choosy(SmallModel):
    def unfit(self, task: Task) -> str | None:
        return "it serves nobody."


@dataclass
class Settable(Model):
    default_dataset: ClassVar[str] = "synthetic-beats"
    build = SmallModel.build
    width: int = 16


class Precise(SmallModel):
    def build(self, task: Task) -> Module:
        return super().build(task).double()


class Wordy(SmallModel):
    """One logit too many."""

    def build(self, task: Task) -> Module:
        return Sequential(Flatten(), Linear(prod(task.shape), len(task.classes) + 1))


class Probable(SmallModel):
    """Shows probabilities."""

    def build(self, task: Task) -> Module:
        return Sequential(super().build(task), Softmax(1))


class Peeking(SmallModel):
    """Reads the first test sample, which no run shows."""

    def build(self, task: Task) -> Module:
        return Sequential(Flatten(), Linear(task.test.x[0].numel(), len(task.classes)))


class _Outer(Module):
    def __init__(self, inner: Module, task: Task) -> None:
        super().__init__()
        self.inner = inner


class _AlwaysNorm(_Outer):
    def __init__(self, inner: Module, task: Task) -> None:
        super().__init__(inner, task)
        self.norm = BatchNorm1d(len(task.classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm.train()(self.inner(x))


class _Guess(_Outer):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        return logits + torch.rand_like(logits)


class _Counting(_Outer):
    def forward(self, x: Tensor) -> Tensor:
        random.random()
        return self.inner(x)


class _Centred(_Outer):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x - x.mean(0, keepdim=True))


class _Blind(_Outer):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.round())


class _Forgetful(_Outer):
    """Holds what no state_dict tells."""

    def __init__(self, inner: Module, task: Task) -> None:
        super().__init__(inner, task)
        self.shift = torch.rand(())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.shift


class Around(SmallModel):
    """The small model inside a module of `kind`."""

    kind: ClassVar[type[_Outer]]

    def build(self, task: Task) -> Module:
        return self.kind(super().build(task), task)


class TrainModeNorm(Around):
    kind = _AlwaysNorm


class Guessing(Around):
    kind = _Guess


class Counting(Around):
    kind = _Counting


class Centred(Around):
    kind = _Centred


class Blind(Around):
    kind = _Blind


class Forgetful(Around):
    kind = _Forgetful


class NumpyWeights(SmallModel):
    def build(self, task: Task) -> Module:
        module = super().build(task)
        first = next(module.parameters())
        init.constant_(first, float(np.random.random()))
        return module


@pytest.mark.parametrize(
    ("model", "promise"),
    [
        (Unnamed(), "interface"),
        (Choosy(), "interface"),
        (Settable(), "value"),
        (Precise(), "parameters"),
        (Peeking(), "parameters"),
        (Wordy(), "logits"),
        (Probable(), "logits"),
        (TrainModeNorm(), "steady"),
        (Guessing(), "deterministic"),
        (Centred(), "rowwise"),
        (Blind(), "gradient"),
        (NumpyWeights(), "seeded"),
        (Counting(), "generators"),
        (Forgetful(), "restorable"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_a_faulty_model_is_refused_by_the_promise_it_breaks(
    model: Any, promise: str, refused: Callable[..., str]
) -> None:
    assert refused(check_model, model) == promise


def test_the_model_that_the_mutants_are_made_from_keeps_every_promise() -> None:
    check_model(SmallModel())
