"""The waves of heart beats as Gaussians on the phase: the model of McSharry et al. 2003 in closed form.

McSharry, Clifford, Tarassenko and Smith 2003 (IEEE TBME 50(3), eq. 1) drive the voltage by P, Q, R, S and T,
each with an angle, a strength a and a width b. Without its pull to the baseline and its factor omega, the
equation integrates to the sum of a b^2 exp(-dphi^2 / 2 b^2), so no solver is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]

P, Q, R, S, T = (slice(wave, wave + 1) for wave in range(5))
QRS = slice(1, 4)
ANGLE = np.radians([-70.0, -15.0, 0.0, 15.0, 100.0])
STRENGTH = np.array([1.2, -5.0, 30.0, -7.5, 0.75])
WIDTH = np.array([0.25, 0.1, 0.1, 0.1, 0.4])
RATE_POWER = np.array([0.5, 1.0, 0.0, 1.0, 0.5])  # of the angles
ROWS = 256  # evaluated at once, so that the work stays in the processor's cache


@dataclass(frozen=True)
class Waves:
    """P, Q, R, S and T of n beats, each array (n, 5): height in mV, angle and width in radians."""

    height: Array
    angle: Array
    width: Array

    @classmethod
    def typical(cls, rr: Array) -> Waves:
        """The model's beat, R wave scaled to 1 mV, at RR intervals `rr` (n,) in s.

        The faster the rate, the more of the cycle the waves take: the factors of ECGSYN, the authors' program.
        """
        rate = np.sqrt(1.0 / rr)[:, None]
        height = STRENGTH * WIDTH**2
        height = height / height[R]
        return cls(np.tile(height, (len(rr), 1)), ANGLE * rate**RATE_POWER, WIDTH * rate)

    def __getitem__(self, rows: NDArray[np.int64]) -> Waves:
        return Waves(self.height[rows], self.angle[rows], self.width[rows])

    def where(self, rows: NDArray[np.bool_], other: Waves) -> Waves:
        """These beats where `rows` (n,) is True, those of `other` elsewhere."""
        pairs = zip(self._arrays, other._arrays, strict=True)
        return Waves(*(np.where(rows[:, None], mine, theirs) for mine, theirs in pairs))

    def changed(
        self, which: slice, height: Array | float = 1.0, angle: Array | float = 1.0, width: Array | float = 1.0
    ) -> Waves:
        """The same beats with the waves `which` multiplied, by one number or by one for each beat (n,)."""
        arrays = [array.copy() for array in self._arrays]
        for array, factor in zip(arrays, (height, angle, width), strict=True):
            array[:, which] *= np.reshape(factor, (-1, 1))
        return Waves(*arrays)

    def varied(self, height: float, angle: float, width: float, rng: Generator) -> Waves:
        """The same beats with every number times its own log-normal factor, of the given spreads."""
        spreads = (height, angle, width)
        pairs = zip(self._arrays, spreads, strict=True)
        return Waves(*(array * np.exp(spread * rng.standard_normal(array.shape)) for array, spread in pairs))

    def trace(self, phase: Array) -> Array:
        """The voltage in mV at `phase` (n, t) in radians, 0 at the R peak: (n, t). A beat does not recur."""
        voltage = np.zeros_like(phase)
        for start in range(0, len(phase), ROWS):
            rows = slice(start, start + ROWS)
            for height, angle, width in zip(*(array[rows].T[..., None] for array in self._arrays), strict=True):
                value = phase[rows] - angle
                value *= value
                value *= -0.5 / width**2
                np.exp(value, out=value)
                value *= height
                voltage[rows] += value
        return voltage

    @property
    def _arrays(self) -> tuple[Array, Array, Array]:
        return self.height, self.angle, self.width
