"""Published results: a record a file, and the outcomes it was scored from beside it.

`<dataset>/<row>-<key>.json` is a record as people read it, the `.npz` of the same name what it was scored from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ecgbench.core.errors import StoreError, accessing
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.results.record import Record, read_record
from ecgbench.storage.arrays import pack, unpack
from ecgbench.storage.store import write_file

LONGEST = 80  # characters of a name before its key


@dataclass(frozen=True)
class Published:
    """A record read from `path`, and its outcomes, None where there is no file of them.

    `badge` says how far a row of others was checked when it came, see `submissions`; None for a row of the board's own.
    `best_known` holds by eps the accuracy that all attacks of its board and counterexamples leave of its victim; empty
    where nobody has given any.
    """

    record: Record
    outcomes: Outcomes | None
    path: Path
    badge: str | None = None
    best_known: Mapping[float, float] = field(default_factory=dict)


def place(record: Record) -> PurePosixPath:
    """Where a record is published, relative to the folder of results; the same on every file system."""
    row = f"{record.model}-{record.defense}-{record.attack}-{record.threat}-seed{record.seed}"
    return PurePosixPath(slug(record.dataset), f"{slug(row)}-{slug(record.key[:12])}.json")


def outcomes_path(path: Path) -> Path:
    """Where the outcomes of the record at `path` are."""
    return path.with_suffix(".npz")


def cell(record: Record) -> tuple[object, ...]:
    """What was run, whatever key it got."""
    names = (record.dataset, record.model, record.defense, record.attack, record.threat, record.protocol)
    return (*names, record.eps, record.seed, record.limit)


def publish(record: Record, outcomes: Outcomes | None, folder: Path) -> Path:
    """Write a record, and the outcomes of one that has scores, under `folder`; returns the record's file.

    An earlier result of the same cell, which has another key, is removed; but a failure removes no scores, and
    the file of these is returned. Raises StoreError where the outcomes are not those of the record, or the record
    would not be read back (a figure that is not finite).
    """
    path, text = folder / place(record), record.pretty()
    read_record(text, path.as_posix())
    content = _packed(record, outcomes)
    earlier = _earlier(record, path)
    scored = [other for other in earlier if outcomes_path(other).is_file()]
    if content is None and scored:
        return scored[0]
    _write_pair(path, text, content)
    with accessing(path.parent):
        for other in earlier:
            other.unlink()
            outcomes_path(other).unlink(missing_ok=True)
    return path


def find(folder: Path) -> list[Path]:
    """The files of all records below `folder`, in an order that is the same everywhere."""
    return sorted(folder.rglob("*.json"), key=lambda path: path.relative_to(folder).as_posix())


def read_published(path: Path) -> Published:
    """The published result at `path`. Raises StoreError, naming the file, for a damaged one."""
    try:
        record = read_record(path.read_bytes(), path.as_posix())
        npz = outcomes_path(path)
        outcomes = unpack(npz.read_bytes(), npz.as_posix()) if npz.is_file() else None
    except (OSError, UnicodeDecodeError) as fault:
        raise StoreError(f"{path.as_posix()} cannot be read: {fault}.") from None
    return Published(record, outcomes, path)


def read_results(folder: Path) -> list[Published]:
    """All published results below `folder`, by path. Raises StoreError for a missing folder or a damaged file."""
    if not folder.is_dir():
        raise StoreError(f"{folder.as_posix()} is no folder; expected one of published results.")
    return [read_published(path) for path in find(folder)]


def slug(text: str) -> str:
    """Text as the name of a file, or the part of one, on every file system."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text)[:LONGEST].strip("-.") or "row"


def _packed(record: Record, outcomes: Outcomes | None) -> bytes | None:
    """What stands beside a record. Raises StoreError where it is not what the record was scored from."""
    if record.status != "ok":
        return None
    if outcomes is None or record.provenance is None:
        raise StoreError(f"record {record.key[:12]} has scores; expected its outcomes and provenance with it.")
    content, stated = pack(outcomes), record.provenance.outcomes_digest
    found = hashlib.sha256(content).hexdigest()
    if found != stated:
        raise StoreError(f"record {record.key[:12]} was scored from outcomes {stated[:12]}; got {found[:12]}.")
    return content


def _write_pair(path: Path, text: bytes, content: bytes | None) -> None:
    """A record and what stands beside it, if anything; no half of a new pair is left where the second cannot be."""
    fresh = not path.is_file()
    try:
        if content is not None:
            write_file(outcomes_path(path), content)
        write_file(path, text)
        if content is None:
            with accessing(path.parent):
                outcomes_path(path).unlink(missing_ok=True)
    except BaseException:
        if fresh:
            with suppress(OSError):
                outcomes_path(path).unlink()
        raise


def _earlier(record: Record, path: Path) -> list[Path]:
    """Other files beside `path` that hold a result of the same cell."""
    row = path.name.removesuffix(f"-{slug(record.key[:12])}.json")
    others = sorted(other for other in path.parent.glob(f"{row}-*.json") if other != path)
    return [other for other in others if cell(read_record(other.read_bytes(), other.as_posix())) == cell(record)]
