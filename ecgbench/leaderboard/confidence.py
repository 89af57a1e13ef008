"""How sure an order of victims is: paired differences, rank intervals, the probability of being best.

One set of resamples, of patients where the split names them, serves all victims of a table, so a patient on whom all
do badly moves none against another. Ranks are decided by tests of all pairs, corrected together (Holm 1979): a
victim's rank interval counts those that are significantly better, and those that are not significantly worse. The
spread over training seeds is no part of it: the victims are taken as they were trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.uncertainty import Resamples, check, totals

LEVEL = 0.05
FEW = 30
"""Below so many patients intervals from resamples cover less than they say."""


@dataclass(frozen=True)
class Difference:
    """Accuracy of one victim minus that of another with its 95 % interval; `p_value` is Holm's over all pairs."""

    value: float
    interval: tuple[float, float]
    p_value: float

    @property
    def distinguishable(self) -> bool:
        """Whether the two differ at the 5 % level, all pairs of the table taken together."""
        return self.p_value < LEVEL


@dataclass(frozen=True)
class Certainty:
    """How sure a victim's place is.

    `rank` is its rank interval, best and worst; `first` the share of resamples in which it is best, ties shared;
    `ahead` its difference to the victim that stands below it, None for the last.
    """

    rank: tuple[int, int]
    first: float
    ahead: Difference | None


def certainties(victims: Sequence[Sequence[Outcomes]], eps: float, draws: int = 2000, seed: int = 0) -> list[Certainty]:
    """How sure the place of each victim is by its accuracy at `eps`, the victims in the order of the table.

    A victim is its outcomes, one for each training seed; its accuracy is the mean over them. A difference is referred
    to Student's t with one degree of freedom less than there are patients (or samples, where none are named); its
    standard error is that of the resamples times sqrt(G / (G - 1)).
    Raises EcgbenchError where victims did not meet the same samples.
    """
    _check_alike(victims)
    first = victims[0][0]
    right = np.stack([np.mean([one.at(eps) == one.y for one in seeds], axis=0) for seeds in victims], 1)
    resamples = Resamples.of(first, [*right.T, first.weight], draws, seed)
    drawn = _accuracies(resamples, right, first.weight)
    accuracy = np.average(right, axis=0, weights=first.weight)
    units = int(resamples.times[0].sum())
    return _certainties(accuracy, drawn, units)


def _certainties(accuracy: NDArray[np.float64], drawn: NDArray[np.float64], units: int) -> list[Certainty]:
    """From accuracies (v,), their resamples (draws, v) and the number of units that were resampled."""
    from scipy.stats import t

    count = len(accuracy)
    value = accuracy[:, None] - accuracy[None, :]
    error = (drawn[:, :, None] - drawn[:, None, :]).std(0, ddof=1) * np.sqrt(units / max(units - 1, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(value == 0, 1.0, 2 * t.sf(np.abs(value) / error, max(units - 1, 1)))
    p = p if units > 1 else np.ones_like(p)
    adjusted = _holm(p)
    beaten_by = ((adjusted < LEVEL) & (value < 0)).sum(1)
    beats = ((adjusted < LEVEL) & (value > 0)).sum(1)
    best = drawn == drawn.max(1, keepdims=True)
    first = (best / best.sum(1, keepdims=True)).mean(0)
    half = t.ppf(1 - LEVEL / 2, max(units - 1, 1)) * error

    def ahead(at: int) -> Difference | None:
        if at + 1 == count:
            return None
        gain, reach = float(value[at, at + 1]), float(half[at, at + 1])
        return Difference(gain, (gain - reach, gain + reach), float(adjusted[at, at + 1]))

    return [
        Certainty((1 + int(beaten_by[at]), count - int(beats[at])), float(first[at]), ahead(at)) for at in range(count)
    ]


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values (v, v) of all pairs, corrected together by Holm's method."""
    from statsmodels.stats.multitest import multipletests

    upper = np.triu_indices(len(p), 1)
    adjusted = np.ones_like(p)
    if len(upper[0]):
        adjusted[upper] = multipletests(p[upper], method="holm")[1]
    return np.minimum(adjusted, adjusted.T)


def _accuracies(resamples: Resamples, right: NDArray[np.float64], weight: NDArray[np.float32]) -> NDArray[np.float64]:
    """Accuracy of each victim in each resample: right (n, v) -> (draws, v)."""
    units = resamples.times.shape[1]
    kept = weight[resamples.rows].astype(np.float64)
    sums = [totals(resamples.unit, kept * column[resamples.rows], units) for column in right.T]
    return np.asarray(
        (resamples.times @ np.stack(sums, 1)) / (resamples.times @ totals(resamples.unit, kept, units))[:, None]
    )


def _check_alike(victims: Sequence[Sequence[Outcomes]]) -> None:
    """Raises EcgbenchError unless all outcomes are on the same samples and can be resampled."""
    every = [one for seeds in victims for one in seeds]
    if not every:
        raise EcgbenchError("no outcomes given; expected those of at least one victim.")
    check(every[0])
    for name in ("ids", "y", "weight", "group"):
        if any(not np.array_equal(getattr(every[0], name), getattr(one, name)) for one in every):
            raise EcgbenchError(f"victims with different {name} given; expected outcomes on the same samples.")
