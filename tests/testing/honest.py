"""Honest plugins: what the mutants are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy as mean_cross_entropy

from ecgbench.core.data import Batch, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.interfaces import Attack, Dataset, Defaults, Defense
from ecgbench.core.iteration import run_sequentially
from ecgbench.core.losses import cross_entropy
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.training import Schedule, train
from ecgbench.core.trial import Trial
from ecgbench.testing import small_task


@dataclass(frozen=True)
class Step(Attack):
    """One honest step."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        gradient = trial.gradient(torch.zeros_like(trial.batch.x), cross_entropy)[1]
        return trial.ball.project(trial.ball.eps * trial.ball.steepest(gradient))


@dataclass(frozen=True)
class Chance(Attack):
    """Noise in the ball that claims to be strong."""

    access: ClassVar[Literal["gradient", "score"]] = "score"

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        def point(part: Trial, at: Tensor) -> Tensor:
            delta = part.ball.sample(part.batch.ids, part.shape, rng)
            part.submit(delta)
            return delta

        return run_sequentially(trial, [point])


@dataclass(frozen=True)
class Blobs(Dataset):
    """An honest synthetic set."""

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.1, 0.2), headline=0.1)

    def load(self, root: DataRoot) -> Task:
        return small_task()


def plain_loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
    return mean_cross_entropy(module(batch.x), batch.y)


@dataclass(frozen=True)
class Plain(Schedule, Defense):
    """An honest training of three epochs."""

    epochs: int = 3

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        return train(model, task, plain_loss, self, rng, checkpoint)
