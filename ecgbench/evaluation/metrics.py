"""What outcomes are worth: accuracy, precision and F1 at every eps, the curve over eps, all with their intervals.

One set of resamples serves every eps, so a curve is resampled as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.uncertainty import TAILS, Resamples, Uncertainty, check, percentiles, totals, wilson


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
class ByClass:
    """Precision (0 where nobody is said to be of the class), recall and F1 of one class, each with (low, high)."""

    precision: float
    recall: float
    f1: float
    precision_interval: tuple[float, float]
    recall_interval: tuple[float, float]
    f1_interval: tuple[float, float]


@dataclass(frozen=True)
class Challenge:
    """Mean F1 over the classes that the dataset's challenge was judged by, with its interval (low, high)."""

    f1: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Score:
    """The figures at one `eps`; all but `plain` and `balanced` are weighted as the split states.

    `by_class` is None for a class that the split has no sample of, `challenge` where the dataset has none. `plain`
    counts every sample once, `balanced` every class equally often.
    """

    eps: float
    acc: float
    prec: float
    f1: float
    interval: Intervals
    by_class: dict[str, ByClass | None]
    plain: Means
    balanced: Means
    challenge: Challenge | None = None


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
class Summary:
    """All scores of one row, the clean one (eps 0) first."""

    scores: tuple[Score, ...]
    curve: Curve
    uncertainty: Uncertainty


def summarize(
    outcomes: Outcomes,
    classes: Sequence[str],
    *,
    skip_unpredicted: bool,
    challenge: Sequence[str] = (),
    draws: int = 1000,
    seed: int = 0,
) -> Summary:
    """Every figure of a row; `skip_unpredicted` is that of `means`, `draws` >= 1 the number of resamples.

    `challenge` names the classes whose mean F1 the dataset's challenge was judged by, none where it had none.

    Bootstrap intervals are percentiles, and cover a little less than they say where groups are few (92 % with 22
    groups that differ much). Without groups each sample is a unit, and where all weights are equal
    the interval of the accuracy is Wilson's (1927). Resampling a single group changes nothing, so its intervals
    have no width; the method then says that they mean nothing.
    Raises EcgbenchError where outcomes cannot be scored: none, a class unknown, a weight not above 0, or a
    group for some samples only.
    """
    check(outcomes)
    _check_classes(outcomes, len(classes))
    y, weight, n, k = outcomes.y, outcomes.weight, len(outcomes.y), len(classes)
    grid = [0.0, *outcomes.eps.tolist()]
    predicted = [outcomes.clean, *outcomes.predicted]
    resamples = Resamples.of(outcomes, [y, *predicted, weight], draws, seed)
    drawn = np.stack([resamples.tally(_cell(y, p, k), k * k, weight) for p in predicted])
    drawn = drawn.reshape(len(grid), draws, k, k)
    resampled = means(drawn, skip_unpredicted=skip_unpredicted)
    low, high = np.quantile(resampled, TAILS, axis=-1)
    method = resamples.words
    independent = not resamples.grouped and bool((weight == weight[0]).all())
    if independent:
        right = [int((p == y).sum()) for p in predicted]
        low[0], high[0] = np.transpose([wilson(count, n) for count in right])
        method = "Wilson (acc; precision and recall of a class), bootstrap of samples (prec, f1, auc)"
    scores = tuple(
        _score(
            outcomes,
            eps,
            predicted[at],
            classes,
            _intervals(low[:, at], high[:, at]),
            skip_unpredicted,
            challenge,
            drawn[at],
            independent,
        )
        for at, eps in enumerate(grid)
    )
    area = float(_area(grid, np.array([score.acc for score in scores])))
    curve = Curve(area, percentiles(_area(grid, resampled[0])), _quartiles(outcomes.smallest(), weight))
    rows = drawn[0].sum(-1)
    lacking = (rows == 0)[:, np.isin(np.arange(k), y)].any(1)
    return Summary(scores, curve, Uncertainty(method, draws, int(lacking.sum())))


def confusion(y: NDArray[Any], predicted: NDArray[Any], classes: int, weight: NDArray[Any]) -> NDArray[np.float64]:
    """Total weight by true class (row) and predicted class (column): three times (n,) -> (classes, classes)."""
    return totals(_cell(y, predicted, classes), weight, classes * classes).reshape(classes, classes)


def means(confusion: NDArray[np.float64], *, skip_unpredicted: bool) -> NDArray[np.float64]:
    """Accuracy, macro precision and macro F1 of each confusion matrix: (..., K, K) -> (3, ...).

    Both macro means are over the classes that have true samples; others are left out even if predicted. A
    class that nobody predicts has precision 0, or with `skip_unpredicted` is left out of that mean (0 if none
    remains); its F1 is 0 either way. Each matrix must hold some weight.
    """
    true, said = confusion.sum(-1), confusion.sum(-2)
    present = true > 0
    counted = present & (said > 0) if skip_unpredicted else present
    precision, _, f1 = per_class(confusion)
    accuracy = np.trace(confusion, axis1=-2, axis2=-1) / true.sum(-1)
    return np.stack([accuracy, _mean(precision, counted), _mean(f1, present)])


def per_class(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Precision, recall and F1 of each class of each confusion matrix: (..., K, K) -> (3, ..., K); 0 for 0/0."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, said = confusion.sum(-1), confusion.sum(-2)
    return np.stack(
        [part / np.where(whole > 0, whole, 1) for part, whole in ((hits, said), (hits, true), (2 * hits, true + said))]
    )


def _check_classes(outcomes: Outcomes, classes: int) -> None:
    seen = np.concatenate([outcomes.y, outcomes.clean, outcomes.predicted.ravel()])
    if not 0 <= seen.min() <= seen.max() < classes:
        raise EcgbenchError(f"outcomes hold classes {seen.min()} to {seen.max()}; expected 0 to {classes - 1}.")


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
    challenge: Sequence[str],
    drawn: NDArray[np.float64],
    independent: bool,
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
        by_class=_by_class(weighted, drawn, classes, plain if independent else None),
        plain=three(plain),
        balanced=three(plain / np.maximum(plain.sum(1, keepdims=True), 1)),
        challenge=_challenge(weighted, drawn, [list(classes).index(name) for name in challenge]),
    )


def _by_class(
    confusion: NDArray[np.float64],
    drawn: NDArray[np.float64],
    classes: Sequence[str],
    counts: NDArray[np.float64] | None,
) -> dict[str, ByClass | None]:
    """The figures of each class from the confusion matrix (K, K) and its resamples (draws, K, K).

    Where `counts` (K, K) of independent samples are given, shares have Wilson's interval: no resample leaves 0 of 47.
    """
    three, resampled = per_class(confusion), per_class(drawn)
    found: dict[str, ByClass | None] = {}
    for at, name in enumerate(classes):
        precision, recall, f1 = (_interval(values) for values in resampled[..., at])
        if counts is not None:
            hits, true, said = (int(n) for n in (counts[at, at], counts[at].sum(), counts[:, at].sum()))
            precision = wilson(hits, said) if said else precision
            recall = wilson(hits, true) if true else recall
        shares = three[:, at].tolist()
        made = ByClass(shares[0], shares[1], shares[2], precision, recall, f1)
        found[name] = made if confusion[at].sum() else None
    return found


def _challenge(confusion: NDArray[np.float64], drawn: NDArray[np.float64], judged: Sequence[int]) -> Challenge | None:
    if not judged:
        return None
    values = per_class(drawn)[2][:, judged].mean(-1)
    return Challenge(float(per_class(confusion)[2][judged].mean()), _interval(values))


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, TAILS)
    return float(low), float(high)


def _intervals(low: NDArray[np.float64], high: NDArray[np.float64]) -> Intervals:
    acc, prec, f1 = zip(low.tolist(), high.tolist(), strict=True)
    return Intervals(acc, prec, f1)


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
