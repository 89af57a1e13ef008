"""When hearts beat: RR intervals of eight rhythms, by rules of our own that were never validated.

Fibrillating atria pass on their waves at random, so RR is gamma-distributed; fluttering ones pass on every second,
third or fourth. A premature atrial beat resets the sinus; the pause behind a ventricular one makes up for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Rhythm(IntEnum):
    """What makes the heart beat; in ATRIAL and VENTRICULAR the sinus, with premature beats between."""

    SINUS = 0
    FIBRILLATION = 1
    ATRIAL = 2
    VENTRICULAR = 3
    SLOW = 4
    FAST = 5
    JUNCTIONAL = 6
    FLUTTER = 7


PREMATURE = (Rhythm.ATRIAL, Rhythm.VENTRICULAR)
WITHOUT_P = (Rhythm.FIBRILLATION, Rhythm.JUNCTIONAL, Rhythm.FLUTTER)
BEATS, MIDDLE = 49, 24
SHORTEST = 0.3  # s that two beats of fibrillation are apart


@dataclass(frozen=True)
class Timing:
    """Beats of n strips: `rr` (n, 49) in s, each before its beat, and `early` (n, 49), which are premature.

    `usual` (n,) in s is the median RR without premature beats; `atrial` (n,) in Hz is how often atria flutter or
    fibrillate, if they do. In a rhythm with premature beats the middle one of the 49 is premature.
    """

    rr: Array
    early: NDArray[np.bool_]
    usual: Array
    atrial: Array

    @classmethod
    def drawn(cls, rhythm: NDArray[np.int64], resting: Array, breathing: Array, rng: Generator) -> Timing:
        """For rhythms (n,), the resting RR (n,) of their hearts in s, and how far breathing moves it, a ratio."""
        n = len(rhythm)
        flutter, fibrillation = rhythm == Rhythm.FLUTTER, rhythm == Rhythm.FIBRILLATION
        atrial = np.where(flutter, rng.uniform(3.8, 5.5, n), rng.uniform(4.0, 9.0, n))
        mean = _mean(rhythm, resting, rng)
        swing = np.select([rhythm == Rhythm.JUNCTIONAL, rhythm == Rhythm.FAST], [0.0, 0.3 * breathing], breathing)
        rr = _breathing(mean, swing, rng)
        rr[fibrillation] = _fibrillating(mean[fibrillation], rng)
        rr[flutter] = _fluttering(atrial[flutter], rng)
        early = _early(n, rng) & np.isin(rhythm, PREMATURE)[:, None]
        return cls(_with_pauses(rr, early, rhythm == Rhythm.VENTRICULAR, rng), early, np.median(rr, 1), atrial)


def _mean(rhythm: NDArray[np.int64], resting: Array, rng: Generator) -> Array:
    n = len(rhythm)
    return np.select(
        [rhythm == Rhythm.SLOW, rhythm == Rhythm.FAST, rhythm == Rhythm.JUNCTIONAL, rhythm == Rhythm.FIBRILLATION],
        [
            rng.uniform(1.22, 1.7, n),
            rng.uniform(0.4, 0.58, n),
            rng.uniform(0.45, 1.1, n),
            resting * rng.uniform(0.65, 1.05, n),
        ],
        resting * rng.uniform(0.9, 1.1, n),
    )


def _breathing(mean: Array, swing: Array, rng: Generator) -> Array:
    """RR that rises and falls with the breath, a hundredth of white jitter on it."""
    n = len(mean)
    time = np.arange(BEATS) * mean[:, None]
    breath = 2 * np.pi * (rng.uniform(0.15, 0.4, (n, 1)) * time + rng.random((n, 1)))
    jitter = 0.01 * rng.standard_normal((n, BEATS))
    return mean[:, None] * (1 + swing[:, None] * np.sin(breath) + jitter)


def _fibrillating(mean: Array, rng: Generator) -> Array:
    """Independent RR; their relative spread differs from strip to strip, 0.1 to 0.35 mostly."""
    n = len(mean)
    shape = (0.19 * np.exp(0.3 * rng.standard_normal((n, 1)))) ** -2
    return np.maximum(mean[:, None] * rng.gamma(shape, 1 / shape, (n, BEATS)), SHORTEST)


def _fluttering(atrial: Array, rng: Generator) -> Array:
    """Whole numbers of flutter waves: the same all along, but in 30 % of the strips for a third of the beats."""
    n = len(atrial)
    changing = (rng.random((n, 1)) < 0.3) & (rng.random((n, BEATS)) < 0.35)
    waves = np.where(changing, rng.integers(2, 5, (n, BEATS)), rng.integers(2, 5, (n, 1)))
    return waves / atrial[:, None] + 0.008 * rng.standard_normal((n, BEATS))


def _early(n: int, rng: Generator) -> NDArray[np.bool_]:
    """The middle beat, and few or many of the others, never two in turn."""
    early = rng.random((n, BEATS)) < rng.uniform(0.0, 0.5, (n, 1)) ** 1.5
    early[:, 1:] &= ~early[:, :-1]
    early[:, MIDDLE - 1 : MIDDLE + 2] = [False, True, False]
    return early


def _with_pauses(rr: Array, early: NDArray[np.bool_], ventricular: NDArray[np.bool_], rng: Generator) -> Array:
    """A shorter interval before each premature beat, a longer one behind it."""
    n = len(rr)
    before = np.where(early, rng.uniform(0.5, 0.78, (n, 1)) + 0.03 * rng.standard_normal((n, BEATS)), 1.0)
    behind = np.where(ventricular[:, None], 2 - before, rng.uniform(1.0, 1.2, (n, 1)))
    rr = rr * before
    rr[:, 1:] *= np.where(early, behind, 1.0)[:, :-1]
    return rr
