"""Published figures and ours: the same model, method, attack and eps, side by side."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from ecgbench.errors import StoreError
from ecgbench.metrics import Score
from ecgbench.record import Record
from ecgbench.uncertainty import Spread, over_seeds

COLUMNS = ("table", "model", "attack", "metric", "method", "eps", "value")
TERMS = ("model", "attack", "method")
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
class Study:
    """Published figures with their source, and which canonical selectors each word of theirs stands for.

    `protocols` names the protocol of an attack, by their word for it, where it is not `protocol`.
    """

    name: str
    citation: str
    dataset: str
    threat: str
    protocol: str
    selectors: Mapping[str, Mapping[str, str]]
    figures: tuple[Figure, ...]
    protocols: Mapping[str, str] = field(default_factory=dict)

    def row(self, figure: Figure) -> tuple[str, ...]:
        """What a record of the same thing has as dataset, threat, protocol, model, attack and defense."""
        words = (self.selectors[kind][getattr(figure, kind)] for kind in TERMS)
        return (self.dataset, self.threat, self.protocols.get(figure.attack, self.protocol), *words)


@dataclass(frozen=True)
class Pair:
    """A published figure and ours over seeds, None where no row of ours has it."""

    figure: Figure
    ours: Spread | None

    @property
    def difference(self) -> float | None:
        """Ours less theirs."""
        return None if self.ours is None else self.ours.mean - self.figure.value


@dataclass(frozen=True)
class Agreement:
    """How near ours come: values compared, of how many, mean and largest absolute difference."""

    compared: int
    of: int
    mean: float
    largest: float


def pairs(study: Study, records: Iterable[Record]) -> tuple[Pair, ...]:
    """Every published figure with ours: the mean over the seeds of whole rows with scores."""
    rows: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if record.status == "ok" and record.limit is None:
            place = (record.dataset, record.threat, record.protocol, record.model, record.attack, record.defense)
            rows.setdefault(place, []).append(record)
    return tuple(Pair(figure, _ours(rows.get(study.row(figure), ()), figure)) for figure in study.figures)


def agreement(compared: Sequence[Pair]) -> Agreement | None:
    """Over all pairs that have both sides; None where there is no such pair."""
    gaps = [abs(pair.difference) for pair in compared if pair.difference is not None]
    return Agreement(len(gaps), len(compared), fmean(gaps), max(gaps)) if gaps else None


@dataclass(frozen=True)
class Table:
    """One published table with ours: its pairs by method and eps, in the order of the study."""

    name: str
    model: str
    attack: str
    metric: str
    rows: Mapping[str, Mapping[float, Pair]]

    @property
    def epsilons(self) -> tuple[float, ...]:
        """Every eps of the table, ascending."""
        return tuple(sorted({eps for row in self.rows.values() for eps in row}))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All of them."""
        return tuple(pair for row in self.rows.values() for pair in row.values())


def tables(compared: Iterable[Pair]) -> tuple[Table, ...]:
    """The pairs table by table; a table is of one model, attack and metric."""
    made: dict[tuple[str, str, str, str], dict[str, dict[float, Pair]]] = {}
    for pair in compared:
        figure = pair.figure
        rows = made.setdefault((figure.table, figure.model, figure.attack, figure.metric), {})
        rows.setdefault(figure.method, {})[figure.eps] = pair
    return tuple(Table(*facts, rows) for facts, rows in made.items())


def read_studies(folder: Path) -> list[Study]:
    """All studies in a folder, by name; none where the folder is missing."""
    return [read_study(path) for path in sorted(folder.glob("*.toml"))]


def _words(table: object, name: str, where: str) -> dict[str, str]:
    """A study's words and what they mean here."""
    if not isinstance(table, Mapping):
        raise StoreError(f"{where} gives {name} = {table!r}; expected a table [{name}] of the study's words.")
    return {str(word): str(text) for word, text in table.items()}


def read_study(path: Path) -> Study:
    """The study in a TOML file and the CSV it names. Raises StoreError, naming file and fault, for another file."""
    where = path.as_posix()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        facts = {name: str(content[name]) for name in ("citation", "values", "dataset", "threat", "protocol")}
        selectors = {kind: _words(content[kind], kind, where) for kind in TERMS}
        protocols = _words(content.get("protocols", {}), "protocols", where)
        rows = (path.parent / facts["values"]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise StoreError(f"{where} cannot be read: {fault}.") from None
    except KeyError as fault:
        raise StoreError(f"{where} lacks {fault}; expected a citation, values, selectors and their words.") from None
    for word in protocols:
        if word not in selectors["attack"]:
            known = ", ".join(selectors["attack"])
            raise StoreError(f"{where} gives a protocol to the attack {word!r}; expected one of {known}.")
    table = csv.DictReader(rows)
    if tuple(table.fieldnames or ()) != COLUMNS:
        raise StoreError(f"{facts['values']} has columns {table.fieldnames}; expected {', '.join(COLUMNS)}.")
    figures = tuple(_figure(line, selectors, f"{facts['values']} line {at}") for at, line in enumerate(table, 2))
    return Study(
        name=path.stem,
        citation=facts["citation"],
        dataset=facts["dataset"],
        threat=facts["threat"],
        protocol=facts["protocol"],
        selectors=selectors,
        figures=figures,
        protocols=protocols,
    )


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


def _ours(records: Sequence[Record], figure: Figure) -> Spread | None:
    scores = [score for record in sorted(records, key=lambda r: r.seed) if (score := record.score(figure.eps))]
    values = [value for score in scores if (value := _value(score, figure.metric)) is not None]
    return over_seeds(values) if values else None


def _value(score: Score, metric: str) -> float | None:
    """What `metric` names; None where the row does not have it."""
    if metric == "challenge":
        return None if score.challenge is None else score.challenge.f1
    named = OF_CLASS.fullmatch(metric)
    if named is None:
        return float(getattr(score, metric))
    one = score.by_class.get(named[2])
    return None if one is None else float(getattr(one, named[1]))
