"""At which logit a label is said to hold, where that is chosen and not given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def best_thresholds(logits: NDArray[Any], holds: NDArray[np.bool_], weight: NDArray[Any]) -> NDArray[np.float64]:
    """The threshold of each of w logits, (n, w) -> (w,), at which saying yes from there up has the largest F1.

    Thresholds are logits that occur; of equally good ones the largest counts. `holds` (n, w) says where yes is right;
    NaN where it never is.
    """
    columns = zip(logits.T.astype(np.float64), holds.T, strict=True)
    return np.array([_best_threshold(logit, yes, weight) for logit, yes in columns])


def _best_threshold(logit: NDArray[np.float64], yes: NDArray[np.bool_], weight: NDArray[Any]) -> float:
    order = np.argsort(-logit, kind="stable")
    logit, yes, weight = logit[order], yes[order], weight[order].astype(np.float64)
    last = np.r_[logit[1:] != logit[:-1], True]  # of equal logits: they are said to be yes together
    hits, said = np.cumsum(yes * weight)[last], np.cumsum(weight)[last]
    if not yes.any():
        return float("nan")
    f1 = 2 * hits / (said + (yes * weight).sum())
    return float(logit[last][f1.argmax()])
