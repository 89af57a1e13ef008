"""Synthetic beats: made-up heart beats in five overlapping classes, so that everything runs without a download.

The shape of a beat is the model in `mcsharry`. Who has which beat, what follows it and how it is disturbed
are our own simplification: never validated against recordings, and no result on it is a clinical one.
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
from ecgbench_plugins.datasets.mcsharry import QRS, Array, P, Q, R, S, T, Waves

SHARES = {"N": 0.40, "S": 0.15, "V": 0.18, "F": 0.12, "Q": 0.15}
CLASSES = tuple(SHARES)
SAMPLES = 187
RATE = 125  # Hz
STEPS = 200  # of the analogue-digital converter per mV, as in MIT-BIH
PER_PATIENT = 20  # beats
PATIENTS = 20  # at least
PARTS = (0.0, 0.60, 0.75, 1.0)  # of the patients: training, validation, test


@dataclass(frozen=True)
class SyntheticBeats(Dataset):
    """Beats x (n, 1, 187) in [0, 1] at 125 Hz, in the form of MIT-BIH beats; scale in mV.

    A row starts within a sample of an R peak, lasts 1.2 RR and is zero-padded; min and max of the beat are 0
    and 1; `mask` is False on the padding, `group` is the patient. Patients differ in rate, wave shapes, noise
    and wander; training, validation and test hold different ones (60, 15 and 25 %), in the same class shares.

    N is a sinus beat; S premature and atrial, followed by a pause or by a run with an altered P; V ventricular:
    wide, large, T opposed, mostly before a pause; F a fusion, a random share of N and V; Q paced: wide, the
    next beat behind its spike. They overlap: balanced accuracy is near 0.90 for the MLP, 0.57 for a linear
    model. It says nothing about patients: the set is synthetic, and was never compared with recordings.

    `beats` in all, about 20 of each patient; `seed` fixes every byte; `noise` is the median standard deviation
    of white noise in mV, and the baseline wanders three times as far. Source: `mcsharry` for the waves, rules
    of our own for all else. Raises EcgbenchError for a parameter out of range.
    """

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.01, 0.02, 0.03, 0.05, 0.1), headline=0.03)
    beats: int = 10_000
    seed: int = 0
    noise: float = 0.02

    def __post_init__(self) -> None:
        if self.beats < 100:
            raise EcgbenchError(f"synthetic-beats: beats={self.beats} given; expected 100 or more.")
        if self.seed < 0:
            raise EcgbenchError(f"synthetic-beats: seed={self.seed} given; expected 0 or more.")
        if not 0 <= self.noise < np.inf:
            raise EcgbenchError(f"synthetic-beats: noise={self.noise} given; expected a number of mV, 0 or more.")

    def load(self, root: DataRoot) -> Task:
        rng = Generator(PCG64(self.seed))
        number = max(PATIENTS, self.beats // PER_PATIENT)
        group = np.arange(self.beats) * number // self.beats
        edges = np.searchsorted(group, [round(part * number) for part in PARTS])
        label = np.concatenate([_labels(n, rng) for n in np.diff(edges)])
        hearts = _Hearts.drawn(number, self.noise, rng)[group]
        whole = _rows(*_recorded(label, hearts, rng), label, group)
        train, val, test = (whole[slice(*ends)] for ends in pairwise(edges))
        return Task(
            name="synthetic-beats",
            classes=CLASSES,
            train=train,
            val=val,
            test=test,
            bounds=(0.0, 1.0),
            physical="mV",
            rate=RATE,
            notes=("synthetic", "inter-patient"),
            synthetic=True,
        )


def _labels(n: int, rng: Generator) -> NDArray[np.int64]:
    """`n` labels in the exact shares of the classes, shuffled."""
    edges = np.cumsum(list(SHARES.values()))[:-1]
    return rng.permutation(np.searchsorted(edges, (np.arange(n) + 0.5) / n))


def _rows(voltage: Array, length: NDArray[np.int64], label: NDArray[np.int64], group: NDArray[np.int64]) -> Samples:
    """Digitised, cut to `length` and stretched to [0, 1].

    Whole steps of the converter hide the last bits in which two machines' exp may differ.
    """
    digital = np.rint(voltage * STEPS).astype(np.float32)
    inside = np.arange(SAMPLES) < length[:, None]
    low = digital.min(1, initial=np.inf, where=inside)
    span = digital.max(1, initial=-np.inf, where=inside) - low
    x = np.where(inside, (digital - low[:, None]) / span[:, None], np.float32(0))
    return Samples.of(
        torch.from_numpy(x[:, None]),
        torch.from_numpy(label),
        mask=torch.from_numpy(inside[:, None]),
        scale=torch.from_numpy(span / STEPS),
        group=torch.from_numpy(group),
    )


@dataclass(frozen=True)
class _Hearts:
    """What a heart and its electrodes keep from beat to beat: times in s, sizes in mV, one row for each."""

    rr: Array
    unsteady: Array  # relative spread of the RR interval
    gain: Array
    noise: Array
    wander: Array
    sinus: Waves
    ectopic: Waves
    paced: Waves

    @classmethod
    def drawn(cls, n: int, noise: float, rng: Generator) -> _Hearts:
        rr = _around(0.75, 0.17, n, rng).clip(0.5, 1.2)
        inverted = rng.random(n) < 0.08
        sinus = Waves.typical(rr).varied(0.25, 0.05, 0.1, rng)
        return cls(
            rr=rr,
            unsteady=_around(0.03, 0.3, n, rng),
            gain=_around(1.1, 0.3, n, rng),
            noise=_around(noise, 0.5, n, rng),
            wander=_around(3 * noise, 0.5, n, rng),
            sinus=sinus.changed(T, height=np.where(inverted, -0.6, 1.0)),
            ectopic=_ventricular(rr, size=(1.1, 1.8), width=(2.0, 3.0), recovery=(0.8, 2.0), rng=rng),
            paced=_ventricular(rr, size=(0.7, 1.3), width=(1.4, 2.0), recovery=(0.3, 1.5), rng=rng),
        )

    def __getitem__(self, rows: NDArray[np.int64]) -> _Hearts:
        return _Hearts(*(getattr(self, field.name)[rows] for field in fields(self)))


def _around(median: float, spread: float, n: int, rng: Generator) -> Array:
    """Log-normal draws."""
    return median * np.exp(spread * rng.standard_normal(n))


def _ventricular(
    rr: Array,
    size: tuple[float, float],
    width: tuple[float, float],
    recovery: tuple[float, float],
    rng: Generator,
) -> Waves:
    """Beats that no P leads in: wide, up in two of three, T the other way; factors on the typical beat."""
    n = len(rr)
    up = np.where(rng.random(n) < 0.35, -1.0, 1.0)
    return (
        Waves.typical(rr)
        .varied(0.2, 0.05, 0.1, rng)
        .changed(P, height=0.0)
        .changed(Q, height=rng.uniform(0.0, 1.2, n))
        .changed(R, height=up * rng.uniform(*size, n))
        .changed(S, height=up * rng.uniform(0.5, 2.2, n))
        .changed(T, height=-up * rng.uniform(*recovery, n))
        .changed(QRS, angle=rng.uniform(1.7, 2.4, n), width=rng.uniform(*width, n))
    )


def _recorded(label: NDArray[np.int64], hearts: _Hearts, rng: Generator) -> tuple[Array, NDArray[np.int64]]:
    """The voltage in mV from each R peak on, (n, 187), and how many samples of it are 1.2 RR."""
    n = len(label)
    rr = hearts.rr * _around(1.0, 0.06, n, rng)
    length = np.minimum(np.rint(1.2 * rr * RATE), SAMPLES).astype(np.int64)
    time = (np.arange(SAMPLES) + rng.uniform(-1.0, 1.0, (n, 1))) / RATE
    voltage = hearts.gain[:, None] * _beating(label, hearts, rr, time, rng)

    breath = 2 * np.pi * (rng.uniform(0.15, 0.5, (n, 1)) * time + rng.random((n, 1)))
    voltage += (hearts.wander * rng.standard_normal(n))[:, None] * np.sin(breath)
    noise = hearts.noise * _around(1.0, 0.4, n, rng)
    voltage += noise[:, None] * rng.standard_normal((n, SAMPLES))
    return voltage, length


def _beating(label: NDArray[np.int64], hearts: _Hearts, rr: Array, time: Array, rng: Generator) -> Array:
    """The beat itself and the next one, undisturbed, at `time` (n, 187) in s."""
    n = len(label)
    _, s, v, f, q = (label == place for place in range(len(CLASSES)))
    run = s & (rng.random(n) < 0.4)
    rest = _rest(label, run, hearts, rng)
    phase = 2 * np.pi * time / rr[:, None]

    sinus = hearts.paced.where(q, hearts.sinus)
    premature = sinus.changed(T, height=_around(0.6, 0.25, n, rng), angle=rng.uniform(0.85, 1.0, n)).changed(
        QRS, width=rng.uniform(1.0, 1.3, n)
    )
    altered = sinus.changed(P, height=rng.uniform(-1.0, 0.5, n), angle=rng.uniform(0.6, 1.0, n))
    voltage = premature.where(s, sinus).varied(0.08, 0.03, 0.05, rng).trace(phase)

    share = np.where(v, 1.0, rng.uniform(0.35, 0.65, n))[:, None]
    rows = np.flatnonzero(v | f)
    ectopic = hearts.ectopic[rows].varied(0.12, 0.04, 0.06, rng).trace(phase[rows])
    voltage[rows] += share[rows] * (ectopic - voltage[rows])

    voltage += altered.where(run, sinus).varied(0.08, 0.03, 0.05, rng).trace(phase - 2 * np.pi * rest[:, None])
    rows = np.flatnonzero(q)
    voltage[rows] += _spikes(time[rows] - (rest * rr)[rows, None], hearts[rows], rng)
    return voltage


def _rest(label: NDArray[np.int64], run: NDArray[np.bool_], hearts: _Hearts, rng: Generator) -> Array:
    """Time to the next R peak in units of RR: pauses after S and V, but for atrial runs and interpolated V."""
    n = len(label)
    _, s, v, f, _ = (label == place for place in range(len(CLASSES)))
    steady = np.exp(hearts.unsteady * rng.standard_normal(n))
    interpolated = v & (rng.random(n) < 0.25)
    return np.select(
        [run, s, interpolated, v, f],
        [
            rng.uniform(0.62, 0.85, n),
            rng.uniform(1.08, 1.22, n),
            rng.uniform(0.50, 0.90, n),
            rng.uniform(1.05, 1.45, n),
            steady * rng.uniform(0.98, 1.12, n),
        ],
        steady,
    )


def _spikes(time: Array, hearts: _Hearts, rng: Generator) -> Array:
    """The pacemaker's spike shortly before an R peak at `time` 0: 4 ms wide, as the converter smears it."""
    n = len(time)
    onset = hearts.paced.width[:, R] * hearts.rr[:, None] / (2 * np.pi)
    lead = onset + rng.uniform(0.03, 0.08, (n, 1))
    return rng.uniform(0.1, 0.7, (n, 1)) * np.exp(-0.5 * ((time + lead) / 0.004) ** 2)


@hookimpl
def datasets() -> Mapping[str, Dataset]:
    return {"synthetic-beats": SyntheticBeats()}
