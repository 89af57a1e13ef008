"""compare: published figures beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ecgbench.comparison import Pair


@click.command()
@click.argument("study", type=click.Path(dir_okay=False))
@click.option(
    "--results",
    default="leaderboard/results",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Folder of published records.",
)
def compare(study: str, results: str) -> None:
    """Print the figures of a published STUDY (TOML, see leaderboard/published) beside ours, table by table."""
    from tabulate import tabulate

    from ecgbench.comparison import agreement, pairs, read_study, tables
    from ecgbench.published import read_results

    read = read_study(Path(study))
    compared = pairs(read, [row.record for row in read_results(Path(results))])
    click.echo(f"{read.citation}\nours / published")
    for table in tables(compared):
        sizes = table.epsilons
        head = [f"{table.model} {table.attack} {table.metric.upper()}", *(f"{eps:g}" for eps in sizes)]
        rows = [[method, *(_cell(row.get(eps)) for eps in sizes)] for method, row in table.rows.items()]
        click.echo(f"\ntable {table.name}\n{tabulate(rows, head, tablefmt='simple', disable_numparse=True)}")
    whole = agreement(compared)
    if whole is None:
        click.echo("\nno row of ours stands beside any of them yet.")
    else:
        click.echo(
            f"\n{whole.compared} of {whole.of} values compared: mean absolute difference {whole.mean:.3f}, "
            f"largest {whole.largest:.3f}"
        )


def _cell(pair: Pair | None) -> str:
    if pair is None:
        return ""
    ours = "-" if pair.ours is None else f"{pair.ours.mean:.2f}"
    return f"{ours} / {pair.figure.value:.2f}"
