"""Beats cut out of the records of the MIT-BIH Arrhythmia Database (Moody and Mark 2001).

The recipe is that of Kachuee, Fazeli and Sarrafzadeh 2018 (arXiv 1805.00794, section III.A): from each R peak
a segment of 1.2 T, T being the median RR interval of its 10 s window, zero-padded to 187 samples at 125 Hz.
Where the paper is silent, or at odds with its published rows, we chose: R peaks are the annotated ones (their
detector does not give the published counts; all annotated beats but the last of each record do); one
channel, resampled as a whole record; min and max of each beat, not of its window, become 0 and 1; T is the
median of the intervals that lie inside the window, and a beat alone in its window has its own interval to the
next one; 1.2 T is rounded to whole samples, and longer segments are cut.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbench import DataError
from ecgbench_plugins.datasets import headers, textfiles
from ecgbench_plugins.datasets.beat_report import REPORT
from ecgbench_plugins.datasets.headers import Header, Signal, read_header

SOURCES = {"recipe": Path(__file__), "headers": headers.SOURCE, "text": textfiles.SOURCE}  # of the cached arrays
CLASSES = ("N", "S", "V", "F", "Q")
SYMBOLS = dict(zip(CLASSES, ("NLRej", "AaJS", "VE", "F", "/fQ"), strict=True))  # AAMI EC57
OTHERS = ("B", "n", "r", "?")  # beats of WFDB that these classes do not name; none is in the MIT-BIH records
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


@dataclass(frozen=True)
class Recording:
    """One signal in mV at 360 Hz, where it is `lost` (no number was stored), and its annotated beats."""

    signal: NDArray[np.float32]
    lost: NDArray[np.bool_]
    peaks: NDArray[np.int64]
    label: NDArray[np.int64]


def cut_all(files: Mapping[str, Path], records: Sequence[str], lead: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The beats of all records as a BEAT array, one after another, and a REPORT of each record.

    `files` by name, such as "100.dat"; the signal is the first, or the first that is named `lead`.
    """
    report = np.zeros(len(records), REPORT)
    beats = [np.empty(0, BEAT)]
    for row, name in zip(report, records, strict=True):
        row["record"] = int(name)
        try:
            recording = _read(files, name, lead, row)
            if recording is not None:
                beats.append(_cut(name, recording, row))
        except DataError as fault:
            row["fault"] = _text(str(fault))
    return np.concatenate(beats), report


def _read(files: Mapping[str, Path], name: str, lead: str | None, row: np.void) -> Recording | None:
    """None where the record has no such lead. Raises DataError with the fault alone."""
    for ending in ENDINGS:
        if name + ending not in files:
            raise DataError(f"without its file {name}{ending}")
    header = read_header(files[f"{name}.hea"])
    signals = _sound(header, name)
    leads = [signal.name for signal in signals]
    wanted = 0 if lead is None else next((k for k, one in enumerate(leads) if one.casefold() == lead.casefold()), None)
    row["leads"] = _text(", ".join(filter(None, leads)))
    if wanted is None:
        return None
    signal = signals[wanted]
    row["lead"], row["calibrated"] = _text(signal.name or "unnamed"), signal.calibrated
    if (signal.per_frame, signal.skew) != (1, 0):
        raise DataError(f"stored with {signal.per_frame} samples a frame and a skew of {signal.skew}; expected 1 and 0")
    record, notes = _open(files[f"{name}.hea"], name, wanted)
    marks = _marks(files[f"{name}.atr"], notes, len(record.d_signal))
    row["other"] = sum(symbol in OTHERS for symbol in notes.symbol)
    if header.length and record.checksum[0] is not None and (int(record.d_signal.sum()) - record.checksum[0]) % 65536:
        raise DataError(f"damaged: {name}.dat does not have the checksum stated in {name}.hea")
    record.adc_gain = [signal.per_mv]
    values = record.dac(return_res=32)[:, 0]
    return Recording(values, ~np.isfinite(values), *marks)


def _sound(header: Header, name: str) -> Sequence[Signal]:
    """The signals of a header whose files are those that the dataset is known by."""
    if header.segments is not None:
        raise DataError(f"split into {header.segments} segments; expected its signals in {name}.dat")
    if header.rate != NATIVE:
        raise DataError(f"sampled at {header.rate:g} Hz; expected {NATIVE} Hz")
    if not header.signals:
        raise DataError(f"damaged: {name}.hea describes no signal")
    other = next((signal.file for signal in header.signals if signal.file.casefold() != f"{name}.dat"), None)
    if other is not None:
        raise DataError(f"stored in {other}; expected its signals in {name}.dat")
    return header.signals


def _open(header: Path, name: str, channel: int) -> tuple[Any, Any]:
    path = str(header.with_suffix(""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb calls what pandas is about to drop
        import wfdb

        try:
            return wfdb.rdrecord(path, channels=[channel], physical=False, return_res=32), wfdb.rdann(path, "atr")
        except Exception as error:  # whatever a damaged file leads the library into
            reason = f"{type(error).__name__}: {error}".partition("\n")[0].replace(str(header.parent), "")[:60]
            raise DataError(f"damaged or cut short: wfdb cannot read its files ({reason})") from error


def _marks(path: Path, notes: Any, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Place and class of every annotated beat."""
    place = np.asarray(notes.sample, np.int64)
    if not path.read_bytes().endswith(b"\0\0"):
        raise DataError(f"damaged: {path.name} stops before its end mark")
    if len(place) and not 0 <= place.min() <= place.max() < length:
        odd = place[(place < 0) | (place >= length)][0]
        raise DataError(f"damaged: {path.name} marks sample {odd} of {length}")
    if (np.diff(place) < 0).any():
        raise DataError(f"damaged: {path.name} marks samples that are not in order")
    label = {symbol: CLASSES.index(letter) for letter, symbols in SYMBOLS.items() for symbol in symbols}
    classes = np.array([label.get(symbol, -1) for symbol in notes.symbol], dtype=np.int64)
    beats = classes >= 0
    return place[beats], classes[beats]


def _cut(name: str, recording: Recording, row: np.void) -> np.ndarray:
    """Every sound annotated beat but the last, as a BEAT array; what is cut or left out is counted in `row`."""
    from scipy.signal import resample_poly

    peaks, lost = recording.peaks, recording.lost
    if lost.all():
        raise DataError(f"damaged: no sample of {name}.dat is a number")
    row["last"] = min(len(peaks), 1)
    if len(peaks) < 2:
        return np.empty(0, BEAT)
    step = Fraction(RATE, NATIVE)
    signal = resample_poly(_bridged(recording), step.numerator, step.denominator, padtype="line")
    start = np.rint(peaks[:-1] * RATE / NATIVE).astype(np.int64)
    whole = np.rint(1.2 * _period(peaks) * RATE / NATIVE).astype(np.int64)
    length = np.minimum(whole, np.minimum(SAMPLES, len(signal) - start))

    place = np.arange(SAMPLES)
    inside = place < length[:, None]
    raw = signal[np.minimum(start[:, None] + place, len(signal) - 1)]
    low = raw.min(1, initial=np.inf, where=inside)
    scale = raw.max(1, initial=-np.inf, where=inside) - low
    gone = _touched(lost, start, length)
    flat = ~(scale > 0) & ~gone
    kept = ~(gone | flat)
    _count(name, recording, row, gone, flat, whole, length)

    beats = np.empty(kept.sum(), BEAT)
    beats["x"] = np.where(inside[kept], (raw[kept] - low[kept, None]) / scale[kept, None], 0)
    beats["scale"], beats["length"], beats["record"] = scale[kept], length[kept], int(name)
    beats["label"] = recording.label[:-1][kept]
    return beats


def _count(
    name: str,
    recording: Recording,
    row: np.void,
    gone: NDArray[np.bool_],
    flat: NDArray[np.bool_],
    whole: NDArray[np.int64],
    length: NDArray[np.int64],
) -> None:
    """Puts into `row` how many beats are lost, flat, and cut from their `whole` length to `length`."""
    kept, ended = ~(gone | flat), np.minimum(whole, SAMPLES) > length
    row["lost"], row["flat"], row["beats"] = gone.sum(), flat.sum(), kept.sum()
    row["ended"], row["long"] = (ended & kept).sum(), ((whole > SAMPLES) & ~ended & kept).sum()
    if recording.lost.any():
        row["flaw"] = _text(f"damaged: sample {recording.lost.argmax()} of {name}.dat is not a number")
    elif flat.any():
        row["flaw"] = _text(f"flat after the beat at sample {recording.peaks[flat.argmax()]}")


def _bridged(recording: Recording) -> NDArray[np.float32]:
    """The signal, with straight lines where samples were lost."""
    signal, lost = recording.signal, recording.lost
    if not lost.any():
        return signal
    place = np.arange(len(signal))
    return np.interp(place, place[~lost], signal[~lost]).astype(np.float32)


def _touched(lost: NDArray[np.bool_], start: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which beats, given in samples of 125 Hz, hold a lost sample or one that resampling smeared into them."""
    reach = 10 * NATIVE // RATE + 1  # half the filter of scipy's resample_poly: 10 of its output's samples
    before = np.concatenate([[0], np.cumsum(lost)])
    first = np.clip(start * NATIVE // RATE - reach, 0, len(lost))
    behind = np.clip((start + length) * NATIVE // RATE + reach, 0, len(lost))
    touched: NDArray[np.bool_] = before[behind] > before[first]
    return touched


def _text(words: str) -> bytes:
    return words.encode("ascii", "replace")


def _period(peaks: NDArray[np.int64]) -> NDArray[np.float64]:
    """T of every beat but the last, in samples of the record."""
    from scipy.ndimage import median

    window = peaks // WINDOW
    home, inside = window[:-1], window[:-1] == window[1:]
    used = inside | ~np.isin(home, home[inside])
    windows, mine = np.unique(home, return_inverse=True)
    medians: NDArray[np.float64] = np.asarray(median(np.diff(peaks)[used], home[used], windows))
    return medians[mine]
