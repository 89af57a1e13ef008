"""Susceptibility of each cell of a table of measurements by hour, from the perturbations that succeeded.

Sun et al. 2018 (arXiv 1802.04822), section 3.3, with the probability of a perturbation as a public re-implementation
counts it: over n perturbations delta, the cell (i, j) is hour i of measurement j.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.errors import EcgbenchError

Map = NDArray[np.float64]


@dataclass(frozen=True)
class Maps:
    """Six maps, (hours, measurements) each.

    `gmp`: the largest |delta| of all perturbations (global maximum perturbation). `gap`: their mean |delta| (global
    average). `gpp`: the share of them that changes the cell (global perturbation probability). `s` = gmp gpp, the
    susceptibility. `ganzp`: the mean |delta| of those that change it (global average of non-zero perturbations), 0
    where none does. `sensitivity` = gpp / ganzp, high where small perturbations suffice, 0 where none changes the cell.
    """

    gmp: Map
    gap: Map
    gpp: Map
    s: Map
    ganzp: Map
    sensitivity: Map

    @classmethod
    def of(cls, delta: NDArray[np.floating]) -> Maps:
        """Of perturbations `delta` (n, hours, measurements). Raises EcgbenchError unless n is 1 or more."""
        if delta.ndim != 3 or not len(delta):
            raise EcgbenchError(
                f"perturbations of shape {delta.shape} given; expected (n, hours, measurements), n of 1 or more."
            )
        size = np.abs(delta.astype(np.float64))
        changed = np.count_nonzero(delta, axis=0).astype(np.float64)
        total, gmp, gpp = size.sum(0), size.max(0), changed / len(delta)
        ganzp = np.divide(total, changed, out=np.zeros_like(total), where=changed > 0)
        sensitivity = np.divide(gpp, ganzp, out=np.zeros_like(gpp), where=ganzp > 0)
        return cls(gmp, total / len(delta), gpp, gmp * gpp, ganzp, sensitivity)

    def named(self) -> Iterator[tuple[str, Map]]:
        """Each map with its name."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))


def susceptibility(delta: NDArray[np.floating]) -> Map:
    """S_j of each measurement, the sum of `Maps.s` over the hours: (n, hours, measurements) -> (measurements,)."""
    gmp = np.maximum(delta.max(0), -delta.min(0)).astype(np.float64)
    return np.asarray((gmp * (np.count_nonzero(delta, axis=0) / len(delta))).sum(0))
