"""Do two maps rank the measurements alike? Spearman's rank correlation of S_j, with an interval over stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgbench.evaluation.uncertainty import percentiles
from ecgbench.susceptibility.maps import Map, susceptibility

FEWEST = 4  # perturbations that can be halved


@dataclass(frozen=True)
class Agreement:
    """A rank correlation over `measurements` of them, and its 95 % interval."""

    correlation: float
    interval: tuple[float, float]
    measurements: int


def rank_correlation(first: Map, second: Map) -> float:
    """Spearman's, ties sharing their mean rank: (m,), (m,); NaN where one of them is the same throughout."""
    ranks = [_ranks(values) for values in (first, second)]
    centred = [each - each.mean() for each in ranks]
    spread = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / spread if spread else float("nan")


def split_half(delta: NDArray[np.floating], draws: int = 200, seed: int = 0) -> Agreement | None:
    """Agreement of S_j between random halves of the perturbations `delta` (n, hours, measurements).

    The correlation is the mean over `draws` halvings, the interval that of single ones. None below 4 perturbations.
    """
    if len(delta) < FEWEST:
        return None
    rng, half = np.random.Generator(np.random.PCG64(seed)), len(delta) // 2
    found = np.empty(draws)
    for draw in range(draws):
        order = rng.permutation(len(delta))
        found[draw] = rank_correlation(susceptibility(delta[order[:half]]), susceptibility(delta[order[half:]]))
    return Agreement(float(found.mean()), percentiles(found), delta.shape[2])


def agreement(
    first: NDArray[np.floating], second: NDArray[np.floating] | Map, draws: int = 1000, seed: int = 0
) -> Agreement:
    """Agreement of S_j of perturbations (n, hours, measurements) with those of others, or with given S_j (m,).

    Stays are resampled, of both independently; given values stand as they are.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    resampled = np.array([rank_correlation(_drawn(first, rng), _drawn(second, rng)) for _ in range(draws)])
    ours, theirs = (
        susceptibility(each) if each.ndim == 3 else np.asarray(each, np.float64) for each in (first, second)
    )
    return Agreement(rank_correlation(ours, theirs), percentiles(resampled), len(ours))


def _drawn(values: NDArray[np.floating], rng: np.random.Generator) -> Map:
    """S_j of a resample, or the values given."""
    if values.ndim != 3:
        return np.asarray(values, np.float64)
    return susceptibility(values[rng.integers(len(values), size=len(values))])


def _ranks(values: Map) -> Map:
    """Ranks from 1, ties sharing their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return np.asarray((last - (counts - 1) / 2)[place], np.float64)
