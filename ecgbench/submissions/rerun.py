"""Is a row what its weights and its attack give? Clean predictions of all samples, and the attack on a part of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ecgbench.checks.cheap import SAME, CheapChecks
from ecgbench.checks.flags import BY_EFFECT
from ecgbench.checks.probe import EFFECT
from ecgbench.core.errors import EcgbenchError, StoreError
from ecgbench.core.fingerprint import digest
from ecgbench.core.progress import Checkpoint
from ecgbench.core.victim import chunks
from ecgbench.evaluation.guard import guarded
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep
from ecgbench.results.published import Published
from ecgbench.results.structure import Structure
from ecgbench.runs.cache import Cache, Files
from ecgbench.runs.cell import Cell
from ecgbench.runs.context import CellContext
from ecgbench.runs.runner import Runner
from ecgbench.runs.victims import Victims
from ecgbench.runs.zoo import STAGE, weights_by_card
from ecgbench.storage.store import Store, key_of

SHARE = 0.05  # of the attacked samples are attacked again
FEWEST = 50  # at least, where there are so many
ROUNDING = 0.1  # of a check's threshold, for rounding on another processor
SIGNIFICANT = 0.01  # for attacks that need not give the same twice


@dataclass(frozen=True)
class Rerun:
    """What was found: how many of the `clean` predictions differ beyond rounding, and of `drawn` samples attacked again
    how many are `adversarial` and were stated robust, or are `robust` and were stated adversarial, at any eps.

    `hidden` are flags that are raised here and not stated.
    """

    clean: int
    drawn: int
    adversarial: int = 0
    robust: int = 0
    repeatable: bool = True
    hidden: tuple[str, ...] = ()

    @property
    def fault(self) -> str | None:
        """In what the row is contradicted, one clause; None where it is reproduced.

        An attack whose answer the sample fixes may differ on half a point of the samples, for rounding on another
        processor; any other must not make more stated robust samples adversarial than chance explains.
        """
        if self.clean:
            return f"the weights give other predictions on {self.clean} clean samples"
        if self._differs():
            return f"of {self.drawn} attacked samples {self.differing}"
        return f"the checks {', '.join(self.hidden)} are raised here, and not stated so" if self.hidden else None

    @property
    def differing(self) -> str:
        """How many samples that were attacked again differ, and how, a clause."""
        return f"{self.adversarial} stated robust are adversarial, {self.robust} stated adversarial are robust"

    def _differs(self) -> bool:
        """Whether the samples that were attacked again contradict the row."""
        both = self.adversarial + self.robust
        if self.repeatable:
            return both > EFFECT * self.drawn
        from scipy.stats import binomtest

        return bool(both) and float(binomtest(self.adversarial, both, alternative="greater").pvalue) < SIGNIFICANT


def drawn_rows(structure: Structure, key: str, seed: str) -> NDArray[np.int64]:
    """Which attacked samples of a row are attacked again: known to nobody before `seed` is."""
    meant = np.flatnonzero(structure.meant)
    number = int.from_bytes(hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    count = min(len(meant), max(FEWEST, ceil(SHARE * len(meant))))
    return np.sort(np.random.default_rng(number).permutation(meant)[:count])


def rerun(row: Published, cell: Cell, runner: Runner, weights: Sequence[Store], seed: str) -> Rerun:
    """Run a row again from weights that one of the stores has. Raises StoreError where none has those it names."""
    identity: Mapping[str, Any] = row.record.provenance.identity if row.record.provenance else {}
    with TemporaryDirectory() as place:
        published = Store(Path(place) / "checkpoints")
        for role in ("victim", "surrogate"):
            if identity.get(role) is not None:
                published.put(STAGE, identity[role], victim_files(identity, role, weights))
        cache = Cache(Store(Path(place) / "store"), lambda _: None)
        victims = Victims(cache, runner.recordings, published, runner.device)
        for role, spec in (("victim", cell.victim), ("surrogate", cell.surrogate)):
            if spec is not None and victims.used(spec).weights != identity["weights"][role]:
                raise StoreError(f"the {role} cannot be built here from the data and the words of the row.")
        with CellContext(cell, runner.catalog, victims).at_work() as (sweep, _):
            return _compared(row, sweep, seed)


def victim_files(identity: Mapping[str, Any], role: str, stores: Sequence[Store]) -> Files:
    """The files of a victim of a row.

    Raises StoreError where no store has it, EcgbenchError where it has other weights than the row names.
    """
    key = key_of(identity[role])
    files = next((found for store in stores if (found := store.get(STAGE, key)) is not None), None)
    if files is None:
        raise StoreError(f"the weights of the {role} {key[:12]} are not here.")
    if digest(weights_by_card(files, f"the {role} {key[:12]}")) != identity["weights"][role]:
        raise EcgbenchError(f"the {role} {key[:12]} has other weights than the row names.")
    return files


def _compared(row: Published, sweep: Sweep, seed: str) -> Rerun:
    outcomes, record = row.outcomes, row.record
    if outcomes is None:
        raise StoreError("the row has no outcomes.")
    clean = _differing(sweep, outcomes)
    structure = Structure(outcomes, sweep.threat, sweep.protocol, record.outputs, sweep.attack.minimal)
    rows = drawn_rows(structure, record.key, seed)
    if clean or not len(rows):
        return Rerun(clean, len(rows))
    some = sweep.samples.select(torch.from_numpy(rows))
    part = replace(sweep.task, val=some) if sweep.protocol.split == "val" else replace(sweep.task, test=some)
    again = replace(sweep, task=part).run(Checkpoint()).adversarial
    stated = outcomes.adversarial[:, rows]
    adversarial, robust = (again & ~stated).any(0), (~again & stated).any(0)
    return Rerun(
        clean=0,
        drawn=len(rows),
        adversarial=int(adversarial.sum()),
        robust=int((robust & ~adversarial).sum()),
        repeatable=sweep.attack.determinism == "sample",
        hidden=_hidden(row, sweep, outcomes),
    )


def _hidden(row: Published, sweep: Sweep, outcomes: Outcomes) -> tuple[str, ...]:
    """The cheap checks that are raised here, by more than rounding, and that the row does not state as raised."""
    found = [check for check in CheapChecks(sweep, outcomes, row.record.headline).run() if check.raised]
    beyond = (check for check in found if check.code in BY_EFFECT and check.effect > check.threshold * (1 + ROUNDING))
    codes = {check.code for check in (*beyond, *(check for check in found if check.code not in BY_EFFECT))}
    return tuple(sorted(codes - set(row.record.flags)))


def _differing(sweep: Sweep, outcomes: Outcomes) -> int:
    """How many clean predictions differ where the two largest logits do not agree within rounding."""
    samples, differing = sweep.samples, 0
    for piece in chunks(torch.arange(len(samples)), sweep.task.shape):
        batch = samples[piece].to(sweep.device)
        predicted, _ = sweep.predicted(batch, batch.x, "clean")
        other = (predicted.cpu() != torch.from_numpy(outcomes.clean[piece].astype(np.int64))).nonzero().squeeze(1)
        if len(other):
            rows = batch[other.to(batch.y.device)]
            with guarded(sweep.victim.name):
                logits = sweep.victim.answers(rows.x, rows, sweep.rng.fold_in("clean"))
            first, second = logits.topk(2, dim=1).values.unbind(1)
            differing += int((first - second > SAME * logits.abs().amax(1).clamp_min(1.0)).sum())
    return differing
