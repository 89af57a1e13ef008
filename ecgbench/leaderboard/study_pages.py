"""The page of a published study: its tables beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ecgbench.leaderboard.figures import FIGURES
from ecgbench.leaderboard.naming import study_page
from ecgbench.leaderboard.page import Block, Bullets, Code, Heading, Page, Paragraph, Picture, Table, Text
from ecgbench.leaderboard.wording import MISSING, figure, mean, number, sentence
from ecgbench.results.record import Record
from ecgbench.studies.comparison import Pair, agreements, pairs, tables, whole_rows
from ecgbench.studies.comparison import Table as PublishedTable
from ecgbench.studies.figures import study_figures
from ecgbench.studies.study import Study


def study_pages(studies: Sequence[Study], records: Sequence[Record]) -> Iterator[Page]:
    """The page of every study that has a row of ours beside it."""
    for study in studies:
        if agreements(pairs(study, records)):
            yield Page.of(study_page(study.name), f"Beside published figures: {study.name}", _blocks(study, records))


def _blocks(study: Study, records: Sequence[Record]) -> Iterator[Block]:
    compared, rows = pairs(study, records), whole_rows(records)
    yield Paragraph(sentence(study.citation))
    yield Bullets(tuple(_terms(study, compared)))
    for table in tables(compared):
        if agreements(table.pairs):
            yield from _table(table)
            for name, shown in study_figures(study, table, rows).items():
                yield Picture(shown.title, f"{FIGURES}/{name}")


def _terms(study: Study, compared: Sequence[Pair]) -> Iterator[Text]:
    said = (Code(study.dataset), ", ", Code(study.threat), ", protocol ", Code(study.protocol))
    yield *said, " unless a table says otherwise; the mean of our seeds / published."
    for partial, found in agreements(compared).items():
        how = "" if partial is None else f" (partial: {partial})"
        yield (
            f"{found.compared} of {found.of} values stand beside ours{how}: mean absolute difference "
            f"{figure(found.mean)}, largest {figure(found.largest)}."
        )


def _table(table: PublishedTable) -> Iterator[Block]:
    yield Heading(f"Table {table.name}: {table.model}, {table.attack}, {table.metric.upper()}")
    near = [
        f"mean absolute difference {figure(found.mean)}{'' if partial is None else ' (partial)'}"
        for partial, found in agreements(table.pairs).items()
        if found.compared
    ]
    yield Paragraph(sentence("; ".join([*table.remarks, *near])))
    rows = tuple((table.label(name), *(_beside(row.get(eps)) for eps in table.eps)) for name, row in table.rows.items())
    yield Table(("eps", *(number(eps) for eps in table.eps)), rows)


def _beside(pair: Pair | None) -> str:
    return MISSING if pair is None else f"{mean(pair.ours)} / {pair.theirs.value:.2f}"
