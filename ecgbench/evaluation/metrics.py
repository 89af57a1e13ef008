"""What outcomes are worth: accuracy, precision and F1 at every eps, the curve over eps, all with their intervals.

One set of resamples serves every eps, so a curve is resampled as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.outputs import Outputs
from ecgbench.evaluation.binary import Binary, binary_scores
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
    counts every sample once, `balanced` every class equally often. `binary` holds, by name, what log-odds say of
    the second of two classes; None where outcomes keep none.
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
    binary: dict[str, Binary] | None = None


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
    outputs: Outputs,
    *,
    skip_unpredicted: bool,
    challenge: Sequence[str] = (),
    draws: int = 1000,
    seed: int = 0,
) -> Summary:
    """Every figure of a row whose labels mean what `outputs` says.

    `skip_unpredicted` is that of `means`, `draws` >= 1 the number of resamples.

    `challenge` names the classes whose mean F1 the dataset's challenge was judged by, none where it had none.

    Bootstrap intervals are percentiles, and cover a little less than they say where groups are few (92 % with 22
    groups that differ much). Without groups each sample is a unit, and where all weights are equal
    the interval of the accuracy is Wilson's (1927). Resampling a single group changes nothing, so its intervals
    have no width; the method then says that they mean nothing.
    Raises EcgbenchError where outcomes cannot be scored: none, a class unknown, a weight not above 0, or a
    group for some samples only.
    """
    check(outcomes)
    _check_labels(outcomes, outputs.codes)
    labels = Labels.of(outcomes, outputs)
    weight, n, k = outcomes.weight, len(outcomes.y), len(labels.holds)
    grid = [0.0, *outcomes.eps.tolist()]
    y, *predicted = (labels.places(values) for values in (outcomes.y, outcomes.clean, *outcomes.predicted))
    resamples = Resamples.of(outcomes, [y, *predicted, weight], draws, seed)
    drawn = np.stack([resamples.tally(_cell(y, p, k), k * k, weight) for p in predicted])
    drawn = drawn.reshape(len(grid), draws, k, k)
    resampled = means(drawn, labels.holds, skip_unpredicted=skip_unpredicted)
    low, high = np.quantile(resampled, TAILS, axis=-1)
    method = resamples.words
    independent = not resamples.grouped and bool((weight == weight[0]).all())
    if independent:
        right = [int((p == y).sum()) for p in predicted]
        low[0], high[0] = np.transpose([wilson(count, n) for count in right])
        method = "Wilson (acc; precision and recall of a class), bootstrap of samples (prec, f1, auc)"
    binary = binary_scores(outcomes, outputs, draws, seed)
    tables = [
        _Tables(
            labels,
            weighted=confusion(y, p, k, weight),
            plain=confusion(y, p, k, np.ones(n)),
            drawn=drawn[at],
            independent=independent,
        )
        for at, p in enumerate(predicted)
    ]
    scores = tuple(
        table.score(
            eps, _intervals(low[:, at], high[:, at]), skip_unpredicted, challenge, binary[at] if binary else None
        )
        for at, (eps, table) in enumerate(zip(grid, tables, strict=True))
    )
    area = float(_area(grid, np.array([score.acc for score in scores])))
    curve = Curve(area, percentiles(_area(grid, resampled[0])), _quartiles(outcomes.smallest(), weight))
    rows = drawn[0].sum(-1)
    lacking = (rows == 0)[:, np.isin(np.arange(k), y)].any(1)
    return Summary(scores, curve, Uncertainty(method, draws, int(lacking.sum())))


@dataclass(frozen=True)
class Labels:
    """The m labels that a confusion matrix tells apart: `codes` (m,), and which of the K `classes` each one `holds`
    (m, K). Where one class rules out the others these are the classes themselves, else the sets that occur.
    """

    classes: tuple[str, ...]
    codes: NDArray[np.int64]
    holds: NDArray[np.float64]

    @classmethod
    def of(cls, outcomes: Outcomes, outputs: Outputs) -> Labels:
        """The labels of some outcomes."""
        seen = [outcomes.y, outcomes.clean, outcomes.predicted.ravel()]
        codes = np.arange(outputs.codes) if outputs.exclusive else np.unique(np.concatenate(seen)).astype(np.int64)
        held = [outputs.shows(torch.from_numpy(codes), label).numpy() for label in range(len(outputs.classes))]
        return cls(outputs.classes, codes, np.stack(held, 1).astype(np.float64))

    def places(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """The places of some labels (n,) among `codes`."""
        return np.searchsorted(self.codes, values)


def confusion(y: NDArray[Any], predicted: NDArray[Any], classes: int, weight: NDArray[Any]) -> NDArray[np.float64]:
    """Total weight by true class (row) and predicted class (column): three times (n,) -> (classes, classes)."""
    return totals(_cell(y, predicted, classes), weight, classes * classes).reshape(classes, classes)


def means(
    confusion: NDArray[np.float64], holds: NDArray[np.float64] | None = None, *, skip_unpredicted: bool
) -> NDArray[np.float64]:
    """Accuracy, macro precision and macro F1 of each confusion matrix: (..., m, m) -> (3, ...).

    Both macro means are over the classes that have true samples; others are left out even if predicted. A
    class that nobody predicts has precision 0, or with `skip_unpredicted` is left out of that mean (0 if none
    remains); its F1 is 0 either way. Each matrix must hold some weight. `holds` (m, K) says which classes a label
    holds; None where each label is a class.
    """
    hits, true, said = _by_label(confusion, holds)
    present = true > 0
    counted = present & (said > 0) if skip_unpredicted else present
    precision, _, f1 = _shares(hits, true, said)
    accuracy = np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(-1).sum(-1)
    return np.stack([accuracy, _mean(precision, counted), _mean(f1, present)])


def per_class(confusion: NDArray[np.float64], holds: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Precision, recall and F1 of each class of each confusion matrix: (..., m, m) -> (3, ..., K); 0 for 0/0."""
    return _shares(*_by_label(confusion, holds))


def _by_label(
    confusion: NDArray[np.float64], holds: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """By class the weight rightly said to hold, that holds, and that is said to hold: (..., m, m) -> three (..., K)."""
    true, said = confusion.sum(-1), confusion.sum(-2)
    if holds is None:
        return np.diagonal(confusion, axis1=-2, axis2=-1), true, said
    return ((confusion @ holds) * holds).sum(-2), true @ holds, said @ holds


def _shares(hits: NDArray[np.float64], true: NDArray[np.float64], said: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack(
        [part / np.where(whole > 0, whole, 1) for part, whole in ((hits, said), (hits, true), (2 * hits, true + said))]
    )


@dataclass(frozen=True)
class _Tables:
    """Confusion matrices (m, m) at one eps, weighted and with every sample once, and the resamples of the first,
    `drawn` (draws, m, m).
    """

    labels: Labels
    weighted: NDArray[np.float64]
    plain: NDArray[np.float64]
    drawn: NDArray[np.float64]
    independent: bool

    def score(
        self,
        eps: float,
        interval: Intervals,
        skip_unpredicted: bool,
        challenge: Sequence[str],
        binary: dict[str, Binary] | None,
    ) -> Score:
        """All figures at `eps`."""
        balanced = self.plain / np.maximum(self.plain.sum(1, keepdims=True), 1)
        main, plain, even = (
            Means(*means(matrix, self.labels.holds, skip_unpredicted=skip_unpredicted).tolist())
            for matrix in (self.weighted, self.plain, balanced)
        )
        return Score(
            eps=eps,
            acc=main.acc,
            prec=main.prec,
            f1=main.f1,
            interval=interval,
            by_class=self.by_class(),
            plain=plain,
            balanced=even,
            challenge=self.challenge(challenge),
            binary=binary,
        )

    def by_class(self) -> dict[str, ByClass | None]:
        """The figures of each class.

        Where samples are independent, shares have Wilson's interval: no resample leaves 0 of 47.
        """
        holds = self.labels.holds
        three, resampled = per_class(self.weighted, holds), per_class(self.drawn, holds)
        present, counts = _by_label(self.weighted, holds)[1], np.stack(_by_label(self.plain, holds))
        found: dict[str, ByClass | None] = {}
        for at, name in enumerate(self.labels.classes):
            precision, recall, f1 = (_interval(values) for values in resampled[..., at])
            if self.independent:
                hits, true, said = (int(n) for n in counts[:, at])
                precision = wilson(hits, said) if said else precision
                recall = wilson(hits, true) if true else recall
            shares = three[:, at].tolist()
            made = ByClass(shares[0], shares[1], shares[2], precision, recall, f1)
            found[name] = made if present[at] else None
        return found

    def challenge(self, judged: Sequence[str]) -> Challenge | None:
        """The mean F1 of the classes that are `judged`; None where none is."""
        if not judged:
            return None
        places = [self.labels.classes.index(name) for name in judged]
        values = per_class(self.drawn, self.labels.holds)[2][:, places].mean(-1)
        return Challenge(float(per_class(self.weighted, self.labels.holds)[2][places].mean()), _interval(values))


def _check_labels(outcomes: Outcomes, codes: int) -> None:
    seen = np.concatenate([outcomes.y, outcomes.clean, outcomes.predicted.ravel()])
    if not 0 <= seen.min() <= seen.max() < codes:
        raise EcgbenchError(f"outcomes hold classes {seen.min()} to {seen.max()}; expected 0 to {codes - 1}.")


def _cell(y: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.int64]:
    return y.astype(np.int64) * classes + predicted


def _mean(values: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the last axis of what is counted, 0 where nothing is."""
    return np.asarray((values * counted).sum(-1) / np.maximum(counted.sum(-1), 1))


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
