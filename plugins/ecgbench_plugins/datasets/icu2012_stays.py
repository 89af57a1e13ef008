"""The stays of the PhysioNet/CinC Challenge 2012 (Silva et al., CinC 2012), read into a table of hourly values.

A stay is a file of lines `time,parameter,value`, from 00:00 to 48:00 after admission to the ICU. The published files
have anomalies, which are counted: lines without a parameter's name, lines at 48:00 (there is no 49th hour), times at
which one parameter has several values (their mean counts), values that cannot be true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgbench import DataError, instead
from ecgbench_plugins.datasets import icu_features, icu_hours, textfiles
from ecgbench_plugins.datasets.icu_features import OPEN_DATA, valid
from ecgbench_plugins.datasets.icu_hours import HOURS, bridged
from ecgbench_plugins.datasets.textfiles import read_text

SOURCES = dict(  # of the cached table
    stays=Path(__file__), hours=icu_hours.SOURCE, features=icu_features.SOURCE, text=textfiles.SOURCE
)
HEADER = "Time,Parameter,Value"
OTHERS = (  # parameters that are known and not read
    *("RecordID", "Age", "Gender", "Height", "ICUType", "Weight", "ALP", "ALT", "AST", "Bilirubin", "Cholesterol"),
    *("FiO2", "GCS", "HCT", "MAP", "MechVent", "NIMAP", "PaO2", "TroponinI", "TroponinT", "Urine", "WBC"),
)
INVASIVE = {"SBP": "SysABP", "DBP": "DiasABP"}
CUFF = {"SBP": "NISysABP", "DBP": "NIDiasABP"}  # read in hours without an invasive value

_FIRST = tuple(INVASIVE.get(feature.name, feature.name) for feature in OPEN_DATA)
_SECOND = tuple(CUFF.get(feature.name, "") for feature in OPEN_DATA)
_READ = (*_FIRST, *filter(None, _SECOND))
_CODE = {name: code for code, name in enumerate((*_READ, *OTHERS, ""))}
_NAMELESS = _CODE[""]
_MINUTE = {f"{minute // 60:02d}:{minute % 60:02d}": minute for minute in range(HOURS * 60 + 1)}
_END = HOURS * 60

STAY = np.dtype(
    [
        ("values", "<f4", (HOURS, len(OPEN_DATA))),  # hourly means, gaps bridged, NaN where there is none at all
        ("observed", "?", (HOURS, len(OPEN_DATA))),
        ("record", "<i4"),
        ("fault", "S200"),  # what is wrong with the stay, which is then all 0; empty if nothing is
        ("rows", "<i4"),  # lines, but for the header and the record's own number
        ("nameless", "<i4"),  # lines without a parameter's name
        ("late", "<i4"),  # lines at 48:00
        ("repeated", "<i4"),  # lines of a time and parameter that a line before has, too
        ("dropped", "<i4", (len(OPEN_DATA),)),  # values that cannot be true, by feature
    ]
)


def read_all(stays: Mapping[int, Path]) -> np.ndarray:
    """All stays, in the order of their records, as a STAY array."""
    table = np.zeros(len(stays), STAY)
    for row, record in zip(table, sorted(stays), strict=True):
        row["record"] = record
        try:
            minutes, codes, values = _rows(stays[record], record)
        except DataError as fault:
            row["fault"] = str(fault).encode("ascii", "replace")[:200]
            continue
        row["rows"] = len(codes) - np.count_nonzero(codes == _CODE["RecordID"])
        row["nameless"] = np.count_nonzero(codes == _NAMELESS)
        row["late"] = np.count_nonzero(minutes == _END)
        row["repeated"] = len(codes) - len(np.unique(minutes * len(_CODE) + codes))
        means, row["dropped"] = _hourly(minutes, codes, values)
        row["values"], row["observed"] = means, ~np.isnan(means)
    for start in range(0, len(table), 500):  # few enough to stay small in memory
        some = table["values"][start : start + 500]
        some[:] = bridged(some)
    return table


def _rows(path: Path, record: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Minute, place in `_CODE` and value of every line. Raises DataError with the fault alone."""
    try:
        text = read_text(path)
    except OSError as error:
        raise DataError(f"damaged: {path.name} cannot be read ({error.strerror})") from error
    header, *lines = text.splitlines() or [""]
    if header != HEADER:
        raise DataError(f"damaged: {path.name} begins with {header[:40]!r}; expected {HEADER}")
    if not text.endswith("\n"):
        raise DataError(f"cut short: {path.name} ends within a line")
    try:
        times, names, numbers = zip(*[line.split(",") for line in lines], strict=True)
        values = np.array(list(map(float, numbers)))
        minutes = np.array([_MINUTE[time] for time in times])
        codes = np.array([_CODE[name] for name in names])
        if not np.isfinite(values).all() or "_" in text:
            raise ValueError
    except (ValueError, KeyError):
        raise DataError(_flaw(path.name, lines)) from None
    stated = values[codes == _CODE["RecordID"]].tolist()
    if stated != [record]:
        numbered = f"states the record {', '.join(f'{one:g}' for one in stated)}" if stated else "states no record"
        raise DataError(f"damaged: {path.name} {numbered}; expected {record}")
    return minutes, codes, values


def _flaw(name: str, lines: Sequence[str]) -> str:
    """The first fault among the lines of a file, in words."""
    for number, line in enumerate(lines, start=2):
        cells = line.split(",")
        where = f"line {number} of {name}"
        if len(cells) != 3:
            return f"damaged: {where} is {line[:40]!r}; expected a time, a parameter and a value"
        if cells[0] not in _MINUTE:
            return f"damaged: {where} is at {cells[0][:20]!r}; expected a time from 00:00 to 48:00"
        if cells[1] not in _CODE:
            return f"damaged: {where} has the parameter {cells[1][:20]!r}; {instead(cells[1], filter(None, _CODE))}"
        if not _number(cells[2]):
            return f"damaged: {where} has the value {cells[2][:20]!r}; expected a number"
    return f"empty: {name} holds no line"


def _number(text: str) -> bool:
    try:
        return isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _hourly(
    minutes: NDArray[np.int64], codes: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Means by hour (48, 18) of valid values, NaN where there is none; how many were invalid by feature (18,)."""
    mine = (codes < len(_READ)) & (minutes < _END)
    minutes, codes, values = minutes[mine], codes[mine], values[mine]
    sound = valid(_FEATURE, codes, values)
    dropped = np.bincount(codes[~sound], minlength=len(_READ))
    times, at_once = _means(codes[sound] * _END + minutes[sound], values[sound])
    cells, mean = _means(times // 60, at_once)
    means = np.full(len(_READ) * HOURS, np.nan)
    means[cells] = mean
    table = means.reshape(len(_READ), HOURS).T
    first = table[:, : len(_FIRST)]
    for code, feature in enumerate(_AGAIN, start=len(_FIRST)):
        first[:, feature] = np.where(np.isnan(first[:, feature]), table[:, code], first[:, feature])
        dropped[feature] += dropped[code]
    return first, dropped[: len(_FIRST)]


_AGAIN = tuple(place for place, name in enumerate(_SECOND) if name)  # features that are read from two parameters
_FEATURE = (*OPEN_DATA, *(OPEN_DATA[place] for place in _AGAIN))


def _means(keys: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The different keys, and the mean of the values of each."""
    found, place = np.unique(keys, return_inverse=True)
    return found, np.bincount(place, values) / np.bincount(place)
