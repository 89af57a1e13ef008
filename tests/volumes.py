"""Volumes of 8 bits and different length, and a victim of which closed forms are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module, Parameter

from ecgbench.core.data import Samples, Task
from ecgbench.core.signals import ByteSignals

LONGEST, PLANE = 6, (5, 4)


def arrays(n: int, seed: int = 0) -> list[np.ndarray]:
    """Volumes of 1 to 6 slices, values far from the ends of their range; read-only."""
    draw = np.random.default_rng(seed)
    made = [draw.integers(60, 190, size=(1 + row % LONGEST, *PLANE)).astype(np.uint8) for row in range(n)]
    for array in made:
        array.flags.writeable = False
    return made


def volumes(n: int, seed: int = 0) -> Samples:
    """Volumes, undecoded, labelled by turns."""
    return Samples.of(ByteSignals(arrays(n, seed), PLANE, LONGEST), torch.arange(n) % 2, ids=torch.arange(n) * 3 + 1)


class Counting(ByteSignals):
    """Notes how many rows each call reads."""

    reads: list[int]

    def read(self, rows: Tensor) -> Tensor:
        self.reads.append(len(rows))
        return super().read(rows)


def counting(n: int, seed: int = 0) -> tuple[Samples, list[int]]:
    """The same volumes, and the number of rows of every read from now on."""
    signals = Counting(arrays(n, seed), PLANE, LONGEST)
    reads: list[int] = []
    object.__setattr__(signals, "reads", reads)
    samples = volumes(n, seed)
    return Samples.of(signals, samples.y, ids=samples.ids), reads


class LargestSlice(Module):
    """Logit of the second class: the largest of a linear score over a sample's own slices."""

    takes_mask = True

    def __init__(self, weight: Tensor, offset: float) -> None:
        super().__init__()
        self.weight, self.offset = Parameter(weight), offset

    def scores(self, x: Tensor) -> Tensor:
        """(n, slices)."""
        return (x * self.weight).sum((-2, -1)) - self.offset

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.scores(x).masked_fill(~mask.flatten(2).any(2), -torch.inf).amax(1, keepdim=True)


def knee_task(side: int = 16, exams: int = 24) -> Task:
    """Exams of 1 to 3 slices of noise, with a bright spot in one of them where the label is 1; padded to 3."""
    train, val, test = (_knees(side, exams, seed) for seed in range(3))
    return Task("volumes", ("no", "yes"), train, val, test, bounds=(0.0, 1.0))


def decoded(task: Task) -> Task:
    """The same task with every volume in memory."""
    return replace(task, train=task.train[:], val=task.val[:], test=task.test[:])


def _knees(side: int, exams: int, seed: int) -> Samples:
    draw, made = np.random.default_rng(seed), []
    for row in range(exams):
        array = draw.integers(40, 90, size=(1 + row % 3, 1, side, side)).astype(np.uint8)
        array[draw.integers(len(array)), 0, : side // 2, : side // 2] += np.uint8(60 * (row // 3 % 2))
        made.append(array)
    y = torch.arange(exams) // 3 % 2
    return Samples.of(ByteSignals(made, (1, side, side), 3), y, ids=100 * seed + torch.arange(exams))
