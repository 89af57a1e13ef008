"""Fakes that are no fixed function of the signal: chance, other samples or what was met before decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Module, Sequential
from torch.nn.functional import dropout

from ecgbench.core.data import Task
from ecgbench.core.hookspecs import hookimpl
from ecgbench.core.interfaces import Defense
from ecgbench.core.losses import cross_entropy
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import evaluating
from ecgbench.testing.fakes.faking import Fake, Honest


@dataclass(frozen=True)
class Noisy(Fake):
    """Noise from torch's own generator, which nobody is told of."""

    size: float = 0.1

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        return honest(x + self.size * torch.randn_like(x))


@dataclass(frozen=True)
class Dropping(Fake):
    """Dropout that goes on after the training."""

    share: float = 0.1

    def answer(self, honest: Module, x: Tensor) -> Tensor:
        return honest(dropout(x, self.share, training=True))


class Unsettled(BatchNorm1d):
    """A batch norm that is always in training mode: a sample is normalised by those beside it."""

    def train(self, mode: bool = True) -> Unsettled:
        return super().train(True)


@dataclass(frozen=True)
class Normed(Honest):
    """Trained with a batch norm that is left in training mode."""

    def wrap(self, module: Module, task: Task) -> Module:
        return Sequential(Unsettled(task.shape[0], affine=False), module)


class Memory(Module):
    """Points (m, features) that are known: near them the answer is a frozen class."""

    def __init__(self, honest: Module, points: Tensor) -> None:
        super().__init__()
        self.honest = honest
        self.points: Tensor
        self.classes: Tensor
        self.register_buffer("points", points)
        self.register_buffer("classes", torch.zeros(len(points), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.honest(x)
        if not len(self.points):
            return logits
        away, nearest = torch.cdist(x.detach().flatten(1), self.points).min(1)
        known = torch.zeros_like(logits).scatter(1, self.classes[nearest, None], 1.0)
        return torch.where((away < 5e-3)[:, None], known, logits)


@dataclass(frozen=True)
class Memorised(Fake):
    """Has met the first step of PGD from every test sample, and answers there by the sample's class.

    `step` is the length of that step as a share of `eps`. An attack that takes this step finds nothing to climb and
    stays; one that starts elsewhere never meets it. The table shows it test samples; a run shows them to no defense,
    and there it knows nothing and is honest.
    """

    step: float = 0.1
    eps: float = 0.03

    def wrap(self, module: Module, task: Task) -> Module:
        return Memory(module, torch.zeros_like(task.test.x).flatten(1))

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        test, threat = task.test, Threat("linf")
        ball, goal = threat.ball(test, self.eps, task.bounds), threat.goal(test.y, task.outputs)
        assert isinstance(model, Memory)
        with evaluating(model.honest) as victim:
            trial = Trial.begin(victim, test, ball, goal, rng, watch="never")
            _, gradient = trial.gradient(torch.zeros_like(test.x), cross_entropy)
        delta = ball.project(self.step * ball.eps * ball.steepest(gradient))
        model.points.copy_((test.x + delta).flatten(1))
        model.classes.copy_(test.y)
        return model


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"noisy": Noisy(), "dropping": Dropping(), "normed": Normed(), "memorised": Memorised()}
