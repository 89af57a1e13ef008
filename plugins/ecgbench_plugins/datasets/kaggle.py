"""The rows that Kachuee, Fazeli and Sarrafzadeh published: CSV files of 187 samples and a label, no header."""

from __future__ import annotations

import warnings
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SOURCE = Path(__file__)
ROWS = {"mitbih_train.csv": 87554, "mitbih_test.csv": 21892}
COLUMNS = 188
LABELS = 5
FAULT = np.dtype([("line", "<i4"), ("fault", "S160")])


def read(path: Path) -> tuple[NDArray[np.float32], np.ndarray]:
    """The table (rows, 188), samples in [0, 1] and the label last; and as a FAULT array the lines that are no such row.

    A byte order mark, blank lines, spaces and quotes about a number are no faults; a header row is one.
    """
    table = _at_once(path)
    if table is not None:
        return table, np.empty(0, FAULT)
    rows, faults = [], []
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in zip(count(1), lines, strict=False):
            row = _row(line) if line.strip() else None
            if isinstance(row, str):
                faults.append((number, row.encode()))
            elif row is not None:
                rows.append(row)
    if not rows and not faults:
        faults.append((1, f"empty; expected rows of {COLUMNS - 1} samples and a label".encode()))
    return np.array(rows, np.float32).reshape(-1, COLUMNS), np.array(faults, FAULT)


def _at_once(path: Path) -> NDArray[np.float32] | None:
    """The whole table, None where any line of it is not as it should be."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as lines, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file: that is said elsewhere
            table = np.loadtxt(lines, np.float32, delimiter=",", comments=None, quotechar='"', ndmin=2)
    except ValueError:
        return None
    return table if table.shape[1] == COLUMNS and _in_range(table) else None


def _row(line: str) -> NDArray[np.float32] | str:
    """The numbers of a line, or what is wrong with it."""
    cells = [cell.strip().strip('"') for cell in line.split(",")]
    if len(cells) != COLUMNS:
        return f"{len(cells)} columns; expected {COLUMNS - 1} samples and a label"
    try:
        row = np.array([float(cell) for cell in cells], np.float32)
    except ValueError:
        return "text where a number should be; expected no header row"
    return row if _in_range(row[None]) else "expected samples in 0..1 and a label in 0..4"


def _in_range(table: NDArray[np.float32]) -> bool:
    samples, label = table[:, :-1], table[:, -1]
    return bool(((samples >= 0) & (samples <= 1)).all() and np.isin(label, np.arange(LABELS)).all())
