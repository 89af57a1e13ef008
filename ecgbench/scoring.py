"""From outcomes, checks and costs to a record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from platform import python_version
from typing import Literal, TypedDict

import numpy as np
import torch
from msgspec.structs import replace

from ecgbench.catalog import Catalog
from ecgbench.cell import Cell, Identity
from ecgbench.checks import Check
from ecgbench.data import Task
from ecgbench.interfaces import Determinism
from ecgbench.metrics import summarize
from ecgbench.outcomes import Outcomes
from ecgbench.record import Cost, Provenance, Record
from ecgbench.store import key_of

KINDS = ("dataset", "model", "defense", "attack")


@dataclass(frozen=True)
class Costs:
    """Seconds that training and attack took when they were made, the published victim used, if any, and precision."""

    train_seconds: float
    attack_seconds: float
    checkpoint: str | None = None
    precision: str | None = None

    @property
    def versions(self) -> dict[str, str]:
        """What of it may change a number without being part of a key."""
        return {} if self.precision is None else {"precision": self.precision}


@dataclass(frozen=True)
class Parts:
    """A cell in words: canonical selectors by kind, who offers them, sizes, and the eps that decides.

    `determinism` and `libraries` are those of the attack.
    """

    names: dict[str, str]
    plugins: dict[str, str]
    epsilons: tuple[float, ...]
    headline: float
    physical: bool = False
    seed: int = 0
    limit: int | None = None
    determinism: Determinism = "sample"
    libraries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell, catalog: Catalog) -> Parts:
        """The cell's words; its headline eps is the dataset's, see `headline`."""
        names = {kind: catalog.canonical(kind, getattr(cell, kind)) for kind in (*KINDS, "threat", "protocol")}
        return cls(
            names=names,
            plugins={kind: catalog.offered_by(kind, getattr(cell, kind)) for kind in KINDS},
            epsilons=cell.epsilons,
            headline=headline(cell),
            physical=cell.threat.unit != "native",
            seed=cell.seed,
            limit=cell.limit,
            determinism=cell.attack.determinism,
            libraries=cell.attack.libraries,
        )


def headline(cell: Cell) -> float:
    """The eps that decides: the dataset's own if the grid has it, else the nearest smaller, else the first.

    For a threat in another norm or unit than the dataset's own, the middle of the grid.
    """
    defaults = cell.dataset.defaults
    if not cell.threat.comparable(defaults.threat):
        return cell.epsilons[len(cell.epsilons) // 2]
    smaller = [eps for eps in cell.epsilons if eps <= defaults.headline]
    return smaller[-1] if smaller else cell.epsilons[0]


def score(
    parts: Parts,
    task: Task,
    outcomes: Outcomes,
    checks: tuple[Check, ...],
    costs: Costs,
    identity: Identity,
    key: str,
    packed: bytes,
) -> Record:
    """The record of a finished cell; `identity` and `packed` are those of its outcomes."""
    summary = summarize(outcomes, task.classes, skip_unpredicted=task.skip_unpredicted, challenge=task.challenge)
    grouped = outcomes.group[outcomes.group >= 0]
    return replace(
        _frame(parts, "ok", key),
        n=len(outcomes.y),
        groups=len(np.unique(grouped)) if len(grouped) else None,
        classes=task.classes,
        counts={name: int((outcomes.y == label).sum()) for label, name in enumerate(task.classes)},
        unit=str(task.physical) if parts.physical else task.unit,
        synthetic=task.synthetic,
        notes=task.notes,
        weighting=task.weighting,
        skip_unpredicted=task.skip_unpredicted,
        challenge=task.challenge,
        scores=summary.scores,
        curve=summary.curve,
        uncertainty=summary.uncertainty,
        checks=checks,
        cost=Cost(
            train_seconds=round(costs.train_seconds, 3),
            attack_seconds=round(costs.attack_seconds, 3),
            **spent(outcomes),
        ),
        provenance=Provenance(
            victim=key_of(identity["victim"]),
            checkpoint=costs.checkpoint,
            outcomes=key_of(identity),
            data=identity["victim"]["data"],
            outcomes_digest=hashlib.sha256(packed).hexdigest(),
            versions=versions() | dict(parts.libraries) | costs.versions,
            plugins=parts.plugins,
            identity=identity,
        ),
    )


class Spent(TypedDict):
    """Answers that an attack asked for; `queries` are forwards per attacked sample."""

    forwards: int
    gradients: int
    queries: float


def spent(outcomes: Outcomes) -> Spent:
    """What the outcomes say of an attack's cost."""
    attacked = int((outcomes.forwards.sum(0) > 0).sum())
    forwards, gradients = (int(part.sum(dtype=np.int64)) for part in (outcomes.forwards, outcomes.gradients))
    return {"forwards": forwards, "gradients": gradients, "queries": round(forwards / attacked, 1) if attacked else 0.0}


def unscored(parts: Parts, status: Literal["failed", "skipped"], why: str) -> Record:
    """The record of a cell that gave no score; its key names the cell alone."""
    sizes = [repr(eps) for eps in parts.epsilons]
    key = key_of({**parts.names, "epsilons": sizes, "seed": parts.seed, "limit": parts.limit})
    return replace(_frame(parts, status, key), error=why)


def _frame(parts: Parts, status: Literal["ok", "failed", "skipped"], key: str) -> Record:
    """A record that says what was run, and nothing of what came of it."""
    return Record(
        status=status,
        key=key,
        dataset=parts.names["dataset"],
        model=parts.names["model"],
        defense=parts.names["defense"],
        attack=parts.names["attack"],
        determinism=parts.determinism,
        threat=parts.names["threat"],
        protocol=parts.names["protocol"],
        seed=parts.seed,
        limit=parts.limit,
        epsilons=parts.epsilons,
        headline=parts.headline,
    )


@cache
def versions() -> dict[str, str]:
    """What may change a number without being part of a key."""
    return {
        "ecgbench": version("ecgbench"),
        "python": python_version(),
        "torch": str(torch.__version__),
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
