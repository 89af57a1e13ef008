"""Outcomes of which scores read only labels, predictions, weights and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.outputs import SingleLabel
from ecgbench.evaluation.metrics import Summary, summarize
from ecgbench.evaluation.outcomes import Outcomes

NAMES = ("N", "S", "V")


def outcomes(
    y: Any, clean: Any, predicted: Any = None, eps: Any = None, *, group: Any = None, weight: Any = None
) -> Outcomes:
    """Outcomes of which metrics read only the given parts; one eps at which all is as when clean, by default."""
    rows = np.array([clean] if predicted is None else predicted, np.int16)
    n, e = len(y), len(rows)
    return Outcomes(
        eps=np.array(np.arange(1, e + 1) if eps is None else eps, np.float64),
        ids=np.arange(n),
        y=np.array(y, np.int16),
        group=np.full(n, -1) if group is None else np.array(group),
        weight=np.ones(n, np.float32) if weight is None else np.array(weight, np.float32),
        clean=np.array(clean, np.int16),
        predicted=rows,
        adversarial=rows != np.array(y),
        size=np.zeros((e, n), np.float32),
        l0=np.zeros((e, n), np.int32),
        l1=np.zeros((e, n), np.float32),
        distance=np.full(n, np.nan, np.float32),
        logits=np.zeros((1 + e, n, 0), np.float16),
        threshold=np.zeros(0),
        by=np.zeros((e, n), np.int8),
        forwards=np.zeros((e, n), np.int32),
        gradients=np.zeros((e, n), np.int32),
        components=np.array([""]),
    )


def summary(row: Outcomes, draws: int = 200, seed: int = 0, skip: bool = False) -> Summary:
    return summarize(row, SingleLabel(NAMES), skip_unpredicted=skip, draws=draws, seed=seed)


def random_row(seed: int, n: int = 60, groups: int = 6, weighted: bool = True, right: float = 0.6) -> Outcomes:
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, 2, rng.integers(3, size=n - 3)]
    predicted = np.where(rng.random((4, n)) < right, y, rng.integers(3, size=(4, n)))
    group = rng.integers(groups, size=n) if groups else None
    weight = rng.random(n) + 0.1 if weighted else None
    return outcomes(y, predicted[0], predicted[1:], (0.1, 0.2, 0.5), group=group, weight=weight)


def permuted(row: Outcomes, order: NDArray[np.int64]) -> Outcomes:
    held = row.arrays()
    fixed = ("eps", "components", "threshold")
    moved = {name: held[name] if name in fixed else held[name][..., order] for name in held if name != "logits"}
    return Outcomes(**moved, logits=row.logits[:, order])  # type: ignore[arg-type]


def correlated(rng: np.random.Generator, groups: int = 40, each: int = 25) -> Outcomes:
    """Accuracy 0.7 in expectation, but each group has its own."""
    level = np.repeat(rng.beta(7 * 0.4, 3 * 0.4, size=groups), each)
    wrong = rng.random(groups * each) > level
    return outcomes(np.zeros(groups * each, int), wrong, group=np.repeat(np.arange(groups), each))
