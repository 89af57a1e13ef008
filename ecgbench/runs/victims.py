"""Trained victims: kept from an earlier run, published with a leaderboard, or trained now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import torch
from safetensors.torch import load
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Batch, Task
from ecgbench.core.errors import ContractError, EcgbenchError
from ecgbench.core.fingerprint import digest
from ecgbench.core.interfaces import Defense, returned
from ecgbench.core.outputs import SINGLE_LABEL, Outputs
from ecgbench.core.progress import Note, Started
from ecgbench.core.random import stream
from ecgbench.core.training import BF16, CURVE
from ecgbench.core.victim import Victim, frozen
from ecgbench.evaluation.guard import guarded, named
from ecgbench.evaluation.lending import tensors, unlabelled, unwritten
from ecgbench.registry.identity import Identity, alike
from ecgbench.runs.cache import Cache, Files, Recordings
from ecgbench.runs.cell import VictimIdentity, VictimSpec, victim_identity
from ecgbench.runs.zoo import CARD, STAGE, WEIGHTS, Card, architecture, weights_by_card
from ecgbench.storage.arrays import pack_tensors
from ecgbench.storage.store import Store, TimedCheckpoint, key_of

COST = "cost.json"


@dataclass(frozen=True)
class Trained:
    """A victim, the seconds its training took, and the key of the published checkpoint it came from, if any.

    `precision` is that of the training, "bf16 after float32" where its base had another; None if nobody wrote it down.
    `weights` is the digest of the weights; None for a model that somebody brought along.
    """

    victim: Victim
    seconds: float
    checkpoint: str | None
    precision: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Victims:
    """Where victims come from.

    `published` holds those of a leaderboard: one of the same parameters, data and seed is used instead of a
    training, even if its sources have changed since, which is said. Without `trains`, one that is not there is
    an error.
    """

    cache: Cache
    recordings: Recordings
    published: Store | None = None
    device: str = "cpu"
    trains: bool = True
    _said: set[str] = field(default_factory=set, repr=False)
    _found: dict[VictimSpec, VictimIdentity] = field(default_factory=dict, repr=False)
    _near: dict[str, list[tuple[str, list[str]]]] = field(default_factory=dict, repr=False)

    def get(self, spec: VictimSpec) -> Trained:
        """The trained victim: kept, published, or trained now."""
        identity = self._identity(spec)
        ready = self._ready(identity)
        if ready is None:
            key, files = (
                None,
                self.cache.get_or_make(STAGE, identity, lambda checkpoint: self._train(spec, checkpoint)),
            )
        else:
            key, changed, files = ready
            self._say(key, changed)
        module, weights = self._blank(spec), load(files[WEIGHTS])
        module.load_state_dict(weights)
        cost = msgspec.json.decode(files[COST])
        victim = frozen(module.to(self.device), self.recordings.task(spec.dataset).outputs)
        return Trained(victim, float(cost["seconds"]), key, cost.get("precision"), digest(weights))

    def is_available(self, identity: Identity) -> bool:
        """Whether no training is needed."""
        return self.cache.has(STAGE, identity) or self._ready(identity) is not None

    def accept(self, spec: VictimSpec) -> None:
        """Take a victim, and those it starts from, as they are kept, although everything is to be made anew."""
        self.cache.accept(self._identity(spec))
        if spec.base is not None:
            self.accept(spec.base)

    def used(self, spec: VictimSpec) -> VictimIdentity:
        """The identity of the victim that will be used: its own, or that of a published one that stands in for it.

        Once its weights are there, they are read no more: a grid asks for every cell.
        """
        if spec not in self._found:
            used = self._used(spec)
            if used.weights is None:
                return used
            self._found[spec] = used
        return self._found[spec]

    def _used(self, spec: VictimSpec) -> VictimIdentity:
        identity = self._identity(spec)
        ready = self._ready(identity)
        files = self.cache.get(STAGE, identity) if ready is None else ready[2]
        if ready is not None and self.published is not None:
            identity = self._published[ready[0]]
        return VictimIdentity(identity, None if files is None else digest(load(files[WEIGHTS])))

    def publish(self, identity: Identity, card: Card, checkpoints: Store) -> None:
        """Put the victim and its card among `checkpoints`, if it was trained here.

        Raises StoreError where it has other weights than the card names.
        """
        key = key_of(identity)
        files = self.cache.store.get(STAGE, key)
        if files is not None:
            files |= {CARD: msgspec.json.encode(card)}
            weights_by_card(files, self.cache.store.where(STAGE, key))
            checkpoints.put(STAGE, identity, files)

    def _identity(self, spec: VictimSpec) -> Identity:
        return victim_identity(spec, self.recordings.digest(spec.dataset))

    def _ready(self, identity: Identity) -> tuple[str, list[str], dict[str, bytes]] | None:
        """Key, changed sources and files of the published victim that is nearest; None where one is kept here.

        Raises StoreError where it has other weights than its card names.
        """
        if self.published is None or self.cache.rebuild or self.cache.has(STAGE, identity):
            return None
        for key, changed in self._alike(identity):
            files = self.published.get(STAGE, key)
            if files is not None:
                weights_by_card(files, self.published.where(STAGE, key))
                return key, changed, files
        return None

    @cached_property
    def _published(self) -> Mapping[str, Identity]:
        """What published victims are made of, read once: a grid asks for every cell."""
        return {} if self.published is None else dict(self.published.identities(STAGE))

    def _alike(self, identity: Identity) -> list[tuple[str, list[str]]]:
        """Keys and changed sources of the published victims that could stand in for one."""
        key = key_of(identity)
        if key not in self._near:
            others = ((name, other) for name, other in self._published.items() if other.get("seed") == identity["seed"])
            self._near[key] = alike(identity, others)
        return self._near[key]

    def _say(self, key: str, changed: list[str]) -> None:
        if key not in self._said:
            since = f", trained before changes in {', '.join(changed)}" if changed else ""
            self.cache.tell(Note(f"using the published victim {key[:12]}{since} (--retrain trains it again)."))
            self._said.add(key)

    def _say_why_it_trains(self) -> None:
        """Where a published victim was looked for in vain."""
        if not self.cache.rebuild:
            where = "here (no leaderboard)" if self.published is None else f"in {self.published.root}"
            self.cache.tell(Started(f"training a victim: no published one like it is {where}, see --leaderboard."))

    def _train(self, spec: VictimSpec, checkpoint: TimedCheckpoint) -> Files:
        if not self.trains:
            raise EcgbenchError("the victim is no longer kept; expected its own job to have trained it: run it again.")
        self._say_why_it_trains()
        self._try_out(spec)
        defense, module, rng = spec.defense, self._blank(spec), stream("train", spec.seed)
        base = None if spec.base is None else self.get(spec.base)
        with self.recordings.lending(spec.dataset, defense), self._lent(spec, defense) as task:
            if base is not None:
                wrapped = defense.wrap(base.victim.module.requires_grad_(True), task)
                module = returned(defense, "wrap", wrapped, Module)
            checkpoint.start()
            trained = returned(
                defense, "fit", defense.fit(module.to(self.device), task, rng, checkpoint), Module
            ).eval()
            seconds = checkpoint.seconds
        weights = pack_tensors(trained.state_dict())
        self._check_rebuilt(spec, trained, weights)
        kept = checkpoint.load() or {}
        curve = kept.get(CURVE)
        cost = {
            "seconds": seconds,
            "loss_and_score": [] if curve is None else curve.tolist(),
            "precision": _precision(kept.get(BF16), base),
        }
        return {WEIGHTS: weights, COST: msgspec.json.encode(cost)}

    def _blank(self, spec: VictimSpec) -> Module:
        """The victim's architecture, untrained."""
        with self._lent(spec, _builders(spec)) as task:
            return architecture(spec.model, spec.defense, task, spec.seed)

    @contextmanager
    def _lent(self, spec: VictimSpec, who: object) -> Iterator[Task]:
        """The task as model and defense see it: no test sample, and no test label in memory, that could be looked up.

        Raises ContractError where the plugin `who` writes into it or changes a setting of torch.
        """
        task = self.recordings.task(spec.dataset)
        blind = task.blind()
        with guarded(who), unlabelled(task.test.y), unwritten(who, tensors(blind)):
            yield blind

    def _try_out(self, spec: VictimSpec) -> None:
        """Raises ContractError where the untrained module gives no finite logits, a number for each class."""
        module, task = self._blank(spec), self.recordings.task(spec.dataset)
        rows, who = task.train[:2].to(self.device), _builders(spec)
        try:
            with guarded(who), torch.random.fork_rng(devices=[]):
                logits = _logits(module.to(self.device), rows, task.outputs)
        except ContractError as fault:
            raise ContractError(who, fault.expected, fault.got) from None
        if not logits.isfinite().all():
            raise ContractError(who, "finite logits before training", str(logits.flatten().tolist()[0]))

    def _check_rebuilt(self, spec: VictimSpec, trained: Module, weights: bytes) -> None:
        """What is kept is what was trained: the weights in a fresh architecture give the same logits.

        A module that does not agree with itself cannot be asked; its rows are flagged RANDOM.
        """
        rebuilt, defense = self._blank(spec), spec.defense
        try:
            rebuilt.load_state_dict(load(weights))
        except RuntimeError as fault:
            raise ContractError(defense, "weights that fit wrap(build(task))", str(fault).splitlines()[0]) from None
        task = self.recordings.task(spec.dataset)
        with guarded(spec.model), unlabelled(task.test.y):
            rows = task.test[:16].to(self.device)
            once, again, other = (_logits(module, rows) for module in (trained, trained, rebuilt.to(self.device)))
        if torch.equal(once, again) and not torch.equal(once, other):
            raise ContractError(defense, "a module that its weights determine", "other logits after reloading")


def _builders(spec: VictimSpec) -> object:
    """Who builds the module: the model, and a defense that wraps it."""
    return spec.model if type(spec.defense).wrap is Defense.wrap else named(spec.model, spec.defense)


def _precision(bf16: Tensor | None, base: Trained | None) -> str | None:
    """The precision of a training and, where that was another one, of its base's."""
    if bf16 is None:
        return None
    own = "bf16" if bf16 else "float32"
    return own if base is None or base.precision in (None, own) else f"{own} after {base.precision}"


def _logits(module: Module, rows: Batch, outputs: Outputs = SINGLE_LABEL) -> Tensor:
    with torch.no_grad():
        return frozen(module, outputs).logits(rows.x, rows, stream("rebuilt"))
