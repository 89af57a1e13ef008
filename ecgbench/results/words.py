"""Do the words of a record name what was run, and in the one way in which it is written?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ecgbench.core.errors import EcgbenchError
from ecgbench.registry.catalog import Catalog
from ecgbench.registry.grammar import parse
from ecgbench.registry.identity import HOST_CLASSES, alike, identity
from ecgbench.results.record import Record

KINDS = ("dataset", "model", "defense", "attack", "threat", "protocol")
OWN = ("ecgbench", "ecgbench_plugins")
"""The packages of this distribution; a class of any other is a stranger's."""


def faults_of_words(record: Record, catalog: Catalog) -> Iterator[str]:
    """What is wrong with the six selectors of a record, a sentence each.

    Every selector is plain ASCII, canonical, and what the provenance says was run. Only what another distribution
    offers, by the provenance, may be unknown here; a row without scores has none, and need only be readable.
    """
    made = recorded(record)
    for kind in KINDS:
        words = getattr(record, kind)
        if not (words.isascii() and words.isprintable()):
            yield f"{kind} is {words!a}; expected plain ASCII."
            continue
        try:
            value = catalog.resolve(kind, words)
            canonical = catalog.canonical(kind, value)
        except EcgbenchError as fault:
            if not _may_be_unknown(record, kind, made.get(kind)):
                yield f"{kind} {words!r} is not known here, nor another distribution's: {_first_line(fault)}"
            continue
        if canonical != words:
            yield f"{kind} is {words!r}; expected it as it is always written, {canonical!r}."
        if record.provenance is not None and not alike(identity(value), [("", made.get(kind) or {})]):
            yield f"{kind} is {words!r}; its provenance names another one."


def recorded(record: Record) -> Mapping[str, Any]:
    """The identity of each part by its kind, as the provenance has it; nothing for a row without scores."""
    whole: Mapping[str, Any] = record.provenance.identity if record.provenance else {}
    victim = whole.get("victim")
    return {**whole, **(victim if isinstance(victim, Mapping) else {})}


def is_foreign(part: Any) -> bool:
    """Whether an identity names a class of another distribution, at any depth."""
    if isinstance(part, list | tuple):
        return any(map(is_foreign, part))
    if not isinstance(part, Mapping):
        return False
    name = str(part.get("class", "")) or OWN[0]
    return (name not in HOST_CLASSES and name.partition(".")[0] not in OWN) or any(map(is_foreign, part.values()))


def _may_be_unknown(record: Record, kind: str, part: Any) -> bool:
    if kind in ("threat", "protocol"):
        return False
    if record.status == "ok":
        return is_foreign(part)
    try:
        parse(getattr(record, kind))
    except EcgbenchError:
        return False
    return True


def _first_line(fault: EcgbenchError) -> str:
    return str(fault).splitlines()[0]
