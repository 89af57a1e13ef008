"""The single-lead records of the PhysioNet/CinC Challenge 2017 (Clifford et al. 2017), read into one table.

A record is NAME.mat (MATLAB, the counts in `val`) and NAME.hea (its WFDB header). Checksum and initial value of
the header are not looked at: in the published files the one is always 0 and the other is wrong 565 times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgbench import DataError
from ecgbench_plugins.datasets import headers, textfiles
from ecgbench_plugins.datasets.headers import read_header

SOURCES = {"recipe": Path(__file__), "headers": headers.SOURCE, "text": textfiles.SOURCE}  # of the cached table
ENDINGS = (".mat", ".hea")
RATE = 300  # Hz
SAMPLES = 30 * RATE  # what is kept of a record
PER_MV = 1000  # counts
MISSING = -32768  # how WFDB marks a lost sample of 16 bits

RHYTHM = np.dtype(
    [
        ("counts", "<i2", (SAMPLES,)),  # the first 30 s, 0 behind the end
        ("length", "<i4"),  # samples before the padding
        ("mean", "<f8"),  # of these samples, in counts
        ("std", "<f8"),  # likewise, the population's
        ("content", "S32"),  # equal where all these samples are equal
        ("record", "<i4"),
        ("fault", "S160"),  # what is wrong with the record, which is then all 0; empty if nothing is
    ]
)


def read_all(files: Mapping[str, Path], records: Sequence[str]) -> np.ndarray:
    """All records, one after another, as a RHYTHM array; `files` by name, such as "A00001.mat"."""
    table = np.zeros(len(records), RHYTHM)
    for row, name in zip(table, records, strict=True):
        row["record"] = int(name[1:])
        try:
            visible = _read(files, name)[:SAMPLES]
            if visible.min() == visible.max():
                raise DataError(f"constant: its first {len(visible)} samples are all {visible[0]}")
        except DataError as fault:
            row["fault"] = str(fault).encode("ascii", "replace")[:160]
            continue
        row["counts"][: len(visible)] = visible
        row["length"], row["mean"], row["std"] = len(visible), visible.mean(), visible.std()
        row["content"] = hashlib.sha256(visible.tobytes()).hexdigest()[:32]
    return table


def standardised(table: np.ndarray, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """`rows` of a RHYTHM array as z-scores (n, 1, 9000), 0 on the padding."""
    x = np.empty((len(rows), 1, SAMPLES), np.float32)
    for start in range(0, len(rows), 32):  # few enough to stay in the processor's cache
        some = rows[start : start + 32]
        mean, std = (table[name][some][:, None] for name in ("mean", "std"))
        z = (table["counts"][some] - mean) / std
        np.multiply(z, _within(table, some), out=x[start : start + 32, 0], casting="same_kind")
    return x


def masked(table: np.ndarray, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where `rows` of a RHYTHM array hold signal, and not padding: (n, 1, 9000)."""
    return _within(table, rows)[:, None]


def _within(table: np.ndarray, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.less(np.arange(SAMPLES, dtype=np.int32), table["length"][rows][:, None])


def _read(files: Mapping[str, Path], name: str) -> NDArray[np.int16]:
    """All counts of a record. Raises DataError with the fault alone."""
    for ending in ENDINGS:
        if name + ending not in files:
            raise DataError(f"without its file {name}{ending}")
    stated = _stated(files[f"{name}.hea"], name)
    counts = _counts(files[f"{name}.mat"], name)
    if stated is not None and len(counts) != stated:
        raise DataError(f"damaged: {name}.hea states {stated} samples, {name}.mat holds {len(counts)}")
    return counts


def _stated(path: Path, name: str) -> int | None:
    """Number of samples that the header states, None where it leaves it open."""
    header = read_header(path)
    if header.segments is not None:
        raise DataError(f"split into {header.segments} segments; expected one signal in {name}.mat")
    file = header.signals[0].file if header.signals else "no file"
    if (header.record.casefold(), file.casefold()) != (name.casefold(), f"{name}.mat".casefold()):
        raise DataError(f"damaged: {name}.hea describes {header.record} in {file}")
    if len(header.signals) != 1:
        raise DataError(f"damaged: {name}.hea describes {len(header.signals)} signals; expected 1")
    (signal,) = header.signals
    if header.rate != RATE:
        raise DataError(f"sampled at {header.rate:g} Hz; expected {RATE} Hz")
    if signal.form != "16" or not isclose(signal.per_mv, PER_MV) or not signal.calibrated:
        gain = f"{signal.gain:g}/{signal.unit}" if signal.calibrated else "not stated"
        raise DataError(f"stored as format {signal.form}, gain {gain}; expected 16 bits, {PER_MV}/mV")
    return header.length


def _counts(path: Path, name: str) -> NDArray[np.int16]:
    row = _row(path, name)
    odd = np.flatnonzero(~np.isfinite(row) | (row == MISSING))
    if len(odd):
        raise DataError(f"damaged: sample {odd[0]} of {name}.mat is not a number")
    with np.errstate(invalid="ignore"):
        counts: NDArray[np.int16] = row.astype(np.int16)
    odd = np.flatnonzero(counts != row)
    if len(odd):
        raise DataError(f"damaged: sample {odd[0]} of {name}.mat is {row[odd[0]]}; expected whole counts of 16 bits")
    return counts


def _row(path: Path, name: str) -> np.ndarray:
    """The numbers in `val`, whatever their type."""
    from scipy.io import loadmat

    try:
        values = np.asarray(loadmat(path)["val"])
    except Exception as error:  # whatever a damaged file leads the library into
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:60]
        raise DataError(f"damaged or cut short: scipy cannot read val in {name}.mat ({reason})") from error
    if values.size == 0:
        raise DataError(f"empty: {name}.mat holds no sample")
    if values.ndim != 2 or values.shape[0] != 1 or values.dtype.kind not in "iuf":
        raise DataError(f"damaged: val of {name}.mat is {values.dtype} {values.shape}; expected one row of numbers")
    return values[0]
