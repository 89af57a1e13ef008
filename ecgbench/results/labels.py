"""What a dataset says of its samples, without the signals: labels, ids, groups, weights, and the facts beside scores.

A row is compared with it where the recordings are not at hand. `<dataset>-<digest>.json` and `.npz`, one pair for each
version of the recordings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct

from ecgbench.core.data import Samples, Split, Task
from ecgbench.core.errors import StoreError
from ecgbench.core.threat import Threat
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Protocol
from ecgbench.results.published import slug
from ecgbench.results.record import Record
from ecgbench.results.verification import is_older
from ecgbench.storage.arrays import pack_arrays, unpack_arrays
from ecgbench.storage.store import key_of, write_file

FOLDER = "datasets"
SPLITS: tuple[Split, ...] = ("val", "test")
ARRAYS = ("ids", "y", "weight", "group")


class Facts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dataset in words: its canonical selector, the digest of its recordings, and what its task says of itself."""

    dataset: str
    data: str
    classes: tuple[str, ...]
    unit: str
    physical: str | None
    synthetic: bool
    notes: tuple[str, ...]
    weighting: str
    skip_unpredicted: bool
    challenge: tuple[str, ...]


def labels_path(dataset: str, data: str, folder: Path) -> Path:
    """Where the labels of a dataset are, whose recordings have the digest `data`."""
    return folder / f"{slug(dataset)}-{key_of({'dataset': dataset, 'data': data})[:12]}.json"


def write_labels(task: Task, dataset: str, data: str, folder: Path) -> Path:
    """Put the labels of a task into `folder`; returns the file of its facts."""
    named = {name: getattr(task, name) for name in Facts.__struct_fields__ if name not in ("dataset", "data")}
    facts, path = Facts(dataset=dataset, data=data, **named), labels_path(dataset, data, folder)
    arrays = {f"{split}_{name}": _array(task.samples(split), name) for split in SPLITS for name in ARRAYS}
    write_file(path.with_suffix(".npz"), pack_arrays(arrays))
    write_file(path, msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n")
    return path


def read_labels(dataset: str, data: str, folder: Path) -> Task | None:
    """The task with samples of no values, None where it is not in `folder`. Raises StoreError for a damaged file."""
    path = labels_path(dataset, data, folder)
    if not path.is_file():
        return None
    try:
        facts = msgspec.json.decode(path.read_bytes(), type=Facts)
        arrays = unpack_arrays(path.with_suffix(".npz").read_bytes())
        own = msgspec.structs.asdict(facts)
        del own["dataset"], own["data"]
        val, test = (_blank({name: arrays[f"{split}_{name}"] for name in ARRAYS}) for split in SPLITS)
        task = Task(name=facts.dataset, train=val[:0], val=val, test=test, **own)
    except Exception as fault:  # readers of JSON, zip, npy and tasks each raise what they like on damaged bytes
        reason = str(fault).strip().removesuffix(".") or type(fault).__name__
        raise StoreError(f"{path.as_posix()} holds no readable labels: {reason}.") from None
    if (facts.dataset, facts.data) != (dataset, data):
        raise StoreError(f"{path.as_posix()} is of {facts.dataset!r} {facts.data[:12]}; expected what its name says.")
    return task


@dataclass(frozen=True)
class Stated:
    """What a row says of its samples, beside the task that it was attacked on; `headline` is the one that decides."""

    record: Record
    outcomes: Outcomes
    task: Task
    threat: Threat
    protocol: Protocol
    headline: float

    def faults(self) -> Iterator[str]:
        """Where the row says something else than its dataset, a sentence each.

        A row of older code may lack notes that its dataset has got since; it has none that the dataset has not.
        """
        split = self.protocol.split
        part = self.task.some_of_each(self.protocol.per_class, split).limited(self.record.limit, split)
        own: dict[str, Any] = {name: getattr(part, name) for name in ("classes", "synthetic", "notes", "weighting")}
        own |= {name: getattr(part, name) for name in ("skip_unpredicted", "challenge")}
        own |= {"unit": part.unit if self.threat.unit == "native" else str(part.physical), "headline": self.headline}
        samples = part.samples(split)
        own["n"] = len(samples)
        for name, value in own.items():
            stated = getattr(self.record, name)
            fewer = name == "notes" and is_older(self.record) and set(stated) <= set(value)
            if stated != value and not fewer:
                yield f"{name} is {_short(stated)}; its dataset says {_short(value)}."
        for name in ARRAYS:
            if not np.array_equal(getattr(self.outcomes, name), _array(samples, name)):
                yield f"{name} of the samples are not those of its dataset."


def _array(samples: Samples, name: str) -> np.ndarray[Any, Any]:
    value = getattr(samples, name)
    return np.asarray(torch.full_like(samples.ids, -1) if value is None else value)


def _blank(arrays: dict[str, np.ndarray[Any, Any]]) -> Samples:
    own = {name: torch.from_numpy(array) for name, array in arrays.items()}
    group = own.pop("group")
    return Samples.of(
        torch.zeros(len(own["y"]), 0), own.pop("y"), group=group if bool((group >= 0).any()) else None, **own
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
