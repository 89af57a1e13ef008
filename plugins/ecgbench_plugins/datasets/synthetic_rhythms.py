"""Synthetic rhythms: made-up strips of one lead in the four classes of PhysioNet/CinC 2017, without a download.

The waves of a beat are the model in `mcsharry`, when beats come is drawn in `rr_intervals`. That and how strips are
disturbed are rules of our own: never validated against recordings, and no result on them is a clinical one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from ecgbench import DataRoot, Dataset, Defaults, EcgbenchError, Samples, Task, Threat, hookimpl
from ecgbench_plugins.datasets.mcsharry import QRS, Array, P, R, S, T, Waves
from ecgbench_plugins.datasets.rr_intervals import MIDDLE, WITHOUT_P, Rhythm, Timing

SHARES = {"A": 0.25, "N": 0.40, "O": 0.25, "~": 0.10}
CLASSES = tuple(SHARES)
RHYTHMS = {  # with their shares in the class
    "A": {Rhythm.FIBRILLATION: 1.0},
    "N": {Rhythm.SINUS: 1.0},
    "O": {
        **{Rhythm.ATRIAL: 0.32, Rhythm.VENTRICULAR: 0.26, Rhythm.SLOW: 0.08},
        **{Rhythm.FAST: 0.10, Rhythm.JUNCTIONAL: 0.12, Rhythm.FLUTTER: 0.12},
    },
    "~": {
        **{Rhythm.SINUS: 0.4, Rhythm.FIBRILLATION: 0.3, Rhythm.ATRIAL: 0.1},
        **{Rhythm.VENTRICULAR: 0.1, Rhythm.JUNCTIONAL: 0.05, Rhythm.FLUTTER: 0.05},
    },
}
SAMPLES = 512
RATE = 64  # Hz
SECONDS = SAMPLES / RATE
STEPS = 200  # of the analogue-digital converter per mV
PER_PATIENT = 8  # strips
PARTS = (0.0, 0.60, 0.75, 1.0)  # of the patients: training, validation, test
SHORT = 0.11  # of the strips end before the window does, as in CinC 2017
BEFORE, AFTER = 0.55, 0.85  # s of its R peak in which a beat is drawn


@dataclass(frozen=True)
class SyntheticRhythms(Dataset):
    """Strips x (n, 1, 512) of 8 s at 64 Hz, z-scored, in the form of CinC 2017; scale is their spread in mV.

    Mean and standard deviation over the visible samples are 0 and 1; 11 % of the strips are shorter, padded with
    0 at the end, `mask` False there. `group` is the patient, with own waves, rate and noise; training, validation
    and test hold different ones (60, 15 and 25 %), in the same class shares.

    A is atrial fibrillation: irregular RR, no P, a wave of 4 to 9 Hz; N sinus rhythm, breathing in its RR; O
    another: premature atrial or ventricular beats, slow, fast, without P, or flutter; ~ most of them under motion
    and muscle noise. They overlap: fibrillation may be faint and all but regular, a tremor or a burst of noise may
    lie on N. With 2,400 strips balanced accuracy is 0.82 to 0.92 for the CNN, by how it is trained, and 0.67 for a
    linear model of the log spectrum; with 1,000, which a residual network gets through in minutes, 0.76 for the CNN.
    It says nothing about patients: the set is synthetic, and was never compared with recordings.

    `strips` in all, about 8 of each patient; `seed` fixes every byte; `noise` is the median standard deviation of
    white noise in mV outside of ~. Source: `mcsharry` for the waves, rules of our own for all else. Raises
    EcgbenchError for a parameter out of range.
    """

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.01, 0.02, 0.05, 0.1, 0.2), headline=0.05)
    strips: int = 1000
    seed: int = 0
    noise: float = 0.02

    def __post_init__(self) -> None:
        if self.strips < 100:
            raise EcgbenchError(f"synthetic-rhythms: strips={self.strips} given; expected 100 or more.")
        if self.seed < 0:
            raise EcgbenchError(f"synthetic-rhythms: seed={self.seed} given; expected 0 or more.")
        if not 0 <= self.noise < np.inf:
            raise EcgbenchError(f"synthetic-rhythms: noise={self.noise} given; expected a number of mV, 0 or more.")

    def load(self, root: DataRoot) -> Task:
        rng = Generator(PCG64(self.seed))
        number = self.strips // PER_PATIENT
        group = np.arange(self.strips) * number // self.strips
        edges = np.searchsorted(group, [round(part * number) for part in PARTS])
        label = np.concatenate([_labels(n, rng) for n in np.diff(edges)])
        hearts = _Hearts.drawn(number, self.noise, rng)[group]
        length = _lengths(self.strips, rng)
        whole = _rows(_recorded(label, hearts, length, rng), length, label, group)
        train, val, test = (whole[slice(*ends)] for ends in pairwise(edges))
        return Task(
            name="synthetic-rhythms",
            classes=CLASSES,
            train=train,
            val=val,
            test=test,
            physical="mV",
            rate=RATE,
            notes=("synthetic", "inter-patient"),
            challenge=("A", "N", "O"),
            synthetic=True,
        )


def _labels(n: int, rng: Generator) -> NDArray[np.int64]:
    """`n` labels in the exact shares of the classes, shuffled."""
    edges = np.cumsum(list(SHARES.values()))[:-1]
    return rng.permutation(np.searchsorted(edges, (np.arange(n) + 0.5) / n))


def _lengths(n: int, rng: Generator) -> NDArray[np.int64]:
    """Samples before the padding: 30 to 95 % of the window in the short strips."""
    share = np.where(rng.random(n) < SHORT, rng.uniform(0.3, 0.95, n), 1.0)
    return np.rint(share * SAMPLES).astype(np.int64)


def _rows(voltage: Array, length: NDArray[np.int64], label: NDArray[np.int64], group: NDArray[np.int64]) -> Samples:
    """Digitised, cut to `length`, z-scored over what is left, padded with 0.

    Sums of whole numbers are exact, so the bytes do not hang on the order in which a machine adds.
    """
    inside = np.arange(SAMPLES) < length[:, None]
    digital = np.where(inside, np.rint(voltage * STEPS), 0.0)
    n = length[:, None]
    total, squares = digital.sum(1, keepdims=True), (digital**2).sum(1, keepdims=True)
    spread = np.sqrt(n * squares - total**2) / n
    x = np.where(inside, (digital - total / n) / spread, 0.0).astype(np.float32)
    return Samples.of(
        torch.from_numpy(x[:, None]),
        torch.from_numpy(label),
        mask=torch.from_numpy(inside[:, None]),
        scale=torch.from_numpy((spread[:, 0] / STEPS).astype(np.float32)),
        group=torch.from_numpy(group),
    )


@dataclass(frozen=True)
class _Hearts:
    """What a heart and its electrodes keep from strip to strip: times in s, sizes in mV, one row for each."""

    rr: Array
    breathing: Array  # relative spread of the sinus RR interval
    gain: Array
    noise: Array
    wander: Array
    atria: Array
    sinus: Waves
    ectopic: Waves

    @classmethod
    def drawn(cls, n: int, noise: float, rng: Generator) -> _Hearts:
        rr = _around(0.85, 0.15, n, rng).clip(0.62, 1.18)
        up = np.where(rng.random(n) < 0.35, -1.0, 1.0)
        sinus = Waves.typical(rr).varied(0.25, 0.05, 0.1, rng).changed(P, height=_around(0.5, 0.3, n, rng))
        return cls(
            rr=rr,
            breathing=_around(0.035, 0.6, n, rng).clip(0, 0.15),
            gain=_around(0.8, 0.4, n, rng) * np.where(rng.random(n) < 0.1, -1, 1),
            noise=_around(noise, 0.5, n, rng),
            wander=_around(3 * noise, 0.5, n, rng),
            atria=_around(0.06, 0.4, n, rng),
            sinus=sinus.changed(T, height=rng.uniform(-0.3, 1.0, n)),
            ectopic=Waves.typical(rr)
            .varied(0.2, 0.05, 0.1, rng)
            .changed(P, height=0.0)
            .changed(R, height=up * rng.uniform(0.8, 1.5, n))
            .changed(S, height=up * rng.uniform(0.5, 2.2, n))
            .changed(T, height=-up * rng.uniform(0.8, 2.0, n))
            .changed(QRS, angle=rng.uniform(1.5, 2.2, n), width=rng.uniform(1.7, 2.6, n)),
        )

    def __getitem__(self, rows: NDArray[np.int64]) -> _Hearts:
        return _Hearts(*(getattr(self, field.name)[rows] for field in fields(self)))


def _around(median: float, spread: float, n: int, rng: Generator) -> Array:
    """Log-normal draws."""
    return median * np.exp(spread * rng.standard_normal(n))


def _recorded(label: NDArray[np.int64], hearts: _Hearts, length: NDArray[np.int64], rng: Generator) -> Array:
    """The voltage in mV over the whole window (n, 512), of which `length` samples will be seen.

    The middle beat lies well inside of them, so that a premature one is seen with its neighbours.
    """
    rhythm = _rhythms(label, rng)
    timing = Timing.drawn(rhythm, hearts.rr, hearts.breathing, rng)
    peak = np.cumsum(timing.rr, 1)
    peak += (rng.uniform(0.3, 0.8, len(label)) * length / RATE - peak[:, MIDDLE])[:, None]
    beats = _beats(peak, rhythm, timing, hearts, rng)
    atria = hearts.atria[:, None] * _atria(rhythm, timing.atrial, rng)
    return hearts.gain[:, None] * (beats + atria) + _disturbance(label, hearts, length, rng)


def _rhythms(label: NDArray[np.int64], rng: Generator) -> NDArray[np.int64]:
    rhythm = np.empty_like(label)
    for place, name in enumerate(CLASSES):
        rows = np.flatnonzero(label == place)
        rhythm[rows] = rng.choice(list(RHYTHMS[name]), len(rows), p=list(RHYTHMS[name].values()))
    return rhythm


def _beats(peak: Array, rhythm: NDArray[np.int64], timing: Timing, hearts: _Hearts, rng: Generator) -> Array:
    """The voltage (n, 512) of all beats, added where they overlap; `peak` (n, 49) in s are the R peaks."""
    strip, place = np.nonzero((peak > -AFTER) & (peak < SECONDS + BEFORE))
    time, early, kind = peak[strip, place], timing.early[strip, place], rhythm[strip]
    first = np.floor((time - BEFORE) * RATE).astype(np.int64)
    sample = first[:, None] + np.arange(round((BEFORE + AFTER) * RATE))
    cycle = np.sqrt(hearts.rr * timing.usual)[strip]  # the waves last as the root of RR (Bazett)
    phase = 2 * np.pi * (sample / RATE - time[:, None]) / cycle[:, None]

    value = _waves(kind, early, hearts[strip], rng).trace(phase)
    inside = (sample >= 0) & (sample < SAMPLES)
    cell = strip[:, None] * SAMPLES + sample
    voltage = np.zeros(len(peak) * SAMPLES)
    np.add.at(voltage, cell[inside], value[inside])
    return voltage.reshape(-1, SAMPLES)


def _waves(kind: NDArray[np.int64], early: NDArray[np.bool_], hearts: _Hearts, rng: Generator) -> Waves:
    """The waves of beats (m,): no P, an altered one, or a ventricular shape where the rhythm asks for it."""
    m = len(kind)
    altered = hearts.sinus.changed(P, height=rng.uniform(-0.8, 0.8, m), angle=rng.uniform(0.6, 1.1, m))
    conducted = hearts.sinus.changed(P, height=np.where(np.isin(kind, WITHOUT_P), 0.0, 1.0))
    waves = hearts.ectopic.where(early & (kind == Rhythm.VENTRICULAR), altered.where(early, conducted))
    return waves.varied(0.06, 0.02, 0.04, rng)


def _atria(rhythm: NDArray[np.int64], atrial: Array, rng: Generator) -> Array:
    """The wave (n, 512) of fibrillating (1) or fluttering (1.5) atria, in 15 % of the others a tremor like it."""
    n = len(rhythm)
    time = np.arange(SAMPLES) / RATE
    slow = 2 * np.pi * (rng.uniform(0.2, 0.8, (n, 1)) * time + rng.random((n, 1)))
    drift = np.where(rhythm == Rhythm.FLUTTER, 0.0, rng.uniform(0.0, 1.2, n))[:, None] * np.sin(slow)
    phase = 2 * np.pi * (atrial[:, None] * time + rng.random((n, 1))) + drift
    swell = 1 + rng.uniform(0.0, 0.6, (n, 1)) * np.sin(0.7 * slow + 1)
    tremor = np.where(rng.random(n) < 0.15, rng.uniform(0.3, 1.0, n), 0.0)
    size = np.select([rhythm == Rhythm.FIBRILLATION, rhythm == Rhythm.FLUTTER], [1.0, 1.5], tremor)
    return size[:, None] * swell * (np.sin(phase) + 0.35 * np.sin(2 * phase + 0.5))


def _disturbance(label: NDArray[np.int64], hearts: _Hearts, length: NDArray[np.int64], rng: Generator) -> Array:
    """White noise and a wandering baseline (n, 512), and artefacts: all over ~, a burst in a fifth of the others."""
    n = len(label)
    time = np.arange(SAMPLES) / RATE
    breath = 2 * np.pi * (rng.uniform(0.15, 0.5, (n, 1)) * time + rng.random((n, 1)))
    white = (hearts.noise * _around(1.0, 0.4, n, rng))[:, None] * rng.standard_normal((n, SAMPLES))
    noisy = label == CLASSES.index("~")
    burst = np.where(rng.random(n) < 0.2, _around(0.15, 0.5, n, rng), 0.0)
    size = np.where(noisy, _around(0.8, 0.35, n, rng), burst)
    width = np.where(noisy, rng.uniform(2.0, 8.0, n), rng.uniform(0.3, 1.5, n))
    away = (time - (rng.random(n) * length / RATE)[:, None]) / width[:, None]
    artefact = size[:, None] * np.exp(-0.5 * away**2) * _artefact(n, rng)
    return hearts.wander[:, None] * np.sin(breath) + white + artefact


def _artefact(n: int, rng: Generator) -> Array:
    """Motion and muscle in random shares: a moving sum over 1 s, of spread 1, and white noise of spread 0.6."""
    walk = np.cumsum(rng.standard_normal((n, SAMPLES + RATE)), 1)
    motion = (walk[:, RATE:] - walk[:, :-RATE]) / RATE**0.5
    share = rng.uniform(0.1, 0.9, (n, 1))
    return share * motion + (1 - share) * 0.6 * rng.standard_normal((n, SAMPLES))


@hookimpl
def datasets() -> Mapping[str, Dataset]:
    return {"synthetic-rhythms": SyntheticRhythms()}
