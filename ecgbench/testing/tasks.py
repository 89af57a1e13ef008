"""Small tasks that any reasonable model learns in a few epochs, and a small model to train on them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import Dropout, Flatten, Linear, Module, ReLU, Sequential

from ecgbench.core.data import Samples, Task
from ecgbench.core.interfaces import Model
from ecgbench.core.random import RandomStream

SHAPES = ((1, 187), (3, 8, 8), (48, 18))  # of samples: a beat, a volume, a table of vital signs
PATIENT = 4  # samples in turn


def small_task(shape: tuple[int, ...] = (1, 187), classes: int = 5, seed: int = 0) -> Task:
    """One random pattern a class, noise round it, all in [0, 1]; the end of the last axis is padding, masked.

    32 samples of each class to train, 8 to validate, 16 to test; groups of 4; scale in mV. Equal arguments give
    equal bytes, in tensors of their own.
    """
    rng = RandomStream(("small task", *shape, classes, seed))
    pattern = rng.fold_in("pattern").uniform(torch.arange(classes), shape)
    return Task(
        name="small task",
        classes=tuple(f"C{label}" for label in range(classes)),
        train=_samples(pattern, rng, 0, 32),
        val=_samples(pattern, rng, 32, 40),
        test=_samples(pattern, rng, 40, 56),
        bounds=(0.0, 1.0),
        physical="mV",
        notes=("synthetic",),
        synthetic=True,
    )


def _samples(pattern: Tensor, rng: RandomStream, first: int, last: int) -> Samples:
    """The samples of every class from its number `first` up to `last`."""
    shape = pattern.shape[1:]
    ids = torch.arange(first * len(pattern), last * len(pattern))
    y = ids % len(pattern)
    length = (0.7 + 0.3 * rng.fold_in("length").uniform(ids, ())) * shape[-1]
    mask = torch.arange(shape[-1]) < length.view(-1, *[1] * len(shape))
    x = (0.25 + 0.5 * pattern[y] + 0.1 * rng.fold_in("noise").normal(ids, shape)).clamp(0, 1) * mask
    scale = 0.5 + rng.fold_in("scale").uniform(ids, ())
    return Samples.of(x, y, mask=mask, ids=ids, scale=scale, group=ids // PATIENT)


@dataclass(frozen=True)
class SmallModel(Model):
    """One hidden layer of `width`, with dropout, so that a training draws random numbers in every step."""

    default_dataset: ClassVar[str] = "synthetic-beats"
    width: int = 16

    def build(self, task: Task) -> Module:
        size, classes = prod(task.shape), len(task.classes)
        return Sequential(Flatten(), Linear(size, self.width), ReLU(), Dropout(0.1), Linear(self.width, classes))
