"""The stages of a result, one row each: what it is made of, what it needs first, and how it is made.

Each stage has a key of its own, so an edited metric scores again without attacking, and an edited attack attacks again
without training. A plan, a run, `explain` and `evaluate` go through the same rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ecgbench.checks.audit import Audit
from ecgbench.checks.cheap import CheapChecks, Check
from ecgbench.core.data import Task
from ecgbench.core.victim import Victim
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.perturbations import find_perturbations
from ecgbench.evaluation.sweep import Sweep
from ecgbench.registry.identity import Identity
from ecgbench.runs.cache import Files, Kept
from ecgbench.runs.cell import (
    AttackSetup,
    VictimIdentity,
    audit_identity,
    checks_identity,
    outcomes_identity,
    perturbations_identity,
    record_identity,
)
from ecgbench.runs.scoring import CellLabels, Costs, score
from ecgbench.runs.victims import Trained
from ecgbench.storage.arrays import pack, pack_arrays, unpack
from ecgbench.storage.store import TimedCheckpoint, key_of


@dataclass(frozen=True)
class MadeOf:
    """What the identities of all stages follow from: how is attacked, and the identities of attack and victims.

    `undefended` is the undefended victim that an audit compares with.
    """

    setup: AttackSetup
    attack: Any
    victim: VictimIdentity
    surrogate: VictimIdentity | None = None
    undefended: VictimIdentity | None = None


class Context(ABC):
    """What the stages of one cell are made with. `identities` hold the stages that the cell has, by name."""

    @property
    @abstractmethod
    def setup(self) -> AttackSetup:
        """How the victim is attacked."""

    @property
    @abstractmethod
    def labels(self) -> CellLabels:
        """The cell in words."""

    @property
    @abstractmethod
    def task(self) -> Task:
        """The task with the samples that the attack meets."""

    @property
    @abstractmethod
    def identities(self) -> Mapping[str, Identity]:
        """What each stage is made of, by its name."""

    @abstractmethod
    def has_victim(self) -> bool:
        """Whether no training is needed."""

    @abstractmethod
    def at_work(self) -> AbstractContextManager[tuple[Sweep, Trained]]:
        """The attack, ready to run, and its victim, trained if need be.

        Raises ContractError where a plugin leaves something changed.
        """

    @abstractmethod
    def undefended(self) -> Victim | None:
        """The undefended victim that an audit compares with; None where there is none."""


@dataclass(frozen=True)
class Stage:
    """A row of the table. `name` is its folder in the store, `files` what is kept there, `inputs` stages it needs.

    `work` says what making it is called in a plan, `result` what the result of this work is called. `make` gets the
    files of the inputs that the cell has; without `make`, the context makes the result where it is first needed.
    """

    name: str
    work: str
    result: str
    files: tuple[str, ...]
    inputs: tuple[str, ...]
    identity: Callable[[MadeOf, Mapping[str, str]], Identity]
    make: Callable[[Context, Mapping[str, Files], TimedCheckpoint], Files] | None
    wanted: Callable[[AttackSetup], bool] = lambda _: True


def identities(made_of: MadeOf) -> dict[str, Identity]:
    """What each wanted stage is made of, by its name."""
    found: dict[str, Identity] = {}
    for stage in STAGES.values():
        if stage.wanted(made_of.setup):
            found[stage.name] = stage.identity(made_of, {name: key_of(identity) for name, identity in found.items()})
    return found


@dataclass(frozen=True)
class Walk:
    """The stages of one cell, found or made, each looked up once."""

    context: Context
    kept: Kept
    _files: dict[str, Files] = field(default_factory=dict, repr=False)

    def find(self, name: str) -> Files | None:
        """The kept files of a stage; None where it is missing."""
        if name not in self._files:
            files = self.kept.get(name, self.context.identities[name])
            if files is None:
                return None
            self._files[name] = files
        return self._files[name]

    def files(self, name: str) -> Files:
        """The files of a stage, found or made, its inputs first."""
        found, stage = self.find(name), STAGES[name]
        if found is None and stage.make is not None:
            make, needed = stage.make, {each: self.files(each) for each in self._inputs(stage) if STAGES[each].make}
            found = self.kept.get_or_make(
                name, self.context.identities[name], lambda checkpoint: make(self.context, needed, checkpoint)
            )
            self._files[name] = found
        return found or {}

    def missing(self, name: str) -> Iterator[Stage]:
        """The stages that would be made on the way to one, in order."""
        stage = STAGES[name]
        if self.context.has_victim() if stage.make is None else self.kept.has(name, self.context.identities[name]):
            return
        for each in self._inputs(stage):
            yield from self.missing(each)
        yield stage

    def _inputs(self, stage: Stage) -> list[str]:
        return [name for name in stage.inputs if name in self.context.identities]


def _attack(context: Context, _: Mapping[str, Files], checkpoint: TimedCheckpoint) -> Files:
    with context.at_work() as (sweep, trained):
        checkpoint.start()
        outcomes = sweep.run(checkpoint)
    costs = Costs(trained.seconds, checkpoint.seconds, trained.checkpoint, trained.precision)
    return {"outcomes.npz": pack(outcomes), "cost.json": msgspec.json.encode(costs)}


def _check(context: Context, inputs: Mapping[str, Files], _: TimedCheckpoint) -> Files:
    with context.at_work() as (sweep, _trained):
        checks = CheapChecks(sweep, _outcomes(inputs), context.setup.headline).run()
    return {"checks.json": msgspec.json.encode(checks)}


def _audit(context: Context, inputs: Mapping[str, Files], _: TimedCheckpoint) -> Files:
    with context.at_work() as (sweep, _trained):
        checks = Audit(sweep, _outcomes(inputs), context.setup.headline, context.undefended()).run()
    return {"audit.json": msgspec.json.encode(checks)}


def _perturb(context: Context, inputs: Mapping[str, Files], _: TimedCheckpoint) -> Files:
    setup = context.setup
    with context.at_work() as (sweep, _trained):
        found = find_perturbations(sweep, _outcomes(inputs), setup.headline, setup.save_perturbations)
    return {"perturbations.npz": pack_arrays(found.arrays())}


def _score(context: Context, inputs: Mapping[str, Files], _: TimedCheckpoint) -> Files:
    looks = [inputs["checks"]["checks.json"], *([inputs["audits"]["audit.json"]] if "audits" in inputs else [])]
    record = score(
        context.labels,
        context.task,
        tuple(check for look in looks for check in msgspec.json.decode(look, type=tuple[Check, ...])),
        msgspec.json.decode(inputs["outcomes"]["cost.json"], type=Costs),
        identity=context.identities["outcomes"],
        key=key_of(context.identities["records"]),
        packed=inputs["outcomes"]["outcomes.npz"],
    )
    return {"record.json": record.json()}


def _outcomes(inputs: Mapping[str, Files]) -> Outcomes:
    return unpack(inputs["outcomes"]["outcomes.npz"], "the store")


def _looks(keys: Mapping[str, str]) -> list[str]:
    return [keys[name] for name in ("checks", "audits") if name in keys]


STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            name="victims",
            work="train",
            result="victim",
            files=("weights.safetensors", "cost.json"),
            inputs=(),
            identity=lambda of, _: of.victim.made_of,
            make=None,
        ),
        Stage(
            name="outcomes",
            work="attack",
            result="attack",
            files=("outcomes.npz", "cost.json"),
            inputs=("victims",),
            identity=lambda of, _: outcomes_identity(of.setup, of.attack, of.victim, of.surrogate),
            make=_attack,
        ),
        Stage(
            name="checks",
            work="check",
            result="check",
            files=("checks.json",),
            inputs=("outcomes", "victims"),
            identity=lambda of, keys: checks_identity(keys["outcomes"], of.setup.headline),
            make=_check,
        ),
        Stage(
            name="audits",
            work="audit",
            result="audit",
            files=("audit.json",),
            inputs=("outcomes", "victims"),
            identity=lambda of, keys: audit_identity(keys["outcomes"], of.setup.headline, of.undefended),
            make=_audit,
            wanted=lambda setup: setup.audit,
        ),
        Stage(
            name="records",
            work="score",
            result="score",
            files=("record.json",),
            inputs=("outcomes", "checks", "audits"),
            identity=lambda _, keys: record_identity(keys["outcomes"], _looks(keys)),
            make=_score,
        ),
        Stage(
            name="perturbations",
            work="save",
            result="perturbation",
            files=("perturbations.npz",),
            inputs=("outcomes", "victims"),
            identity=lambda of, keys: perturbations_identity(
                keys["outcomes"], of.setup.headline, of.setup.save_perturbations
            ),
            make=_perturb,
            wanted=lambda setup: setup.save_perturbations > 0,
        ),
    )
}
"""All stages by name, each after its inputs."""
