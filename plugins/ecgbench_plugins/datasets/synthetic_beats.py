"""Synthetic heart beats: a small stand-in for MIT-BIH beats that needs no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from ecgbench_plugins.datasets.mcsharry import Array, P, Q, R, S, T, Waves

RATE = 125.0  # Hz
TIME = 187  # samples of a row
STEPS = 200.0  # per mV, as the recorder of MIT-BIH
SHARES = {"N": 0.40, "S": 0.15, "V": 0.18, "F": 0.12, "Q": 0.15}


@dataclass(frozen=True)
class Patients:
    rr: Array
    unsteady: Array
    noise: Array
    wander: Array
    sinus: Waves
    ectopic: Waves
    paced: Waves


def patients(n: int, noise: float, rng: Generator) -> Patients:
    rr = np.clip(_around(0.75, 0.17, n, rng), 0.5, 1.2)
    return Patients(
        rr=rr,
        unsteady=_around(0.05, 0.4, n, rng),
        noise=_around(noise, 0.5, n, rng),
        wander=_around(0.12, 0.5, n, rng),
        sinus=_sinus(rr, rng),
        ectopic=_ectopic(rr, rng),
        paced=_paced(rr, rng),
    )


def _around(median, spread, n, rng):
    return median * np.exp(spread * rng.standard_normal(n))


def _vary(waves, height, angle, width, rng):
    size = waves.height.shape
    return waves.changed(*(np.exp(s * rng.standard_normal(size)) for s in (height, angle, width)))


def _sinus(rr, rng):
    w = _vary(Waves.typical(rr), 0.35, 0.08, 0.15, rng)
    h = w.height.copy()
    flat = rng.random(len(rr)) < 0.12
    h[flat, T] *= -0.6
    return Waves(h, w.angle, w.width)


def _ectopic(rr, rng):
    n = len(rr)
    w = _vary(Waves.typical(rr), 0.3, 0.1, 0.15, rng)
    sign = np.where(rng.random(n) < 0.35, -1.0, 1.0)
    factor = np.zeros((n, 5))
    factor[:, Q] = rng.uniform(0, 1.5, n)
    factor[:, R] = sign * rng.uniform(0.9, 1.8, n)
    factor[:, S] = rng.uniform(0.5, 2.5, n) * sign
    factor[:, T] = -sign * rng.uniform(0.4, 2.0, n)
    wide = np.ones((n, 5))
    wide[:, Q:T] = rng.uniform(1.5, 3.0, n)[:, None]
    far = np.ones((n, 5))
    far[:, Q:T] = rng.uniform(1.8, 2.6, n)[:, None]
    return w.changed(factor, far, wide)


def _paced(rr, rng):
    n = len(rr)
    w = _vary(Waves.typical(rr), 0.3, 0.1, 0.15, rng)
    sign = np.where(rng.random(n) < 0.35, -1.0, 1.0)
    factor = np.zeros((n, 5))
    factor[:, P] = rng.uniform(0, 0.6, n)
    factor[:, Q] = rng.uniform(0, 1.0, n)
    factor[:, R] = sign * rng.uniform(0.7, 1.3, n)
    factor[:, S] = rng.uniform(0.5, 2.0, n) * sign
    factor[:, T] = -sign * rng.uniform(0.3, 1.5, n)
    wide = np.ones((n, 5))
    wide[:, Q:T] = rng.uniform(1.3, 2.4, n)[:, None]
    far = np.ones((n, 5))
    far[:, Q:T] = rng.uniform(1.6, 2.2, n)[:, None]
    return w.changed(factor, far, wide)
