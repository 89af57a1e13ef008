"""Random points of the ball: what an attack without any knowledge of the victim achieves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from ecgbench import Attack, RandomStream, Trial, hookimpl, run_sequentially


@dataclass(frozen=True)
class Noise(Attack):
    """The first of `draws` random points that is adversarial, else the last one."""

    access: ClassVar[Literal["gradient", "score"]] = "score"
    draws: int = 20

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws={self.draws} given; expected 1 or more")

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return run_sequentially(trial, self._points(rng))

    def _points(self, rng: RandomStream) -> Iterator[partial[Tensor]]:
        for draw in range(self.draws):
            yield partial(_point, rng=rng.fold_in(draw))


def _point(trial: Trial, at: Tensor, rng: RandomStream) -> Tensor:
    delta = trial.ball.sample(trial.batch.ids, trial.shape, rng)
    trial.submit(delta)
    return delta


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"noise": Noise()}
