"""Counterexamples to published victims: what all attacks of a board and all counterexamples leave, "best known".

`counterexamples/` of a leaderboard holds two files for each: the perturbations as somebody gave them (.npz), and what
was measured of them (.json), from which pages are made. CI measures them again, see `submissions.counterexamples`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from ecgbench.core.errors import StoreError
from ecgbench.core.threat import TOLERANCE
from ecgbench.results.published import Published, slug
from ecgbench.runs.zoo import CHECKPOINTS, cards

FOLDER = "counterexamples"


class Counterexamples(Struct, frozen=True, kw_only=True):
    """What was measured: test samples that are right when clean and adversarial when perturbed, and by how much.

    `weights` are the digest of the victim's; `size` is in the unit of the threat; `file` is the digest of the file.
    """

    victim: str
    weights: str
    dataset: str
    threat: str
    by: str
    file: str
    ids: tuple[int, ...]
    size: tuple[float, ...]

    def place(self) -> str:
        """The name of its file among the counterexamples of a leaderboard."""
        return f"{slug(self.victim)}-{slug(self.threat)}-{self.file[:12]}.json"


def kept(leaderboard: Path) -> dict[Path, Counterexamples]:
    """All counterexamples of a leaderboard by their files. Raises StoreError for a damaged one."""
    found = {}
    for path in sorted((leaderboard / FOLDER).glob("*.json")):
        try:
            one = msgspec.json.decode(path.read_bytes(), type=Counterexamples)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as fault:
            raise StoreError(f"{path.as_posix()} is no file of counterexamples: {fault}.") from None
        if not len(set(one.ids)) == len(one.ids) == len(one.size) or not all(size > 0 for size in one.size):
            got = f"{path.as_posix()} has {len(one.ids)} ids and {len(one.size)} sizes"
            raise StoreError(f"{got}; expected unique ids, each with a size above 0.")
        found[path] = one
    return found


def with_best_known(rows: Sequence[Published], leaderboard: Path) -> list[Published]:
    """The rows with what is best known of their victims. Raises StoreError for a damaged file."""
    found = list(kept(leaderboard).values())
    return [replace(row, best_known=best_known(row, rows, found)) for row in rows]


def best_known(row: Published, others: Sequence[Published], found: Sequence[Counterexamples]) -> dict[float, float]:
    """By eps the accuracy that is left of a row's victim on the row's samples; never above what the row states.

    A sample is wrong at an eps if it is so in the row, or in another row of the same victim, threat and samples at that
    eps, or if a counterexample no larger than it is adversarial. Empty where no counterexample is about the victim.
    """
    own, made = [one for one in found if about(row) == (one.weights, one.threat)], row.outcomes
    if not own or made is None:
        return {}
    alike = [other.outcomes for other in others if other.outcomes is not None and about(other) == about(row)]
    same = [other for other in alike if np.array_equal(other.ids, made.ids)]
    smallest = _smallest(made.ids, own)
    weight = made.weight.astype(np.float64)
    left = {}
    for eps in made.eps.tolist():
        wrong = [run.at(eps) != run.y for run in (made, *same) if eps in run.eps]
        wrong.append(smallest <= eps * (1 + TOLERANCE))
        right = ~np.logical_or.reduce(wrong)
        left[eps] = float(weight[right].sum() / weight.sum())
    return left


def about(row: Published) -> tuple[str | None, str]:
    """Digest of the weights, and threat: what counterexamples share with the rows that they are about."""
    made = row.record.provenance
    return None if made is None else made.weights, row.record.threat


def faults_of_counterexamples(leaderboard: Path) -> list[str]:
    """Everything wrong with the counterexamples of a leaderboard that can be seen without its victims, each a sentence.

    Whether they are what was measured, `measured_again` of `submissions` says.
    """
    try:
        every = kept(leaderboard)
        weights = {card.weights for _, card in cards(leaderboard / CHECKPOINTS.name).values()} if every else set()
    except StoreError as fault:
        return [str(fault)]
    faults = [fault for path, found in every.items() for fault in _faults(path, found, weights)]
    known = {path.with_suffix(".npz") for path in every} | set(every)
    strays = [path for path in sorted((leaderboard / FOLDER).glob("*")) if path not in known]
    return faults + [f"{path.as_posix()} is no counterexample that was measured; keep or remove it." for path in strays]


def _faults(path: Path, found: Counterexamples, weights: set[str]) -> Iterator[str]:
    where = path.as_posix()
    if path.name != found.place():
        yield f"{where} is not where it belongs; expected {found.place()}."
    if found.weights not in weights:
        yield f"{where} is about weights {found.weights[:12]}, which no published victim has."
    file = path.with_suffix(".npz")
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != found.file:
        yield f"{file.as_posix()} is missing or another file; expected the perturbations of {found.file[:12]}."


def _smallest(ids: NDArray[np.int64], found: Sequence[Counterexamples]) -> NDArray[np.float64]:
    """The size of the smallest counterexample of each sample, infinite where there is none."""
    by_id: dict[int, float] = {}
    for one in found:
        for sample, size in zip(one.ids, one.size, strict=True):
            by_id[sample] = min(size, by_id.get(sample, np.inf))
    return np.array([by_id.get(sample, np.inf) for sample in ids.tolist()])
