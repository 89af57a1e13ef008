"""One thing to run, and the identity of each of its stages.

A victim is made of data, model, defense and seed; outcomes add attack, threat, eps grid, protocol and subset;
checks and scores come after. Every stage counts its resolved parameters and the digest of the source code it
is made of; no path, host, worker count or time is part of a key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from ecgbench.data import Task
from ecgbench.interfaces import Attack, Dataset, Defense, Model, returned
from ecgbench.record import SCHEMA
from ecgbench.selector import identity
from ecgbench.sources import closure
from ecgbench.sweep import STANDARD, Protocol
from ecgbench.threat import Threat

Identity = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """dataset x model x defense x attack x threat x eps grid x protocol x seed x limit, as values.

    `audit` asks for the costly checks, too, `keep_deltas` for the perturbations of so many samples.
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
    keep_deltas: int = 0

    def unfit(self, task: Task) -> str | None:
        """Why the cell cannot run on its task; every defense that would be trained for it is asked."""
        trained = [one for start in (self.defense, self.attack.source) for one in _line(start)]
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
        "sources": sources(cell.dataset, cell.model, defense),
    }


def outcomes_identity(cell: Cell, data: str) -> Identity:
    """What the outcomes of an attack are made of."""
    source = cell.attack.source
    return {
        "stage": "outcomes",
        "victim": victim_identity(cell, cell.defense, data),
        "source": None if source is None else victim_identity(cell, source, data),
        "attack": identity(cell.attack),
        "threat": identity(cell.threat),
        "epsilons": [repr(eps) for eps in cell.epsilons],
        "protocol": identity(cell.protocol),
        "limit": cell.limit,
        "sources": sources(cell.attack, extra=("ecgbench.sweep",)),
    }


def checks_identity(cell: Cell, outcomes: str, headline: float) -> Identity:
    """What the checks of a row are made of; `outcomes` is the key of what they look at."""
    return {
        "stage": "checks",
        "outcomes": outcomes,
        "headline": repr(headline),
        "sources": sources(extra=("ecgbench.checks",)),
    }


def audit_identity(outcomes: str, headline: float, twin: Identity | None) -> Identity:
    """What the costly checks of a row are made of; `twin` is the undefended victim they compare with."""
    return {
        "stage": "audit",
        "outcomes": outcomes,
        "headline": repr(headline),
        "twin": twin,
        "sources": sources(extra=("ecgbench.audit",)),
    }


def deltas_identity(outcomes: str, headline: float, n: int) -> Identity:
    """What the kept perturbations of a row are made of; `outcomes` is the key of the row's outcomes."""
    return {
        "stage": "deltas",
        "outcomes": outcomes,
        "headline": repr(headline),
        "n": n,
        "sources": sources(extra=("ecgbench.deltas",)),
    }


def record_identity(outcomes: str, checks: Sequence[str]) -> Identity:
    """What a record is made of: its outcomes, its checks (cheap, and costly if made) and the code of the scores."""
    return {
        "stage": "record",
        "schema": SCHEMA,
        "outcomes": outcomes,
        "checks": list(checks),
        "sources": sources(extra=("ecgbench.metrics",)),
    }


def sources(*values: object, extra: tuple[str, ...] = ()) -> Mapping[str, str]:
    """Digests of all source code that `values`, and the values nested in them, are made of."""
    modules = {type(part).__module__ for value in values for part in nested(value)}
    return _closure(tuple(sorted(modules | set(extra))))


@cache
def _closure(modules: tuple[str, ...]) -> Mapping[str, str]:
    """Read once per process: the code that runs is the code that was there when it was loaded."""
    return closure(modules, sys.path)


def nested(value: object) -> Iterator[object]:
    """A value and every dataclass value in its fields."""
    if isinstance(value, tuple):
        for item in value:
            yield from nested(item)
    elif is_dataclass(value):
        yield value
        for field in fields(value):
            yield from nested(getattr(value, field.name))


def differences(now: Mapping[str, Any], then: Mapping[str, Any], path: str = "") -> list[str]:
    """Where two identities differ, one line each: "victim.seed: 1, was 0"."""
    lines = []
    for name in sorted({*now, *then}):
        here = f"{path}{name}"
        new, old = now.get(name), then.get(name)
        if new == old:
            continue
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            lines += differences(new, old, f"{here}.")
        elif ".sources." in f".{here}" or here.startswith("sources."):
            lines.append(f"{here}: {'changed' if name in now and name in then else 'added' if name in now else 'gone'}")
        else:
            lines.append(f"{here}: {_short(new)}, was {_short(old)}")
    return lines


def alike(identity: Identity, others: Iterable[tuple[str, Identity]]) -> list[tuple[str, list[str]]]:
    """Of `others` those that differ in sources alone: key and names of these sources, the fewest first.

    A parameter that a plugin got since the other was made counts as at its default there: that is what it did. One
    that is "auto" here stands for whatever was chosen there.
    """
    plain = _without_sources(identity)
    since = ((key, _completed(other, identity)) for key, other in others)
    same = ((key, differences(identity, other)) for key, other in since if _without_sources(other) == plain)
    return sorted(
        ((key, [line.partition(":")[0] for line in lines]) for key, lines in same), key=lambda one: len(one[1])
    )


def _completed(then: Any, now: Any) -> Any:
    """`then` with the defaults of parameters that the same classes have in `now`, and its "auto", at every depth."""
    if not isinstance(then, Mapping) or not isinstance(now, Mapping):
        return now if now == "auto" and isinstance(then, str) else then
    whole = {name: _completed(value, now.get(name)) for name, value in then.items()}
    if "fields" in then and then.get("class") == now.get("class"):
        new = {name: value for name, value in _defaults(now["class"]).items() if name in now["fields"]}
        whole["fields"] = new | whole["fields"]
    return whole


def _defaults(path: str) -> Identity:
    """The default of every parameter of a loaded class that has one."""
    module, _, name = path.rpartition(".")
    of = getattr(sys.modules[module], name)
    return {part.name: identity(part.default) for part in fields(of) if part.default is not MISSING}


def _without_sources(identity: Any) -> Any:
    """Parameters, data and seed, at every depth."""
    if not isinstance(identity, Mapping):
        return identity
    return {name: _without_sources(value) for name, value in identity.items() if name != "sources"}


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
