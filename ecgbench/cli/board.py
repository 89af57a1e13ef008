"""board: the leaderboard, made from records alone."""

from __future__ import annotations

from pathlib import Path

import click

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
@click.argument("target", metavar="DIR", type=click.Path(file_okay=False))
@folder
def site(target: str, leaderboard: str) -> None:
    """Write the leaderboard as a web site into DIR; it works offline, from a disk or any server."""
    from ecgbench.leaderboard.site import write_site

    click.echo(write_site(Path(leaderboard), Path(target)))
