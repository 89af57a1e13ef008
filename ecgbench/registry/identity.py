"""What a result is made of, as plain JSON to be hashed: parameters, data and code; and where two such differ."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.threat import Threat
from ecgbench.evaluation.sweep import Protocol
from ecgbench.registry.sources import closure, edited

HOST_CLASSES = {"Threat": Threat, "Protocol": Protocol}
"""The host's own classes by their names in identities: fixed, so that a moved module makes no result missing."""


def class_name(of: type) -> str:
    """The name of a class in identities."""
    fixed = next((name for name, host in HOST_CLASSES.items() if host is of), None)
    return fixed or f"{of.__module__}.{of.__qualname__}"


def class_named(name: str) -> type:
    """The loaded class that an identity names."""
    if name in HOST_CLASSES:
        return HOST_CLASSES[name]
    module, _, own = name.rpartition(".")
    found: type = getattr(sys.modules[module], own)
    return found


def identity(value: Any) -> Any:
    """What a value is, for hashing: its class and every parameter, defaults filled in, nested, as plain JSON.

    {"class": "ecgbench_plugins.attacks.pgd.PGD", "fields": {"steps": 40, "rel_step": "0.1", ...}}: a float is
    its `repr`, but a whole one is an integer, because equal values have one identity. Raises EcgbenchError for
    a parameter of another type.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        plain = plain_number(value)
        return plain if isinstance(plain, int) else repr(plain)
    if isinstance(value, tuple):
        return [identity(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        of = type(value)
        parts = {field.name: identity(getattr(value, field.name)) for field in fields(value) if field.init}
        return {"class": class_name(of), "fields": parts}
    raise EcgbenchError(f"{value!r} cannot be identified; expected a number, a string, a tuple or a plugin.")


def plain_number(value: float) -> int | float:
    """A whole float as an integer: 1.0, 1 and -0.0, 0 are equal, so they must look the same."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else float(value)


Identity = dict[str, Any]


def code_digests(*values: object, extra: tuple[str, ...] = ()) -> Mapping[str, str]:
    """Digests of all source code that `values`, and the values nested in them, are made of."""
    modules = {type(part).__module__ for value in values for part in nested(value)}
    return _closure(tuple(sorted(modules | set(extra))))


@cache
def _closure(modules: tuple[str, ...]) -> Mapping[str, str]:
    """Read once per process: the code that runs is the code that was there when it was loaded."""
    return closure(modules, sys.path)


def edited_since(made: Mapping[str, Any]) -> list[str]:
    """The modules that an identity names, at any depth, and that say something else now."""
    parts = (edited_since(part) for name, part in made.items() if isinstance(part, Mapping) and name != "sources")
    return sorted({*edited(made.get("sources", {}), sys.path), *(name for part in parts for name in part)})


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
    of = class_named(path)
    return {part.name: identity(part.default) for part in fields(of) if part.default is not MISSING}


def _without_sources(identity: Any) -> Any:
    """Parameters, data and seed, at every depth."""
    if not isinstance(identity, Mapping):
        return identity
    return {name: _without_sources(value) for name, value in identity.items() if name != "sources"}


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
