"""The waves of a heart beat as Gaussians on the phase: the model of McSharry et al. 2003 in closed form.

McSharry, Clifford, Tarassenko and Smith 2003, IEEE TBME 50(3), eq. 1 drives z by P, Q, R, S and T, each with
an angle, a strength a and a width b. Without its pull to the baseline and its factor omega, the equation
integrates to the sum of a b^2 exp(-dphi^2 / 2 b^2), so that a beat needs no integration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
P, Q, R, S, T = range(5)
_ANGLE = np.radians([-70.0, -15.0, 0.0, 15.0, 100.0])
_STRENGTH = np.array([1.2, -5.0, 30.0, -7.5, 0.75])
_WIDTH = np.array([0.25, 0.1, 0.1, 0.1, 0.4])
_ROWS = 256  # evaluated at once, so that the work stays in the processor's cache


@dataclass(frozen=True)
class Waves:
    """P, Q, R, S and T of n beats, each array (n, 5): peak in mV, angle and width in radians."""

    height: Array
    angle: Array
    width: Array

    @classmethod
    def typical(cls, rr: Array) -> Waves:
        """The model's own beat with an R wave of 1 mV, at RR intervals `rr` (n,) in s.

        At a faster rate the waves take more of the cycle: factors as in the authors' program ECGSYN.
        """
        rate = np.sqrt(1.0 / rr)[:, None]
        power = np.array([0.5, 1.0, 0.0, 1.0, 0.5])
        height = _STRENGTH * _WIDTH**2
        return cls(np.tile(height / height[R], (len(rr), 1)), _ANGLE * rate**power, _WIDTH * rate)

    def __getitem__(self, rows: NDArray[np.int64]) -> Waves:
        return Waves(self.height[rows], self.angle[rows], self.width[rows])

    def changed(self, height: Array | float = 1.0, angle: Array | float = 1.0, width: Array | float = 1.0) -> Waves:
        """The same waves with each array multiplied by a factor."""
        return Waves(self.height * height, self.angle * angle, self.width * width)

    def trace(self, phase: Array, out: Array) -> None:
        """Add the beats to `out` (n, t), in mV, at `phase` (n, t), 0 at the R peak; a beat does not repeat."""
        for start in range(0, len(phase), _ROWS):
            rows = slice(start, start + _ROWS)
            for wave in range(5):
                height = self.height[rows, wave, None]
                if not height.any():
                    continue
                value = phase[rows] - self.angle[rows, wave, None]
                value *= value
                value *= -0.5 / self.width[rows, wave, None] ** 2
                np.exp(value, out=value)
                value *= height
                out[rows] += value
