"""What the log-odds of a class are worth: AUROC, average precision, Brier score, and decisions at two thresholds.

Of two classes the second is the one that is looked for; where several labels may hold, each is. Log-odds are those that
outcomes keep, rounded to float16: equal ones are tied. Under attack figures are those of the returned perturbations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ecgbench.core.outputs import Outputs
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.uncertainty import TAILS, Resamples

BLOCK = 1 << 22  # weights that are held at a time
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval (low, high)."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Decision:
    """Figures of saying yes from `threshold` on, a probability; 0 for 0/0. Recall is also called sensitivity."""

    threshold: float
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f1: Estimate


@dataclass(frozen=True)
class Binary:
    """The figures of one class; `prevalence` is the share of samples in which it holds.

    `auroc` (Hanley and McNeil 1982; ties count half) and `average_precision` (the mean precision over steps of recall,
    without interpolation) are None where it holds in all samples or in none. `brier` is the mean squared error of the
    probability (Brier 1950). `at_half` are the victim's own predictions; `at_threshold` those at the threshold with
    the best F1 on the clean validation split, None where nothing could be chosen.
    """

    prevalence: float
    auroc: Estimate | None
    average_precision: Estimate | None
    brier: Estimate
    at_half: Decision
    at_threshold: Decision | None


def binary_scores(outcomes: Outcomes, outputs: Outputs, draws: int, seed: int) -> list[dict[str, Binary]] | None:
    """Figures when clean and at each eps, by class; None where the outcomes keep no log-odds.

    Resamples are of groups, or of samples where there are none; those that lack the class, or hold nothing else, are
    left out of the intervals of AUROC and average precision.
    """
    if not outcomes.logits.shape[2]:
        return None
    columns = [outcomes.y, outcomes.clean, *outcomes.predicted, outcomes.weight]
    columns += [*np.moveaxis(outcomes.logits, 1, -1).reshape(-1, len(outcomes.y))]
    resamples = Resamples.of(outcomes, columns, draws, seed)
    return [
        {
            outputs.classes[label]: _Column.of(outcomes, outputs, position, place).scores(resamples)
            for place, label in enumerate(outputs.scored)
        }
        for position in range(1 + len(outcomes.eps))
    ]


@dataclass(frozen=True)
class _Column:
    """One class at one eps, (n,) each: log-odds, whether it holds, whether the victim says so, weight."""

    logit: Values
    holds: NDArray[np.bool_]
    said: NDArray[np.bool_]
    weight: Values
    threshold: float

    @classmethod
    def of(cls, outcomes: Outcomes, outputs: Outputs, position: int, place: int) -> _Column:
        label = outputs.scored[place]
        predicted = [outcomes.clean, *outcomes.predicted][position]
        holds, said = (outputs.shows(torch.from_numpy(code), label).numpy() for code in (outcomes.y, predicted))
        logit = outcomes.logits[position, :, place].astype(np.float64)
        return cls(logit, holds, said, outcomes.weight.astype(np.float64), float(outcomes.threshold[place]))

    def scores(self, resamples: Resamples) -> Binary:
        """All figures, each with its interval over the resamples."""
        found = self.figures(self.weight[None], np.arange(len(self.logit)))[:, 0]
        drawn = [self.figures(weight, resamples.rows) for weight in _weights(resamples, self.weight)]
        low, high = _quantiles(np.concatenate(drawn, 1))
        each = [Estimate(float(value), (float(a), float(b))) for value, a, b in zip(found, low, high, strict=True)]
        known = bool(self.holds.any() and not self.holds.all())
        return Binary(
            prevalence=float((self.weight * self.holds).sum() / self.weight.sum()),
            auroc=each[0] if known else None,
            average_precision=each[1] if known else None,
            brier=each[2],
            at_half=Decision(0.5, *each[3:7]),
            at_threshold=None if np.isnan(self.threshold) else Decision(float(_sigmoid(self.threshold)), *each[7:]),
        )

    def figures(self, weight: Values, rows: NDArray[np.int64]) -> Values:
        """Eleven figures of the samples `rows` (m,) under each weighting of them (k, m): (11, k)."""
        logit, holds, said = self.logit[rows], self.holds[rows], self.said[rows]
        missed = (_sigmoid(logit) - holds) ** 2
        return np.stack(
            [
                *ranking(logit, holds, weight),
                weight @ missed / weight.sum(1),
                *decision(said, holds, weight),
                *decision(logit >= self.threshold, holds, weight),
            ]
        )


def ranking(logit: Values, holds: NDArray[np.bool_], weight: Values) -> tuple[Values, Values]:
    """AUROC and average precision under each of k weightings, (n,), (n,), (k, n) -> (k,) each; NaN where undefined."""
    order = np.argsort(-logit, kind="stable")
    logit, holds, weight = logit[order], holds[order], weight[:, order]
    starts = np.flatnonzero(np.r_[True, logit[1:] != logit[:-1]])  # of equal log-odds
    yes, no = (np.add.reduceat(weight * part, starts, axis=1) for part in (holds, ~holds))
    hits, alarms = yes.cumsum(1), no.cumsum(1)
    all_yes, all_no = hits[:, -1], alarms[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (yes * (all_no[:, None] - alarms + no / 2)).sum(1) / (all_yes * all_no)
        precision = (yes * np.where(yes > 0, hits / (hits + alarms), 0.0)).sum(1) / all_yes
    return area, precision


def decision(
    said: NDArray[np.bool_], holds: NDArray[np.bool_], weight: Values
) -> tuple[Values, Values, Values, Values]:
    """Precision, recall, specificity and F1 under each of k weightings, (n,), (n,), (k, n) -> (k,) each; 0 for 0/0."""
    hits, alarms, misses, rest = (
        weight @ part.astype(np.float64) for part in (said & holds, said & ~holds, ~said & holds, ~said & ~holds)
    )
    wholes = (hits + alarms, hits + misses, rest + alarms, 2 * hits + alarms + misses)
    precision, recall, specificity, f1 = (
        part / np.where(whole > 0, whole, 1.0) for part, whole in zip((hits, hits, rest, 2 * hits), wholes, strict=True)
    )
    return precision, recall, specificity, f1


def _weights(resamples: Resamples, weight: Values) -> Iterator[Values]:
    """The weights of the resamples' rows in every resample, (k, m), some resamples at a time."""
    step = max(1, BLOCK // max(1, len(resamples.rows)))
    for start in range(0, len(resamples.times), step):
        yield resamples.times[start : start + step, resamples.unit] * weight[resamples.rows]


def _quantiles(drawn: Values) -> tuple[Values, Values]:
    """Ends of the interval of each figure, (figures, draws) -> two of (figures,); 0 and 1 where no resample has it."""
    none: NDArray[np.bool_] = np.asarray(np.isnan(drawn).all(1))
    low, high = np.nanquantile(np.where(none[:, None], 0.0, drawn), TAILS, axis=1)
    return low, np.where(none, 1.0, high)


def _sigmoid(value: Any) -> Any:
    return 0.5 + 0.5 * np.tanh(np.asarray(value) / 2)
