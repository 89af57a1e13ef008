"""Headers of WFDB records by header(5) of the WFDB manual, taken apart by the patterns of the wfdb library.

`wfdb.rdheader` needs 1.8 ms a header, its patterns 0.05 ms; tests hold the two to the same values. The manual's
defaults stand for what a header leaves out: 250 Hz, 200 units of the converter per mV, the ADC zero as baseline.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ecgbench import DataError
from ecgbench_plugins.datasets.textfiles import read_text

SOURCE = Path(__file__)
RATE = 250.0  # Hz, of a header that states none
GAIN = 200.0  # of a header that states none, or 0
MILLIVOLTS = {"V": 1e3, "mV": 1.0, "uV": 1e-3, "nV": 1e-6}


@dataclass(frozen=True)
class Signal:
    """One signal line: `gain` counts per `unit`, `calibrated` False where the header states no gain, or 0."""

    file: str
    form: str
    per_frame: int
    skew: int
    gain: float
    calibrated: bool
    baseline: int
    unit: str
    name: str

    @property
    def per_mv(self) -> float:
        """Counts per mV. Raises DataError, the fault alone, where the unit is no voltage that is known."""
        if self.unit not in MILLIVOLTS:
            raise DataError(f"stored in {self.unit}; expected V, mV, uV or nV")
        return self.gain / MILLIVOLTS[self.unit]


@dataclass(frozen=True)
class Header:
    """`rate` in Hz; `length` in samples, None where it is left open; no `signals` where there are `segments`."""

    record: str
    segments: int | None
    rate: float
    length: int | None
    signals: tuple[Signal, ...]


def read_header(path: Path) -> Header:
    """Raises DataError, the fault alone, for what is no header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb calls what pandas is about to drop
        from wfdb.io.header import parse_header_content, rx_record, rx_signal
    try:
        text = read_text(path).replace("\N{MICRO SIGN}V", "uV").replace("\N{GREEK SMALL LETTER MU}V", "uV")
    except OSError as error:
        raise DataError(f"damaged: {path.name} cannot be read ({error.strerror})") from error
    lines, _ = parse_header_content(text.encode("ascii", "replace").decode())
    try:
        record = rx_record.match(lines[0]).groupdict()
        segments = int(record["n_seg"]) if record["n_seg"] else None
        described = lines[1 : 1 + int(record["n_sig"])] if segments is None else []
        signals = tuple(_signal(rx_signal.match(line).groupdict()) for line in described)
        rate = float(record["fs"] or RATE)
        length = int(record["sig_len"] or 0) or None
    except (IndexError, AttributeError, ValueError):
        raise DataError(f"damaged: {path.name} is no WFDB header") from None
    if segments is None and len(signals) != int(record["n_sig"]):
        raise DataError(f"damaged: {path.name} states {record['n_sig']} signals and describes {len(signals)}")
    return Header(record["record_name"], segments, rate, length, signals)


def _signal(line: Mapping[str, str]) -> Signal:
    gain = float(line["adc_gain"] or 0)
    return Signal(
        file=line["file_name"],
        form=line["fmt"],
        per_frame=int(line["samps_per_frame"] or 1),
        skew=int(line["skew"] or 0),
        gain=gain or GAIN,
        calibrated=gain != 0,
        baseline=int(line["baseline"] or line["adc_zero"] or 0),
        unit=line["units"] or "mV",
        name=line["sig_name"],
    )
