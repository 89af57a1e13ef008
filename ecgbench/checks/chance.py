"""A verdict on the victim itself, from its clean predictions: does it tell the classes apart at all?

A victim that always answers the same is robust against every attack, so its robust accuracy says nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ecgbench.checks.flags import CHANCE, ONECLASS
from ecgbench.checks.probe import Check
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.uncertainty import TAILS, Resamples, check

OF_CLEAN = frozenset({ONECLASS.code, CHANCE.code})
"""Checks of the clean predictions: a victim that raises one never ranks above one that raises none."""
DRAWS, SEED = 1000, 0


def verdict(outcomes: Outcomes) -> tuple[Check, ...]:
    """ONECLASS: every clean sample gets the same answer. CHANCE: the answers are no better than guesses.

    Answers that do not depend on the sample have a balanced accuracy of 1 / K over the K classes of the split, the
    best constant one included, whatever the shares of the classes. So the 95 % interval of the balanced accuracy,
    weighted and resampled as the metrics are, must lie above 1 / K. Raises EcgbenchError as `summarize` does.
    """
    check(outcomes)
    share, gain = _largest_share(outcomes), _least_gain(outcomes)
    one = len(np.unique(outcomes.clean)) == 1
    return (
        Check(ONECLASS.code, one, share, 1.0, "share of clean samples that get the commonest answer"),
        Check(CHANCE.code, gain <= 0, gain, 0.0, "lower end of clean balanced accuracy less that of a constant answer"),
    )


def _largest_share(outcomes: Outcomes) -> float:
    answered = np.bincount(np.unique(outcomes.clean, return_inverse=True)[1], outcomes.weight)
    return float(answered.max() / answered.sum())


def _least_gain(outcomes: Outcomes) -> float:
    """The lower end of the interval of (mean recall of the classes) - 1 / (number of classes), over resamples.

    One group alone cannot be resampled; its samples are, then.
    """
    if len(np.unique(outcomes.group)) == 1:
        outcomes = replace(outcomes, group=np.full_like(outcomes.group, -1))
    known, place = np.unique(np.stack([outcomes.y, outcomes.clean]), return_inverse=True)
    k, (y, clean) = len(known), place.reshape(2, -1)
    cell = y * k + clean
    resamples = Resamples.of(outcomes, [cell, outcomes.weight], DRAWS, SEED)
    drawn = resamples.tally(cell, k * k, outcomes.weight).reshape(DRAWS, k, k)
    return float(np.quantile(_gain(drawn), TAILS[0]))


def _gain(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., K, K) -> (...); classes without samples are left out."""
    hits, true = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1)
    present = (true > 0).sum(-1)
    recall = hits / np.where(true > 0, true, 1)
    return np.asarray((recall.sum(-1) - 1) / present)
