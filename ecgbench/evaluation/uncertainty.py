"""How far a figure can be trusted: 95 % intervals, a comparison of two rows, a spread over training seeds.

Bootstrap resamples are of groups (patients, not beats) where the split has groups, else of samples. Weights are
float32 and are added in float64, where such sums are exact while weights lie within a factor of a thousand: then
neither the order of the samples nor the number of threads changes a figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.outcomes import Outcomes

TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Uncertainty:
    """How the intervals were made; `lacking_class` resamples of `draws` lacked a class that the split has."""

    method: str
    draws: int
    lacking_class: int
    note: str = "a class that a resample lacks is left out of its precision and F1"


@dataclass(frozen=True)
class Comparison:
    """`difference` in accuracy of one row over another at `eps`, weighted as the split states.

    `p_value` is exact McNemar on samples counted once; None where there are groups, whose samples depend.
    """

    eps: float
    difference: float
    interval: tuple[float, float]
    p_value: float | None
    method: str


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over `n` training seeds; `sd` is None for one seed."""

    mean: float
    sd: float | None
    n: int


def compare(a: Outcomes, b: Outcomes, eps: float, draws: int = 1000, seed: int = 0) -> Comparison:
    """Accuracy of `a` minus that of `b` at `eps` (0 is clean), by a paired bootstrap on the same samples.

    Units are groups, or samples where there are none. Raises EcgbenchError where the samples, their labels,
    weights or groups differ, or where `eps` was not run.
    """
    for name in ("ids", "y", "weight", "group"):
        if not np.array_equal(getattr(a, name), getattr(b, name)):
            raise EcgbenchError(f"two rows with different {name} given; expected outcomes on the same samples.")
    check(a)
    right = [_at(row, eps) == row.y for row in (a, b)]
    cell = 2 * right[0].astype(np.int64) + right[1]
    resamples = Resamples.of(a, [cell, a.weight], draws, seed)
    _, only_b, only_a, _ = np.bincount(cell, minlength=4).tolist()
    return Comparison(
        eps=float(eps),
        difference=float(_gain(totals(cell, a.weight, 4))),
        interval=percentiles(_gain(resamples.tally(cell, 4, a.weight))),
        p_value=None if resamples.grouped else _mcnemar(only_a, only_b),
        method=f"paired {resamples.words}" + ("" if resamples.grouped else ", exact McNemar"),
    )


def over_seeds(values: Sequence[float]) -> Spread:
    """The spread of one figure over training seeds. Raises EcgbenchError where there is none."""
    if not len(values):
        raise EcgbenchError("no value given; expected the figure of at least one seed.")
    kept = [float(value) for value in values]
    return Spread(fmean(kept), stdev(kept) if len(kept) > 1 else None, len(kept))


@dataclass(frozen=True)
class Resamples:
    """How often, `times` (draws, units), each unit is drawn: a group with all its samples, or one sample.

    Samples that no tally can tell apart are one unit, and `rows` keeps one of them; `unit` is that of each row.
    """

    rows: NDArray[np.int64]
    unit: NDArray[np.int64]
    times: NDArray[np.float64]
    grouped: bool
    words: str

    @classmethod
    def of(cls, outcomes: Outcomes, columns: Iterable[NDArray[Any]], draws: int, seed: int) -> Self:
        """`columns` (n,) each are all that will be tallied."""
        grouped = bool(outcomes.group[0] >= 0)
        if grouped:
            names, unit = np.unique(outcomes.group, return_inverse=True)
            rows, sizes = np.arange(len(unit)), np.ones(len(names), np.int64)
            words = f"bootstrap over {len(names)} groups"
            if len(names) == 1:
                words = "bootstrap over 1 group, whose intervals mean nothing"
        else:
            rows, sizes = _distinct(columns)
            unit, words = np.arange(len(rows)), "bootstrap of samples"
        rng = np.random.Generator(np.random.PCG64(seed))
        times = rng.multinomial(int(sizes.sum()), sizes / sizes.sum(), draws).astype(np.float64)
        return cls(rows, unit, times, grouped, words)

    def tally(self, cell: NDArray[np.int64], cells: int, weight: NDArray[Any]) -> NDArray[np.float64]:
        """Total weight in each cell, in each resample: (n,), (n,) -> (draws, cells)."""
        places = self.unit * cells + cell[self.rows]
        table = totals(places, weight[self.rows], self.times.shape[1] * cells)
        return self.times @ table.reshape(-1, cells)


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `right` among `n` independent samples: Wilson 1927, uncorrected."""
    z, share = NormalDist().inv_cdf(TAILS[1]), right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return (0.0 if right == 0 else middle - half, 1.0 if right == n else middle + half)


def percentiles(resampled: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a figure from its resamples (draws,)."""
    low, high = np.quantile(resampled, TAILS)
    return float(low), float(high)


def totals(cell: NDArray[np.int64], weight: NDArray[Any], cells: int) -> NDArray[np.float64]:
    """Total weight in each cell: (n,), (n,) -> (cells,)."""
    return np.bincount(cell, weight, cells).astype(np.float64, copy=False)


def check(outcomes: Outcomes) -> None:
    """Raises EcgbenchError where nothing can be resampled: no sample, no eps, a bad weight, groups for some only."""
    if not len(outcomes.y) or not len(outcomes.eps):
        raise EcgbenchError(
            f"outcomes of {len(outcomes.y)} samples at {len(outcomes.eps)} eps given; expected some of both."
        )
    if not (np.isfinite(outcomes.weight) & (outcomes.weight > 0)).all():
        raise EcgbenchError("a sample has a weight that is not above 0; expected finite positive weights.")
    if len(np.unique(outcomes.group >= 0)) > 1:
        raise EcgbenchError("some samples have a group and some have none; expected all or none (-1).")


def _mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value for the samples that only one of two rows gets right; 1 where there is none."""
    if only_a + only_b == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue)


def _distinct(columns: Iterable[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One row of each kind that occurs, in the order of their values, and how often it occurs."""
    key: Any = 0
    for column in columns:
        values, code = np.unique(column, return_inverse=True)
        key = np.unique(key * len(values) + code, return_inverse=True)[1]
    _, rows, sizes = np.unique(key, return_index=True, return_counts=True)
    return rows, sizes


def _at(outcomes: Outcomes, eps: float) -> NDArray[np.integer]:
    try:
        return outcomes.at(eps)
    except KeyError:
        known = ", ".join(f"{one:g}" for one in outcomes.eps)
        raise EcgbenchError(f"eps {eps:g} was not run; expected 0 or one of {known}.") from None


def _gain(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy of a minus that of b, from (..., 4): neither right, only b, only a, both."""
    return np.asarray((cells[..., 2] - cells[..., 1]) / cells.sum(-1))
