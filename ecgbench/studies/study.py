"""A published study: its values with their source, and which rows of ours are meant to stand beside them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from math import isfinite
from pathlib import Path

from msgspec import Struct

from ecgbench.core.errors import StoreError, instead
from ecgbench.storage.toml import Text, read_toml

COLUMNS = ("table", "model", "attack", "metric", "method", "eps", "value")
TERMS = ("model", "attack", "method")
PLACE = ("dataset", "threat", "protocol")
ROW = (*PLACE, "model", "attack", "defense")
METRICS = ("acc", "prec", "f1", "challenge")
OF_CLASS = re.compile(r"(precision|recall|f1)\[(.+)\]")  # as in "f1[A]", the F1 of class A


class WhereTable(Struct, frozen=True, forbid_unknown_fields=True):
    """Which values an exception is of."""

    model: Text | None = None
    attack: Text | None = None
    method: Text | None = None


class OtherwiseTable(Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[[otherwise]]` as it is written; the fields are those of `Otherwise`."""

    where: WhereTable = WhereTable()
    model: dict[str, Text] = {}
    attack: dict[str, Text] = {}
    method: dict[str, Text] = {}
    protocol: Text | None = None
    partial: Text | None = None


class JudgedTable(Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[judged]` as it is written; the protocol is the study's unless another is given."""

    of: Text
    attack: Text
    protocol: Text | None = None


class StudyTable(Struct, frozen=True, forbid_unknown_fields=True):
    """A study as it is written: facts, tables of its words with their selectors, and the name of a CSV of values."""

    citation: Text
    values: Text
    dataset: Text
    threat: Text
    protocol: Text
    model: dict[str, Text]
    attack: dict[str, Text]
    method: dict[str, Text]
    otherwise: list[OtherwiseTable] = []
    judged: JudgedTable | None = None


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
    file = path.as_posix()
    table = read_toml(path, StudyTable, file, StoreError)
    selectors = {"model": table.model, "attack": table.attack, "method": table.method}
    return Study(
        name=path.stem,
        citation=table.citation,
        dataset=table.dataset,
        threat=table.threat,
        protocol=table.protocol,
        selectors=selectors,
        values=_values(path.parent / table.values, selectors),
        otherwise=tuple(
            _otherwise(one, selectors, f"{file}, otherwise[{number}]") for number, one in enumerate(table.otherwise)
        ),
        judged=None if table.judged is None else _judged(table.judged, table, f"{file}, judged"),
    )


def _otherwise(table: OtherwiseTable, selectors: Mapping[str, Mapping[str, str]], place: str) -> Otherwise:
    """One exception, in words that the study knows."""
    where = {term: word for term in TERMS if (word := getattr(table.where, term)) is not None}
    meant = {term: words for term in TERMS if (words := getattr(table, term))}
    for term, word in where.items():
        _check_known(word, selectors[term], f"{place}.where.{term},")
    for term, words in meant.items():
        for word in words:
            _check_known(word, selectors[term], f"{place}.{term},")
    return Otherwise(where, meant, table.protocol, table.partial)


def _judged(table: JudgedTable, study: StudyTable, place: str) -> Judged:
    _check_known(table.of, study.attack, f"{place}.of,")
    return Judged(table.of, table.attack, table.protocol or study.protocol)


def _check_known(word: str, known: Iterable[str], place: str) -> None:
    names = tuple(known)
    if word not in names:
        raise StoreError(f"{place} has {word!r}; {instead(word, names)}")


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
        _check_known(words[kind], selectors[kind], f"{source}, {kind},")
    known = words["metric"] in METRICS or OF_CLASS.fullmatch(words["metric"])
    if None in line or not known or not (isfinite(eps) and eps >= 0 and 0 <= value <= 1):
        raise StoreError(
            f"{source} is no value; expected a metric of {', '.join(METRICS)} or such as f1[A], eps from 0, a value in "
            "0..1 and nothing after it."
        )
    return Value(**words, eps=eps, value=value)
