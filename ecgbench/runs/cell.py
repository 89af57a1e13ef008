"""One thing to run, and the identity of each of its stages.

A victim is made of data, model, defense and seed; outcomes add attack, threat, eps grid, protocol and subset;
checks and scores come after. Every stage counts its resolved parameters and the digest of the source code it
is made of; no path, host, worker count or time is part of a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ecgbench.core.data import Task
from ecgbench.core.interfaces import Attack, Dataset, Defaults, Defense, Model, returned
from ecgbench.core.threat import Threat
from ecgbench.evaluation.sweep import STANDARD, Protocol
from ecgbench.registry.identity import Identity, code_digests, identity
from ecgbench.results.record import SCHEMA


@dataclass(frozen=True)
class VictimSpec:
    """What a victim is trained from, as values."""

    dataset: Dataset
    model: Model
    defense: Defense
    seed: int = 0

    @property
    def base(self) -> VictimSpec | None:
        """The victim whose weights the training starts from."""
        return None if self.defense.base is None else replace(self, defense=self.defense.base)


@dataclass(frozen=True)
class AttackSetup:
    """How a victim is attacked, and what is looked at afterwards; `headline` is the one of `eps` that decides."""

    attack: Attack
    threat: Threat
    eps: tuple[float, ...]
    headline: float
    protocol: Protocol = STANDARD
    seed: int = 0
    limit: int | None = None
    audit: bool = False
    save_perturbations: int = 0


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
    eps: tuple[float, ...]
    protocol: Protocol = STANDARD
    seed: int = 0
    limit: int | None = None
    audit: bool = False
    save_perturbations: int = 0

    @property
    def victim(self) -> VictimSpec:
        """The victim that is attacked."""
        return VictimSpec(self.dataset, self.model, self.defense, self.seed)

    @property
    def surrogate(self) -> VictimSpec | None:
        """The second victim that the attack asks for."""
        source = self.attack.surrogate
        return None if source is None else replace(self.victim, defense=source)

    @property
    def headline(self) -> float:
        """The eps that decides, see `headline_of`."""
        return headline_of(self.dataset.defaults, self.threat, self.eps)

    @property
    def setup(self) -> AttackSetup:
        """The cell without its victim."""
        return AttackSetup(
            attack=self.attack,
            threat=self.threat,
            eps=self.eps,
            headline=self.headline,
            protocol=self.protocol,
            seed=self.seed,
            limit=self.limit,
            audit=self.audit,
            save_perturbations=self.save_perturbations,
        )

    def unfit(self, task: Task) -> str | None:
        """Why the cell cannot run on its task; every defense that would be trained for it is asked."""
        trained = [one for start in (self.defense, self.attack.surrogate) for one in _line(start)]
        reasons: list[tuple[object, str | None]] = [(self.model, self.model.unfit(task))]
        reasons += [(defense, defense.unfit(task)) for defense in trained]
        reasons.append((self.attack, self.attack.unfit(task, self.threat)))
        return next((returned(one, "unfit", reason, str) for one, reason in reasons if reason is not None), None)


def headline_of(defaults: Defaults, threat: Threat, eps: Sequence[float]) -> float:
    """The eps of a grid that decides: the dataset's own if the grid has it, else the nearest smaller, else the first.

    For a threat in another norm or unit than the dataset's own, the middle of the grid.
    """
    if not threat.comparable(defaults.threat):
        return eps[len(eps) // 2]
    smaller = [one for one in eps if one <= defaults.headline]
    return smaller[-1] if smaller else eps[0]


def _line(defense: Defense | None) -> Iterator[Defense]:
    """A defense, the one it starts from, and so on."""
    while defense is not None:
        yield defense
        defense = defense.base


def victim_identity(victim: VictimSpec, data: str) -> Identity:
    """What a trained victim is made of; `data` is the digest of the dataset's files."""
    return {
        "stage": "victim",
        "dataset": identity(victim.dataset),
        "data": data,
        "model": identity(victim.model),
        "defense": identity(victim.defense),
        "base": None if victim.base is None else victim_identity(victim.base, data),
        "seed": victim.seed,
        "sources": code_digests(victim.dataset, victim.model, victim.defense),
    }


@dataclass(frozen=True)
class VictimIdentity:
    """What a victim is made of, and the digest of its weights: training need not give the same twice.

    `weights` is None for a victim that is still to be trained; what is made with it has no key yet.
    """

    made_of: Identity
    weights: str | None


def outcomes_identity(
    setup: AttackSetup, attack: Any, victim: VictimIdentity, surrogate: VictimIdentity | None
) -> Identity:
    """What the outcomes of an attack are made of: its own identity, and those of its victims."""
    attacked = {"victim": victim} | ({} if surrogate is None else {"surrogate": surrogate})
    return {
        "stage": "outcomes",
        "victim": victim.made_of,
        "surrogate": None if surrogate is None else surrogate.made_of,
        "weights": {role: one.weights for role, one in attacked.items()},
        "attack": attack,
        "threat": identity(setup.threat),
        "eps": [repr(eps) for eps in setup.eps],
        "protocol": identity(setup.protocol),
        "limit": setup.limit,
        "sources": code_digests(setup.attack, extra=("ecgbench.evaluation.sweep",)),
    }


def checks_identity(outcomes: str, headline: float) -> Identity:
    """What the checks of a row are made of; `outcomes` is the key of what they look at."""
    return {
        "stage": "checks",
        "outcomes": outcomes,
        "headline": repr(headline),
        "sources": code_digests(extra=("ecgbench.checks.cheap",)),
    }


def audit_identity(outcomes: str, headline: float, undefended: VictimIdentity | None) -> Identity:
    """What the costly checks of a row are made of; `undefended` is the undefended victim they compare with."""
    other = None if undefended is None else {"victim": undefended.made_of, "weights": undefended.weights}
    return {
        "stage": "audit",
        "outcomes": outcomes,
        "headline": repr(headline),
        "twin": other,  # another word would change the keys of kept audits
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
