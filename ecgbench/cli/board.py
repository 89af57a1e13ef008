"""board: the leaderboard, made from records alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecgbench.cli.options import Place, runner_options

if TYPE_CHECKING:
    from ecgbench.figures import Figure

folder = click.option(
    "--leaderboard", default="leaderboard", show_default=True, type=click.Path(file_okay=False), help="Its folder."
)


@click.group()
def board() -> None:
    """Build the leaderboard from published records, as Markdown or a web site, or check that it is not stale."""


@board.command()
@folder
def build(leaderboard: str) -> None:
    """Render leaderboard/results into leaderboard/README.md."""
    from ecgbench.leaderboard.board import write

    click.echo(write(Path(leaderboard)))


@board.command()
@folder
def check(leaderboard: str) -> int:
    """Score every row again from its outcomes; exit 1 if a byte of the board would change."""
    from ecgbench.leaderboard.board import check as faults_of
    from ecgbench.leaderboard.board import older

    faults = faults_of(Path(leaderboard))
    for fault in faults:
        click.echo(fault, err=True)
    if not faults:
        since, rows = older(Path(leaderboard))
        click.echo(f"the board is what its records say; {since} of {rows} rows are of older code.")
    return 1 if faults else 0


@board.command()
@runner_options
def labels(place: Place) -> None:
    """Write down what the datasets of all rows say of their samples, so that rows can be checked without recordings."""
    from ecgbench.leaderboard.check_rows import write_labels_of

    for path in write_labels_of(Path(place.leaderboard or "leaderboard"), place.runner()):
        click.echo(path)


@board.command()
@click.argument("target", metavar="DIR", type=click.Path(file_okay=False))
@click.option(
    "--signals",
    multiple=True,
    metavar="DATASET",
    help="Show perturbations that are saved of its rows; for embedded data, or where its licence allows it.",
)
@runner_options
def site(target: str, signals: tuple[str, ...], place: Place) -> None:
    """Write the leaderboard as a web site into DIR; it works offline, from a disk or any server."""
    from ecgbench.leaderboard.site import write_site

    leaderboard = Path(place.leaderboard or "leaderboard")
    click.echo(write_site(leaderboard, Path(target), _signals(leaderboard, signals, place) if signals else {}))


def _signals(leaderboard: Path, datasets: Collection[str], place: Place) -> dict[str, dict[str, Figure]]:
    """By key of a record the figures of its saved perturbations. Raises EcgbenchError for a dataset without rows."""
    from ecgbench.core.errors import UnknownNameError
    from ecgbench.leaderboard.site.signals import row_figures
    from ecgbench.leaderboard.victim_pages import RESULTS
    from ecgbench.results.published import read_results
    from ecgbench.runs.saved import saved_perturbations

    records = [row.record for row in read_results(leaderboard / RESULTS)]
    for dataset in datasets:
        if dataset not in {record.dataset for record in records}:
            raise UnknownNameError("dataset", dataset, {record.dataset for record in records})
    runner = replace(place, leaderboard=None).runner()
    found = {}
    for record in records:
        kept = saved_perturbations(runner.store, record) if record.dataset in datasets else None
        if kept is not None:
            task = runner.task(runner.catalog.resolve("dataset", record.dataset))
            found[record.key] = row_figures(record, task, kept)
    return found
