"""Signals that do not lie in memory as one float tensor: decoded, padded and handed over row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgbench.core.errors import DataError


class Signals(Protocol):
    """Signals of a split that are decoded when rows of them are asked for, such as volumes of different length.

    Nothing may write into what they are decoded from: arrays are read-only, files are mapped so.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *shape): every sample is padded with zeros along its first axis to the length of the longest one."""
        ...

    @property
    def lengths(self) -> Tensor:
        """How many places along the first axis of a sample are its own, (n,) int64."""
        ...

    @property
    def span(self) -> tuple[float, float]:
        """A range that no decoded value leaves, padding included; both ends finite."""
        ...

    def read(self, rows: Tensor) -> Tensor:
        """Rows (m,) int64 -> (m, *shape) float32, a tensor of their own."""
        ...


@dataclass(frozen=True, eq=False)
class ByteSignals:
    """Arrays of 8 bits, (length, *rest) each, read as value / 255 in [0, 1].

    `arrays` may open a file for each array that is taken. `longest` is the length that all are padded to, one for all
    splits of a task. Raises DataError for an array of another type or shape when it is read.
    """

    arrays: Sequence[NDArray[np.uint8]]
    rest: tuple[int, ...]
    longest: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.arrays), self.longest, *self.rest)

    @cached_property
    def lengths(self) -> Tensor:
        return torch.tensor([len(array) for array in self.arrays], dtype=torch.int64)

    @property
    def span(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def read(self, rows: Tensor) -> Tensor:
        x = torch.zeros(len(rows), *self.shape[1:])
        for place, row in enumerate(rows.tolist()):
            array = self.arrays[row]
            if array.dtype != np.uint8 or array.shape != (int(self.lengths[row]), *self.rest):
                expected = f"uint8 {(int(self.lengths[row]), *self.rest)}"
                raise DataError(f"sample {row} of the split is {array.dtype} {array.shape}; expected {expected}.")
            x[place, : len(array)] = torch.from_numpy(array.astype(np.float32)).div_(255)
        return x


@dataclass(frozen=True, eq=False)
class SelectedSignals:
    """Some rows (m,) of `source`, in their order, still undecoded."""

    source: Signals
    rows: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.source.shape[1:])

    @property
    def lengths(self) -> Tensor:
        return self.source.lengths[self.rows]

    @property
    def span(self) -> tuple[float, float]:
        return self.source.span

    def read(self, rows: Tensor) -> Tensor:
        return self.source.read(self.rows[rows])
