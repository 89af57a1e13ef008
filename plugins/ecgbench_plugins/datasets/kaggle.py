"""The rows that Kachuee, Fazeli and Sarrafzadeh published: CSV files of 187 samples and a label, no header."""

from __future__ import annotations

import warnings
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgbench.errors import DataError

SOURCE = Path(__file__)
FILES = ("mitbih_train.csv", "mitbih_test.csv")
COLUMNS = 188
LABELS = 5


def read(path: Path) -> NDArray[np.float32]:
    """The table (rows, 188), samples in [0, 1] and the label last.

    Raises DataError, naming file and line, for a row that is anything else (a header, a missing column).
    """
    try:
        with path.open(encoding="ascii", errors="replace") as lines, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file: that is said below
            table = np.loadtxt(lines, np.float32, delimiter=",", comments=None, ndmin=2)
        sound = table.shape[1] == COLUMNS and _in_range(table)
    except ValueError:
        sound = False
    if sound:
        return table
    with path.open(encoding="ascii", errors="replace") as lines:
        for number, line in zip(count(1), lines, strict=False):
            if line.strip() and (fault := _fault(line)):
                raise DataError(f"{path.name}, line {number}: {fault}.")
    raise DataError(f"{path.name} cannot be read; expected rows of {COLUMNS - 1} samples and a label.")


def _fault(line: str) -> str | None:
    cells = line.split(",")
    if len(cells) != COLUMNS:
        return f"{len(cells)} columns; expected {COLUMNS - 1} samples and a label"
    try:
        row = np.array([cells], dtype=np.float32)
    except ValueError:
        return "text where a number should be; expected no header row"
    return None if _in_range(row) else "expected samples in 0..1 and a label in 0..4"


def _in_range(table: NDArray[np.float32]) -> bool:
    samples, label = table[:, :-1], table[:, -1]
    return bool(((samples >= 0) & (samples <= 1)).all() and np.isin(label, np.arange(LABELS)).all())
