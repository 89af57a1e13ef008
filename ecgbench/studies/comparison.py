"""Published values and ours: the same model, method, attack and eps, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from statistics import fmean

from ecgbench.evaluation.metrics import Score
from ecgbench.evaluation.uncertainty import Spread, over_seeds
from ecgbench.results.record import Record
from ecgbench.studies.study import OF_CLASS, ROW, Study, Value


@dataclass(frozen=True)
class Pair:
    """A published value and ours over seeds, None where no row of ours has it.

    `protocol` is that of our rows where it is not the study's, `partial` how much less than the study they are.
    """

    theirs: Value
    ours: Spread | None
    protocol: str | None = None
    partial: str | None = None

    @property
    def difference(self) -> float | None:
        """Ours less theirs."""
        return None if self.ours is None else self.ours.mean - self.theirs.value


@dataclass(frozen=True)
class Agreement:
    """How near ours come: values compared, of how many, mean and largest absolute difference, NaN of none."""

    compared: int
    of: int
    mean: float
    largest: float


def pairs(study: Study, records: Iterable[Record]) -> tuple[Pair, ...]:
    """Every published value with ours: the mean over the seeds of whole rows with scores."""
    rows = whole_rows(records)
    return tuple(_pair(study, value, rows) for value in study.values)


def whole_rows(records: Iterable[Record]) -> dict[tuple[str, ...], list[Record]]:
    """Rows with scores that met all samples of their protocol, by `ROW` (dataset, ..., defense), in order of seeds."""
    rows: dict[tuple[str, ...], list[Record]] = {}
    for record in sorted(records, key=lambda r: r.seed):
        if record.status == "ok" and record.limit is None:
            rows.setdefault(tuple(getattr(record, name) for name in ROW), []).append(record)
    return rows


def agreement(compared: Sequence[Pair]) -> Agreement:
    """Over all pairs that have both sides."""
    gaps = [abs(pair.difference) for pair in compared if pair.difference is not None]
    return Agreement(len(gaps), len(compared), fmean(gaps) if gaps else nan, max(gaps, default=nan))


def agreements(compared: Iterable[Pair]) -> dict[str | None, Agreement]:
    """Over pairs with whole rows, at None, and with partial ones, by how; empty where no pair has both sides."""
    kinds: dict[str | None, list[Pair]] = {}
    for pair in compared:
        kinds.setdefault(pair.partial, []).append(pair)
    found = {kind: agreement(of) for kind, of in kinds.items()}
    return found if any(near.compared for near in found.values()) else {}


@dataclass(frozen=True)
class Table:
    """One published table with ours: its pairs by method and eps, in the order of the study."""

    name: str
    model: str
    attack: str
    metric: str
    rows: Mapping[str, Mapping[float, Pair]]

    @property
    def eps(self) -> tuple[float, ...]:
        """Every eps of the table, ascending."""
        return tuple(sorted({eps for row in self.rows.values() for eps in row}))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All of them."""
        return tuple(pair for row in self.rows.values() for pair in row.values())

    def label(self, method: str) -> str:
        """The method, and whether rows of ours beside it are partial."""
        partial = any(pair.partial is not None and pair.ours is not None for pair in self.rows[method].values())
        return f"{method} (partial)" if partial else method

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is not as in the study where rows of ours stand: other protocols, and how far they are partial."""
        there = [pair for pair in self.pairs if pair.ours is not None]
        said = [f"protocol {pair.protocol}" for pair in there if pair.protocol is not None]
        said += [f"partial: {pair.partial}" for pair in there if pair.partial is not None]
        return tuple(dict.fromkeys(said))


def tables(compared: Iterable[Pair]) -> tuple[Table, ...]:
    """The pairs table by table; a table is of one model, attack and metric."""
    made: dict[tuple[str, str, str, str], dict[str, dict[float, Pair]]] = {}
    for pair in compared:
        value = pair.theirs
        rows = made.setdefault((value.table, value.model, value.attack, value.metric), {})
        rows.setdefault(value.method, {})[value.eps] = pair
    return tuple(Table(*facts, rows) for facts, rows in made.items())


def _pair(study: Study, value: Value, rows: Mapping[tuple[str, ...], Sequence[Record]]) -> Pair:
    row = study.row(value)
    protocol = row[ROW.index("protocol")]
    other = None if protocol == study.protocol else protocol
    return Pair(value, _ours(rows.get(row, ()), value), other, study.partial(value))


def _ours(records: Sequence[Record], of: Value) -> Spread | None:
    scores = [score for record in records if (score := record.score(of.eps))]
    values = [value for score in scores if (value := _value(score, of.metric)) is not None]
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
