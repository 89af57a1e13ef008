"""Which maps rank the measurements alike: two directions, two rows, and publications beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from ecgbench.susceptibility.agreement import Agreement, agreement
from ecgbench.susceptibility.published import published
from ecgbench.susceptibility.report import Direction, Report


@dataclass(frozen=True)
class Compared:
    """Two maps, in words, and how far they agree."""

    words: str
    agreement: Agreement


def comparisons(reports: Sequence[Report], draws: int = 1000) -> list[Compared]:
    """All that can be compared of these reports, which are numbered from 1."""
    return [*_directions(reports, draws), *_rows(reports, draws), *_publications(reports, draws)]


def _directions(reports: Sequence[Report], draws: int) -> Iterator[Compared]:
    """The directions of each row."""
    for number, report in enumerate(reports, 1):
        for first, second in combinations(_successful(report), 2):
            yield Compared(f"{first.name} and {second.name} of {number}", agreement(first.delta, second.delta, draws))


def _rows(reports: Sequence[Report], draws: int) -> Iterator[Compared]:
    """The same direction of two rows with the same measurements: other seeds, attacks or settings."""
    for (a, ours), (b, theirs) in combinations(enumerate(reports, 1), 2):
        if ours.measurements != theirs.measurements:
            continue
        for first in _successful(ours):
            for second in _successful(theirs):
                if first.name == second.name:
                    found = agreement(first.delta, second.delta, draws)
                    yield Compared(f"{first.name} of {a} and {b}", found)


def _publications(reports: Sequence[Report], draws: int) -> Iterator[Compared]:
    for number, report in enumerate(reports, 1):
        if len(report.directions) != 2:
            continue
        for study in published():
            for at, direction in enumerate(report.directions):
                found = study.beside(direction, at, report.measurements, draws)
                if found is not None:
                    words = f"{direction.name} of {number} and {study.name} (other data: {study.note})"
                    yield Compared(words, found)


def _successful(report: Report) -> list[Direction]:
    return [direction for direction in report.directions if len(direction.delta)]
