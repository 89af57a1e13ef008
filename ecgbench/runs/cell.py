"""One thing to run, and the identity of each of its stages.

A victim is made of data, model, defense and seed; outcomes add attack, threat, eps grid, protocol and subset;
checks and scores come after. Every stage counts its resolved parameters and the digest of the source code it
is made of; no path, host, worker count or time is part of a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ecgbench.core.data import Task
from ecgbench.core.interfaces import Attack, Dataset, Defense, Model, returned
from ecgbench.core.threat import Threat
from ecgbench.evaluation.sweep import STANDARD, Protocol
from ecgbench.registry.identity import Identity, code_digests, identity
from ecgbench.results.record import SCHEMA


@dataclass(frozen=True)
class Cell:
    """dataset x model x defense x attack x threat x eps grid x protocol x seed x limit, as values.

    `audit` asks for the costly checks, too, `save_perturbations` for the perturbations of so many samples.
    """

    dataset: Dataset
    model: Model
    defense: Defense
    attack: Attack
    threat: Threat
    epsilons: tuple[float, ...]
    protocol: Protocol = STANDARD
    seed: int = 0
    limit: int | None = None
    audit: bool = False
    save_perturbations: int = 0

    def unfit(self, task: Task) -> str | None:
        """Why the cell cannot run on its task; every defense that would be trained for it is asked."""
        trained = [one for start in (self.defense, self.attack.surrogate) for one in _line(start)]
        reasons: list[tuple[object, str | None]] = [(self.model, self.model.unfit(task))]
        reasons += [(defense, defense.unfit(task)) for defense in trained]
        reasons.append((self.attack, self.attack.unfit(task, self.threat)))
        return next((returned(one, "unfit", reason, str) for one, reason in reasons if reason is not None), None)


def _line(defense: Defense | None) -> Iterator[Defense]:
    """A defense, the one it starts from, and so on."""
    while defense is not None:
        yield defense
        defense = defense.base


def victim_identity(cell: Cell, defense: Defense, data: str) -> Identity:
    """What a trained victim is made of; `data` is the digest of the dataset's files."""
    base = defense.base
    return {
        "stage": "victim",
        "dataset": identity(cell.dataset),
        "data": data,
        "model": identity(cell.model),
        "defense": identity(defense),
        "base": None if base is None else victim_identity(cell, base, data),
        "seed": cell.seed,
        "sources": code_digests(cell.dataset, cell.model, defense),
    }


def outcomes_identity(cell: Cell, data: str) -> Identity:
    """What the outcomes of an attack are made of."""
    surrogate = cell.attack.surrogate
    return {
        "stage": "outcomes",
        "victim": victim_identity(cell, cell.defense, data),
        "surrogate": None if surrogate is None else victim_identity(cell, surrogate, data),
        "attack": identity(cell.attack),
        "threat": identity(cell.threat),
        "epsilons": [repr(eps) for eps in cell.epsilons],
        "protocol": identity(cell.protocol),
        "limit": cell.limit,
        "sources": code_digests(cell.attack, extra=("ecgbench.evaluation.sweep",)),
    }


def checks_identity(cell: Cell, outcomes: str, headline: float) -> Identity:
    """What the checks of a row are made of; `outcomes` is the key of what they look at."""
    return {
        "stage": "checks",
        "outcomes": outcomes,
        "headline": repr(headline),
        "sources": code_digests(extra=("ecgbench.checks.cheap",)),
    }


def audit_identity(outcomes: str, headline: float, twin: Identity | None) -> Identity:
    """What the costly checks of a row are made of; `twin` is the undefended victim they compare with."""
    return {
        "stage": "audit",
        "outcomes": outcomes,
        "headline": repr(headline),
        "twin": twin,
        "sources": code_digests(extra=("ecgbench.checks.audit",)),
    }


def perturbations_identity(outcomes: str, headline: float, n: int) -> Identity:
    """What the kept perturbations of a row are made of; `outcomes` is the key of the row's outcomes."""
    return {
        "stage": "perturbations",
        "outcomes": outcomes,
        "headline": repr(headline),
        "n": n,
        "sources": code_digests(extra=("ecgbench.evaluation.perturbations",)),
    }


def record_identity(outcomes: str, checks: Sequence[str]) -> Identity:
    """What a record is made of: its outcomes, its checks (cheap, and costly if made) and the code of the scores."""
    return {
        "stage": "record",
        "schema": SCHEMA,
        "outcomes": outcomes,
        "checks": list(checks),
        "sources": code_digests(extra=("ecgbench.evaluation.metrics",)),
    }
