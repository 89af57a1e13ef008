"""Random points of the ball: what an attack without any knowledge of the victim achieves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from ecgbench.descent import in_turn
from ecgbench.hookspecs import hookimpl
from ecgbench.interfaces import Attack
from ecgbench.keyed import Keyed
from ecgbench.trial import Trial


@dataclass(frozen=True)
class Noise(Attack):
    """The first of `draws` random points that is adversarial, else the last one."""

    access: ClassVar[Literal["gradient", "score"]] = "score"
    draws: int = 20

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws={self.draws} given; expected 1 or more")

    def perturb(self, trial: Trial, rng: Keyed) -> Tensor:
        return in_turn(trial, self._points(rng))

    def _points(self, rng: Keyed) -> Iterator[partial[Tensor]]:
        for draw in range(self.draws):
            yield partial(_point, rng=rng.at(draw))


def _point(trial: Trial, at: Tensor, rng: Keyed) -> Tensor:
    delta = trial.ball.sample(trial.batch.ids, trial.shape, rng)
    trial.look(delta)
    return delta


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"noise": Noise()}
