"""The fast gradient sign method: one step to the boundary of the ball."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ecgbench import Attack, RandomStream, Trial, cross_entropy, hookimpl


@dataclass(frozen=True)
class FGSM(Attack):
    """One step of length eps uphill on the cross-entropy, from the clean sample; Goodfellow et al. 2015, section 4."""

    def reach(self, eps: float) -> float | None:
        return eps

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        _, gradient = trial.gradient(torch.zeros_like(trial.batch.x), cross_entropy)
        return trial.ball.project(trial.ball.eps * trial.ball.steepest(gradient))


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"fgsm": FGSM()}
