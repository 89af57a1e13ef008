"""A row's susceptibility report: for each direction what succeeded, the maps, and S_j with intervals over stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.evaluation.uncertainty import TAILS
from ecgbench.susceptibility.agreement import Agreement, split_half
from ecgbench.susceptibility.maps import Map, Maps, susceptibility


@dataclass(frozen=True)
class Direction:
    """What succeeded from one class to another: `delta` (n, hours, measurements), of `attacked` correct stays.

    `interval` (2, measurements) is the 95 % interval of S_j, by a bootstrap over stays; `halves` says how far two
    halves of these stays rank the measurements alike. None of both without a success.
    """

    name: str
    attacked: int
    delta: NDArray[np.float32]
    maps: Maps | None
    interval: Map | None
    halves: Agreement | None

    @property
    def success(self) -> float:
        """The share of the attacked stays whose class was changed."""
        return len(self.delta) / self.attacked if self.attacked else 0.0

    @property
    def nonzero(self) -> NDArray[np.int64]:
        """Changed cells of each successful perturbation, (n,)."""
        return np.count_nonzero(self.delta, axis=(1, 2))

    @property
    def l1(self) -> Map:
        """L1 norm of each successful perturbation, (n,)."""
        return np.abs(self.delta.astype(np.float64)).sum((1, 2))

    @property
    def raised(self) -> float:
        """The share of all changed cells whose value was raised; 0 where none was changed."""
        changed = int(self.nonzero.sum())
        return int((self.delta > 0).sum()) / changed if changed else 0.0

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        maps = {} if self.maps is None else {name: each.tolist() for name, each in self.maps.named()}
        halves = self.halves and {"correlation": self.halves.correlation, "interval": self.halves.interval}
        return {
            "name": self.name,
            "attacked": self.attacked,
            "successful": len(self.delta),
            "raised": self.raised,
            "nonzero": self.nonzero.tolist(),
            "l1": self.l1.tolist(),
            "s_j": None if self.maps is None else self.maps.s.sum(0).tolist(),
            "s_j_interval": None if self.interval is None else self.interval.tolist(),
            "s_i": None if self.maps is None else self.maps.s.sum(1).tolist(),
            "sensitivity_j": None if self.maps is None else self.maps.sensitivity.sum(0).tolist(),
            "halves": halves,
            "maps": maps,
        }


@dataclass(frozen=True)
class Report:
    """The directions of one row, over `hours` and named `measurements`, under eps."""

    row: str
    eps: float
    measurements: tuple[str, ...]
    directions: tuple[Direction, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        facts = {"row": self.row, "eps": self.eps, "measurements": self.measurements}
        return {**facts, "directions": [direction.plain() for direction in self.directions]}


def report(
    row: str,
    eps: float,
    kept: Perturbations,
    classes: Sequence[str],
    measurements: Sequence[str] = (),
    draws: int = 1000,
) -> Report:
    """The report of a row's saved perturbations; a direction is a pair of classes, of stays that were right when clean.

    `measurements` names the last axis. Raises EcgbenchError where the samples are no tables of hours by measurements.
    """
    if kept.delta.ndim != 3:
        raise EcgbenchError(f"samples of shape {kept.delta.shape[1:]} given; expected tables of (hours, measurements).")
    names = tuple(measurements) or tuple(f"measurement {number}" for number in range(1, kept.delta.shape[2] + 1))
    pairs = _pairs(kept, len(classes))
    directions = (_direction(kept, source, target, classes, draws) for source, target in pairs)
    return Report(row, eps, names, tuple(directions))


def _pairs(kept: Perturbations, classes: int) -> Iterator[tuple[int, int]]:
    """Two classes have both directions always; of more, those that occur."""
    for source in range(classes):
        right = (kept.y == source) & (kept.clean == source)
        for target in range(classes):
            if target != source and (classes == 2 or bool((right & (kept.attacked == target)).any())):
                yield source, target


def _direction(kept: Perturbations, source: int, target: int, classes: Sequence[str], draws: int) -> Direction:
    right = (kept.y == source) & (kept.clean == source)
    delta = kept.delta[right & (kept.attacked == target)]
    name = f"{classes[source]} to {classes[target]}"
    if not len(delta):
        return Direction(name, int(right.sum()), delta, None, None, None)
    return Direction(name, int(right.sum()), delta, Maps.of(delta), _interval(delta, draws), split_half(delta))


def _interval(delta: NDArray[np.float32], draws: int, seed: int = 0) -> Map:
    """The 95 % interval of S_j over resamples of the stays: (n, hours, measurements) -> (2, measurements)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    resampled = [susceptibility(delta[rng.integers(len(delta), size=len(delta))]) for _ in range(draws)]
    return np.asarray(np.quantile(np.stack(resampled), TAILS, axis=0))
