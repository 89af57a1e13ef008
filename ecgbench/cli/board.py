"""board: the leaderboard, made from records alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import click

from ecgbench.cli.options import Place, runner_options

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
@click.argument("datasets", nargs=-1, required=True)
@runner_options
def perturbations(datasets: tuple[str, ...], place: Place) -> None:
    """Put what `run --save-perturbations` kept of the rows of DATASETS beside them, for the web site to show.

    For embedded data, and where the licence of recordings allows it.
    """
    from ecgbench.leaderboard.naming import RESULTS
    from ecgbench.leaderboard.perturbations import write_perturbations
    from ecgbench.results.published import read_results
    from ecgbench.runs.saved import saved_perturbations

    leaderboard = Path(place.leaderboard or "leaderboard")
    records = [row.record for row in read_results(leaderboard / RESULTS)]
    _check_known(datasets, {record.dataset for record in records})
    store = replace(place, leaderboard=None).runner().store
    for record in records:
        kept = saved_perturbations(store, record) if record.dataset in datasets else None
        if kept is not None:
            click.echo(write_perturbations(record, kept, leaderboard))


@board.command()
@click.argument("target", metavar="DIR", type=click.Path(file_okay=False))
@folder
def site(target: str, leaderboard: str) -> None:
    """Write the leaderboard as a web site into DIR; it works offline, from a disk or any server."""
    from ecgbench.leaderboard.site import write_site

    click.echo(write_site(Path(leaderboard), Path(target)))


def _check_known(datasets: Collection[str], known: Collection[str]) -> None:
    """Raises UnknownNameError for a dataset without rows."""
    from ecgbench.core.errors import UnknownNameError

    for dataset in datasets:
        if dataset not in known:
            raise UnknownNameError("dataset", dataset, known)
