"""Faulty datasets, each refused by the promise meant for it: a promise that nothing can break is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import ContractError
from ecgbench.core.interfaces import Dataset, Defaults
from ecgbench.core.signals import ByteSignals, Signals
from ecgbench.core.threat import Threat
from ecgbench.testing import check_dataset, small_task
from tests.testing.honest import Blobs


def changed(part: str, change: Callable[[Samples], Samples]) -> Task:
    """The small task with one split changed."""
    task = small_task()
    changes: dict[str, Any] = {part: change(getattr(task, part))}
    return replace(task, **changes)


def entry(tensor: Tensor, row: int, value: float) -> Tensor:
    """The tensor with all of one row set."""
    tensor[row] = value
    return tensor


class Undecided(Blobs):
    defaults: ClassVar[Any] = None


class Moved(Blobs):
    """Names its files by their place."""

    def files(self, root: DataRoot) -> Mapping[str, Path]:
        return {__file__: Path(__file__)}


class Absent(Blobs):
    def files(self, root: DataRoot) -> Mapping[str, Path]:
        return {"beats": Path("nowhere")}


class Unmoved(Blobs):
    """Finds files where there are none."""

    def files(self, root: DataRoot) -> Mapping[str, Path]:
        return {"beats": Path(__file__)}


class Mislabelled(Blobs):
    def load(self, root: DataRoot) -> Task:
        return changed("test", lambda split: replace(split, y=entry(split.y, 0, 5)))


class Holes(Blobs):
    def load(self, root: DataRoot) -> Task:
        return replace(changed("train", lambda split: replace(split, x=entry(split.x, 0, torch.nan))), bounds=None)


class Louder(Blobs):
    def load(self, root: DataRoot) -> Task:
        return changed("val", lambda split: replace(split, x=2 * split.x))


class Transposed(Blobs):
    def load(self, root: DataRoot) -> Task:
        return changed("train", lambda split: replace(split, x=split.x.transpose(0, 2).contiguous().transpose(0, 2)))


class Rare(Blobs):
    """No sample of a class in the test split."""

    def load(self, root: DataRoot) -> Task:
        return changed("test", lambda split: split[split.y != 3])


class Untested(Blobs):
    def load(self, root: DataRoot) -> Task:
        return changed("val", lambda split: split[:0])


class Headless(Blobs):
    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.1, 0.2), headline=0.15)


class Falling(Blobs):
    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.2, 0.1), headline=0.1)


class Renumbered(Blobs):
    """Counts every split from 0."""

    def load(self, root: DataRoot) -> Task:
        return changed("test", lambda split: replace(split, ids=torch.arange(len(split))))


class SharedPatients(Blobs):
    def load(self, root: DataRoot) -> Task:
        return changed(
            "test", lambda split: replace(split, group=split.group - 20 if split.group is not None else None)
        )


class Leaking(Blobs):
    """A training signal in the test split."""

    def load(self, root: DataRoot) -> Task:
        leak = small_task().train.x[:3]
        return changed("test", lambda split: replace(split, x=torch.cat([leak, split.x[3:]])))


class Shut(Blobs):
    def load(self, root: DataRoot) -> Task:
        return changed("test", lambda split: replace(split, mask=split.mask & (split.ids != 201).view(-1, 1, 1)))


class Scaleless(Blobs):
    def load(self, root: DataRoot) -> Task:
        return changed("test", lambda split: replace(split, scale=0 * split.scale))


class Weightless(Blobs):
    def load(self, root: DataRoot) -> Task:
        return changed("test", lambda split: replace(split, weight=0 * split.weight))


class Drawn(Blobs):
    """Shuffled by the global generator."""

    def load(self, root: DataRoot) -> Task:
        return changed("train", lambda split: split[torch.randperm(len(split))])


class Seeding(Blobs):
    def load(self, root: DataRoot) -> Task:
        np.random.seed(7)
        return super().load(root)


class Pretending(Blobs):
    """Synthetic, and silent about it."""

    def load(self, root: DataRoot) -> Task:
        return replace(super().load(root), notes=())


def in_bytes(split: Samples, signals: Callable[[Sequence[np.ndarray]], Signals]) -> Samples:
    """The samples in 8 bits, each 1 or 2 rows long."""
    scaled = ((split.x - split.x.min()) / (split.x.max() - split.x.min()) * 255).to(torch.uint8)
    arrays = [row[: 1 + number % 2].numpy() for number, row in enumerate(scaled.expand(-1, 2, -1))]
    for array in arrays:
        array.flags.writeable = False
    return Samples.of(signals(arrays), split.y, ids=split.ids, group=split.group)


class Bytes(Blobs):
    """Decoded on access, as it should be."""

    signals: ClassVar[type[ByteSignals]] = ByteSignals

    def load(self, root: DataRoot) -> Task:
        task = small_task()
        train, val, test = (
            in_bytes(part, lambda arrays: self.signals(arrays, (arrays[0].shape[1],), 2))
            for part in (task.train, task.val, task.test)
        )
        return replace(task, train=train, val=val, test=test, bounds=(0.0, 1.0))


class Cached(ByteSignals):
    """Gives away what it keeps."""

    kept: ClassVar[dict[tuple[int, ...], Tensor]] = {}

    def read(self, rows: Tensor) -> Tensor:
        return self.kept.setdefault((id(self.arrays), *rows.tolist()), super().read(rows))


class Blurred(ByteSignals):
    """Depends on what else is read."""

    def read(self, rows: Tensor) -> Tensor:
        x = super().read(rows)
        return (0.5 * x + 0.5 * x.mean(0)) * self.present(rows)

    def present(self, rows: Tensor) -> Tensor:
        return (torch.arange(2) < self.lengths[rows, None])[:, :, None]


class Loud(ByteSignals):
    def read(self, rows: Tensor) -> Tensor:
        return 2 * super().read(rows)


class Stuffed(ByteSignals):
    """Pads with ones."""

    def read(self, rows: Tensor) -> Tensor:
        x = super().read(rows)
        return torch.where((torch.arange(2) < self.lengths[rows, None])[:, :, None], x, 1.0)


def of_bytes(signals: type[ByteSignals]) -> Dataset:
    """`Bytes` whose signals are of this class."""
    kind: type[Bytes] = type(signals.__name__, (Bytes,), {"signals": signals})
    return kind()


def test_signals_that_are_decoded_on_access_keep_every_promise() -> None:
    check_dataset(Bytes())


@pytest.mark.parametrize("signals", [Cached, Blurred, Loud, Stuffed])
def test_signals_that_do_not_decode_alike_are_caught(signals: type[ByteSignals]) -> None:
    with pytest.raises(ContractError, match="decoded"):
        check_dataset(of_bytes(signals), expected={"value": "a class made in a function cannot be pickled"})


@pytest.mark.parametrize(
    ("dataset", "promise"),
    [
        (Undecided(), "interface"),
        (Blobs, "value"),
        (Moved(), "files"),
        (Absent(), "files"),
        (Unmoved(), "missing"),
        (Mislabelled(), "task"),
        (Holes(), "task"),
        (Louder(), "task"),
        (Transposed(), "contiguous"),
        (Rare(), "classes"),
        (Untested(), "classes"),
        (Headless(), "defaults"),
        (Falling(), "defaults"),
        (Renumbered(), "ids"),
        (SharedPatients(), "groups"),
        (Leaking(), "distinct"),
        (Shut(), "writable"),
        (Scaleless(), "scale"),
        (Weightless(), "scale"),
        (Drawn(), "repeatable"),
        (Seeding(), "generators"),
        (Pretending(), "synthetic"),
    ],
    ids=lambda part: part if isinstance(part, str) else getattr(part, "__name__", type(part).__name__),
)
def test_a_faulty_dataset_is_refused_by_the_promise_it_breaks(
    dataset: Any, promise: str, refused: Callable[..., str]
) -> None:
    assert refused(check_dataset, dataset) == promise


def test_the_dataset_that_the_mutants_are_made_from_keeps_every_promise() -> None:
    check_dataset(Blobs())


def test_patients_in_two_splits_are_allowed_where_a_note_says_so() -> None:
    class Declared(SharedPatients):
        def load(self, root: DataRoot) -> Task:
            return replace(super().load(root), notes=("synthetic", "intra-patient"))

    check_dataset(Declared(), expected={"value": "a class inside a function cannot be pickled"})
