"""Perturbations of a published victim that somebody found, whatever with: measured here, they can only lower a figure.

A file is an npz of `victim` (its published name), `threat` (a selector), `ids` (n,) int64 of test samples and `delta`
(n, *shape) float32 in the unit of x; `by` may say who found them. Nothing in it is believed: every sample is perturbed
and asked here, and its size is measured here. A leaderboard keeps the file and what was measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from ecgbench.checks.probe import EFFECT
from ecgbench.core.data import Task
from ecgbench.core.errors import DataError, EcgbenchError, StoreError
from ecgbench.core.random import stream
from ecgbench.core.threat import TOLERANCE, Threat
from ecgbench.core.victim import Victim, chunks, frozen
from ecgbench.leaderboard.check_rows import Rows
from ecgbench.leaderboard.counterexamples import FOLDER, Counterexamples, about, faults_of_counterexamples, kept
from ecgbench.leaderboard.naming import RESULTS
from ecgbench.results.published import Published
from ecgbench.runs.runner import Runner
from ecgbench.runs.zoo import CHECKPOINTS, Card, load_victim, published
from ecgbench.storage.arrays import unpack_arrays
from ecgbench.storage.store import write_file

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


def measure(claim: Claim, runner: Runner, leaderboard: Path) -> Counterexamples:
    """Ask the published victim about every perturbation.

    Raises EcgbenchError where a sample is unknown or named twice, a shape is another one, a value is not finite, or a
    perturbation breaks mask or bounds; DataError where the recordings are not here.
    """
    folder = leaderboard / CHECKPOINTS.name
    _, _, card = published(claim.victim, folder)
    task = runner.task(runner.catalog.resolve("dataset", card.dataset))
    threat = runner.catalog.resolve("threat", claim.threat)
    threat.check(task.physical, task.classes)
    rows = _rows(claim, task)
    victim = frozen(load_victim(claim.victim, folder).to(runner.device), task.outputs)
    adversarial, size = _asked(claim, rows, task, threat, victim, card)
    order = np.argsort(claim.ids[adversarial], kind="stable")
    return Counterexamples(
        victim=claim.victim,
        weights=card.weights,
        dataset=card.dataset,
        threat=runner.catalog.canonical("threat", threat),
        by=claim.by,
        file=claim.digest,
        ids=tuple(claim.ids[adversarial][order].tolist()),
        size=tuple(size[adversarial][order].tolist()),
    )


def keep(found: Counterexamples, file: Path, leaderboard: Path) -> Path:
    """Put the perturbations of `file`, and what was measured of them, among a leaderboard's counterexamples."""
    path = leaderboard / FOLDER / found.place()
    write_file(path.with_suffix(".npz"), file.read_bytes())
    write_file(path, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return path


def measured_again(leaderboard: Path, runner: Runner) -> tuple[list[str], list[str]]:
    """Measure all counterexamples of a leaderboard again: what was found, and every fault, a sentence each.

    For rounding on another processor half a point of the samples may be right here, and one in any case. Where
    recordings are missing, nothing is measured, which is no fault.
    """
    told, faults = [], faults_of_counterexamples(leaderboard)
    for path, stated in {} if faults else kept(leaderboard).items():
        try:
            found = measure(Claim.read(path.with_suffix(".npz")), runner, leaderboard)
        except DataError as missing:
            told.append(f"{path.name}: not measured here. {missing}")
            continue
        except EcgbenchError as refused:
            faults.append(f"{path.as_posix()}: {refused}")
            continue
        contradicted = _contradiction(stated, found)
        if contradicted is None:
            told.append(f"{path.name}: {len(found.ids)} samples, as stated.")
        else:
            faults.append(f"{path.as_posix()} {contradicted}")
    return told, faults


def _contradiction(stated: Counterexamples, found: Counterexamples) -> str | None:
    """In what a file is not what was measured now; None where it is, to rounding."""
    here, there = (dict(zip(one.ids, one.size, strict=True)) for one in (found, stated))
    lost = [sample for sample in there if sample not in here]
    if len(lost) > max(1.0, EFFECT * len(there)):
        return f"states {len(there)} samples, {len(lost)} of which are right here; measure it again."
    smaller = [sample for sample in there if sample in here and not np.isclose(here[sample], there[sample], rtol=1e-4)]
    if smaller:
        size = f"{there[smaller[0]]:g} of sample {smaller[0]}, measured {here[smaller[0]]:g}"
        return f"states another size of {len(smaller)} samples, {size}; measure it again."
    if (stated.weights, stated.dataset, stated.threat) != (found.weights, found.dataset, found.threat):
        return "states another victim, dataset or threat than its perturbations; measure it again."
    return None


def rows_of(found: Counterexamples, leaderboard: Path) -> list[Published]:
    """The scored rows of a leaderboard that these counterexamples are about: of the same weights and threat."""
    rows = Rows.read(leaderboard / RESULTS).published
    return [row for row in rows if row.outcomes is not None and about(row) == (found.weights, found.threat)]


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
    """Which claimed samples are right when clean and adversarial when perturbed, and the size of each perturbation."""
    rng, delta = stream("attack", card.seed), torch.from_numpy(claim.delta)
    adversarial, size = np.zeros(len(rows), np.bool_), np.zeros(len(rows))
    for piece in chunks(torch.arange(len(rows)), task.shape):
        batch = task.test[rows[piece]].to(victim.device)
        moved, goal = delta[piece].to(victim.device), threat.goal(batch.y, task.outputs)
        one = threat.ball(batch, 1.0, task.bounds)
        sizes = (one.size(moved) / one.eps.flatten()).cpu().double().numpy()
        _check_rules(threat, batch, moved, float(sizes.max(initial=0.0)), task)
        clean = victim.predict(batch.x, batch, rng.fold_in("clean"))
        predicted = victim.predict(batch.x + moved, batch, rng.fold_in("verdict"), goal)
        adversarial[piece] = ((clean == batch.y) & goal.eligible & goal.met(predicted)).cpu().numpy()
        size[piece] = sizes
    return adversarial, size


def _check_rules(threat: Threat, batch: Any, delta: torch.Tensor, largest: float, task: Task) -> None:
    """Raises EcgbenchError where a perturbation, whatever its size, breaks the mask or the bounds."""
    inside = threat.ball(batch, max(largest, 1e-30) * (1 + TOLERANCE), task.bounds).contains(delta)
    if not bool(inside.all()):
        sample = int(batch.ids[~inside][0])
        raise EcgbenchError(f"the perturbation of sample {sample} leaves the mask or the bounds of {task.name}.")
