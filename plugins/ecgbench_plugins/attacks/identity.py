"""No attack at all: the control whose scores must equal the clean ones at every eps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ecgbench import Attack, RandomStream, Trial, hookimpl


@dataclass(frozen=True)
class Identity(Attack):
    """The perturbation 0."""

    access: ClassVar[Literal["gradient", "score"]] = "score"

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return torch.zeros_like(trial.batch.x)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"identity": Identity()}
