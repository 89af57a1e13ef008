"""From outcomes, checks and costs to a record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from platform import python_version
from typing import Literal

import numpy as np
import torch
from msgspec.structs import replace

from ecgbench.checks.cheap import Check
from ecgbench.core.data import Task
from ecgbench.core.interfaces import Attack, Determinism
from ecgbench.evaluation.metrics import summarize
from ecgbench.evaluation.outcomes import spent
from ecgbench.evaluation.sweep import Protocol
from ecgbench.registry.catalog import Catalog
from ecgbench.registry.identity import Identity
from ecgbench.registry.installed import installed_version
from ecgbench.results.record import Cost, Provenance, Record
from ecgbench.runs.cell import Cell
from ecgbench.storage.arrays import unpack
from ecgbench.storage.store import key_of

KINDS = ("dataset", "model", "defense", "attack")


def goes_on(protocol: Protocol, attack: Attack) -> bool:
    """Whether what the attack returns is its best against scores that need more than the prediction, such as the AUROC.

    Not where it stops at its first success, or where the eps of a sample is read from the size of what was found.
    """
    return protocol.goes_on and not attack.stops_at_success and not attack.minimal


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
class CellLabels:
    """A cell in words: canonical selectors by kind, who offers them, sizes, and the eps that decides.

    `determinism` and `libraries` are those of the attack; `goes_on` is that of a record.
    """

    names: dict[str, str]
    plugins: dict[str, str]
    eps: tuple[float, ...]
    headline: float
    physical: bool = False
    seed: int = 0
    limit: int | None = None
    determinism: Determinism = "sample"
    goes_on: bool = False
    libraries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell, catalog: Catalog) -> CellLabels:
        """The cell's words."""
        names = {kind: catalog.canonical(kind, getattr(cell, kind)) for kind in (*KINDS, "threat", "protocol")}
        return cls(
            names=names,
            plugins={kind: catalog.provider(kind, getattr(cell, kind)) for kind in KINDS},
            eps=cell.eps,
            headline=cell.headline,
            physical=cell.threat.unit != "native",
            seed=cell.seed,
            limit=cell.limit,
            determinism=cell.attack.determinism,
            goes_on=goes_on(cell.protocol, cell.attack),
            libraries=cell.attack.libraries,
        )


def score(
    labels: CellLabels,
    task: Task,
    checks: tuple[Check, ...],
    costs: Costs,
    identity: Identity,
    key: str,
    packed: bytes,
) -> Record:
    """The record of a finished cell; `identity` and `packed` are those of its outcomes."""
    outcomes = unpack(packed, "the store")
    summary = summarize(outcomes, task.outputs, skip_unpredicted=task.skip_unpredicted, challenge=task.challenge)
    grouped = outcomes.group[outcomes.group >= 0]
    return replace(
        _frame(labels, "ok", key),
        n=len(outcomes.y),
        groups=len(np.unique(grouped)) if len(grouped) else None,
        classes=task.classes,
        counts={name: int((outcomes.y == label).sum()) for label, name in enumerate(task.classes)},
        unit=str(task.physical) if labels.physical else task.unit,
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
        provenance=_provenance(labels, costs, identity, packed),
    )


def _provenance(labels: CellLabels, costs: Costs, identity: Identity, packed: bytes) -> Provenance:
    return Provenance(
        victim=key_of(identity["victim"]),
        weights=identity["weights"]["victim"],
        checkpoint=costs.checkpoint,
        outcomes=key_of(identity),
        data=identity["victim"]["data"],
        outcomes_digest=hashlib.sha256(packed).hexdigest(),
        versions=versions() | dict(labels.libraries) | costs.versions,
        plugins=labels.plugins,
        identity=identity,
    )


def unscored(labels: CellLabels, status: Literal["failed", "skipped"], why: str) -> Record:
    """The record of a cell that gave no score; its key names the cell alone."""
    sizes = [repr(eps) for eps in labels.eps]
    key = key_of({**labels.names, "eps": sizes, "seed": labels.seed, "limit": labels.limit})
    return replace(_frame(labels, status, key), error=why)


def _frame(labels: CellLabels, status: Literal["ok", "failed", "skipped"], key: str) -> Record:
    """A record that says what was run, and nothing of what came of it."""
    return Record(
        status=status,
        key=key,
        dataset=labels.names["dataset"],
        model=labels.names["model"],
        defense=labels.names["defense"],
        attack=labels.names["attack"],
        determinism=labels.determinism,
        goes_on=labels.goes_on,
        threat=labels.names["threat"],
        protocol=labels.names["protocol"],
        seed=labels.seed,
        limit=labels.limit,
        eps=labels.eps,
        headline=labels.headline,
    )


@cache
def versions() -> dict[str, str]:
    """What may change a number without being part of a key."""
    return {
        "ecgbench": installed_version(),
        "python": python_version(),
        "torch": str(torch.__version__),
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
