"""A fake defense: an honest victim behind a trick that misleads attacks and makes nobody robust."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from ecgbench.core.data import Batch, Task
from ecgbench.core.interfaces import Defense
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.training import Schedule, train

Answer = Callable[[Module, Tensor], Tensor]
"""The honest module and x (n, *shape) -> logits (n, classes)."""


@dataclass(frozen=True)
class Honest(Schedule, Defense):
    """Plain training by the cross-entropy."""

    epochs: int = 10

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            return cross_entropy(module(batch.x), batch.y)

        return train(model, task, loss, self, rng, checkpoint)


@dataclass(frozen=True)
class Fake(Defense):
    """`victim` is trained by the host; the trick has nothing to learn and asks it by `answer`."""

    victim: Defense = Honest()

    @property
    def base(self) -> Defense | None:
        return self.victim

    def wrap(self, module: Module, task: Task) -> Module:
        return Tricked(module, self.answer)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        return model

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        """What the fake answers in place of `honest(x)`."""
        raise NotImplementedError


class Tricked(Module):
    """An honest module, asked by a trick."""

    def __init__(self, honest: Module, answer: Answer) -> None:
        super().__init__()
        self.honest, self.answer = honest, answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.honest, x)


def frozen_class(logits: Tensor) -> Tensor:
    """1 for the predicted class, 0 for others: (n, classes), without a gradient."""
    return torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), 1.0)
