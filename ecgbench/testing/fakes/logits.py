"""Fakes by what they do to the logits: the class stays that of the honest victim, and a loss goes flat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from ecgbench.core.data import Batch, Task
from ecgbench.core.hookspecs import hookimpl
from ecgbench.core.interfaces import Defense
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.training import Schedule, train
from ecgbench.testing.fakes.faking import Fake


@dataclass(frozen=True)
class Scaled(Fake):
    """The cross-entropy of huge logits is 0 in float32."""

    factor: float = 1000.0

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        return self.factor * honest(x)


@dataclass(frozen=True)
class Tempered(Schedule, Defense):
    """Trained behind a temperature and used without it, as in defensive distillation (Papernot et al. 2016)."""

    epochs: int = 20
    temperature: float = 100.0

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            return cross_entropy(module(batch.x) / self.temperature, batch.y)

        return train(model, task, loss, self, rng, checkpoint)


@dataclass(frozen=True)
class Softmaxed(Fake):
    """Probabilities: a softmax over them can no longer tell a class from another."""

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        return (5 * honest(x)).softmax(1)


@dataclass(frozen=True)
class Rounded(Fake):
    """Logits on a grid: their gradient is 0."""

    places: int = 1

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        return honest(x).round(decimals=self.places)


@dataclass(frozen=True)
class Clamped(Fake):
    """Logits that fall no further than a bound below the largest: a rival beyond it has no slope to climb."""

    bound: float = 1.0

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        logits = honest(x)
        return (logits - logits.amax(1, keepdim=True)).clamp_min(-self.bound)


@dataclass(frozen=True)
class Sweetened(Fake):
    """A ripple on the logits, too small to change a class: its slope drowns the true one (a honeypot)."""

    height: float = 0.3
    waves: float = 3000.0

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        logits = honest(x)
        time = torch.arange(1.0, x[0].numel() + 1, device=x.device)
        bait = torch.cos(torch.outer(time, torch.arange(1.0, logits.shape[1] + 1, device=x.device)))
        return logits + self.height * (self.waves * x.flatten(1) @ bait).sin()


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {
        "scaled": Scaled(),
        "tempered": Tempered(),
        "softmaxed": Softmaxed(),
        "rounded": Rounded(),
        "clamped": Clamped(),
        "sweetened": Sweetened(),
    }
