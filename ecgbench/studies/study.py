"""A published study: its values with their source, and which rows of ours are meant to stand beside them."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from math import isfinite
from pathlib import Path

from ecgbench.core.errors import StoreError, instead

COLUMNS = ("table", "model", "attack", "metric", "method", "eps", "value")
TERMS = ("model", "attack", "method")
PLACE = ("dataset", "threat", "protocol")
ROW = (*PLACE, "model", "attack", "defense")
METRICS = ("acc", "prec", "f1", "challenge")
OF_CLASS = re.compile(r"(precision|recall|f1)\[(.+)\]")  # as in "f1[A]", the F1 of class A


@dataclass(frozen=True)
class Value:
    """One published value, in the study's words; eps 0 is clean, the metric "f1[A]" is the F1 of class A."""

    table: str
    model: str
    attack: str
    metric: str
    method: str
    eps: float
    value: float


@dataclass(frozen=True)
class Otherwise:
    """What our rows are instead beside values whose model, attack and method are as in `where`; empty, beside all.

    `protocol` is another one, `selectors` are other meanings of words. `partial` says how much less than the study
    these rows are, if they are.
    """

    where: Mapping[str, str]
    selectors: Mapping[str, Mapping[str, str]]
    protocol: str | None = None
    partial: str | None = None

    def holds(self, value: Value) -> bool:
        """Whether this is said of `value`."""
        return all(getattr(value, term) == word for term, word in self.where.items())


@dataclass(frozen=True)
class Judged:
    """What judges the victims of a study: rows as beside its attack `of`, but of this attack and protocol."""

    of: str
    attack: str
    protocol: str


@dataclass(frozen=True)
class Study:
    """Published values with their source, and which canonical selectors each word of theirs stands for.

    `otherwise` are exceptions, of which the later ones count. `judged` names the attack that says what the same
    victims are worth, if one does.
    """

    name: str
    citation: str
    dataset: str
    threat: str
    protocol: str
    selectors: Mapping[str, Mapping[str, str]]
    values: tuple[Value, ...]
    otherwise: tuple[Otherwise, ...] = ()
    judged: Judged | None = None

    def row(self, value: Value) -> tuple[str, ...]:
        """What a record of the same thing has as dataset, threat, protocol, model, attack and defense."""
        return tuple(self._row(value)[name] for name in ROW)

    def judging_row(self, value: Value) -> tuple[str, ...] | None:
        """What a record of that which judges the same victim has as these; None where nothing does."""
        if self.judged is None or value.attack != self.judged.of:
            return None
        row = self._row(value) | {"attack": self.judged.attack, "protocol": self.judged.protocol}
        return tuple(row[name] for name in ROW)

    def partial(self, value: Value) -> str | None:
        """How much less than the study our rows beside `value` are; None where they are not."""
        return next((one.partial for one in reversed(self._said_of(value)) if one.partial is not None), None)

    def meant(self) -> Iterator[tuple[str, str]]:
        """Every selector that the study means, with its kind: ("defense", "none[recipe=code]")."""
        yield from (("dataset", self.dataset), ("threat", self.threat), ("protocol", self.protocol))
        for selectors in (self.selectors, *(one.selectors for one in self.otherwise)):
            for term, texts in selectors.items():
                yield from (("defense" if term == "method" else term, text) for text in texts.values())
        yield from (("protocol", one.protocol) for one in self.otherwise if one.protocol is not None)
        if self.judged is not None:
            yield from (("attack", self.judged.attack), ("protocol", self.judged.protocol))

    def _row(self, value: Value) -> dict[str, str]:
        row = {"dataset": self.dataset, "threat": self.threat, "protocol": self.protocol}
        words = {term: self.selectors[term][getattr(value, term)] for term in TERMS}
        for one in self._said_of(value):
            row |= {} if one.protocol is None else {"protocol": one.protocol}
            for term, texts in one.selectors.items():
                words[term] = texts.get(getattr(value, term), words[term])
        return row | {"model": words["model"], "attack": words["attack"], "defense": words["method"]}

    def _said_of(self, value: Value) -> list[Otherwise]:
        return [one for one in self.otherwise if one.holds(value)]


def read_studies(folder: Path) -> list[Study]:
    """All studies in a folder, by name; none where the folder is missing."""
    return [read_study(path) for path in sorted(folder.glob("*.toml"))]


def read_study(path: Path) -> Study:
    """The study in a TOML file and the CSV it names. Raises StoreError, naming file and fault, for another file."""
    source = path.as_posix()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise StoreError(f"{source} cannot be read: {fault}.") from None
    facts = ("citation", "values", *PLACE)
    _known(content, (*facts, *TERMS, "otherwise", "judged"), source)
    for name in (*facts, *TERMS):
        if name not in content:
            raise StoreError(f"{source} lacks {name!r}; expected {', '.join(facts)}, and tables of the study's words.")
    citation, values, dataset, threat, protocol = (_text(content[name], name, source) for name in facts)
    selectors = {term: _words(content[term], term, source) for term in TERMS}
    exceptions = content.get("otherwise", [])
    if not isinstance(exceptions, list):
        raise StoreError(f"{source} gives otherwise = {exceptions!r}; expected tables [[otherwise]].")
    numbered = ((one, f"{source}, [[otherwise]] {at}") for at, one in enumerate(exceptions, 1))
    return Study(
        name=path.stem,
        citation=citation,
        dataset=dataset,
        threat=threat,
        protocol=protocol,
        selectors=selectors,
        values=_values(path.parent / values, selectors),
        otherwise=tuple(_otherwise(one, selectors, its) for one, its in numbered),
        judged=_judged(content["judged"], selectors, protocol, source) if "judged" in content else None,
    )


def _otherwise(content: object, selectors: Mapping[str, Mapping[str, str]], source: str) -> Otherwise:
    """One exception, in words that the study knows."""
    if not isinstance(content, Mapping):
        raise StoreError(f"{source} is {content!r}; expected a table.")
    _known(content, ("where", "partial", "protocol", *TERMS), source)
    where = _words(content.get("where", {}), "where", source)
    _known(where, TERMS, f"{source}, where,")
    meant = {term: _words(content[term], term, source) for term in TERMS if term in content}
    for term, words in (*((term, [word]) for term, word in where.items()), *meant.items()):
        _known(words, tuple(selectors[term]), f"{source}, {term},")
    protocol, partial = (
        _text(content[name], name, source) if name in content else None for name in ("protocol", "partial")
    )
    return Otherwise(where, meant, protocol, partial)


def _judged(content: object, selectors: Mapping[str, Mapping[str, str]], protocol: str, source: str) -> Judged:
    words = {"protocol": protocol} | _words(content, "judged", source)
    _known(words, ("of", "attack", "protocol"), f"{source}, judged,")
    for name in ("of", "attack"):
        if name not in words:
            raise StoreError(f"{source}, judged, lacks {name!r}; expected a word of [attack], and a selector of ours.")
    _known([words["of"]], tuple(selectors["attack"]), f"{source}, judged, of,")
    return Judged(**words)


def _known(words: Iterable[str], known: Sequence[str], source: str) -> None:
    for word in words:
        if word not in known:
            raise StoreError(f"{source} has {word!r}; {instead(word, known)}")


def _words(table: object, name: str, source: str) -> dict[str, str]:
    """A study's words and what they mean here."""
    if not isinstance(table, Mapping):
        raise StoreError(f"{source} gives {name} = {table!r}; expected a table [{name}] of the study's words.")
    return {word: _text(text, f"{name}.{word}", source) for word, text in table.items()}


def _text(value: object, name: str, source: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise StoreError(f"{source} gives {name} = {value!r}; expected text.")
    return value


def _values(path: Path, selectors: Mapping[str, Mapping[str, str]]) -> tuple[Value, ...]:
    """The published values in a CSV. Raises StoreError by line."""
    source = path.as_posix()
    found: dict[tuple[object, ...], Value] = {}
    try:
        table = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        if tuple(table.fieldnames or ()) != COLUMNS:
            raise StoreError(f"{source} has columns {table.fieldnames}; expected {', '.join(COLUMNS)}.")
        for line in table:
            value = _value(line, selectors, f"{source} line {table.line_num}")
            if found.setdefault(astuple(value)[:-1], value) is not value:
                raise StoreError(f"{source} line {table.line_num} repeats a value; expected each of them once.")
    except (OSError, ValueError, csv.Error) as fault:
        raise StoreError(f"{source} cannot be read: {fault}.") from None
    return tuple(found.values())


def _value(line: Mapping[str | None, str | None], selectors: Mapping[str, Mapping[str, str]], source: str) -> Value:
    words = {name: line[name] or "" for name in COLUMNS[:-2]}
    try:
        eps, value = float(line["eps"] or ""), float(line["value"] or "")
    except ValueError:
        raise StoreError(f"{source} has eps {line['eps']!r}, value {line['value']!r}; expected numbers.") from None
    for kind in TERMS:
        _known([words[kind]], tuple(selectors[kind]), f"{source}, {kind},")
    known = words["metric"] in METRICS or OF_CLASS.fullmatch(words["metric"])
    if None in line or not known or not (isfinite(eps) and eps >= 0 and 0 <= value <= 1):
        raise StoreError(
            f"{source} is no value; expected a metric of {', '.join(METRICS)} or such as f1[A], eps from 0, a value in "
            "0..1 and nothing after it."
        )
    return Value(**words, eps=eps, value=value)
