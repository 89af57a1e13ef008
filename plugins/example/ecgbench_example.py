"""Mains hum as an attack: what a badly shielded electrode can do to a classifier."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ecgbench import Attack, RandomStream, Trial, hookimpl, run_sequentially


@dataclass(frozen=True)
class Powerline(Attack):
    """A sine of amplitude eps along the last axis, `cycles` a sample (0.4 is 50 Hz at 125 Hz), in `phases` phases."""

    access: ClassVar[Literal["gradient", "score"]] = "score"
    cycles: float = 0.4
    phases: int = 8

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return run_sequentially(trial, [partial(self._hum, phase=phase / self.phases) for phase in range(self.phases)])

    def _hum(self, trial: Trial, at: Tensor, phase: float) -> Tensor:
        time = torch.arange(trial.shape[-1], device=trial.batch.x.device)
        wave = torch.sin(2 * torch.pi * (self.cycles * time + phase)).expand_as(trial.batch.x)
        delta = trial.ball.project(trial.ball.eps * wave)
        trial.submit(delta)
        return delta


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"powerline": Powerline()}
