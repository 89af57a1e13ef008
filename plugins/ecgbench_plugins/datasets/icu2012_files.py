"""Where the files of the PhysioNet/CinC Challenge 2012 lie: a folder of stays for each set, and a list of outcomes."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ecgbench import DataError, DataRoot
from ecgbench_plugins.datasets.textfiles import read_text

STAYS = 4000  # of each set
LAYOUTS = (
    "challenge-2012",
    "challenge-2012/1.0.0",
    "files/challenge-2012/1.0.0",
    "physionet.org/files/challenge-2012/1.0.0",
    "predicting-mortality-of-icu-patients-the-physionet-computing-in-cardiology-challenge-2012-1.0.0",
)
HINT = "set ECGBENCH_DATA to the folder that holds challenge-2012/, or run: ecgbench data get icu2012"

_NAME = re.compile(r"[1-9]\d{0,8}\.txt")


@dataclass(frozen=True)
class Set:
    """One set, "a", "b" or "c": its list of outcomes, and the file of every stay by record."""

    letter: str
    outcomes: Path
    stays: Mapping[int, Path]

    @classmethod
    def find(cls, root: DataRoot, letter: str) -> Set:
        """Raises DataError where the list or the folder is missing."""
        listed = f"Outcomes-{letter}.txt"
        base = root.find("icu2012", listed, LAYOUTS, HINT)
        for folder in (base / f"set-{letter}", base / f"set-{letter}" / f"set-{letter}"):
            with_stays = sorted(_listing(folder), key=len)
            if with_stays:
                found = {int(name[:-4]): folder / name for name in with_stays}
                return cls(letter, base / listed, found)
        raise DataError(f"icu2012: set-{letter} holds no stay beside {base / listed}; {HINT}")

    def files(self) -> dict[str, Path]:
        """All its files, by names that are the same on every machine."""
        mine = {self.outcomes.name: self.outcomes}
        return mine | {f"set-{self.letter}/{record}.txt": path for record, path in self.stays.items()}


def _listing(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if _NAME.fullmatch(name)]  # noqa: PTH208 - 4,000 names, no paths
    except OSError:
        return []


def read_outcomes(path: Path) -> tuple[dict[int, int], dict[int, str]]:
    """1 by record where the patient died in hospital, else 0; and what is wrong with a record's line by record.

    Raises DataError for a list without its columns, and for a line that names no record.
    """
    try:
        rows = list(csv.DictReader(read_text(path).splitlines(), skipinitialspace=True))
    except OSError as error:
        raise DataError(f"icu2012: {path} cannot be read ({error.strerror}).") from error
    except csv.Error as error:
        raise DataError(f"icu2012: {path.name} is no CSV file ({error}).") from error
    died: dict[int, int] = {}
    faults: dict[int, str] = {}
    for row in rows:
        record, outcome = row.get("RecordID"), row.get("In-hospital_death")
        if record is None or not _NAME.fullmatch(f"{record}.txt"):
            raise DataError(
                f"icu2012: {path.name} names no record in {','.join(filter(None, map(str, row.values())))[:60]!r}; "
                "expected the columns RecordID and In-hospital_death."
            )
        name = int(record)
        if name in died or name in faults:
            faults[name] = f"listed twice in {path.name}"
        elif outcome not in ("0", "1"):
            faults[name] = f"listed in {path.name} with the outcome {outcome!r}; expected 0 or 1"
        else:
            died[name] = int(outcome)
    if not died and not faults:
        raise DataError(f"icu2012: {path.name} lists no stay; expected the columns RecordID and In-hospital_death.")
    return {name: outcome for name, outcome in died.items() if name not in faults}, faults
