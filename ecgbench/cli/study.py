"""study: published figures beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecgbench.results.record import Record
    from ecgbench.studies.comparison import Pair
    from ecgbench.studies.study import Study


@click.group()
def study() -> None:
    """Set the figures of a published study beside ours."""


@study.command()
@click.argument("path", metavar="STUDY", type=click.Path(dir_okay=False))
@click.option(
    "--results",
    default="leaderboard/results",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Folder of published records.",
)
def compare(path: str, results: str) -> None:
    """Print the figures of a published STUDY (TOML, see leaderboard/published) beside ours, table by table."""
    from tabulate import tabulate

    from ecgbench.results.published import read_results
    from ecgbench.studies.comparison import agreements, pairs, tables
    from ecgbench.studies.study import read_study

    read = read_study(Path(path))
    records = [row.record for row in read_results(Path(results))]
    _check_words(read, records)
    compared = pairs(read, records)
    click.echo(f"{read.citation}\n{read.dataset}, {read.threat}, protocol {read.protocol}; ours / published")
    for table in tables(compared):
        sizes = table.eps
        head = [f"{table.model} {table.attack} {table.metric.upper()}", *(f"{eps:g}" for eps in sizes)]
        rows = [[table.label(method), *(_cell(row.get(eps)) for eps in sizes)] for method, row in table.rows.items()]
        title = "; ".join([f"table {table.name}", *table.remarks])
        click.echo(f"\n{title}\n{tabulate(rows, head, tablefmt='simple', disable_numparse=True)}")
    near = agreements(compared)
    if not near:
        click.echo("\nno row of ours stands beside any of them yet.")
    for partial, found in near.items():
        how = "" if partial is None else f" (partial: {partial})"
        click.echo(
            f"\n{found.compared} of {found.of} values compared{how}: mean absolute difference {found.mean:.3f}, "
            f"largest {found.largest:.3f}"
        )


def _check_words(study: Study, records: Sequence[Record]) -> None:
    """Rows are found by canonical selectors: another one, of which there is no row, would never meet any."""
    from ecgbench.core.errors import StoreError
    from ecgbench.registry.catalog import discover
    from ecgbench.studies.study import ROW

    catalog = discover()
    there = {(kind, getattr(record, kind)) for record in records for kind in ROW}
    for kind, text in study.meant():
        if (kind, text) not in there:
            canonical = catalog.canonical(kind, catalog.resolve(kind, text))
            if canonical != text:
                raise StoreError(f"{study.name} means {text!r}; expected the {kind} as records have it: {canonical}.")


def _cell(pair: Pair | None) -> str:
    if pair is None:
        return ""
    ours = "-" if pair.ours is None else f"{pair.ours.mean:.2f}"
    return f"{ours} / {pair.theirs.value:.2f}"
