"""Stratified folds of the training split, patients kept together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ecgbench.core.data import Samples, Task
from ecgbench.core.random import RandomStream


def folds(task: Task, count: int, seed: int) -> Iterator[Task]:
    """The task `count` times, each time another part of its training split in the place of validation.

    Validation and test samples of the task itself take no part.
    """
    number = fold_numbers(task.train, count, seed)
    for one in range(count):
        kept, held_out = ((number == one) == side for side in (False, True))
        train, val = (task.train.select(rows.nonzero().squeeze(1)) for rows in (kept, held_out))
        yield replace(task, train=train, val=val)


def fold_numbers(samples: Samples, count: int, seed: int) -> Tensor:
    """The fold of each sample (n,): a group's samples share theirs, and each class is dealt out evenly over the folds.

    A group counts as of the class of its first sample.
    """
    unit = samples.ids if samples.group is None else samples.group
    names, place = unit.unique(return_inverse=True)
    first = torch.full((len(names),), len(unit)).scatter_reduce(0, place, torch.arange(len(unit)), "amin")
    order = RandomStream(("folds", seed)).uniform(names, ()).argsort(stable=True)
    order = order[samples.y[first][order].argsort(stable=True)]
    dealt = torch.empty_like(order)
    dealt[order] = torch.arange(len(order)) % count
    return dealt[place]
