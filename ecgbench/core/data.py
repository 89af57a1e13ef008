"""Signals in memory: a batch, a split, a task. Nothing here knows a file or assumes leads and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Literal, Self

import torch
from torch import Tensor

from ecgbench.core.errors import DataError
from ecgbench.core.outputs import SINGLE_LABEL, Outputs, SingleLabel
from ecgbench.core.random import stream
from ecgbench.core.signals import SelectedSignals, Signals

Split = Literal["val", "test"]
"""The samples that a sweep attacks: "val" to choose by, "test" for what is reported."""


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
    for all of a sample, or broadcastable to `x`, one for each feature. `lengths` (n,) int64: how many places along the
    first axis of a sample are its own, where the others are padding that no threat may touch; None where all are.
    """

    x: Tensor
    y: Tensor
    mask: Tensor
    ids: Tensor
    scale: Tensor
    lengths: Tensor | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: Tensor | slice) -> Self:
        return self._each(lambda value: take(value, rows))

    @property
    def scaled_by_feature(self) -> bool:
        """Whether `scale` differs within a sample."""
        return self.scale.numel() > len(self.scale)

    @property
    def present(self) -> Tensor | None:
        """Where a sample is, and no padding: bool (n, length, 1, ..., 1); None where nothing is padded."""
        if self.lengths is None:
            return None
        place = torch.arange(self.x.shape[1], device=self.lengths.device)
        return (place < self.lengths[:, None]).view(len(self), -1, *[1] * (self.x.ndim - 2))

    def to(self, device: torch.device | str) -> Self:
        """The same rows on `device`."""
        return self._each(lambda value: value.to(device))

    def copy(self) -> Self:
        """The same rows in tensors of their own."""
        return self._each(Tensor.clone)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = ((part.name, getattr(self, part.name)) for part in fields(self))
        return replace(self, **{name: change(value) for name, value in values if isinstance(value, Tensor)})


@dataclass(frozen=True)
class Samples(Batch):
    """A whole split.

    `group` (n,) int64 is the patient or record of each sample, None where samples are independent;
    `weight` (n,) float32 is how often metrics count each sample. Where `signals` is given, `x` has their shape and no
    values (device "meta"): rows are decoded when they are taken, `samples[rows].x`.
    """

    group: Tensor | None
    weight: Tensor
    signals: Signals | None = field(default=None, kw_only=True)

    @classmethod
    def of(
        cls,
        x: Tensor | Signals,
        y: Tensor,
        *,
        mask: Tensor | None = None,
        ids: Tensor | None = None,
        scale: Tensor | None = None,
        group: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Samples:
        """A checked split; what is left out is a full mask, ids 0..n-1, scale 1, weight 1 and no group.

        Padding of signals is never part of the mask. Raises DataError where shapes or types disagree, or a value is not
        finite.
        """
        n, signals = len(y), None if isinstance(x, Tensor) else x
        values = x if isinstance(x, Tensor) else _undecoded(x)
        samples = cls(
            x=values,
            y=y,
            mask=torch.ones(n, *[1] * (values.ndim - 1), dtype=torch.bool) if mask is None else mask,
            ids=torch.arange(n) if ids is None else ids,
            scale=torch.ones(n) if scale is None else scale,
            group=group,
            weight=torch.ones(n) if weight is None else weight,
            lengths=None if signals is None else signals.lengths,
            signals=signals,
        )
        samples.check()
        present = samples.present
        return samples if present is None else replace(samples, mask=samples.mask & present)

    def __getitem__(self, rows: Tensor | slice) -> Self:
        if self.signals is None:
            return super().__getitem__(rows)
        numbers = torch.arange(len(self))[rows if isinstance(rows, slice) else rows.cpu()]
        x = self.signals.read(numbers) if len(numbers) else torch.zeros(0, *self.x.shape[1:])
        if x.shape != (len(numbers), *self.x.shape[1:]) or x.dtype != torch.float32:
            expected = (len(numbers), *self.x.shape[1:])
            raise DataError(f"signals of {tuple(x.shape)} {x.dtype} were read; expected {expected} float32.")
        return replace(self._others(numbers), x=x.to(self.y.device), signals=None)

    def select(self, rows: Tensor) -> Self:
        """These rows as a split of their own; signals that are decoded on access stay undecoded."""
        if self.signals is None:
            return self[rows]
        numbers = torch.arange(len(self))[rows.cpu()]
        signals = SelectedSignals(self.signals, numbers)
        return replace(self._others(numbers), x=_undecoded(signals), signals=signals)

    def _others(self, rows: Tensor) -> Self:
        """Every field of these rows but the signals."""
        on = rows.to(self.y.device)
        return replace(self, x=self.x[:0])._each(lambda value: value if value.is_meta else take(value, on))

    def to(self, device: torch.device | str) -> Self:
        return self._each(lambda value: value if value.is_meta else value.to(device))

    def unweighted(self) -> Batch:
        """The same rows as a loss meets them, without groups and weights; signals stay undecoded."""
        if self.signals is not None:
            return self
        return Batch(self.x, self.y, self.mask, self.ids, self.scale, lengths=self.lengths)

    def span(self) -> tuple[float, float]:
        """The least and the largest value of all signals, or a range that they do not leave."""
        if self.signals is not None:
            return self.signals.span
        least, most = torch.aminmax(self.x)
        return float(least), float(most)

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
        if self.lengths is not None and not bool(((self.lengths > 0) & (self.lengths <= self.x.shape[1])).all()):
            row = int(((self.lengths < 1) | (self.lengths > self.x.shape[1])).nonzero()[0])
            have = f"sample {int(self.ids[row])} has the length {int(self.lengths[row])}"
            raise DataError(f"{have}; expected 1 to {self.x.shape[1]}.")
        if not self.x.numel() or all(map(isfinite, self.span())):
            return
        if self.signals is not None:
            raise DataError(f"signals have the span {self.signals.span}; expected two finite numbers.")
        row = int((~torch.isfinite(self.x).flatten(1).all(1)).nonzero()[0])
        raise DataError(f"sample {int(self.ids[row])} holds a value that is not finite (NaN or infinity).")


def _undecoded(signals: Signals) -> Tensor:
    """A tensor of the shape and type of signals that are decoded on access, without values."""
    return torch.empty(signals.shape, dtype=torch.float32, device="meta")


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
    "lengths": torch.int64,
}


@dataclass(frozen=True)
class Task:
    """A classification problem, ready to train and attack; never a path.

    `bounds` is the valid range of x or None; `unit` is the unit of x and `physical` that of `x * scale`;
    `rate` in Hz; `features` names the places of the last axis of x, () where they have no names; `notes` are facts that
    must stand beside every score, such as "intra-patient".
    `weighting` says in words what `test.weight` means. `skip_unpredicted` leaves a class that nobody predicts
    out of the mean precision (as some studies do) instead of counting it as 0. `challenge` names the classes whose
    mean F1 the dataset's challenge was judged by, none where it had none. `outputs` says what logits and labels mean:
    by default that one of `classes` holds.
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
    outputs: Outputs = SINGLE_LABEL

    def __post_init__(self) -> None:
        if isinstance(self.outputs, SingleLabel):
            object.__setattr__(self, "outputs", SingleLabel(self.classes))
        if self.outputs.classes != self.classes:
            raise DataError(f"{self.name}: outputs are of {self.outputs.classes}; expected its classes {self.classes}.")
        for part in ("train", "val", "test"):
            samples: Samples = getattr(self, part)
            y = samples.y
            if len(y) and (int(y.min()) < 0 or int(y.max()) >= self.outputs.codes):
                raise DataError(f"{self.name} {part}: a label lies outside 0..{self.outputs.codes - 1}.")
            if self.features and samples.x.shape[-1] != len(self.features):
                raise DataError(
                    f"{self.name} {part}: {samples.x.shape[-1]} features in x; {len(self.features)} are named."
                )
            if self.bounds and len(y):
                self._check_range(part, samples, self.bounds)

    def _check_range(self, part: str, samples: Samples, bounds: tuple[float, float]) -> None:
        """Raises DataError, with the first sample, where a signal leaves the bounds as float32 holds them."""
        low, high = torch.tensor(bounds, dtype=torch.float32)
        least, most = samples.span()
        if low <= least and most <= high:
            return
        if samples.signals is not None:
            raise DataError(f"{self.name} {part}: signals span {(least, most)}; the stated range is {tuple(bounds)}.")
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

    def samples(self, split: Split) -> Samples:
        """The samples of a split."""
        return self.val if split == "val" else self.test

    def limited(self, n: int | None, split: Split = "test") -> Task:
        """The task with at most `n` samples in `split`, spread over the classes in proportion, lowest ids first."""
        of = self.samples(split)
        if n is None or n >= len(of):
            return self
        place = torch.empty(len(of), dtype=torch.float64)
        for label in of.y.unique():
            rows = (of.y == label).nonzero().squeeze(1)
            rows = rows[of.ids[rows].argsort(stable=True)]
            place[rows] = (torch.arange(len(rows), dtype=torch.float64) + 0.5) / len(rows)
        chosen = of.select(place.argsort(stable=True)[:n].sort().values)
        return self._with(split, chosen)

    def some_of_each(self, n: int, split: Split = "test") -> Task:
        """The task with at most `n` samples of each class in `split`, drawn by ids, each counted once; itself for 0."""
        if not n:
            return self
        of = self.samples(split)
        order = stream("some of each class").uniform(of.ids, ()).argsort(stable=True)
        drawn = [order[of.y[order] == label][:n] for label in of.y.unique()]
        few = of.select(torch.cat(drawn).sort().values)
        few = replace(few, weight=torch.ones(len(few)))
        weighting = f"at most {n} samples of each class count, drawn by their ids, each once"
        return replace(self._with(split, few), weighting=weighting)

    def _with(self, split: Split, samples: Samples) -> Task:
        return replace(self, val=samples) if split == "val" else replace(self, test=samples)
