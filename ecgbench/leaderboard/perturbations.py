"""Perturbations of a few samples beside published rows, to be looked at: outcomes hold none.

`perturbations/` of a leaderboard has, for a row, a file of the name of its record (.npz). They are what a run saved
(`run --save-perturbations`), never made for the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ecgbench.core.errors import StoreError
from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.results.published import Published, place
from ecgbench.results.record import Record
from ecgbench.storage.arrays import pack_arrays, unpack_arrays
from ecgbench.storage.store import write_file

FOLDER = "perturbations"


def file_of(record: Record, leaderboard: Path) -> Path:
    """Where the perturbations of a row are."""
    return leaderboard / FOLDER / Path(place(record)).with_suffix(".npz")


def write_perturbations(record: Record, kept: Perturbations, leaderboard: Path) -> Path:
    """Put what was saved of a row into a leaderboard."""
    path = file_of(record, leaderboard)
    write_file(path, pack_arrays(kept.arrays()))
    return path


def read_perturbations(record: Record, leaderboard: Path) -> Perturbations | None:
    """What a leaderboard has of a row; None where it has nothing. Raises StoreError for a damaged file."""
    path = file_of(record, leaderboard)
    if not path.is_file():
        return None
    try:
        return Perturbations.from_arrays(unpack_arrays(path.read_bytes()))
    except Exception as fault:  # zip, deflate and npy readers each raise what they like on damaged bytes
        reason = str(fault).strip().removesuffix(".") or type(fault).__name__
        raise StoreError(f"{path.as_posix()} holds no readable perturbations: {reason}.") from None


def faults_of_perturbations(rows: Iterable[Published], leaderboard: Path) -> list[str]:
    """Every file that is damaged, of no row, or not what its row says, a sentence each."""
    faults, known = [], set()
    for row in rows:
        path = file_of(row.record, leaderboard)
        known.add(path)
        try:
            kept = read_perturbations(row.record, leaderboard)
        except StoreError as fault:
            faults.append(str(fault))
            continue
        if kept is not None:
            faults += [f"{path.as_posix()} {reason}; save them again." for reason in _faults(row, kept)]
    every = sorted(path for path in (leaderboard / FOLDER).rglob("*") if path.is_file())
    return faults + [f"{path.as_posix()} is of no row that is here; remove it." for path in every if path not in known]


def _faults(row: Published, kept: Perturbations) -> Iterator[str]:
    """In what perturbations contradict their row's outcomes."""
    made = row.outcomes
    if made is None or row.record.headline not in made.eps:
        yield "stands beside a row without outcomes at its headline eps"
        return
    at = {sample: position for position, sample in enumerate(made.ids.tolist())}
    if len(set(kept.ids.tolist())) != len(kept.ids) or not set(kept.ids.tolist()) <= set(at):
        yield "names samples that the row has not, or one twice"
        return
    rows = np.array([at[sample] for sample in kept.ids.tolist()], np.int64)
    said = [("y", made.y), ("clean", made.clean)]
    if row.record.determinism == "sample":
        said.append(("attacked", made.at(row.record.headline)))
    for name, stated in said:
        if not np.array_equal(getattr(kept, name), stated[rows]):
            yield f"has other labels {name!r} than the row's outcomes"
