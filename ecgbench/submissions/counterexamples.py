"""Perturbations of a published victim that somebody found, whatever with: measured here, they can only lower a figure.

A file is an npz of `victim` (its published name), `threat` (a selector), `ids` (n,) int64 of test samples and `delta`
(n, *shape) float32 in the unit of x; `by` may say who found them. Nothing in it is believed: every sample is perturbed
and asked here, and its size is measured here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from ecgbench.core.data import Task
from ecgbench.core.errors import EcgbenchError, StoreError
from ecgbench.core.random import stream
from ecgbench.core.threat import TOLERANCE, Threat
from ecgbench.core.victim import Victim, chunks, frozen
from ecgbench.leaderboard.check_rows import RESULTS, Rows
from ecgbench.results.published import Published, slug
from ecgbench.runs.runner import Runner
from ecgbench.runs.zoo import Card, load_victim, published
from ecgbench.storage.arrays import unpack_arrays
from ecgbench.storage.store import write_file

FOLDER = "counterexamples"
LARGEST = 1 << 28
"""Bytes of the largest file."""


@dataclass(frozen=True)
class Claim:
    """A file as it was read; `digest` is that of its bytes."""

    victim: str
    threat: str
    ids: NDArray[np.int64]
    delta: NDArray[np.float32]
    by: str
    digest: str

    @classmethod
    def read(cls, path: Path) -> Claim:
        """Raises StoreError, naming the fault, for a file that is none."""
        try:
            if path.stat().st_size > LARGEST:
                raise StoreError(f"it has more than {LARGEST} bytes")
            content = path.read_bytes()
            arrays = unpack_arrays(content)
            names = {name: str(arrays[name].item()) for name in ("victim", "threat")}
            by = str(arrays["by"].item()) if "by" in arrays else ""
            ids: Any = arrays["ids"]
            delta: Any = arrays["delta"]
        except Exception as fault:  # zip, deflate and npy readers each raise what they like on damaged bytes
            reason = str(fault).strip().removesuffix(".") or type(fault).__name__
            raise StoreError(f"{path.as_posix()} holds no readable counterexamples: {reason}.") from None
        if ids.dtype != np.int64 or ids.ndim != 1 or delta.dtype != np.float32 or len(delta) != len(ids):
            got = f"ids {ids.dtype} {ids.shape}, delta {delta.dtype} {delta.shape}"
            raise StoreError(f"{path.as_posix()}: {got}; expected ids int64 (n,) and delta float32 (n, *shape).")
        return cls(**names, ids=ids, delta=delta, by=by, digest=hashlib.sha256(content).hexdigest())


class Counterexamples(Struct, frozen=True, kw_only=True):
    """What was measured: test samples that are right when clean and fall, and the size of what makes each of them fall.

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


@dataclass(frozen=True)
class BestKnown:
    """Accuracy of a row at each eps, and what the attacks of its board and all counterexamples leave of it together."""

    row: Published
    eps: tuple[float, ...]
    stated: tuple[float, ...]
    known: tuple[float, ...]


def measure(claim: Claim, runner: Runner, leaderboard: Path) -> Counterexamples:
    """Ask the published victim about every perturbation.

    Raises EcgbenchError where a sample is unknown or named twice, a shape is another one, a value is not finite, or a
    perturbation breaks mask or bounds; DataError where the recordings are not here.
    """
    folder = leaderboard / "checkpoints"
    _, _, card = published(claim.victim, folder)
    task = runner.task(runner.catalog.resolve("dataset", card.dataset))
    threat = runner.catalog.resolve("threat", claim.threat)
    threat.check(task.physical, task.classes)
    rows = _rows(claim, task)
    victim = frozen(load_victim(claim.victim, folder).to(runner.device), task.outputs)
    fell, size = _asked(claim, rows, task, threat, victim, card)
    order = np.argsort(claim.ids[fell], kind="stable")
    return Counterexamples(
        victim=claim.victim,
        weights=card.weights,
        dataset=card.dataset,
        threat=runner.catalog.canonical("threat", threat),
        by=claim.by,
        file=claim.digest,
        ids=tuple(claim.ids[fell][order].tolist()),
        size=tuple(size[fell][order].tolist()),
    )


def keep(found: Counterexamples, leaderboard: Path) -> Path:
    """Put what was measured among a leaderboard's counterexamples."""
    path = leaderboard / FOLDER / found.place()
    write_file(path, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return path


def kept(leaderboard: Path) -> list[Counterexamples]:
    """All counterexamples of a leaderboard. Raises StoreError for a damaged file."""
    found = []
    for path in sorted((leaderboard / FOLDER).glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Counterexamples))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as fault:
            raise StoreError(f"{path.as_posix()} is no file of counterexamples: {fault}.") from None
    return found


def rows_of(found: Counterexamples, leaderboard: Path) -> list[Published]:
    """The scored rows of a leaderboard that these counterexamples are about: of the same weights and threat."""
    rows = Rows.read(leaderboard / RESULTS).published
    return [row for row in rows if row.outcomes is not None and _about(row) == (found.weights, found.threat)]


def best_known(row: Published, others: Sequence[Published], found: Sequence[Counterexamples]) -> BestKnown:
    """What is known of a victim on the samples of one row: never above what the row states.

    A sample is wrong at an eps if it is so in the row, or in another row of the same victim, threat and samples at that
    eps, or if a counterexample no larger than it makes it fall.
    """
    made = row.outcomes
    if made is None:
        raise EcgbenchError("a row without outcomes is given; expected one with scores.")
    own = [one for one in found if _about(row) == (one.weights, one.threat)]
    alike = [other.outcomes for other in others if other.outcomes is not None and _about(other) == _about(row)]
    same = [other for other in alike if np.array_equal(other.ids, made.ids)]
    smallest = _smallest(made.ids, own)
    weight = made.weight.astype(np.float64) / made.weight.sum(dtype=np.float64)
    stated, known = [], []
    for eps in made.eps.tolist():
        wrong = made.at(eps) != made.y
        stated.append(float(weight[~wrong].sum()))
        for other in same:
            if eps in other.eps:
                wrong = wrong | (other.at(eps) != made.y)
        wrong = wrong | (smallest <= eps * (1 + TOLERANCE))
        known.append(float(weight[~wrong].sum()))
    return BestKnown(row, tuple(made.eps.tolist()), tuple(stated), tuple(known))


def _about(row: Published) -> tuple[str | None, str]:
    made = row.record.provenance
    return None if made is None else made.weights, row.record.threat


def _smallest(ids: NDArray[np.int64], found: Sequence[Counterexamples]) -> NDArray[np.float64]:
    """The size of the smallest counterexample of each sample, infinite where there is none."""
    by_id: dict[int, float] = {}
    for one in found:
        for sample, size in zip(one.ids, one.size, strict=True):
            by_id[sample] = min(size, by_id.get(sample, np.inf))
    return np.array([by_id.get(sample, np.inf) for sample in ids.tolist()])


def _rows(claim: Claim, task: Task) -> torch.Tensor:
    """The place of every claimed sample in the test split. Raises EcgbenchError for one that is unknown or repeated."""
    if claim.delta.shape[1:] != task.shape:
        raise EcgbenchError(f"delta of shape {claim.delta.shape[1:]} is given; expected {task.shape}.")
    if not np.isfinite(claim.delta).all():
        raise EcgbenchError("delta holds a value that is not finite; expected numbers.")
    if len(np.unique(claim.ids)) != len(claim.ids):
        raise EcgbenchError("an id stands twice; expected one perturbation of each sample.")
    places: Mapping[int, int] = {sample: at for at, sample in enumerate(task.test.ids.tolist())}
    unknown = [sample for sample in claim.ids.tolist() if sample not in places]
    if unknown:
        raise EcgbenchError(f"sample {unknown[0]} is no test sample of {task.name}.")
    return torch.tensor([places[sample] for sample in claim.ids.tolist()], dtype=torch.int64)


def _asked(
    claim: Claim, rows: torch.Tensor, task: Task, threat: Threat, victim: Victim, card: Card
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which claimed samples are right when clean and fall, and the size of every perturbation in the threat's unit."""
    rng, delta = stream("attack", card.seed), torch.from_numpy(claim.delta)
    fell, size = np.zeros(len(rows), np.bool_), np.zeros(len(rows))
    for piece in chunks(torch.arange(len(rows)), task.shape):
        batch = task.test[rows[piece]].to(victim.device)
        moved, goal = delta[piece].to(victim.device), threat.goal(batch.y, task.outputs)
        one = threat.ball(batch, 1.0, task.bounds)
        sizes = (one.size(moved) / one.eps.flatten()).cpu().double().numpy()
        _check_rules(threat, batch, moved, float(sizes.max(initial=0.0)), task)
        clean = victim.predict(batch.x, batch, rng.fold_in("clean"))
        predicted = victim.predict(batch.x + moved, batch, rng.fold_in("verdict"), goal)
        fell[piece] = ((clean == batch.y) & goal.eligible & goal.met(predicted)).cpu().numpy()
        size[piece] = sizes
    return fell, size


def _check_rules(threat: Threat, batch: Any, delta: torch.Tensor, largest: float, task: Task) -> None:
    """Raises EcgbenchError where a perturbation, whatever its size, breaks the mask or the bounds."""
    inside = threat.ball(batch, max(largest, 1e-30) * (1 + TOLERANCE), task.bounds).contains(delta)
    if not bool(inside.all()):
        sample = int(batch.ids[~inside][0])
        raise EcgbenchError(f"the perturbation of sample {sample} leaves the mask or the bounds of {task.name}.")
