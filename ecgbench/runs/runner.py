"""Where cells are run: each stage is looked up by its key, made if it is missing, and kept.

Victim, outcomes, checks, audit, perturbations and record are stages with a key each, so an edited metric scores again
without attacking, and an edited attack attacks again without training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from traceback import format_exception
from typing import Literal

import msgspec

from ecgbench.checks.audit import Audit
from ecgbench.checks.cheap import CheapChecks, Check
from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.interfaces import Dataset, Defense
from ecgbench.core.progress import Failed, Note, Progress
from ecgbench.core.random import RandomStream
from ecgbench.core.victim import Victim
from ecgbench.evaluation.feasibility import check_feasible
from ecgbench.evaluation.guard import apart, guarded, heard, named
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.perturbations import Perturbations, find_perturbations
from ecgbench.evaluation.sweep import Sweep
from ecgbench.registry.catalog import Catalog
from ecgbench.registry.identity import Identity
from ecgbench.results.record import Record
from ecgbench.runs.cache import Cache, Recordings
from ecgbench.runs.cell import (
    Cell,
    audit_identity,
    checks_identity,
    outcomes_identity,
    perturbations_identity,
    record_identity,
    victim_identity,
)
from ecgbench.runs.faults import Fault
from ecgbench.runs.scoring import CellLabels, Costs, score, unscored, versions
from ecgbench.runs.victims import Trained, Victims
from ecgbench.runs.zoo import Card
from ecgbench.storage.arrays import pack, pack_arrays, unpack, unpack_arrays
from ecgbench.storage.store import Store, StoredCheckpoint, key_of

Work = Literal["none", "save", "score", "audit", "check", "attack", "train"]
STAGES: Mapping[Work, str] = {
    "train": "victims",
    "attack": "outcomes",
    "check": "checks",
    "audit": "audits",
    "score": "records",
    "save": "perturbations",
}
"""Where the result of each kind of work is kept."""
TWIN = "none"
"""The defense of the undefended twin that an audit compares with, by name."""


@dataclass(frozen=True)
class Planned:
    """A cell, the key of its record, and the first work that a run would do ("none": all is there)."""

    cell: Cell
    key: str
    work: Work


@dataclass(frozen=True)
class Runner:
    """Plugins, recordings, store and device; `tell` hears the progress.

    `checkpoints` holds published victims, see `Victims`. `retrain` ignores them and the store.
    """

    catalog: Catalog
    root: DataRoot
    store: Store
    device: str = "cpu"
    tell: Callable[[Progress], None] = lambda _: None
    retrain: bool = False
    checkpoints: Store | None = None

    @cached_property
    def cache(self) -> Cache:
        """What is kept."""
        return Cache(self.store, heard(self.tell), self.retrain)

    @cached_property
    def recordings(self) -> Recordings:
        """What is attacked."""
        return Recordings(self.root)

    @cached_property
    def victims(self) -> Victims:
        """Who is attacked."""
        return Victims(self.cache, self.recordings, self.checkpoints, self.device)

    def plan(self, cells: Iterable[Cell]) -> list[Planned]:
        """What a run would do; nothing is trained or attacked."""
        with apart():
            return [self._planned(cell) for cell in cells]

    def find(self, cells: Iterable[Cell]) -> None:
        """Look for all recordings before the first cell runs. Raises DataError where one is missing.

        A dataset that fails otherwise fails its own cells, when they run.
        """
        for cell in cells:
            try:
                with apart():
                    self.recordings.digest(cell.dataset)
            except Exception as error:
                self._raise_if_it_ends_the_run(error, cell)

    def execute(self, cell: Cell) -> Record:
        """One cell: its record, found or made. A fault of plugin or model becomes a failed record.

        Raises DataError where recordings are missing or damaged, StoreError where the machine does not let results
        be kept: no cell has failed then.
        """
        with apart():
            return self._executed(cell)

    def _executed(self, cell: Cell) -> Record:
        try:
            record = self._record(cell)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything; its cell failed, the others go on
            self._raise_if_it_ends_the_run(error, cell)
            self.cache.tell(Failed("".join(format_exception(error))))
            return unscored(self._labels(cell), "failed", Fault(error, cell, self.catalog).reason())
        if cell.save_perturbations and record.status == "ok":
            try:
                self.perturbations_of(cell)
            except Exception as error:  # the record stands, whatever the plugin does when it is asked again
                self._raise_if_it_ends_the_run(error, cell)
                self.cache.tell(
                    Note(f"no perturbations of {record.key[:12]}: {Fault(error, cell, self.catalog).reason()}")
                )
        return record

    def _raise_if_it_ends_the_run(self, error: BaseException, cell: Cell) -> None:
        end = Fault(error, cell, self.catalog).ends_run()
        if end is not None:
            raise end from (None if end is error else error)

    def outcomes_of(self, record: Record) -> Outcomes | None:
        """The outcomes that a record of this store was made from."""
        if record.provenance is None:
            return None
        files = self.store.get("outcomes", record.provenance.outcomes)
        return None if files is None else unpack(files["outcomes.npz"], "the store")

    def has_perturbations(self, cell: Cell) -> bool:
        """Whether the perturbations that a cell keeps are there."""
        return self.cache.has("perturbations", self.identities(cell)["perturbations"])

    def perturbations_of(self, cell: Cell) -> Perturbations:
        """The perturbations that a cell keeps, found or made; its record is there."""
        identities, headline = self.identities(cell), self._labels(cell).headline

        def keep(_: StoredCheckpoint) -> dict[str, bytes]:
            made = self.cache.get_or_make(
                "outcomes", identities["outcomes"], lambda checkpoint: self._attack(cell, checkpoint)
            )
            with self._lending(cell):
                sweep = self._sweep(cell, self.victim(cell, cell.defense).victim)
                found = find_perturbations(
                    sweep, unpack(made["outcomes.npz"], "the store"), headline, cell.save_perturbations
                )
            return {"perturbations.npz": pack_arrays(found.arrays())}

        return Perturbations.from_arrays(
            unpack_arrays(
                self.cache.get_or_make("perturbations", identities["perturbations"], keep)["perturbations.npz"]
            )
        )

    def task(self, dataset: Dataset) -> Task:
        """The loaded task."""
        return self.recordings.task(dataset)

    def victim(self, cell: Cell, defense: Defense) -> Trained:
        """The trained victim of a cell's dataset, model and seed under `defense`."""
        return self.victims.get(cell, defense)

    def publish_victim(self, record: Record, checkpoints: Store) -> None:
        """Put the victim of a record of this store among the published ones, if it was trained here."""
        if record.provenance is not None:
            dataset: Dataset = self.catalog.resolve("dataset", record.dataset)
            card = Card.of(msgspec.structs.asdict(record), self.task(dataset))
            self.victims.publish(record.provenance.identity["victim"], card, checkpoints)

    def identities(self, cell: Cell) -> dict[str, Identity]:
        """What each stage of a cell is made of, by the stage's name in the store; victims as they will be used."""
        with guarded(_who(cell)):
            return self._identities(cell)

    def _identities(self, cell: Cell) -> dict[str, Identity]:
        outcomes = outcomes_identity(cell, self.recordings.digest(cell.dataset))
        for role in ("victim", "surrogate"):
            if outcomes[role] is not None:
                outcomes[role] = self.victims.used(outcomes[role])
        key, headline = key_of(outcomes), self._labels(cell).headline
        found = {"victims": outcomes["victim"], "outcomes": outcomes, "checks": checks_identity(cell, key, headline)}
        if cell.audit:
            found["audits"] = audit_identity(key, headline, self._twin_identity(cell))
        if cell.save_perturbations:
            found["perturbations"] = perturbations_identity(key, headline, cell.save_perturbations)
        looks = [key_of(found[stage]) for stage in ("checks", "audits") if stage in found]
        return found | {"records": record_identity(key, looks)}

    def _twin(self, cell: Cell) -> Defense | None:
        """The undefended twin's defense; None for a victim that is undefended itself, or where nobody offers it."""
        twin = self.catalog.defenses[TWIN].value if TWIN in self.catalog.defenses else None
        return None if twin == cell.defense else twin

    def _twin_identity(self, cell: Cell) -> Identity | None:
        twin = self._twin(cell)
        if twin is None:
            return None
        return self.victims.used(victim_identity(cell, twin, self.recordings.digest(cell.dataset)))

    def _planned(self, cell: Cell) -> Planned:
        identities = self.identities(cell)
        return Planned(cell, key_of(identities["records"]), self._work(identities))

    def _work(self, identities: Mapping[str, Identity]) -> Work:
        def kept(stage: str) -> bool:
            return stage not in identities or self.cache.has(stage, identities[stage])

        if kept("records"):
            if kept("perturbations"):
                return "none"
            return "save" if self.victims.is_available(identities["victims"]) else "train"
        if kept("outcomes") and kept("checks"):
            return "score" if kept("audits") else "audit"
        if not self.victims.is_available(identities["victims"]):
            return "train"
        return "check" if kept("outcomes") else "attack"

    def _labels(self, cell: Cell) -> CellLabels:
        return CellLabels.of(cell, self.catalog)

    def _record(self, cell: Cell) -> Record:
        identities = self.identities(cell)
        kept = None if self.retrain else self.store.get("records", key_of(identities["records"]))
        if kept is not None:
            record = msgspec.json.decode(kept["record.json"], type=Record)
            self._compare(record)
            return record
        labels, task = self._labels(cell), self._met(cell)
        check_feasible(cell.threat, task, cell.epsilons)
        with guarded(_who(cell)):
            unfit = cell.unfit(task)
        if unfit is not None:
            return unscored(labels, "skipped", unfit)
        made = self._made(cell, identities)
        made = self.cache.get_or_make(
            "records", identities["records"], lambda _: _score(labels, task, identities, made)
        )
        return msgspec.json.decode(made["record.json"], type=Record)

    def _made(self, cell: Cell, identities: Mapping[str, Identity]) -> dict[str, bytes]:
        """The outcomes of a cell and its checks, found or made."""
        headline = self._labels(cell).headline
        made = self.cache.get_or_make(
            "outcomes", identities["outcomes"], lambda checkpoint: self._attack(cell, checkpoint)
        )
        outcomes = unpack(made["outcomes.npz"], "the store")
        made |= self.cache.get_or_make("checks", identities["checks"], lambda _: self._check(cell, outcomes, headline))
        if cell.audit:
            made |= self.cache.get_or_make(
                "audits", identities["audits"], lambda _: self._audit(cell, outcomes, headline)
            )
        return made

    def _attack(self, cell: Cell, checkpoint: StoredCheckpoint) -> dict[str, bytes]:
        with self._lending(cell):
            trained = self.victim(cell, cell.defense)
            sweep = self._sweep(cell, trained.victim)
            checkpoint.start()
            outcomes = sweep.run(checkpoint)
        costs = Costs(trained.seconds, checkpoint.seconds, trained.checkpoint, trained.precision)
        return {"outcomes.npz": pack(outcomes), "cost.json": msgspec.json.encode(costs)}

    def _check(self, cell: Cell, outcomes: Outcomes, headline: float) -> dict[str, bytes]:
        with self._lending(cell):
            sweep = self._sweep(cell, self.victim(cell, cell.defense).victim)
            checks = CheapChecks(sweep, outcomes, headline).run()
        return {"checks.json": msgspec.json.encode(checks)}

    def _audit(self, cell: Cell, outcomes: Outcomes, headline: float) -> dict[str, bytes]:
        twin = self._twin(cell)
        with self._lending(cell):
            sweep = self._sweep(cell, self.victim(cell, cell.defense).victim)
            undefended = None if twin is None else self.victim(cell, twin).victim
            checks = Audit(sweep, outcomes, headline, undefended).run()
        return {"audit.json": msgspec.json.encode(checks)}

    @contextmanager
    def _lending(self, cell: Cell) -> Iterator[None]:
        """The plugins of a cell at work, in a stage of its own; ContractError where they leave something changed."""
        with guarded(_who(cell)), self.recordings.lending(cell.dataset, _who(cell)):
            yield

    def _met(self, cell: Cell) -> Task:
        """The cell's task with the samples that the attack meets."""
        task, rules = self.recordings.task(cell.dataset), cell.protocol
        return task.some_of_each(rules.per_class, rules.split).limited(cell.limit, rules.split)

    def _sweep(self, cell: Cell, victim: Victim) -> Sweep:
        surrogate = cell.attack.surrogate
        return Sweep(
            attack=cell.attack,
            victim=victim,
            task=self._met(cell),
            threat=cell.threat,
            epsilons=cell.epsilons,
            rng=RandomStream(("attack", cell.seed)),
            protocol=cell.protocol,
            surrogate=None if surrogate is None else self.victim(cell, surrogate).victim,
            device=self.device,
            labels=(self.task(cell.dataset).samples(cell.protocol.split).y,),
        )

    def _compare(self, record: Record) -> None:
        """Say in one line if a kept record was made by other library versions."""
        made = record.provenance.versions if record.provenance else {}
        now = versions()
        other = [f"{name} {made.get(name)} (now {now[name]})" for name in now if made.get(name) != now[name]]
        if other:
            self.cache.tell(Note(f"record {record.key[:12]} was made with {', '.join(other)}."))


def _who(cell: Cell) -> str:
    """The plugins of a cell of which one is at fault."""
    return named(cell.attack, cell.defense, cell.model)


def _score(
    labels: CellLabels, task: Task, identities: Mapping[str, Identity], made: Mapping[str, bytes]
) -> dict[str, bytes]:
    packed, identity = made["outcomes.npz"], identities["outcomes"]
    looks = (made[name] for name in ("checks.json", "audit.json") if name in made)
    checks = tuple(check for look in looks for check in msgspec.json.decode(look, type=tuple[Check, ...]))
    costs = msgspec.json.decode(made["cost.json"], type=Costs)
    outcomes, key = unpack(packed, "the store"), key_of(identities["records"])
    return {"record.json": score(labels, task, outcomes, checks, costs, identity, key, packed).json()}
