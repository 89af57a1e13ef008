"""A submission is a leaderboard in miniature: `results/` and, beside it, the victims in `checkpoints/`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ecgbench.core.dataroot import digest
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Dataset
from ecgbench.leaderboard.naming import RESULTS
from ecgbench.results.files import irregular
from ecgbench.results.kept import kept_record
from ecgbench.results.published import publish
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.job import AXES, CellJob
from ecgbench.runs.runner import Runner
from ecgbench.runs.zoo import CARD, CHECKPOINTS, STAGE, WEIGHTS, Card
from ecgbench.storage.store import MANIFEST, Store

VICTIM_FILES = {MANIFEST: 1 << 20, CARD: 1 << 20, "cost.json": 1 << 20, WEIGHTS: 1 << 29}
"""Bytes of the largest file of a victim, by its name."""
BESIDE = ("README.md", "LICENSE", "datasets")
"""What else may lie in a submission; nothing of it is read."""
LARGEST_BESIDE = 1 << 20


def pack(runner: Runner, keys: Sequence[str], folder: Path) -> list[Record]:
    """Put kept records into a submission, with their outcomes and the victims that were trained here.

    `keys` begin the keys of records. Raises EcgbenchError where one begins none, or several, and for one without
    scores.
    """
    records = [kept_record(runner.store, key) for key in keys]
    for record in records:
        if record.provenance is None:
            raise EcgbenchError(f"record {record.key[:12]} is {record.status}; expected one with scores.")
        outcomes = runner.outcomes_of(record)
        if outcomes is None:
            raise EcgbenchError(f"the outcomes of record {record.key[:12]} are no longer kept; run its cell again.")
        publish(record, outcomes, folder / RESULTS)
        _publish_victims(record, runner, Store(folder / CHECKPOINTS.name))
    return records


def cell_of(record: Record, runner: Runner) -> Cell:
    """The cell that a record is the result of. Raises EcgbenchError where its words are not known here."""
    words = {kind: getattr(record, kind) for kind in AXES}
    return CellJob(**words, eps=record.eps, seed=record.seed, limit=record.limit).cell(runner.catalog)


def submission_digest(folder: Path) -> str:
    """One digest of all files of a submission, by their names."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return digest(files)


def misplaced(folder: Path) -> list[str]:
    """Everything that has no place in a submission, or is no regular file of a sane size, a sentence each."""
    if not (folder / RESULTS).is_dir():
        return [f"{folder.as_posix()} has no folder {RESULTS}; expected what `ecgbench submit pack` makes."]
    top = sorted(os.scandir(folder), key=lambda entry: entry.name)
    faults = [fault for entry in top for fault in _of_entry(entry)]
    faults += irregular(folder / RESULTS).values()
    victims = folder / CHECKPOINTS.name / STAGE
    return faults + [fault for path in sorted(victims.glob("*")) for fault in _of_victim(path)]


def _of_entry(entry: os.DirEntry[str]) -> Iterator[str]:
    place = Path(entry.path).as_posix()
    if entry.is_symlink() or entry.name not in (RESULTS, CHECKPOINTS.name, *BESIDE):
        yield f"{place} has no place here; expected {RESULTS}, {CHECKPOINTS.name}, {', '.join(BESIDE)}."
    elif entry.name == CHECKPOINTS.name:
        for path in sorted(Path(entry.path).iterdir()):
            left = path.is_dir() and not any(path.iterdir())  # by the store, where it writes
            if path.is_symlink() or (path.name != STAGE and not left):
                yield f"{path.as_posix()} has no place here; expected {STAGE}."
    elif entry.name in BESIDE:
        paths = [Path(entry.path), *Path(entry.path).rglob("*")]
        odd = [path for path in paths if path.is_symlink() or not (path.is_dir() or _is_small(path, LARGEST_BESIDE))]
        yield from (f"{path.as_posix()} is no regular file of at most {LARGEST_BESIDE} bytes." for path in odd)


def _of_victim(folder: Path) -> Iterator[str]:
    if folder.is_symlink() or not folder.is_dir():
        yield f"{folder.as_posix()} is no folder of a victim."
        return
    for path in sorted(folder.iterdir()):
        limit = VICTIM_FILES.get(path.name)
        if limit is None or not _is_small(path, limit):
            names = ", ".join(VICTIM_FILES)
            yield f"{path.as_posix()} has no place here, or is too large; expected regular files {names}."


def _is_small(path: Path, limit: int) -> bool:
    status = path.stat(follow_symlinks=False)
    return stat.S_ISREG(status.st_mode) and status.st_size <= limit


def _publish_victims(record: Record, runner: Runner, checkpoints: Store) -> None:
    """The victim of a record, and the one that its attack borrowed, where they were trained here."""
    runner.publish_victim(record, checkpoints)
    identity = record.provenance.identity if record.provenance else {}
    surrogate = cell_of(record, runner).surrogate
    if surrogate is not None:
        dataset: Dataset = surrogate.dataset
        defense = runner.catalog.canonical("defense", surrogate.defense)
        words = msgspec.structs.asdict(record) | {"defense": defense}
        card = Card.of(words, runner.task(dataset), str(identity["weights"]["surrogate"]))
        runner.victims.publish(identity["surrogate"], card, checkpoints)
