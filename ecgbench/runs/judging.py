"""A verdict on a model that a user has: what was given becomes a task, and goes through the stages of a cell."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from ecgbench.core.data import Samples, Task
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Attack
from ecgbench.core.parameters import MisfitError, Reader, misfit, shown
from ecgbench.core.progress import Progress
from ecgbench.core.random import stream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import Victim
from ecgbench.evaluation.sweep import Protocol, Sweep
from ecgbench.registry.catalog import LOCAL, Catalog, discover
from ecgbench.registry.identity import Identity, identity
from ecgbench.results.record import Record
from ecgbench.runs.cache import Nowhere
from ecgbench.runs.cell import AttackSetup, VictimIdentity
from ecgbench.runs.scoring import CellLabels, goes_on
from ecgbench.runs.stages import Context, MadeOf, Walk, identities
from ecgbench.runs.suite import parse_eps, parse_seeds
from ecgbench.runs.victims import Trained
from ecgbench.storage.arrays import pack_tensors
from ecgbench.user import UserModel, identity_of, one_line

GIVEN = "given"
"""Stands for the dataset and the defense of a model that a user has."""


@dataclass(frozen=True)
class EvaluationRequest:
    """How a model shall be judged, by the plugins of a catalog."""

    catalog: Catalog
    setup: AttackSetup

    @classmethod
    def of(
        cls,
        threat: Threat | str,
        attack: Attack | str,
        protocol: Protocol | str,
        eps: float | str | Sequence[float | str],
        headline: float | None,
        seed: int,
        audit: bool,
    ) -> EvaluationRequest:
        """Selectors resolved. Raises EcgbenchError for what cannot be."""
        catalog = discover()
        sizes, (number,) = parse_eps(several(eps)), parse_seeds([str(seed)])
        if not sizes:
            raise EcgbenchError("no eps is given; expected at least one above 0.")
        decides = sizes[-1] if headline is None else parse_eps([headline])[0]
        if decides not in sizes:
            raise EcgbenchError(f"headline {decides} is given; expected one of eps {list(sizes)}.")
        chosen: Attack = _value(catalog, "attack", attack, Attack)
        if chosen.surrogate is not None:
            raise EcgbenchError(f"{chosen!r} needs a second victim, which evaluate has not; expected another attack.")
        rules: Protocol = _value(catalog, "protocol", protocol, Protocol)
        if rules.split != "test":
            raise EcgbenchError(f"a protocol with split={rules.split} is given; expected test: x is the whole split.")
        setup = AttackSetup(
            attack=chosen,
            threat=_value(catalog, "threat", threat, Threat),
            eps=sizes,
            headline=decides,
            protocol=rules,
            seed=number,
            audit=audit,
        )
        return cls(catalog, setup)


@dataclass(frozen=True)
class UserContext(Context):
    """What the stages are made with where model and samples are a user's; `whole` is the task as it was given."""

    model: UserModel
    whole: Task
    request: EvaluationRequest

    @property
    def setup(self) -> AttackSetup:
        return self.request.setup

    @cached_property
    def task(self) -> Task:
        return self.whole.some_of_each(self.setup.protocol.per_class)

    @cached_property
    def labels(self) -> CellLabels:
        setup, catalog = self.setup, self.request.catalog
        return CellLabels(
            names={
                "dataset": GIVEN,
                "model": self.model.called,
                "defense": GIVEN,
                "attack": catalog.words(setup.attack),
                "threat": catalog.words(setup.threat),
                "protocol": catalog.canonical("protocol", setup.protocol),
            },
            plugins={"attack": _offered_by(catalog, setup.attack)},
            eps=setup.eps,
            headline=setup.headline,
            seed=setup.seed,
            determinism=setup.attack.determinism,
            goes_on=goes_on(setup.protocol, setup.attack),
            libraries=setup.attack.libraries,
        )

    @cached_property
    def identities(self) -> Mapping[str, Identity]:
        bounds = self.whole.bounds
        victim = {
            "stage": "victim",
            "dataset": GIVEN,
            "data": _digest(self.whole.test),
            "model": self.model.called,
            "defense": GIVEN,
            "classes": list(self.whole.classes),
            "bounds": None if bounds is None else [repr(end) for end in bounds],
            "seed": self.setup.seed,
        }
        try:
            attack = identity(self.setup.attack)
        except EcgbenchError:  # parameters of a class that no plugin offers may be of any type
            attack = self.labels.names["attack"]
        weights = identity_of(self.model, self.whole.test, self.whole.outputs)
        return identities(MadeOf(self.setup, attack, VictimIdentity(victim, weights)))

    def has_victim(self) -> bool:
        return True

    @contextmanager
    def at_work(self) -> Iterator[tuple[Sweep, Trained]]:
        setup, victim = self.setup, Victim(self.model, self.whole.outputs)
        sweep = Sweep(
            attack=setup.attack,
            victim=victim,
            task=self.task,
            threat=setup.threat,
            eps=setup.eps,
            rng=stream("attack", setup.seed),
            protocol=setup.protocol,
            device=str(victim.device),
        )
        yield sweep, Trained(victim, 0.0, None)

    def undefended(self) -> Victim | None:
        return None


def judged(model: UserModel, task: Task, request: EvaluationRequest, tell: Callable[[Progress], None] | None) -> Record:
    """The record of a model on its task. Raises EcgbenchError where model or attack fails."""
    context = UserContext(model, task, request)
    reason = request.setup.attack.unfit(context.task, request.setup.threat)
    if reason is not None:
        raise EcgbenchError(reason)
    walk = Walk(context, Nowhere(tell))
    try:
        for stage in ("outcomes", "checks", "audits"):
            if stage in context.identities:
                walk.files(stage)
    except EcgbenchError:
        raise
    except Exception as fault:
        raise EcgbenchError(f"{model.called} or {request.setup.attack!r} failed: {one_line(fault)}") from fault
    return msgspec.json.decode(walk.files("records")["record.json"], type=Record)


def several(given: Any) -> tuple[Any, ...]:
    """One value or many as a tuple; a string is one."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else (given,)


def _value(catalog: Catalog, kind: str, given: Any, of: type) -> Any:
    """A selector's value, or the value that was given. Raises EcgbenchError for anything else."""
    if isinstance(given, str):
        return catalog.resolve(kind, given)
    try:
        return Reader().read(given, of)
    except MisfitError:
        raise EcgbenchError(misfit("evaluate", kind, of, shown(given))) from None


def _offered_by(catalog: Catalog, attack: Attack) -> str:
    try:
        return catalog.provider("attack", attack)
    except EcgbenchError:
        return LOCAL


def _digest(samples: Samples) -> str:
    parts = {"x": samples.x, "y": samples.y, "mask": samples.mask}
    return hashlib.sha256(pack_tensors(parts | ({} if samples.group is None else {"group": samples.group}))).hexdigest()
