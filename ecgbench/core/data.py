"""Signals in memory: a batch, a split, a task. Nothing here knows a file or assumes leads and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import Self

import torch
from torch import Tensor

from ecgbench.core.errors import DataError
from ecgbench.core.random import RandomStream


def take(values: Tensor, rows: Tensor | slice) -> Tensor:
    """`values[rows]`; for row numbers by the call made for them, which is several times as fast as an index."""
    if isinstance(rows, slice) or rows.dtype != torch.int64:
        return values[rows]
    return values.index_select(0, rows)


@dataclass(frozen=True)
class Batch:
    """Rows of signals; indexing subsets every field.

    `x` (n, *shape) float32; `y` (n,) int64; `mask` (n, ...) bool, broadcastable to `x`, True where an attack
    may write; `ids` (n,) int64, stable sample numbers; `scale` float32, physical unit per unit of `x`: (n,), one number
    for all of a sample, or broadcastable to `x`, one for each feature.
    """

    x: Tensor
    y: Tensor
    mask: Tensor
    ids: Tensor
    scale: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: Tensor | slice) -> Self:
        return self._each(lambda value: take(value, rows))

    @property
    def scaled_by_feature(self) -> bool:
        """Whether `scale` differs within a sample."""
        return self.scale.numel() > len(self.scale)

    def to(self, device: torch.device | str) -> Self:
        """The same rows on `device`."""
        return self._each(lambda value: value.to(device))

    def copy(self) -> Self:
        """The same rows in tensors of their own."""
        return self._each(Tensor.clone)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return replace(self, **{name: change(value) for name, value in values if value is not None})


@dataclass(frozen=True)
class Samples(Batch):
    """A whole split.

    `group` (n,) int64 is the patient or record of each sample, None where samples are independent;
    `weight` (n,) float32 is how often metrics count each sample.
    """

    group: Tensor | None
    weight: Tensor

    @classmethod
    def of(
        cls,
        x: Tensor,
        y: Tensor,
        *,
        mask: Tensor | None = None,
        ids: Tensor | None = None,
        scale: Tensor | None = None,
        group: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Samples:
        """A checked split; what is left out is a full mask, ids 0..n-1, scale 1, weight 1 and no group.

        Raises DataError where shapes or types disagree, or a value is not finite.
        """
        n = len(y)
        samples = cls(
            x=x,
            y=y,
            mask=torch.ones(n, *[1] * (x.ndim - 1), dtype=torch.bool) if mask is None else mask,
            ids=torch.arange(n) if ids is None else ids,
            scale=torch.ones(n) if scale is None else scale,
            group=group,
            weight=torch.ones(n) if weight is None else weight,
        )
        samples.check()
        return samples

    def check(self) -> None:
        """Raises DataError with the first fault found."""
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if value is None:
                continue
            if value.dtype != kind:
                raise DataError(f"{name} has type {value.dtype}; expected {kind}.")
            if len(value) != len(self.y):
                raise DataError(f"{name} has {len(value)} rows for {len(self.y)} labels.")
        for name, value in (("mask", self.mask), ("scale", self.scale)):
            if not (_fits(value, self.x) or (name == "scale" and value.ndim == 1)):
                raise DataError(f"{name} of shape {tuple(value.shape)} does not fit x {tuple(self.x.shape)}.")
        if self.x.numel() and not all(map(isfinite, map(float, torch.aminmax(self.x)))):
            row = int((~torch.isfinite(self.x).flatten(1).all(1)).nonzero()[0])
            raise DataError(f"sample {int(self.ids[row])} holds a value that is not finite (NaN or infinity).")


def _fits(value: Tensor, x: Tensor) -> bool:
    """Whether `value` can be broadcast to `x`, axis by axis."""
    return value.ndim == x.ndim and all(have in (1, want) for have, want in zip(value.shape, x.shape, strict=True))


_KINDS = {
    "x": torch.float32,
    "y": torch.int64,
    "mask": torch.bool,
    "ids": torch.int64,
    "scale": torch.float32,
    "group": torch.int64,
    "weight": torch.float32,
}


@dataclass(frozen=True)
class Task:
    """A classification problem, ready to train and attack; never a path.

    `bounds` is the valid range of x or None; `unit` is the unit of x and `physical` that of `x * scale`;
    `rate` in Hz; `features` names the places of the last axis of x, () where they have no names; `notes` are facts that
    must stand beside every score, such as "intra-patient".
    `weighting` says in words what `test.weight` means. `skip_unpredicted` leaves a class that nobody predicts
    out of the mean precision (as some studies do) instead of counting it as 0. `challenge` names the classes whose
    mean F1 the dataset's challenge was judged by, none where it had none.
    """

    name: str
    classes: tuple[str, ...]
    train: Samples
    val: Samples
    test: Samples
    bounds: tuple[float, float] | None = None
    unit: str = "1"
    physical: str | None = None
    rate: float | None = None
    features: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    weighting: str = "every sample counts once"
    skip_unpredicted: bool = False
    challenge: tuple[str, ...] = ()
    synthetic: bool = False

    def __post_init__(self) -> None:
        for part in ("train", "val", "test"):
            samples: Samples = getattr(self, part)
            y = samples.y
            if len(y) and (int(y.min()) < 0 or int(y.max()) >= len(self.classes)):
                raise DataError(f"{self.name} {part}: a label lies outside 0..{len(self.classes) - 1}.")
            if self.features and samples.x.shape[-1] != len(self.features):
                raise DataError(
                    f"{self.name} {part}: {samples.x.shape[-1]} features in x; {len(self.features)} are named."
                )
            if self.bounds and len(y):
                self._check_range(part, samples, self.bounds)

    def _check_range(self, part: str, samples: Samples, bounds: tuple[float, float]) -> None:
        """Raises DataError, with the first sample, where a signal leaves the bounds as float32 holds them."""
        low, high = torch.tensor(bounds, dtype=torch.float32)
        least, most = torch.aminmax(samples.x)
        if low <= least and most <= high:
            return
        excess = torch.maximum(low - samples.x, samples.x - high).flatten(1).amax(1)
        row = int((~(excess <= 0)).nonzero()[0])
        by = f"sample {int(samples.ids[row])} by {float(excess[row]):.3g}"
        raise DataError(f"{self.name} {part}: a signal leaves the stated range {tuple(bounds)}: {by}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.test.x.shape[1:])

    def blind(self) -> Task:
        """The task as models and defenses see it: no test sample, so that none can be looked up."""
        return replace(self, test=self.test[:0].copy())

    def limited(self, n: int | None) -> Task:
        """The task with at most `n` test samples, spread over the classes in proportion, lowest ids first."""
        if n is None or n >= len(self.test):
            return self
        place = torch.empty(len(self.test), dtype=torch.float64)
        for label in self.test.y.unique():
            rows = (self.test.y == label).nonzero().squeeze(1)
            rows = rows[self.test.ids[rows].argsort(stable=True)]
            place[rows] = (torch.arange(len(rows), dtype=torch.float64) + 0.5) / len(rows)
        chosen = place.argsort(stable=True)[:n].sort().values
        return replace(self, test=self.test[chosen])

    def some_of_each(self, n: int) -> Task:
        """The task with at most `n` test samples of each class, drawn by ids, each counted once; itself for 0."""
        if not n:
            return self
        order = RandomStream(("some of each class",)).uniform(self.test.ids, ()).argsort(stable=True)
        drawn = [order[self.test.y[order] == label][:n] for label in self.test.y.unique()]
        test = self.test[torch.cat(drawn).sort().values]
        weighting = f"at most {n} samples of each class count, drawn by their ids, each once"
        return replace(self, test=replace(test, weight=torch.ones(len(test))), weighting=weighting)
