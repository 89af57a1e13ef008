"""MIT-BIH beats: the single heartbeats, in five AAMI classes, that most ECG robustness studies attack."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    instead,
)
from ecgbench_plugins.datasets import beats, kaggle
from ecgbench_plugins.datasets.beat_report import complete, remarks
from ecgbench_plugins.datasets.textfiles import read_text

LAYOUTS = (
    "mitdb",
    "files/mitdb/1.0.0",
    "mit-bih-arrhythmia-database-1.0.0",
    "physionet.org/files/mitdb/1.0.0",
)
CSV_LAYOUTS = ("mitbih", "heartbeat", "ecg-heartbeat-categorization", "archive")
HINT = "set ECGBENCH_DATA to the folder that holds mitdb/, or run: ecgbench data get mitbih"
CSV_HINT = f"set ECGBENCH_DATA to the folder that holds {' and '.join(kaggle.ROWS)}"
AGAIN = "download it (ecgbench data get mitbih), or leave such records and beats out (skip_bad=true)."

RECORDS = 48
PUBLISHED = (90589, 2779, 7236, 803, 8039)  # beats of each class
PUBLISHED_TEST = (18118, 556, 1448, 162, 1608)

# de Chazal, O'Dwyer and Reilly 2004 (IEEE TBME 51(7)): TEST is their DS2, TRAIN and VALIDATION are their DS1
# but for record 201; the paced records 102, 104, 107 and 217 are in neither. VALIDATION holds about a fifth of
# N, S and V, but only 30 of the 413 F beats, since record 208 alone has 373.
TRAIN = (101, 106, 108, 109, 112, 114, 115, 116, 119, 122, 203, 207, 208, 209, 215, 220, 230)
VALIDATION = (118, 124, 205, 223)
TEST = (100, 103, 105, 111, 113, 117, 121, 123, 200, 202, 210, 212, 213, 214, 219, 221, 222, 228, 231, 232,
        233, 234)  # fmt: skip

_NUMBER = re.compile(r"[1-9][0-9]{0,5}")

TILED = "each class counts as often as the largest: its beats are repeated in turn, in the order of ids"


@dataclass(frozen=True)
class MitBih(Dataset):
    """Beats x (n, 1, 187) in [0, 1] at 125 Hz, made by the recipe in `beats`; scale in mV.

    `mask` is False on the zero padding behind each beat, `group` is the patient (records 201 and 202 are one),
    `ids` number the beats over all records, the same in both splits.

    `split="random"` draws 20 % of each class for testing, with the published class counts, and 20 % of each
    class of the rest for validation; `seed` fixes the draw. Beats of one patient are then in all parts. Test
    weights repeat the rarer classes as Ma and Liang 2020 (arXiv 2005.09134) did. `split="inter-patient"`
    takes DS1 and DS2 of de Chazal et al. 2004 in the four classes without Q, and leaves record 201 out of
    DS1, since its patient's other record is in DS2.

    `source="csv"` takes the published rows, `mitbih_train.csv` and `mitbih_test.csv`, instead: their split,
    no patients, no mV; a fifth of the training file is drawn for validation as Ma and Liang drew it (exactly
    theirs for seed 0). Its padding is what follows the last sample that is not 0.

    `lead` is the name of a signal, such as MLII or V1; none is the first of each record, as the notes say, MLII
    in all but 102, 104 and 114. Records without the lead are left out and named in the notes.

    `skip_bad` leaves out damaged records, beats and rows, each named or counted in the notes, instead of raising
    DataError for the first. Units are mV whatever voltage the headers are written for.

    Raises DataError where a file is missing, damaged, or not what it should be, and EcgbenchError for fields
    that do not fit each other.
    """

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.01, 0.03, 0.05, 0.1, 0.2, 0.3), headline=0.05)
    remote: ClassVar[Remote | None] = Remote(
        url="https://physionet.org/files/mitdb/1.0.0/",
        folder="mitdb",
        wanted=(*beats.ENDINGS, "RECORDS"),
        largest=1 << 22,
        content="41b29ac84354dfd1e84876f5561421aa2cbb51c4f7edf0a0b35de9e1c380a213",
        pinned=beats.ENDINGS,
        newlines=((".hea", b"\n"), ("RECORDS", b"\n")),
    )
    split: Literal["random", "inter-patient"] = "random"
    source: Literal["wfdb", "csv"] = "wfdb"
    seed: int = 0
    lead: str | None = None
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.source == "csv" and self.lead is not None:
            raise EcgbenchError(f"mitbih: the CSV files name no leads; lead={self.lead} needs source=wfdb.")
        if self.source == "csv" and self.split != "random":
            raise EcgbenchError(f"mitbih: the CSV files name no patients; split={self.split} needs source=wfdb.")
        if not 0 <= self.seed < 2**32:
            raise EcgbenchError(f"mitbih: seed={self.seed} is out of range; expected 0 to 2**32 - 1.")

    def files(self, root: DataRoot) -> Mapping[str, Path]:
        if self.source == "csv":
            folder = root.find("mitbih", next(iter(kaggle.ROWS)), CSV_LAYOUTS, CSV_HINT)
            return _present(folder, list(kaggle.ROWS), CSV_HINT)
        folder = _folder(root)
        wanted = [name + ending for name in self._names(folder)[0] for ending in beats.ENDINGS]
        if self.skip_bad:
            wanted = [name for name in wanted if os.access(folder / name, os.R_OK)]
        lists = ["RECORDS"] if (folder / "RECORDS").is_file() else []
        return _present(folder, [*lists, *wanted], AGAIN)

    def load(self, root: DataRoot) -> Task:
        files = self.files(root)
        parts, notes = self._published(root, files) if self.source == "csv" else self._cut(root, files)
        train, val, test = parts
        replay = self.split == "random"
        return Task(
            name="mitbih",
            classes=beats.CLASSES if replay else beats.CLASSES[:-1],
            train=train,
            val=val,
            test=replace(test, weight=_tiled(test.y)) if replay else test,
            bounds=(0.0, 1.0),
            physical="mV" if self.source == "wfdb" else None,
            rate=float(beats.RATE),
            notes=notes,
            weighting=TILED if replay else Task.weighting,
            skip_unpredicted=replay,
        )

    def _cut(self, root: DataRoot, files: Mapping[str, Path]) -> tuple[list[Samples], tuple[str, ...]]:
        names, twice = self._names(_folder(root))
        key = hashlib.sha256(f"{digest({**files, **beats.SOURCES})} {self.lead}".encode()).hexdigest()
        table, report = _arrays(root, ("mitbih", "mitbih-report"), key, lambda: beats.cut_all(files, names, self.lead))
        self._refuse(names, report)
        found = tuple(np.bincount(table["label"], minlength=len(beats.CLASSES)).tolist())
        if len(names) == RECORDS and complete(report) and found != PUBLISHED:
            raise DataError(f"mitbih: the records hold {found} beats of N, S, V, F, Q; expected {PUBLISHED}.")
        if self.split == "random":
            tests = PUBLISHED_TEST if found == PUBLISHED else [round(n / 5) for n in found]
            part = _drawn(table, tests, self.seed)
            said = ["intra-patient", f"split drawn with seed {self.seed}: the published draw is unknown"]
        else:
            part, outside = _by_patient(table)
            said = ["inter-patient", "record 201 left out of DS1: its patient is in DS2", *outside]
        for k, purpose in enumerate(("train", "validate", "test")):
            if not (part == k).any():
                raise DataError(f"mitbih: split={self.split} leaves no beat to {purpose} on; expected more beats.")
        notes = (*said, *twice, *remarks(report, self.lead, RECORDS))
        return [_samples(table, np.flatnonzero(part == k)) for k in range(3)], notes

    def _refuse(self, names: Sequence[str], report: np.ndarray) -> None:
        """Raises DataError for the first record that is not as it should be, and where none has the lead."""
        for name, row in zip(names, report, strict=True):
            fault = row["fault"] or row["flaw"]
            if fault and not self.skip_bad:
                raise DataError(f"mitbih: record {name} is {fault.decode()}; {AGAIN}")
        if self.lead is not None and not (report["lead"] != b"").any():
            leads = {lead for row in report for lead in row["leads"].decode().split(", ") if lead}
            raise DataError(f"mitbih: no record has a lead {self.lead!r}; {instead(self.lead, leads)}")

    def _published(self, root: DataRoot, files: Mapping[str, Path]) -> tuple[list[Samples], tuple[str, ...]]:
        tables, notes = [], ["intra-patient"]
        for name, path in files.items():
            key = digest({name: path, "recipe": kaggle.SOURCE})
            table, faults = _arrays(root, (path.stem, f"{path.stem}-faults"), key, partial(kaggle.read, path))
            if len(faults):
                line, fault = faults[0]["line"], faults[0]["fault"].decode()
                if not self.skip_bad or not len(table):
                    raise DataError(
                        f"mitbih: {name}, line {line}: {fault}; mend it, or leave such rows out (skip_bad=true)."
                    )
                notes.append(f"{name}: {len(faults)} rows left out, the first in line {line}: {fault}")
            if len(table) != kaggle.ROWS[name]:
                notes.append(f"{name}: {len(table)} rows; published are {kaggle.ROWS[name]}")
            tables.append(table)
        fit, test = tables
        order = np.arange(len(fit))
        np.random.RandomState(self.seed).shuffle(order)  # as Ma and Liang; NumPy keeps this stream for ever
        cut = int(0.8 * len(fit))
        train, val = (_rows(fit, np.sort(rows)) for rows in (order[:cut], order[cut:]))
        return [train, val, _rows(test, np.arange(len(test)), first=len(fit))], tuple(notes)

    def _names(self, folder: Path) -> tuple[list[str], tuple[str, ...]]:
        """The records, those that RECORDS lists or else all that have a header, and what must be said of the list."""
        listed = folder / "RECORDS"
        if not listed.is_file():
            return sorted(path.stem for path in folder.glob("*.hea") if _NUMBER.fullmatch(path.stem)), ()
        names = _words(listed)
        odd = [name for name in names if not _NUMBER.fullmatch(name)]
        twice = [name for name, n in Counter(names).items() if n > 1]
        if odd or not names or (twice and not self.skip_bad):
            fault = f"names {[*odd, *twice][0]!r}{'' if odd else ' twice'}" if names else "is empty"
            raise DataError(f"mitbih: RECORDS {fault}; expected the numbers of MIT-BIH records, each once.")
        return list(dict.fromkeys(names)), tuple(f"record {name} is listed twice, and read once" for name in twice)


def _folder(root: DataRoot) -> Path:
    """Where the records lie, with their list or without one."""
    try:
        return root.find("mitbih", "RECORDS", LAYOUTS, HINT)
    except DataError as missing:
        with suppress(DataError):
            return root.find("mitbih", "100.hea", LAYOUTS, HINT)
        raise missing from None


def _present(folder: Path, names: Sequence[str], hint: str) -> dict[str, Path]:
    for name in names:
        if not (folder / name).is_file():
            raise DataError(f"mitbih: {name} is missing in {folder}; {hint}")
    return {name: folder / name for name in names}


def _words(path: Path) -> list[str]:
    try:
        return read_text(path).split()
    except OSError as error:
        raise DataError(f"mitbih: {path} cannot be read ({error.strerror}).") from error


def _arrays(
    root: DataRoot, names: tuple[str, str], key: str, make: Callable[[], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays that are made in one go, each kept under its name."""
    once = cache(make)
    return root.array(names[0], key, lambda: once()[0]), root.array(names[1], key, lambda: once()[1])


def _drawn(table: np.ndarray, tests: Sequence[int], seed: int) -> NDArray[np.int64]:
    """Part of each beat: 0 train, 1 validation (a fifth of each class of what testing leaves), 2 test."""
    lot = RandomStream(("mitbih", "random split", seed)).uniform(torch.arange(len(table)), ())
    part = np.zeros(len(table), np.int64)
    for label, n in enumerate(tests):
        rows = np.flatnonzero(table["label"] == label)
        rows = rows[lot.numpy()[rows].argsort(kind="stable")]
        part[rows[:n]] = 2
        part[rows[n : n + round((len(rows) - n) / 5)]] = 1
    return part


def _by_patient(table: np.ndarray) -> tuple[NDArray[np.int64], list[str]]:
    """Part of each beat, as in `_drawn`, -1 where it is in none; and what is in none."""
    part = np.full(len(table), -1)
    q = table["label"] == beats.CLASSES.index("Q")
    for k, records in enumerate((TRAIN, VALIDATION, TEST)):
        part[np.isin(table["record"], records) & ~q] = k
        if not (part == k).any():
            raise DataError(f"mitbih: split=inter-patient found no beats in any of the records {records}.")
    listed = np.isin(table["record"], (*TRAIN, *VALIDATION, *TEST))
    said = [f"{(q & listed).sum()} beats of class Q left out"]
    others = [str(record) for record in np.unique(table["record"][~listed]) if record != 201]
    if others:
        said.append(f"records of neither DS1 nor DS2 left out: {', '.join(others)}")
    return part, said


def _samples(table: np.ndarray, rows: NDArray[np.int64]) -> Samples:
    """The beats in `rows`, numbered by their place in the whole table."""
    mine = {name: torch.from_numpy(table[name][rows]) for name in beats.BEAT.names or ()}
    patient = torch.where(mine["record"] == 202, 201, mine["record"])
    return Samples.of(
        mine["x"][:, None],
        mine["label"].long(),
        mask=(torch.arange(beats.SAMPLES) < mine["length"][:, None])[:, None],
        ids=torch.from_numpy(rows),
        scale=mine["scale"],
        group=patient.long(),
    )


def _rows(table: np.ndarray, rows: NDArray[np.int64], first: int = 0) -> Samples:
    """Published rows, numbered from `first`."""
    x = torch.from_numpy(table[:, :-1][rows])
    padding = x.flip(1).cumsum(1).flip(1) == 0
    label = torch.from_numpy(table[:, -1][rows]).long()
    return Samples.of(x[:, None], label, mask=~padding[:, None], ids=torch.from_numpy(rows + first))


def _tiled(y: Tensor) -> Tensor:
    """How often each row stands in the balanced test set of Ma and Liang 2020: y (n,) -> (n,) float32.

    Their code repeats each class's list of rows whole and cuts it to the size of the largest class.
    """
    weight = torch.empty(len(y))
    largest = int(y.bincount().max()) if len(y) else 0
    for label in y.unique():
        rows = torch.nonzero(y == label)[:, 0]
        weight[rows] = (largest // len(rows) + (torch.arange(len(rows)) < largest % len(rows))).float()
    return weight


@hookimpl
def datasets() -> Mapping[str, Dataset]:
    return {"mitbih": MitBih()}
