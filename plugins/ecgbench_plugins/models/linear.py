"""One linear layer: the victim whose robust accuracy can be written down exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch.nn import Flatten, Linear, Module, Sequential

from ecgbench import Model, Task, hookimpl


@dataclass(frozen=True)
class LinearClassifier(Model):
    """logits = W x + b on the flattened sample of any shape."""

    default_dataset: ClassVar[str] = "synthetic-beats"

    def build(self, task: Task) -> Module:
        return Sequential(Flatten(), Linear(prod(task.shape), len(task.classes)))


@hookimpl
def models() -> Mapping[str, Model]:
    return {"linear": LinearClassifier()}
