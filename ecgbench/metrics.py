"""What outcomes are worth: scores with their uncertainty, a comparison of two rows, a spread over seeds.

Intervals are at 95 %, from resampled groups (patients, not beats) where the split has groups. One set of
resamples serves every eps, so a curve is resampled as a whole. Weights are float32 and are added in float64,
where such sums are exact while weights lie within a factor of a thousand: then neither the order of the samples
nor the number of threads changes a figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ecgbench.errors import EcgbenchError
from ecgbench.outcomes import Outcomes

_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Means:
    """Accuracy, macro precision and macro F1 under one way of weighting."""

    acc: float
    prec: float
    f1: float


@dataclass(frozen=True)
class Intervals:
    """The 95 % intervals (low, high) of a score."""

    acc: tuple[float, float]
    prec: tuple[float, float]
    f1: tuple[float, float]


@dataclass(frozen=True)
class Score:
    """The figures at one `eps`; `acc`, `prec`, `f1`, `interval` and `recall` are weighted as the split states.

    `recall` is by class, None where the split has no sample of it. `plain` counts every sample once,
    `balanced` every class equally often.
    """

    eps: float
    acc: float
    prec: float
    f1: float
    interval: Intervals
    recall: dict[str, float | None]
    plain: Means
    balanced: Means


@dataclass(frozen=True)
class Curve:
    """Accuracy over eps: the area `auc` under it from 0 to the largest eps, divided by that eps.

    `smallest_eps` holds the weighted quartiles "q25", "median" and "q75" of the smallest eps at which a sample
    is wrong (0 if wrong when clean), None where that lies beyond the grid.
    """

    auc: float
    auc_interval: tuple[float, float]
    smallest_eps: dict[str, float | None]


@dataclass(frozen=True)
class Uncertainty:
    """How the intervals were made; `lacking_class` resamples of `draws` lacked a class that the split has."""

    method: str
    draws: int
    lacking_class: int
    note: str = "a class that a resample lacks is left out of its precision and F1"


@dataclass(frozen=True)
class Summary:
    """All scores of one row, the clean one (eps 0) first."""

    scores: tuple[Score, ...]
    curve: Curve
    uncertainty: Uncertainty


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


def summarize(
    outcomes: Outcomes, classes: Sequence[str], *, skip_unpredicted: bool, draws: int = 1000, seed: int = 0
) -> Summary:
    """Every figure of a row; `skip_unpredicted` is that of `means`, `draws` >= 1 the number of resamples.

    Bootstrap intervals are percentiles, and cover a little less than they say where groups are few (92 % with 22
    groups that differ much). Without groups each sample is a unit, and where all weights are equal
    the interval of the accuracy is Wilson's (1927). Resampling a single group changes nothing, so its intervals
    have no width; the method then says that they mean nothing.
    Raises EcgbenchError where outcomes cannot be scored: none, a class unknown, a weight not above 0, or a
    group for some samples only.
    """
    _check(outcomes, len(classes))
    y, weight, n, k = outcomes.y, outcomes.weight, len(outcomes.y), len(classes)
    grid = [0.0, *outcomes.epsilons.tolist()]
    predicted = [outcomes.clean, *outcomes.predicted]
    resamples = _Resamples.of(outcomes, [y, *predicted, weight], draws, seed)
    drawn = np.stack([resamples.tally(_cell(y, p, k), k * k, weight) for p in predicted])
    drawn = drawn.reshape(len(grid), draws, k, k)
    resampled = means(drawn, skip_unpredicted=skip_unpredicted)
    low, high = np.quantile(resampled, _TAILS, axis=-1)
    method = resamples.words
    if not resamples.grouped and (weight == weight[0]).all():
        right = [int((p == y).sum()) for p in predicted]
        low[0], high[0] = np.transpose([_wilson(count, n) for count in right])
        method = "Wilson (acc), bootstrap of samples (prec, f1, auc)"
    scores = tuple(
        _score(outcomes, eps, predicted[at], classes, _intervals(low[:, at], high[:, at]), skip_unpredicted)
        for at, eps in enumerate(grid)
    )
    area = float(_area(grid, np.array([score.acc for score in scores])))
    curve = Curve(area, _percentiles(_area(grid, resampled[0])), _quartiles(outcomes.smallest(), weight))
    rows = drawn[0].sum(-1)
    lacking = (rows == 0)[:, np.isin(np.arange(k), y)].any(1)
    return Summary(scores, curve, Uncertainty(method, draws, int(lacking.sum())))


def confusion(y: NDArray[Any], predicted: NDArray[Any], classes: int, weight: NDArray[Any]) -> NDArray[np.float64]:
    """Total weight by true class (row) and predicted class (column): three times (n,) -> (classes, classes)."""
    return _totals(_cell(y, predicted, classes), weight, classes * classes).reshape(classes, classes)


def means(confusion: NDArray[np.float64], *, skip_unpredicted: bool) -> NDArray[np.float64]:
    """Accuracy, macro precision and macro F1 of each confusion matrix: (..., K, K) -> (3, ...).

    Both macro means are over the classes that have true samples; others are left out even if predicted. A
    class that nobody predicts has precision 0, or with `skip_unpredicted` is left out of that mean (0 if none
    remains); its F1 is 0 either way. Each matrix must hold some weight.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, said = confusion.sum(-1), confusion.sum(-2)
    present = true > 0
    counted = present & (said > 0) if skip_unpredicted else present
    precision = hits / np.where(said > 0, said, 1)
    f1 = 2 * hits / np.where(present, true + said, 1)
    return np.stack([hits.sum(-1) / true.sum(-1), _mean(precision, counted), _mean(f1, present)])


def compare(a: Outcomes, b: Outcomes, eps: float, draws: int = 1000, seed: int = 0) -> Comparison:
    """Accuracy of `a` minus that of `b` at `eps` (0 is clean), by a paired bootstrap on the same samples.

    Units are groups, or samples where there are none. Raises EcgbenchError where the samples, their labels,
    weights or groups differ, or where `eps` was not run.
    """
    for name in ("ids", "y", "weight", "group"):
        if not np.array_equal(getattr(a, name), getattr(b, name)):
            raise EcgbenchError(f"two rows with different {name} given; expected outcomes on the same samples.")
    _check(a)
    right = [_at(row, eps) == row.y for row in (a, b)]
    cell = 2 * right[0].astype(np.int64) + right[1]
    resamples = _Resamples.of(a, [cell, a.weight], draws, seed)
    _, only_b, only_a, _ = np.bincount(cell, minlength=4).tolist()
    return Comparison(
        eps=float(eps),
        difference=float(_gain(_totals(cell, a.weight, 4))),
        interval=_percentiles(_gain(resamples.tally(cell, 4, a.weight))),
        p_value=None if resamples.grouped else _mcnemar(only_a, only_b),
        method=f"paired {resamples.words}" + ("" if resamples.grouped else ", exact McNemar"),
    )


def over_seeds(values: Sequence[float]) -> Spread:
    """The spread of one figure over training seeds. Raises EcgbenchError where there is none."""
    if not len(values):
        raise EcgbenchError("no value given; expected the figure of at least one seed.")
    kept = [float(value) for value in values]
    return Spread(fmean(kept), stdev(kept) if len(kept) > 1 else None, len(kept))


def _wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `right` among `n` independent samples: Wilson 1927, uncorrected."""
    z, share = NormalDist().inv_cdf(_TAILS[1]), right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return (0.0 if right == 0 else middle - half, 1.0 if right == n else middle + half)


def _mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value for the samples that only one of two rows gets right; 1 where there is none."""
    if only_a + only_b == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue)


@dataclass(frozen=True)
class _Resamples:
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
        table = _totals(places, weight[self.rows], self.times.shape[1] * cells)
        return self.times @ table.reshape(-1, cells)


def _distinct(columns: Iterable[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One row of each kind that occurs, in the order of their values, and how often it occurs."""
    key: Any = 0
    for column in columns:
        values, code = np.unique(column, return_inverse=True)
        key = np.unique(key * len(values) + code, return_inverse=True)[1]
    _, rows, sizes = np.unique(key, return_index=True, return_counts=True)
    return rows, sizes


def _check(outcomes: Outcomes, classes: int | None = None) -> None:
    if not len(outcomes.y) or not len(outcomes.epsilons):
        raise EcgbenchError(
            f"outcomes of {len(outcomes.y)} samples at {len(outcomes.epsilons)} eps given; expected some of both."
        )
    if not (np.isfinite(outcomes.weight) & (outcomes.weight > 0)).all():
        raise EcgbenchError("a sample has a weight that is not above 0; expected finite positive weights.")
    if len(np.unique(outcomes.group >= 0)) > 1:
        raise EcgbenchError("some samples have a group and some have none; expected all or none (-1).")
    seen = np.concatenate([outcomes.y, outcomes.clean, outcomes.predicted.ravel()])
    if classes is not None and not 0 <= seen.min() <= seen.max() < classes:
        raise EcgbenchError(f"outcomes hold classes {seen.min()} to {seen.max()}; expected 0 to {classes - 1}.")


def _totals(cell: NDArray[np.int64], weight: NDArray[Any], cells: int) -> NDArray[np.float64]:
    """Total weight in each cell: (n,), (n,) -> (cells,)."""
    return np.bincount(cell, weight, cells).astype(np.float64, copy=False)


def _cell(y: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    return y.astype(np.int64) * classes + predicted


def _mean(values: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the last axis of what is counted, 0 where nothing is."""
    return np.asarray((values * counted).sum(-1) / np.maximum(counted.sum(-1), 1))


def _score(
    outcomes: Outcomes,
    eps: float,
    predicted: NDArray[np.int16],
    classes: Sequence[str],
    interval: Intervals,
    skip_unpredicted: bool,
) -> Score:
    def three(matrix: NDArray[np.float64]) -> Means:
        return Means(*means(matrix, skip_unpredicted=skip_unpredicted).tolist())

    y = outcomes.y
    weighted = confusion(y, predicted, len(classes), outcomes.weight)
    plain = confusion(y, predicted, len(classes), np.ones(len(y)))
    main = three(weighted)
    return Score(
        eps=eps,
        acc=main.acc,
        prec=main.prec,
        f1=main.f1,
        interval=interval,
        recall={
            name: float(row[at] / row.sum()) if row.sum() else None
            for at, (name, row) in enumerate(zip(classes, weighted, strict=True))
        },
        plain=three(plain),
        balanced=three(plain / np.maximum(plain.sum(1, keepdims=True), 1)),
    )


def _intervals(low: NDArray[np.float64], high: NDArray[np.float64]) -> Intervals:
    acc, prec, f1 = zip(low.tolist(), high.tolist(), strict=True)
    return Intervals(acc, prec, f1)


def _percentiles(resampled: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(resampled, _TAILS)
    return float(low), float(high)


def _area(grid: Sequence[float], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Trapezoids over the first axis of `values`, (e, ...) -> (...), divided by the length of the grid."""
    pieces = [(values[i] + values[i + 1]) / 2 * (grid[i + 1] - grid[i]) for i in range(len(grid) - 1)]
    return np.asarray(sum(pieces) / grid[-1])


def _quartiles(smallest: NDArray[np.float64], weight: NDArray[np.float32]) -> dict[str, float | None]:
    """The least value that at least a quarter (half, three quarters) of the weight does not exceed."""
    order = np.argsort(smallest, kind="stable")
    reached = np.cumsum(weight[order], dtype=np.float64)
    at = {"q25": 0.25, "median": 0.5, "q75": 0.75}
    found = {name: smallest[order[np.searchsorted(reached, q * reached[-1])]] for name, q in at.items()}
    return {name: float(value) if np.isfinite(value) else None for name, value in found.items()}


def _at(outcomes: Outcomes, eps: float) -> NDArray[np.int16]:
    try:
        return outcomes.at(eps)
    except KeyError:
        known = ", ".join(f"{one:g}" for one in outcomes.epsilons)
        raise EcgbenchError(f"eps {eps:g} was not run; expected 0 or one of {known}.") from None


def _gain(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy of a minus that of b, from (..., 4): neither right, only b, only a, both."""
    return np.asarray((cells[..., 2] - cells[..., 1]) / cells.sum(-1))
