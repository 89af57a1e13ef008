"""The three planes of an exam side by side, where a series has as many slices as it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ecgbench import ByteSignals, Samples


@dataclass(frozen=True, eq=False)
class PlaneSignals:
    """Signals of the same samples, (longest, *rest) each, as (longest, planes, *rest); shorter series end in zeros."""

    planes: Sequence[ByteSignals]

    @property
    def shape(self) -> tuple[int, ...]:
        n, longest, *rest = self.planes[0].shape
        return (n, longest, len(self.planes), *rest)

    @property
    def lengths(self) -> Tensor:
        return torch.stack([plane.lengths for plane in self.planes]).amax(0)

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def read(self, rows: Tensor) -> Tensor:
        return torch.stack([plane.read(rows) for plane in self.planes], 2)


def knee_samples(planes: Sequence[ByteSignals], y: Tensor, ids: Tensor, scale: float) -> Samples:
    """Exams of one plane, or of several with a second axis for them; `scale` is that of every exam.

    The mask is False where a series has ended before the longest one of its exam.
    """
    unit = torch.full((len(y),), scale)
    if len(planes) == 1:
        return Samples.of(planes[0], y, ids=ids, scale=unit)
    place = torch.arange(planes[0].longest)[:, None]
    mask = place < torch.stack([plane.lengths for plane in planes], 1)[:, None]
    signals = PlaneSignals(planes)
    return Samples.of(signals, y, ids=ids, scale=unit, mask=mask.view(*mask.shape, *[1] * (len(signals.shape) - 3)))
