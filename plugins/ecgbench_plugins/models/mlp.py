"""The multi-layer perceptron of the noise-to-signal-ratio study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import ClassVar

from torch.nn import Flatten, Linear, Module, ReLU, Sequential

from ecgbench import Model, Task, hookimpl


@dataclass(frozen=True)
class MLP(Model):
    """Hidden layers of `widths`, ReLU after each but the last; Ma and Liang 2020 (arXiv 2005.09134), section 3.

    For beats of 187 samples and 5 classes: 187-128-128-128-32-5, 61,381 parameters.
    """

    default_dataset: ClassVar[str] = "synthetic-beats"
    widths: tuple[int, ...] = (128, 128, 128, 32)

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths {self.widths} given; expected at least one, all of them 1 or more")

    def build(self, task: Task) -> Module:
        *bent, narrow = pairwise((prod(task.shape), *self.widths))
        body = [layer for before, after in bent for layer in (Linear(before, after), ReLU())]
        return Sequential(Flatten(), *body, Linear(*narrow), Linear(self.widths[-1], len(task.classes)))


@hookimpl
def models() -> Mapping[str, Model]:
    return {"mlp": MLP()}
