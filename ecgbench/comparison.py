"""Published figures and ours: the same model, method, attack and eps, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ecgbench.metrics import Score
from ecgbench.record import Record
from ecgbench.study import OF_CLASS, Figure, Study
from ecgbench.uncertainty import Spread, over_seeds


@dataclass(frozen=True)
class Pair:
    """A published figure and ours over seeds, None where no row of ours has it; `partial` as in Otherwise."""

    figure: Figure
    ours: Spread | None
    partial: str | None = None

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
    rows = whole_rows(records)
    return tuple(
        Pair(figure, _ours(rows.get(study.row(figure), ()), figure), study.partial(figure)) for figure in study.figures
    )


def whole_rows(records: Iterable[Record]) -> dict[tuple[str, ...], list[Record]]:
    """Rows with scores that met all samples of their protocol, by dataset, threat, protocol, model, attack, defense."""
    rows: dict[tuple[str, ...], list[Record]] = {}
    for record in sorted(records, key=lambda r: r.seed):
        if record.status == "ok" and record.limit is None:
            place = (record.dataset, record.threat, record.protocol, record.model, record.attack, record.defense)
            rows.setdefault(place, []).append(record)
    return rows


def agreement(compared: Sequence[Pair]) -> Agreement | None:
    """Over all pairs that have both sides; None where there is no such pair."""
    gaps = [abs(pair.difference) for pair in compared if pair.difference is not None]
    return Agreement(len(gaps), len(compared), fmean(gaps), max(gaps)) if gaps else None


def agreements(compared: Sequence[Pair]) -> dict[str | None, Agreement]:
    """Over the pairs whose rows are whole, None, then over those that are partial, by how: where both sides stand."""
    kinds = dict.fromkeys([None, *(pair.partial for pair in compared)])
    found = {kind: agreement([pair for pair in compared if pair.partial == kind]) for kind in kinds}
    return {kind: near for kind, near in found.items() if near is not None}


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
    def partial(self) -> str | None:
        """How much less than the study rows of ours in this table are; None where none is."""
        found = dict.fromkeys(pair.partial for pair in self.pairs if pair.partial is not None and pair.ours is not None)
        return "; ".join(found) or None

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


def _ours(records: Sequence[Record], figure: Figure) -> Spread | None:
    scores = [score for record in records if (score := record.score(figure.eps))]
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
