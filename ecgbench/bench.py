"""Where cells are run: each stage is looked up by its key, made if it is missing, and kept.

Victim, outcomes, checks and record are four stages with a key each, so an edited metric scores again without
attacking, and an edited attack attacks again without training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import torch
from safetensors.torch import load
from torch.nn import Module

from ecgbench.catalog import Catalog
from ecgbench.cell import Cell, Identity, alike, checks_identity, outcomes_identity, record_identity
from ecgbench.cell import victim_identity as identity_of_victim
from ecgbench.checks import Check, Examination
from ecgbench.data import Batch, Task
from ecgbench.dataroot import DataRoot, digest
from ecgbench.errors import ContractError, DataError, EcgbenchError
from ecgbench.interfaces import Dataset, Defense
from ecgbench.journal import Journal, Note, Progress
from ecgbench.keyed import Keyed
from ecgbench.outcomes import Outcomes
from ecgbench.published import pack, unpack
from ecgbench.record import Record
from ecgbench.scoring import Costs, Parts, score, unscored, versions
from ecgbench.store import Store, key_of, pack_tensors
from ecgbench.sweep import Sweep
from ecgbench.victim import Victim, frozen

Work = Literal["none", "score", "check", "attack", "train"]
STAGES: Mapping[Work, str] = {"train": "victims", "attack": "outcomes", "check": "checks", "score": "records"}
"""Where the result of each kind of work is kept."""


@dataclass(frozen=True)
class Planned:
    """A cell, the key of its record, and the first work that a run would do ("none": all is there)."""

    cell: Cell
    key: str
    work: Work


@dataclass(frozen=True)
class Trained:
    """A victim, the seconds its training took, and the key of the published checkpoint it came from, if any."""

    victim: Victim
    seconds: float
    checkpoint: str | None


@dataclass(frozen=True)
class Bench:
    """Plugins, recordings, store and device; `tell` hears the progress. Holds the last task in memory.

    `checkpoints` holds published victims: one of the same parameters, data and seed is used instead of a
    training, even if its sources have changed since, which is said. `retrain` ignores them and the store.
    """

    catalog: Catalog
    root: DataRoot
    store: Store
    device: str = "cpu"
    tell: Callable[[Progress], None] = lambda _: None
    retrain: bool = False
    checkpoints: Store | None = None
    _digests: dict[Dataset, str] = field(default_factory=dict, repr=False)
    _tasks: dict[Dataset, Task] = field(default_factory=dict, repr=False)
    _remade: set[str] = field(default_factory=set, repr=False)
    _said: set[str] = field(default_factory=set, repr=False)

    def plan(self, cells: Iterable[Cell]) -> list[Planned]:
        """What a run would do; nothing is trained or attacked."""
        return [self._planned(cell) for cell in cells]

    def find(self, cells: Iterable[Cell]) -> None:
        """Look for all recordings before the first cell runs. Raises DataError where one is missing."""
        for cell in cells:
            self.data_digest(cell.dataset)

    def execute(self, cell: Cell) -> Record:
        """One cell: its record, found or made. A fault of plugin or model becomes a failed record.

        Raises DataError where recordings are missing or damaged: no cell on them can run.
        """
        try:
            return self._record(cell)
        except DataError:
            raise
        except EcgbenchError as fault:
            return unscored(self._parts(cell), "failed", str(fault))
        except (Exception, SystemExit) as fault:  # a plugin may raise anything; its cell failed, the others go on
            self.tell(Note(f"a cell failed: {type(fault).__name__}: {fault}"))
            return unscored(self._parts(cell), "failed", f"{type(fault).__name__}: {fault}")

    def outcomes_of(self, record: Record) -> Outcomes | None:
        """The outcomes that a record of this store was made from."""
        if record.provenance is None:
            return None
        files = self.store.get("outcomes", record.provenance.outcomes)
        return None if files is None else unpack(files["outcomes.npz"], "the store")

    def data_digest(self, dataset: Dataset) -> str:
        """Digest of the files a dataset reads."""
        if dataset not in self._digests:
            self._digests[dataset] = digest(dataset.files(self.root))
        return self._digests[dataset]

    def task(self, dataset: Dataset) -> Task:
        """The loaded task."""
        if dataset not in self._tasks:
            self._tasks.clear()
            self._tasks[dataset] = dataset.load(self.root)
        return self._tasks[dataset]

    def identities(self, cell: Cell) -> dict[str, Identity]:
        """What each stage of a cell is made of, by the stage's name in the store; victims as they will be used."""
        outcomes = outcomes_identity(cell, self.data_digest(cell.dataset))
        for role in ("victim", "source"):
            if outcomes[role] is not None:
                outcomes[role] = self._used(outcomes[role])
        checks = checks_identity(cell, key_of(outcomes), self._parts(cell).headline)
        record = record_identity(key_of(outcomes), key_of(checks))
        return {"victims": outcomes["victim"], "outcomes": outcomes, "checks": checks, "records": record}

    def victim(self, cell: Cell, defense: Defense) -> Trained:
        """The trained victim of a cell's dataset, model and seed under `defense`: kept, published, or made now."""
        identity = identity_of_victim(cell, defense, self.data_digest(cell.dataset))
        here = self.retrain or self.store.get("victims", key_of(identity)) is not None
        published = None if here else self._published(identity)
        if published is None:
            key, files = None, self._made("victims", identity, lambda journal: self._train(cell, defense, journal))
        else:
            key, files = published
        module = self._blank(cell, defense)
        module.load_state_dict(load(files["weights.safetensors"]))
        seconds = float(msgspec.json.decode(files["cost.json"])["seconds"])
        return Trained(frozen(module.to(self.device)), seconds, key)

    def publish_victim(self, record: Record, checkpoints: Store) -> None:
        """Put the victim of a record of this store among the published ones, if it was trained here."""
        if record.provenance is not None:
            files = self.store.get("victims", record.provenance.victim)
            if files is not None:
                checkpoints.put("victims", record.provenance.identity["victim"], files)

    def _used(self, identity: Identity) -> Identity:
        """The identity of the victim that stands in for `identity`: its own, or that of a published one."""
        here = self.retrain or self.store.get("victims", key_of(identity)) is not None
        published = None if here or self.checkpoints is None else self._published(identity, quiet=True)
        if published is None or self.checkpoints is None:
            return identity
        return dict(self.checkpoints.identities("victims"))[published[0]]

    def _published(self, identity: Identity, quiet: bool = False) -> tuple[str, dict[str, bytes]] | None:
        """Key and files of the published victim of the same parameters, data and seed with the nearest sources."""
        if self.checkpoints is None:
            return None
        for key, changed in alike(identity, self.checkpoints.identities("victims")):
            files = self.checkpoints.get("victims", key)
            if files is not None:
                since = f", trained before changes in {', '.join(changed)}" if changed else ""
                if not quiet and key not in self._said:
                    self.tell(Note(f"using the published victim {key[:12]}{since} (--retrain trains it again)."))
                    self._said.add(key)
                return key, files
        return None

    def _planned(self, cell: Cell) -> Planned:
        identities = self.identities(cell)
        return Planned(cell, key_of(identities["records"]), self._work(identities))

    def _work(self, identities: Mapping[str, Identity]) -> Work:
        def kept(stage: str) -> bool:
            return self.store.get(stage, key_of(identities[stage])) is not None

        if kept("records"):
            return "none"
        if kept("outcomes") and kept("checks"):
            return "score"
        if not kept("victims") and self._published(identities["victims"], quiet=True) is None:
            return "train"
        return "check" if kept("outcomes") else "attack"

    def _parts(self, cell: Cell) -> Parts:
        return Parts.of(cell, self.catalog)

    def _record(self, cell: Cell) -> Record:
        identities = self.identities(cell)
        kept = None if self.retrain else self.store.get("records", key_of(identities["records"]))
        if kept is not None:
            record = msgspec.json.decode(kept["record.json"], type=Record)
            self._compare(record)
            return record
        parts, task = self._parts(cell), self.task(cell.dataset).limited(cell.limit)
        cell.threat.check(task.physical, task.classes)
        unfit = cell.model.unfit(task) or cell.attack.unfit(task, cell.threat)
        if unfit is not None:
            return unscored(parts, "skipped", unfit)
        made = self._made("outcomes", identities["outcomes"], lambda journal: self._attack(cell, journal))
        outcomes = unpack(made["outcomes.npz"], "the store")
        made |= self._made("checks", identities["checks"], lambda _: self._check(cell, outcomes, parts.headline))
        made = self._made("records", identities["records"], lambda _: _score(parts, task, identities, made))
        return msgspec.json.decode(made["record.json"], type=Record)

    def _made(self, stage: str, identity: Identity, make: Callable[[Journal], dict[str, bytes]]) -> dict[str, bytes]:
        """The files of a stage: found, or made by one process while others wait."""
        key = key_of(identity)
        again = self.retrain and key not in self._remade
        files = None if again else self.store.get(stage, key)
        if files is not None:
            return files
        with self.store.writing(stage, key):
            files = None if again else self.store.get(stage, key)
            if files is None:
                journal = self.store.journal(stage, key, self.tell)
                files = make(journal)
                self.store.put(stage, identity, files)
                journal.finish()
        self._remade.add(key)
        return files

    def _train(self, cell: Cell, defense: Defense, journal: Journal) -> dict[str, bytes]:
        task, rng = self.task(cell.dataset), Keyed(("train", cell.seed))
        module = self._blank(cell, defense)
        if defense.base is not None:
            base = self.victim(cell, defense.base).victim
            module = defense.wrap(base.module.requires_grad_(True), task)
        began = time.perf_counter()
        trained = defense.fit(module.to(self.device), task, rng, journal).eval()
        seconds = time.perf_counter() - began
        weights = pack_tensors(trained.state_dict())
        self._check_rebuilt(cell, defense, trained, weights)
        return {"weights.safetensors": weights, "cost.json": msgspec.json.encode({"seconds": seconds})}

    def _blank(self, cell: Cell, defense: Defense) -> Module:
        """The architecture that `defense` trains and attacks meet, freshly initialised from the cell's seed."""
        task = self.task(cell.dataset)
        if defense.base is not None:
            return defense.wrap(self._blank(cell, defense.base), task)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(Keyed(("weights", cell.seed)).seed)
            return defense.wrap(cell.model.build(task), task)

    def _check_rebuilt(self, cell: Cell, defense: Defense, trained: Module, weights: bytes) -> None:
        """What is kept is what was trained: the weights in a fresh architecture give the same logits."""
        rebuilt = self._blank(cell, defense)
        try:
            rebuilt.load_state_dict(load(weights))
        except RuntimeError as fault:
            raise ContractError(defense, "weights that fit wrap(build(task))", str(fault).splitlines()[0]) from None
        rows = self.task(cell.dataset).test[:16].to(self.device)
        if not torch.equal(_logits(trained, rows), _logits(rebuilt.to(self.device), rows)):
            raise ContractError(defense, "a module that its weights determine", "other logits after reloading")

    def _attack(self, cell: Cell, journal: Journal) -> dict[str, bytes]:
        trained = self.victim(cell, cell.defense)
        sweep = self._sweep(cell, trained.victim)
        began = time.perf_counter()
        outcomes = sweep.run(journal)
        costs = Costs(trained.seconds, time.perf_counter() - began, trained.checkpoint)
        return {"outcomes.npz": pack(outcomes), "cost.json": msgspec.json.encode(costs)}

    def _check(self, cell: Cell, outcomes: Outcomes, headline: float) -> dict[str, bytes]:
        sweep = self._sweep(cell, self.victim(cell, cell.defense).victim)
        return {"checks.json": msgspec.json.encode(Examination(sweep, outcomes, headline).run())}

    def _sweep(self, cell: Cell, victim: Victim) -> Sweep:
        source = cell.attack.source
        return Sweep(
            attack=cell.attack,
            victim=victim,
            task=self.task(cell.dataset).limited(cell.limit),
            threat=cell.threat,
            epsilons=cell.epsilons,
            rng=Keyed(("attack", cell.seed)),
            protocol=cell.protocol,
            source=None if source is None else self.victim(cell, source).victim,
            device=self.device,
        )

    def _compare(self, record: Record) -> None:
        """Say in one line if a kept record was made by other library versions."""
        made = record.provenance.versions if record.provenance else {}
        now = versions()
        other = [f"{name} {made.get(name)} (now {now[name]})" for name in now if made.get(name) != now[name]]
        if other:
            self.tell(Note(f"record {record.key[:12]} was made with {', '.join(other)}."))


def _score(parts: Parts, task: Task, identities: Mapping[str, Identity], made: Mapping[str, bytes]) -> dict[str, bytes]:
    packed, identity = made["outcomes.npz"], identities["outcomes"]
    checks = msgspec.json.decode(made["checks.json"], type=tuple[Check, ...])
    costs = msgspec.json.decode(made["cost.json"], type=Costs)
    outcomes, key = unpack(packed, "the store"), key_of(identities["records"])
    return {"record.json": score(parts, task, outcomes, checks, costs, identity, key, packed).json()}


def _logits(module: Module, rows: Batch) -> Any:
    with torch.no_grad():
        return frozen(module).logits(rows.x, rows, Keyed(("rebuilt",)))
