"""A published study: its figures with their source, and which rows of ours are meant to stand beside them."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ecgbench.errors import StoreError, instead

COLUMNS = ("table", "model", "attack", "metric", "method", "eps", "value")
TERMS = ("model", "attack", "method")
PLACE = ("dataset", "threat", "protocol")
METRICS = ("acc", "prec", "f1", "challenge")
OF_CLASS = re.compile(r"(precision|recall|f1)\[(.+)\]")  # as in "f1[A]", the F1 of class A


@dataclass(frozen=True)
class Figure:
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
    """What our rows beside some figures are instead: those whose model, attack and method are as in `where`.

    `place` holds other dataset, threat or protocol, `selectors` other meanings of words. `partial` says how much less
    than the study these rows are, if they are; such figures are compared apart.
    """

    where: Mapping[str, str]
    place: Mapping[str, str]
    selectors: Mapping[str, Mapping[str, str]]
    partial: str | None = None

    def holds(self, figure: Figure) -> bool:
        """Whether this is said of `figure`."""
        return all(getattr(figure, term) == word for term, word in self.where.items())


@dataclass(frozen=True)
class Judged:
    """What judges the victims of a study: rows as beside its attack `of`, but for `attack` and what `place` has."""

    of: str
    attack: str
    place: Mapping[str, str]


@dataclass(frozen=True)
class Study:
    """Published figures with their source, and which canonical selectors each word of theirs stands for.

    `place` is the dataset, threat and protocol of our rows. `otherwise` are exceptions, of which the later ones count.
    `judged` names the attack that says what the same victims are worth, if one does.
    """

    name: str
    citation: str
    place: Mapping[str, str]
    selectors: Mapping[str, Mapping[str, str]]
    figures: tuple[Figure, ...]
    otherwise: tuple[Otherwise, ...] = ()
    judged: Judged | None = None

    def row(self, figure: Figure) -> tuple[str, ...]:
        """What a record of the same thing has as dataset, threat, protocol, model, attack and defense."""
        place, words = self._meant_by(figure)
        return (*(place[name] for name in PLACE), *(words[term] for term in TERMS))

    def judging_row(self, figure: Figure) -> tuple[str, ...] | None:
        """What a record of that which judges the same victim has as these; None where nothing does."""
        if self.judged is None or figure.attack != self.judged.of:
            return None
        place, words = self._meant_by(figure)
        place |= self.judged.place
        words |= {"attack": self.judged.attack}
        return (*(place[name] for name in PLACE), *(words[term] for term in TERMS))

    def _meant_by(self, figure: Figure) -> tuple[dict[str, str], dict[str, str]]:
        """Place and selectors of our rows beside `figure`."""
        place, words = dict(self.place), {term: self.selectors[term][getattr(figure, term)] for term in TERMS}
        for one in self._said_of(figure):
            place |= one.place
            words |= {
                term: meant[getattr(figure, term)]
                for term, meant in one.selectors.items()
                if getattr(figure, term) in meant
            }
        return place, words

    def partial(self, figure: Figure) -> str | None:
        """How much less than the study our rows beside `figure` are; None where they are not."""
        return next((one.partial for one in reversed(self._said_of(figure)) if one.partial is not None), None)

    def meant(self) -> Iterator[tuple[str, str]]:
        """Every selector that the study's words stand for, with its kind: ("defense", "none[recipe=code]")."""
        for place, words in ((self.place, self.selectors), *((one.place, one.selectors) for one in self.otherwise)):
            yield from place.items()
            for term, texts in words.items():
                yield from (("defense" if term == "method" else term, text) for text in texts.values())
        if self.judged is not None:
            yield from (("attack", self.judged.attack), *self.judged.place.items())

    def _said_of(self, figure: Figure) -> list[Otherwise]:
        return [one for one in self.otherwise if one.holds(figure)]


def read_studies(folder: Path) -> list[Study]:
    """All studies in a folder, by name; none where the folder is missing."""
    return [read_study(path) for path in sorted(folder.glob("*.toml"))]


def read_study(path: Path) -> Study:
    """The study in a TOML file and the CSV it names. Raises StoreError, naming file and fault, for another file."""
    where = path.as_posix()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        citation, values = str(content["citation"]), str(content["values"])
        place = {name: str(content[name]) for name in PLACE}
        selectors = {term: _words(content[term], term, where) for term in TERMS}
        rows = (path.parent / values).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise StoreError(f"{where} cannot be read: {fault}.") from None
    except KeyError as fault:
        raise StoreError(f"{where} lacks {fault}; expected a citation, values, selectors and their words.") from None
    _known(content, ("citation", "values", *PLACE, *TERMS, "otherwise", "judged"), where)
    exceptions = content.get("otherwise", [])
    if not isinstance(exceptions, list):
        raise StoreError(f"{where} gives otherwise = {exceptions!r}; expected tables [[otherwise]].")
    numbered = ((one, f"{where}, [[otherwise]] {at}") for at, one in enumerate(exceptions, 1))
    otherwise = tuple(_otherwise(one, selectors, its) for one, its in numbered)
    table = csv.DictReader(rows)
    if tuple(table.fieldnames or ()) != COLUMNS:
        raise StoreError(f"{values} has columns {table.fieldnames}; expected {', '.join(COLUMNS)}.")
    figures = tuple(_figure(line, selectors, f"{values} line {at}") for at, line in enumerate(table, 2))
    judged = _judged(content["judged"], selectors, where) if "judged" in content else None
    return Study(path.stem, citation, place, selectors, figures, otherwise, judged)


def _otherwise(content: object, selectors: Mapping[str, Mapping[str, str]], where: str) -> Otherwise:
    """One exception, in words that the study knows."""
    if not isinstance(content, Mapping):
        raise StoreError(f"{where} is {content!r}; expected a table.")
    _known(content, ("where", "partial", *PLACE, *TERMS), where)
    asked = _words(content.get("where", {}), "where", where)
    _known(asked, TERMS, f"{where}, where,")
    meant = {term: _words(content[term], term, where) for term in TERMS if term in content}
    for term, words in (*((term, [word]) for term, word in asked.items()), *meant.items()):
        _known(words, tuple(selectors[term]), f"{where}, {term},")
    partial = content.get("partial")
    place = {name: str(content[name]) for name in PLACE if name in content}
    return Otherwise(asked, place, meant, None if partial is None else str(partial))


def _judged(content: object, selectors: Mapping[str, Mapping[str, str]], where: str) -> Judged:
    words = _words(content, "judged", where)
    _known(words, ("of", "attack", *PLACE), f"{where}, judged,")
    for name in ("of", "attack"):
        if name not in words:
            raise StoreError(
                f"{where}, judged, lacks {name!r}; expected an attack, and the one of theirs it stands beside."
            )
    of, attack = words.pop("of"), words.pop("attack")
    _known([of], tuple(selectors["attack"]), f"{where}, judged, of,")
    return Judged(of, attack, words)


def _known(words: Iterable[str], known: Sequence[str], where: str) -> None:
    for word in words:
        if word not in known:
            raise StoreError(f"{where} has {word!r}; {instead(word, known)}")


def _words(table: object, name: str, where: str) -> dict[str, str]:
    """A study's words and what they mean here."""
    if not isinstance(table, Mapping):
        raise StoreError(f"{where} gives {name} = {table!r}; expected a table [{name}] of the study's words.")
    return {str(word): str(text) for word, text in table.items()}


def _figure(line: Mapping[str, Any], selectors: Mapping[str, Mapping[str, str]], where: str) -> Figure:
    try:
        eps, value = float(line["eps"]), float(line["value"])
    except (TypeError, ValueError):
        raise StoreError(f"{where} has eps {line['eps']!r}, value {line['value']!r}; expected numbers.") from None
    for kind in TERMS:
        if line[kind] not in selectors[kind]:
            raise StoreError(f"{where} has {kind} {line[kind]!r}; expected one of {', '.join(selectors[kind])}.")
    known = line["metric"] in METRICS or OF_CLASS.fullmatch(line["metric"])
    if not known or not (isfinite(eps) and eps >= 0 and 0 <= value <= 1):
        raise StoreError(
            f"{where} is no figure; expected a metric of {', '.join(METRICS)} or such as f1[A], eps from 0 and a "
            "value in 0..1."
        )
    return Figure(**{name: line[name] for name in COLUMNS[:-2]}, eps=eps, value=value)
