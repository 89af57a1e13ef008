"""What must be said of the records that beats were cut from: leads, faults, and every beat that is cut or left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

USUAL = "MLII"  # the first signal of most MIT-BIH records

REPORT = np.dtype(
    [
        ("record", "<i4"),
        ("fault", "S160"),  # why no beat of the record is there; empty if there is no fault
        ("leads", "S96"),  # names of all its signals
        ("lead", "S32"),  # name of the one that was read, "unnamed" where the header names none; empty if none was
        ("calibrated", "?"),  # False where the header states no gain, or 0
        ("beats", "<i4"),  # beats that are kept
        ("last", "<i4"),  # 1 where there is a last annotated beat, which is left out
        ("other", "<i4"),  # beats left out that are of no class
        ("lost", "<i4"),  # beats left out for samples that are no numbers
        ("flat", "<i4"),  # beats left out that are flat
        ("flaw", "S160"),  # the first of these faults, for who wants no beat left out; empty if there is none
        ("ended", "<i4"),  # kept beats that the end of the record cuts
        ("long", "<i4"),  # kept beats that are cut at their greatest length
    ]
)


def complete(report: np.ndarray) -> bool:
    """Whether every record was read, and every annotated beat but the last is there."""
    return bool(((report["lead"] != b"") & (report["fault"] == b"") & (report["flaw"] == b"")).all())


def remarks(report: np.ndarray, lead: str | None, whole: int) -> Iterator[str]:
    """Notes, a phrase each, on a REPORT of all records, of which there should be `whole`."""
    read = report[report["lead"] != b""]
    sound = read[read["fault"] == b""]
    if len(sound) < whole:
        yield f"only {len(sound)} of {whole} records"
    for row in report[report["fault"] != b""]:
        yield f"record {row['record']} left out, being {row['fault'].decode()}"
    lacking = report[(report["lead"] == b"") & (report["fault"] == b"")]
    if len(lacking):
        yield f"records without lead {lead} left out: {_each(lacking, 'leads')}"
    if lead is None:
        other = sound[sound["lead"] != USUAL.encode()]
        yield f"first signal of each record: {USUAL}" + (f", but {_each(other, 'lead')}" if len(other) else "")
    if not sound["calibrated"].all():
        yield f"not calibrated, 200 counts taken for 1 mV: records {_numbers(sound[~sound['calibrated']])}"
    yield from _of_beats(sound)


def _of_beats(sound: np.ndarray) -> Iterator[str]:
    yield f"{_beats(sound['last'].sum())} left out, the last of each record, as in the published rows"
    for name, why in (
        ("other", "being of no class (B, n, r or ?)"),
        ("flat", "being flat"),
        ("lost", "holding samples that are no numbers"),
    ):
        for row in sound[sound[name] > 0]:
            yield f"{_beats(row[name])} of record {row['record']} left out, {why}"
    ended, long = sound[sound["ended"] > 0], int(sound["long"].sum())
    if len(ended):
        yield f"{_beats(ended['ended'].sum())} cut where the record ends, in {_numbers(ended)}"
    if long:
        yield f"{long} of {_beats(sound['beats'].sum())} cut at 187 samples"


def _beats(n: int) -> str:
    return "1 beat" if n == 1 else f"{n} beats"


def _each(rows: np.ndarray, name: str) -> str:
    """Records by what `name` holds: "V5 in 102 and 104; V1 in 105"."""
    return "; ".join(
        f"{value.decode()} in {_numbers(rows[rows[name] == value])}" for value in Counter(rows[name].tolist())
    )


def _numbers(rows: np.ndarray) -> str:
    *most, last = map(str, rows["record"].tolist())
    return f"{', '.join(most)} and {last}" if most else last
