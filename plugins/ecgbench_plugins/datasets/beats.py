"""Beats cut out of the records of the MIT-BIH Arrhythmia Database (Moody and Mark 2001).

The recipe is that of Kachuee, Fazeli and Sarrafzadeh 2018 (arXiv 1805.00794, section III.A): from each R peak
a segment of 1.2 T, T being the median RR interval of its 10 s window, zero-padded to 187 samples at 125 Hz.
Where the paper is silent, or at odds with its published rows, we chose: R peaks are the annotated ones (their
detector does not give the published counts; all annotated beats but the last of each record do); the first
channel, resampled as a whole record; min and max of each beat, not of its window, become 0 and 1; T is the
median of the intervals that lie inside the window, and a beat alone in its window has its own interval to the
next one; 1.2 T is rounded to whole samples, and longer segments are cut.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbench.errors import DataError

SOURCE = Path(__file__)
CLASSES = ("N", "S", "V", "F", "Q")
SYMBOLS = dict(zip(CLASSES, ("NLRej", "AaJS", "VE", "F", "/fQ"), strict=True))  # AAMI EC57
ENDINGS = (".dat", ".hea", ".atr")
SAMPLES = 187
RATE = 125  # Hz, of the beats
NATIVE = 360  # Hz, of the records
WINDOW = 10 * NATIVE

BEAT = np.dtype(
    [
        ("x", "<f4", (SAMPLES,)),  # in [0, 1], zero-padded
        ("scale", "<f4"),  # mV per unit of x
        ("length", "<i4"),  # samples before the padding
        ("label", "<i4"),  # place in CLASSES
        ("record", "<i4"),
    ]
)


def cut_all(folder: Path, records: Sequence[str]) -> np.ndarray:
    """The beats of all records, one after another, as a BEAT array. Raises DataError for a damaged record."""
    return np.concatenate([_cut(name, *_read(folder, name)) for name in records])


def _read(folder: Path, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """First channel in mV at 360 Hz; place and class of every annotated beat."""
    record, notes = _open(str(folder / name), name)
    digital = record.d_signal[:, 0]
    signal = record.dac(return_res=32)[:, 0]
    label = {symbol: CLASSES.index(letter) for letter, symbols in SYMBOLS.items() for symbol in symbols}
    classes = np.array([label.get(symbol, -1) for symbol in notes.symbol], dtype=np.int64)
    fault = ""
    if record.fs != NATIVE:
        fault = f"sampled at {record.fs} Hz; expected {NATIVE} Hz"
    elif not np.isfinite(signal).all():
        fault = f"damaged: sample {np.flatnonzero(~np.isfinite(signal))[0]} of {name}.dat is not a number"
    elif record.checksum[0] is not None and (int(digital.sum()) - record.checksum[0]) % 65536:
        fault = f"damaged: {name}.dat does not have the checksum stated in {name}.hea; download it again"
    elif not (folder / f"{name}.atr").read_bytes().endswith(b"\0\0"):
        fault = f"damaged: {name}.atr stops before its end mark; download it again"
    elif len(classes) and int(notes.sample[-1]) >= len(signal):
        fault = f"damaged: {name}.atr marks sample {notes.sample[-1]} of {len(signal)}; download it again"
    if fault:
        raise DataError(f"record {name} is {fault}.")
    beats = classes >= 0
    return signal, notes.sample[beats], classes[beats]


def _open(path: str, name: str) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb calls what pandas is about to drop
        import wfdb

        try:
            return wfdb.rdrecord(path, channels=[0], physical=False, return_res=32), wfdb.rdann(path, "atr")
        except Exception as error:  # whatever a damaged file leads the library into
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            fault = f"damaged or cut short: wfdb cannot read its files ({reason}); download them again"
            raise DataError(f"record {name} is {fault}.") from error


def _cut(name: str, signal: NDArray[np.float32], peaks: NDArray[np.int64], label: NDArray[np.int64]) -> np.ndarray:
    """Every annotated beat but the last, as a BEAT array."""
    from scipy.signal import resample_poly

    if len(peaks) < 2:
        return np.empty(0, BEAT)
    step = Fraction(RATE, NATIVE)
    signal = resample_poly(signal, step.numerator, step.denominator, padtype="line")
    start = np.rint(peaks[:-1] * RATE / NATIVE).astype(np.int64)
    length = np.rint(1.2 * _period(peaks) * RATE / NATIVE).astype(np.int64)
    length = np.minimum(length, np.minimum(SAMPLES, len(signal) - start))

    place = np.arange(SAMPLES)
    inside = place < length[:, None]
    raw = signal[np.minimum(start[:, None] + place, len(signal) - 1)]
    low = raw.min(1, initial=np.inf, where=inside)
    scale = raw.max(1, initial=-np.inf, where=inside) - low
    if not (scale > 0).all():
        flat = np.flatnonzero(~(scale > 0))[0]
        raise DataError(f"record {name} is flat after the beat at sample {peaks[flat]}; expected a signal.")
    beats = np.empty(len(start), BEAT)
    beats["x"] = np.where(inside, (raw - low[:, None]) / scale[:, None], 0)
    beats["scale"], beats["length"], beats["label"], beats["record"] = scale, length, label[:-1], int(name)
    return beats


def _period(peaks: NDArray[np.int64]) -> NDArray[np.float64]:
    """T of every beat but the last, in samples of the record."""
    from scipy.ndimage import median

    window = peaks // WINDOW
    home, inside = window[:-1], window[:-1] == window[1:]
    used = inside | ~np.isin(home, home[inside])
    windows, mine = np.unique(home, return_inverse=True)
    medians: NDArray[np.float64] = np.asarray(median(np.diff(peaks)[used], home[used], windows))
    return medians[mine]
