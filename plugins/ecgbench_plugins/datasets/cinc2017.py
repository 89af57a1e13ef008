"""PhysioNet/CinC Challenge 2017: single-lead recordings of 30 s, of four rhythms, made by a hand-held device."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ecgbench import (
    DataError,
    DataRoot,
    Dataset,
    Defaults,
    EcgbenchError,
    RandomStream,
    Remote,
    Samples,
    Task,
    Threat,
    digest,
    hookimpl,
)
from ecgbench_plugins.datasets import rhythms
from ecgbench_plugins.datasets.rhythm_files import (
    CLASSES,
    COUNTS,
    HINT,
    RECORDS,
    VALIDATION,
    Tree,
    read_labels,
    read_names,
    version_of,
)

HAN_TEST = (84, 509, 229, 31)  # of each class, by labels v3: Han et al. 2020
AGAIN = "download it (ecgbench data get cinc2017), or leave such records out (skip_bad=true)."
HELD_OUT = "tested on the challenge's validation set, which is left out of training with all that equals it"
LEAKING = "leaking: tested on the challenge's validation set, which is in training"


@dataclass(frozen=True)
class Cinc2017(Dataset):
    """Recordings x (n, 1, 9000), the first 30 s at 300 Hz: cut, z-scored, then padded with 0 at the end.

    Mean and (population) standard deviation are those of the samples left by the cut, as at inference in
    Andreotti et al. 2017 (CinC 44); `mask` is False on the padding; `scale` is the standard deviation in mV, so
    an eps in mV is the same size for every recording. `ids` are the numbers of the records. The files name no
    patients: `group` is None.

    `labels` is the version of the labels: the challenge's organisers corrected 294 after the "original" ones,
    and 148 more for "v3".

    `split="holdout"` tests on the 300 records of the challenge's validation set, which are in its training set
    as well: they, and what equals one of them, are left out of training, and of equal recordings one is kept.
    `split="study"` trains on everything, as most who used that validation set did: the test records leak into
    training. `split="han"` draws 853 test records with the classes that Han et al. 2020 (Nature Medicine 26)
    had. A tenth of each class of what is not tested is drawn for validation; `seed` fixes the draws.

    `skip_bad` leaves out damaged records, each named in the notes, instead of raising DataError for the first.
    """

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.01, 0.02, 0.05, 0.1, 0.2, 0.3), headline=0.2)
    remote: ClassVar[Remote | None] = Remote(
        url="https://physionet.org/files/challenge-2017/1.0.0/",
        folder="challenge-2017",
        wanted=(*rhythms.ENDINGS, "RECORDS", *(f"REFERENCE-{version}.csv" for version in COUNTS)),
        largest=1 << 22,
        content="b221a5c9963a2b9018dc922420f538533f85ae45034d591fe57c6928c004fc1d",
        pinned=(*rhythms.ENDINGS, "labels"),
        newlines=((".hea", b"\r\n"), ("labels", b"\n"), ("validation", b"\n"), ("RECORDS", b"\n")),
    )
    split: Literal["holdout", "han", "study"] = "holdout"
    labels: Literal["original", "v2", "v3"] = "v3"
    seed: int = 0
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise EcgbenchError(f"cinc2017: seed={self.seed} is out of range; expected 0 to 2**32 - 1.")

    def files(self, root: DataRoot) -> Mapping[str, Path]:
        tree = Tree.of(root)
        lists = {"labels": tree.labels(self.labels)}
        if self.split != "han":
            lists["validation"] = tree.validation()
        listed = tree.records()
        if listed is not None:
            lists["RECORDS"] = listed
        files = {}
        for name in _names(lists, tree.found)[0]:
            for ending in rhythms.ENDINGS:
                path = tree.found.get(name + ending)
                if path is not None and (not self.skip_bad or os.access(path, os.R_OK)):
                    files[name + ending] = path
                elif not self.skip_bad:
                    raise DataError(f"cinc2017: {name}{ending} is missing in {tree.training}; {AGAIN}")
        return lists | files

    def load(self, root: DataRoot) -> Task:
        files = self.files(root)
        names, twice = _names(files, files)
        records = {name: path for name, path in files.items() if name not in ("labels", "validation")}
        key = digest({**records, **rhythms.SOURCES})
        table = root.array("cinc2017", key, lambda: rhythms.read_all(files, names))
        labels, faults = _labelled(files["labels"], self.labels, table, names, twice)
        if faults and not self.skip_bad:
            name, fault = next(iter(faults.items()))
            raise DataError(f"cinc2017: record {name} is {fault}; {AGAIN}")
        parts, said = self._split(table, labels, files)
        train, val, test = (_samples(root, key, table, labels, np.flatnonzero(part)) for part in parts)
        notes = [*said, self._version(files["labels"]), "no patients are named: no split can be patient-disjoint"]
        if len(names) - len(faults) < RECORDS:
            notes.append(f"only {len(names) - len(faults)} of {RECORDS} records")
        notes += [f"record {name} left out, being {fault}" for name, fault in faults.items()]
        absent = sorted(read_labels(files["labels"])[0].keys() - names)
        if absent and len(names) > len(absent):
            more = f", ... ({len(absent)} in all)" if absent[8:] else ""
            notes.append(f"records labelled but not here: {', '.join(absent[:8])}{more}")
        return Task(
            name="cinc2017",
            classes=CLASSES,
            train=train,
            val=val,
            test=test,
            physical="mV",
            rate=float(rhythms.RATE),
            challenge=("A", "N", "O"),
            notes=tuple(notes),
        )

    def _version(self, path: Path) -> str:
        """What must be said of the labels."""
        if path.name == f"REFERENCE-{self.labels}.csv" or version_of(read_labels(path)[0]) == self.labels:
            return f"labels {self.labels}"
        return f"labels {self.labels}, as far as known: {path.name} names no version"

    def _split(
        self, table: np.ndarray, labels: NDArray[np.int64], files: Mapping[str, Path]
    ) -> tuple[tuple[NDArray[np.bool_], ...], tuple[str, ...]]:
        """Which rows are in train, validation and test, and what must be said of it."""
        lot = (
            RandomStream(("cinc2017", self.split, self.seed))
            .uniform(torch.from_numpy(table["record"]).long(), ())
            .numpy()
        )
        sound, content = labels >= 0, table["content"]
        single, first = _single(content, sound), _first(content, sound)
        if self.split == "han":
            exact = self.labels == "v3" and sound.sum() == RECORDS
            sizes = HAN_TEST if exact else _share(labels[sound], sum(HAN_TEST) / RECORDS)
            test = _drawn(labels, sound & single, sizes, lot)
            pool, note = sound & ~test, "sizes and classes of Han et al. 2020; their own draw is not public here"
        else:
            listed, twice = read_names(files["validation"])
            if twice and not self.skip_bad:
                name, fault = next(iter(twice.items()))
                raise DataError(f"cinc2017: record {name} is {fault} of the validation set; {AGAIN}")
            held = [int(name[1:]) for name in listed]
            if len(table) == RECORDS and len(held) != VALIDATION:
                raise DataError(f"cinc2017: the validation set lists {len(held)} records; expected {VALIDATION}.")
            test = sound & np.isin(table["record"], held)
            pool, note = sound & first & ~np.isin(content, content[test]), HELD_OUT
            if self.split == "study":
                pool, note = sound, LEAKING
        val = _drawn(labels, pool & single, _share(labels[pool], 0.1), lot)
        train = pool & ~val
        for part, rows in (("train", train), ("validate", val), ("test", test)):
            if not rows.any():
                raise DataError(f"cinc2017: split={self.split} leaves no record to {part} on; expected more records.")
        if self.split != "study" and np.isin(content[pool], content[test]).any():
            raise DataError("cinc2017: a test record equals a training record; expected none in both.")
        equal = sorted(table["record"][sound & ~pool & ~test].tolist())
        twins = f"left out of training, being equal to another record: {', '.join(f'A{n:05d}' for n in equal)}"
        return (train, val, test), (note, twins) if equal else (note,)


def _names(lists: Mapping[str, Path], files: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The records, sorted, those that RECORDS lists, or else all that have a file; and faults of the list by record."""
    if "RECORDS" in lists:
        names, twice = read_names(lists["RECORDS"])
        return sorted(names), twice
    names = sorted({Path(name).stem for name in files if name.endswith(rhythms.ENDINGS)})
    if not names:
        raise DataError(f"cinc2017: there is no record beside {lists['labels']}; {HINT}")
    return names, {}


def _labelled(
    path: Path, version: str, table: np.ndarray, names: Sequence[str], listed: Mapping[str, str]
) -> tuple[NDArray[np.int64], dict[str, str]]:
    """Label of each row, -1 for a faulty one, and its fault by record, `listed` being known of some before.

    Raises DataError for another version.
    """
    known, wrong = read_labels(path)
    held = version_of(known)
    if len(known) == RECORDS and held != version:
        raise DataError(f"cinc2017: {path.name} holds labels {held or 'of no known version'}; expected {version}.")
    faults = {}
    for name, fault in zip(names, table["fault"].tolist(), strict=True):
        if fault:
            faults[name] = fault.decode()
        elif name in listed:
            faults[name] = listed[name]
        elif name not in known:
            faults[name] = wrong.get(name, f"not labelled in {path.name}")
    labels = [-1 if name in faults else known[name] for name in names]
    return np.array(labels, np.int64), faults


def _first(content: np.ndarray, sound: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows that equal no sound row before them."""
    rows = np.flatnonzero(sound)
    first = np.zeros(len(content), bool)
    first[rows[np.unique(content[rows], return_index=True)[1]]] = True
    return first


def _single(content: np.ndarray, sound: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows that equal no other sound row."""
    values, counts = np.unique(content[sound], return_counts=True)
    return ~np.isin(content, values[counts > 1])


def _share(labels: NDArray[np.int64], share: float) -> list[int]:
    """That share of the rows of each class, one at least where there are two or more."""
    return [max(round(share * n), min(n // 2, 1)) for n in np.bincount(labels, minlength=len(CLASSES)).tolist()]


def _drawn(
    labels: NDArray[np.int64], among: NDArray[np.bool_], sizes: Sequence[int], lot: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """So many rows of each class, those of the lowest lots."""
    drawn = np.zeros(len(labels), bool)
    for label, n in enumerate(sizes):
        rows = np.flatnonzero(among & (labels == label))
        drawn[rows[lot[rows].argsort(kind="stable")][:n]] = True
    return drawn


def _samples(
    root: DataRoot, key: str, table: np.ndarray, labels: NDArray[np.int64], rows: NDArray[np.int64]
) -> Samples:
    chosen = hashlib.sha256(key.encode() + rows.tobytes()).hexdigest()
    x = root.array("cinc2017-x", chosen, lambda: rhythms.standardised(table, rows))
    mask = root.array("cinc2017-mask", chosen, lambda: rhythms.masked(table, rows))
    return Samples.of(
        torch.from_numpy(x),
        torch.from_numpy(labels[rows]),
        mask=torch.from_numpy(mask),
        ids=torch.from_numpy(table["record"][rows]).long(),
        scale=torch.from_numpy((table["std"][rows] / rhythms.PER_MV).astype(np.float32)),
    )


@hookimpl
def datasets() -> Mapping[str, Dataset]:
    return {"cinc2017": Cinc2017()}
