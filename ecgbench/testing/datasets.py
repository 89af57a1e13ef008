"""What every dataset promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType, NoneType

import torch

from ecgbench.core.data import Samples, Task
from ecgbench.core.dataroot import DataRoot, Remote
from ecgbench.core.errors import DataError
from ecgbench.core.interfaces import Dataset, Defaults
from ecgbench.evaluation.lending import batch_change
from ecgbench.evaluation.sweep import check_grid
from ecgbench.testing.promise import Promise, examine, odd, value
from ecgbench.testing.traces import fresh_generators

PARTS = ("train", "val", "test")


def check_dataset(
    dataset: Dataset, root: DataRoot | None = None, *, expected: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Hold a dataset to `DATASET_PROMISES`; `root` is where its recordings lie, None for an embedded set.

    `expected` names the promises it cannot keep, each with the reason. Loads the task twice. Raises
    BrokenPromiseError (a ContractError) with the first promise broken.
    """
    examine(DatasetCase(dataset, root or DataRoot()), DATASET_PROMISES, expected)


@dataclass
class DatasetCase:
    """A dataset and its task, loaded when first asked for."""

    plugin: Dataset
    root: DataRoot

    @cached_property
    def loaded(self) -> tuple[Task, str | None]:
        """The task, and the global generators that loading it moved, if any."""
        with fresh_generators() as moved:
            return self.plugin.load(self.root), moved()

    @property
    def task(self) -> Task:
        """The task."""
        return self.loaded[0]

    @property
    def splits(self) -> Iterator[tuple[str, Samples]]:
        """Every split with its name."""
        for part in PARTS:
            yield part, getattr(self.task, part)

    @property
    def pairs(self) -> Iterator[tuple[str, Samples, Samples]]:
        """Every two splits with their names."""
        for (name, one), (other_name, other) in combinations(self.splits, 2):
            yield f"{name} and {other_name}", one, other


def interface(case: DatasetCase) -> str | None:
    """defaults, remote, files and load as `ecgbench.core.interfaces.Dataset` has them."""
    dataset = case.plugin
    fault = None if isinstance(dataset, Dataset) else "a part of it missing"
    return fault or odd("defaults", dataset.defaults, Defaults) or odd("remote", dataset.remote, NoneType, Remote)


def files(case: DatasetCase) -> str | None:
    """Files that are there, by names that are the same on every machine."""
    home = case.root.home
    for name, path in case.plugin.files(case.root).items():
        if Path(name).is_absolute() or (home is not None and str(home) in name):
            return f"the name {name!r}"
        if not path.is_file():
            return f"{name!r}, which is not there"
    return None


def missing(case: DatasetCase) -> str | None:
    """A DataError where recordings are not there."""
    if not case.plugin.files(case.root):
        return None
    with TemporaryDirectory() as folder:
        try:
            case.plugin.files(DataRoot(Path(folder)))
        except DataError:
            return None
    return "no error"


def task(case: DatasetCase) -> str | None:
    """A Task of finite float32 signals inside its bounds, labels in range, all on the CPU."""
    fault = odd("a value", case.task, Task)
    if fault:
        return fault
    if len(case.task.classes) < 2 or len(set(case.task.classes)) < len(case.task.classes):
        return f"the classes {case.task.classes}"
    for part, samples in case.splits:
        samples.check()
        if samples.y.device.type != "cpu" or samples.x.device.type != ("cpu" if samples.signals is None else "meta"):
            return f"{part} on {samples.x.device}"
        if tuple(samples.x.shape[1:]) != case.task.shape:
            return f"{part} samples of shape {tuple(samples.x.shape[1:])} and test samples of {case.task.shape}"
    return None


def contiguous(case: DatasetCase) -> str | None:
    """Signals that lie one after the other in memory."""
    return next((f"others in {part}" for part, samples in case.splits if not samples.x.is_contiguous()), None)


def decoded(case: DatasetCase) -> str | None:
    """Of signals that are decoded on access: the same values alone and beside others, read again whatever was written
    into what was read; inside their span, 0 where padded, as long as the longest.
    """
    for part, samples in case.splits:
        if samples.signals is None or samples.lengths is None:
            continue
        low, high = samples.signals.span
        for rows in torch.arange(len(samples)).split(2):
            x = samples.signals.read(rows)
            kept = x.clone()
            x.fill_(low)
            if x.shape != (len(rows), *samples.x.shape[1:]) or x.dtype != torch.float32:
                return f"{part} of shape {tuple(x.shape)} and type {x.dtype}"
            if bool((kept < low).any()) or bool((kept > high).any()):
                return f"values of {part} outside {(low, high)}"
            again = torch.cat([samples.signals.read(row) for row in rows.flip(0).split(1)]).flip(0)
            if not (torch.equal(again, kept) and torch.equal(samples.signals.read(rows), kept)):
                return f"others in {part} when read again"
            present = samples[rows].present
            if present is not None and bool(kept[~present.expand_as(kept)].any()):
                return f"values of {part} where it is padded"
    return None


def classes(case: DatasetCase) -> str | None:
    """Samples in all three splits, and every class in train and in test."""
    for part, samples in case.splits:
        absent = set(range(len(case.task.classes))) - set(samples.y.tolist())
        if not len(samples):
            return f"no sample in {part}"
        if absent and part != "val":
            return f"no {case.task.classes[min(absent)]} in {part}"
    return None


def defaults(case: DatasetCase) -> str | None:
    """A default threat that fits the task, ascending sizes, and a headline that is one of them."""
    chosen = case.plugin.defaults
    chosen.threat.check(case.task.physical, case.task.classes)
    check_grid(chosen.eps)
    return None if chosen.headline in chosen.eps else f"headline {chosen.headline:g}"


def ids(case: DatasetCase) -> str | None:
    """One id for each sample, no id twice in any split."""
    every = torch.cat([samples.ids for _, samples in case.splits])
    values, counts = every.unique(return_counts=True)
    return f"id {int(values[counts > 1][0])} twice" if len(values) < len(every) else None


def groups(case: DatasetCase) -> str | None:
    """No patient (group) in two splits, unless a note says "intra-patient"."""
    if any("intra-patient" in note for note in case.task.notes):
        return None
    for names, one, other in case.pairs:
        if one.group is not None and other.group is not None:
            shared = set(one.group.tolist()) & set(other.group.tolist())
            if shared:
                return f"group {min(shared)} in {names}"
    return None


def distinct(case: DatasetCase) -> str | None:
    """No signal of the test split in train or val as well."""
    for names, one, other in case.pairs:
        shared = len(_signals(one) & _signals(other)) if "test" in names else 0
        if shared:
            return f"{shared} in {names}"
    return None


def writable(case: DatasetCase) -> str | None:
    """A place in every sample where an attack may write."""
    for part, samples in case.splits:
        shut = ~samples.mask.flatten(1).any(1)
        if bool(shut.any()):
            return f"{int(shut.sum())} samples of {part} without"
    return None


def scale(case: DatasetCase) -> str | None:
    """Scales above 0, and weights of 0 or more that are not all 0."""
    for part, samples in case.splits:
        if not bool(((samples.scale > 0) & samples.scale.isfinite()).all()):
            return f"another scale in {part}"
        weight = samples.weight
        if not bool(((weight >= 0) & weight.isfinite()).all()) or not bool(weight.any()):
            return f"other weights in {part}"
    return None


def repeatable(case: DatasetCase) -> str | None:
    """The same values at every call of load."""
    with fresh_generators(salt=1):
        again = case.plugin.load(case.root)
    for part, samples in case.splits:
        change = batch_change(getattr(again, part), samples)
        if change:
            return f"{change} in {part}"
    facts = ("name", "classes", "bounds", "unit", "physical", "rate", "notes", "weighting")
    return next((f"another {name}" for name in facts if getattr(again, name) != getattr(case.task, name)), None)


def generators(case: DatasetCase) -> str | None:
    """The global generators of torch, numpy and python left as they were."""
    return case.loaded[1]


def synthetic(case: DatasetCase) -> str | None:
    """The word "synthetic" in the name or the notes of made-up signals, and of no others."""
    said = any("synthetic" in text for text in (case.task.name, *case.task.notes))
    if said == case.task.synthetic:
        return None
    return "it, without synthetic=True" if said else "no such word"


def _signals(samples: Samples) -> set[bytes]:
    """The bytes of every sample; of what is padded, a digest of the rest."""
    if samples.lengths is None:
        return {row.tobytes() for row in samples.x.flatten(1).numpy()}
    rows = enumerate(samples.lengths.tolist())
    return {sha256(samples[row : row + 1].x[0, :length].numpy().tobytes()).digest() for row, length in rows}


DATASET_PROMISES: tuple[Promise[DatasetCase], ...] = tuple(
    Promise(check)
    for check in (
        value,
        interface,
        files,
        missing,
        task,
        contiguous,
        decoded,
        classes,
        defaults,
        ids,
        groups,
        distinct,
        writable,
        scale,
        repeatable,
        generators,
        synthetic,
    )
)
