"""Where the files of the PhysioNet/CinC Challenge 2017 lie, and the lists among them: records, labels, validation."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ecgbench import DataError, DataRoot
from ecgbench_plugins.datasets.rhythms import ENDINGS
from ecgbench_plugins.datasets.textfiles import read_text

CLASSES = ("A", "N", "O", "~")
RECORDS = 8528
COUNTS = {"original": (771, 5154, 2557, 46), "v2": (738, 5050, 2456, 284), "v3": (758, 5076, 2415, 279)}
VALIDATION = 300

LAYOUTS = (
    "challenge-2017",
    "challenge-2017/1.0.0",
    "files/challenge-2017/1.0.0",
    "physionet.org/files/challenge-2017/1.0.0",
    "af-classification-from-a-short-single-lead-ecg-recording-the-physionet-computing-in-cardiology-challenge-2017-1.0.0",
)
FOLDERS = ("training", "training2017", ".")
MARKERS = ("RECORDS", "REFERENCE.csv", "REFERENCE-v3.csv", "REFERENCE-v2.csv", "REFERENCE-original.csv")
HELD_OUT = ("validation", "sample2017/validation", "../validation", "../sample2017/validation")
HINT = "set ECGBENCH_DATA to the folder that holds challenge-2017/, or run: ecgbench data get cinc2017"

_NAME = re.compile(r"A\d{5}")


@dataclass(frozen=True)
class Tree:
    """The folder `training` with the records, and every file of a record by its name, in whatever sub-folder."""

    training: Path
    found: Mapping[str, Path]

    @classmethod
    def of(cls, root: DataRoot) -> Tree:
        """Raises DataError where no layout is there."""
        training = _training(root)
        found: dict[str, Path] = {}
        for folder, below, names in os.walk(training):
            below[:] = sorted(set(below) - {"validation"})  # its records are copies
            for name in names:
                if name.endswith(ENDINGS) and _NAME.fullmatch(name[:-4]):
                    found.setdefault(name, Path(folder, name))
        return cls(training, found)

    def labels(self, version: str) -> Path:
        """The file with the labels of `version`: REFERENCE-version.csv, or the REFERENCE.csv of the zip file.

        Raises DataError, naming what there is, where neither can be it.
        """
        wanted = self._beside(f"REFERENCE-{version}.csv")
        if wanted is not None:
            return wanted
        plain = self._beside("REFERENCE.csv")
        held = None if plain is None else version_of(read_labels(plain)[0])
        if plain is not None and held in (version, None):
            return plain
        there = [f"labels={name}" for name in COUNTS if name == held or self._beside(f"REFERENCE-{name}.csv")]
        raise DataError(
            f"cinc2017: REFERENCE-{version}.csv is missing in {self.training.parent}; "
            f"there is {' and '.join(there) or 'no other version'}, or run: ecgbench data get cinc2017"
        )

    def records(self) -> Path | None:
        """The list of records, if there is one."""
        path = self.training / "RECORDS"
        return path if path.is_file() else None

    def validation(self) -> Path:
        """The list of the official validation set. Raises DataError where there is none."""
        for folder in HELD_OUT:
            for name in ("RECORDS", "REFERENCE.csv"):
                if (self.training / folder / name).is_file():
                    return Path(os.path.normpath(self.training / folder / name))
        raise DataError(f"cinc2017: validation/RECORDS is missing beside {self.training}; {HINT}")

    def _beside(self, name: str) -> Path | None:
        places = (self.training / name, self.training.parent / name)
        return next((place for place in places if place.is_file()), None)


def _training(root: DataRoot) -> Path:
    for folder in FOLDERS:
        for marker in MARKERS:
            try:
                return root.find("cinc2017", f"{folder}/{marker}", LAYOUTS, HINT).joinpath(folder)
            except DataError:
                continue
    return root.find("cinc2017", "training/RECORDS", LAYOUTS, HINT)


def read_names(path: Path) -> tuple[list[str], dict[str, str]]:
    """The records that a list names, a line each, and what is wrong with a record's line by record.

    Of folders and of a second column nothing is kept. Raises DataError for a line that names no record.
    """
    names = [PurePosixPath(row[0]).name for row in _rows(path) if row[0] != "data_source"]
    odd = [name for name in names if not _NAME.fullmatch(name)]
    if odd or not names:
        fault = f"names {odd[0]!r}" if odd else "is empty"
        raise DataError(f"cinc2017: {path.name} {fault}; expected record names such as A00001.")
    twice = {name: f"named {n} times in {path.name}" for name, n in Counter(names).items() if n > 1}
    return list(dict.fromkeys(names)), twice


def read_labels(path: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Place in CLASSES by record, and what is wrong with a record's label by record; with or without a header row.

    Raises DataError for a line that names no record.
    """
    rows = _rows(path)
    if rows and rows[0][0] == "data_source":
        rows = rows[1:]
    labels: dict[str, int] = {}
    faults: dict[str, str] = {}
    for row in rows:
        if not _NAME.fullmatch(row[0]):
            raise DataError(f"cinc2017: {path.name} holds {','.join(row)[:40]!r}; expected a record and its label.")
        name, label = row[0], ",".join(row[1:])
        if name in labels or name in faults:
            faults[name] = f"labelled twice in {path.name}"
        elif label not in CLASSES:
            faults[name] = f"labelled {label!r} in {path.name}; expected one of {', '.join(CLASSES)}"
        else:
            labels[name] = CLASSES.index(label)
    return {name: label for name, label in labels.items() if name not in faults}, faults


def version_of(labels: Mapping[str, int]) -> str | None:
    """The version of labels by record, as their counts tell; None for those of fewer records, or of no version."""
    counts = Counter(labels.values())
    mine = tuple(counts[place] for place in range(len(CLASSES)))
    return next((version for version, known in COUNTS.items() if known == mine), None)


def _rows(path: Path) -> list[list[str]]:
    """The cells of every row that is not blank."""
    try:
        rows = list(csv.reader(read_text(path).splitlines(), skipinitialspace=True))
    except OSError as error:
        raise DataError(f"cinc2017: {path} cannot be read ({error.strerror}).") from error
    except csv.Error as error:
        raise DataError(f"cinc2017: {path.name} is no CSV file ({error}).") from error
    cells = [[cell.strip() for cell in row] for row in rows]
    return [row for row in cells if any(row)]
