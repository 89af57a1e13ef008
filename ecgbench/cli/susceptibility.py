"""susceptibility: where the saved perturbations of records lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecgbench.cli.layout import fold
from ecgbench.cli.options import Place, remark, runner_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ecgbench.evaluation.perturbations import Perturbations
    from ecgbench.results.record import Record
    from ecgbench.runs.runner import Runner
    from ecgbench.susceptibility import Agreement, Direction, Report


@click.command()
@click.argument("records", metavar="RECORD...", nargs=-1, required=True)
@click.option("--figures", type=click.Path(file_okay=False), help="Draw the maps as SVG.")
@click.option("--json", "as_json", is_flag=True, help="One report a line, maps included.")
@click.option("--draws", type=click.IntRange(min=10), default=1000, show_default=True, help="Bootstrap resamples.")
@runner_options
def susceptibility(records: tuple[str, ...], figures: str | None, as_json: bool, draws: int, place: Place) -> None:
    """Map where the saved perturbations of each RECORD lie, by measurement and hour, for each direction apart.

    A RECORD is a key (or its beginning) of a row that was run with --save-perturbations, or the file of a published
    one, whose perturbations are beside it.
    """
    from ecgbench.susceptibility import comparisons

    runner = place.runner()
    made = [_report(runner, row, draws) for row in _rows(runner, records)]
    for number, report in enumerate(made, 1):
        title = f"{number}. {report.row}" if len(made) > 1 else report.row
        click.echo(json.dumps(report.plain()) if as_json else "\n".join(_lines(report, title)))
    if not as_json:
        click.echo("Rank correlation of S_j [95 %]:")
        for found in comparisons(made, draws):
            click.echo(fold(f"  {found.words}: {_said(found.agreement)}"))
    if figures is not None:
        from ecgbench.leaderboard.figures import draw_all
        from ecgbench.susceptibility.figures import report_figures

        draw_all(Path(figures), {name: figure for report in made for name, figure in report_figures(report)})


@dataclass(frozen=True)
class _Row:
    """A record, and the leaderboard that it was read from, if it was."""

    record: Record
    leaderboard: Path | None = None


def _rows(runner: Runner, names: Sequence[str]) -> list[_Row]:
    """In the order given. Raises EcgbenchError where one is given twice, which would be compared with itself."""
    from ecgbench.core.errors import EcgbenchError
    from ecgbench.results.kept import kept_record
    from ecgbench.results.published import read_published

    found: dict[str, _Row] = {}
    for name in names:
        if name.endswith(".json"):
            row = _Row(read_published(Path(name)).record, _leaderboard_of(Path(name)))
        else:
            row = _Row(kept_record(runner.store, name))
        if row.record.key in found:
            raise EcgbenchError(f"record {row.record.key[:12]} is given twice; expected each record once.")
        found[row.record.key] = row
    return list(found.values())


def _leaderboard_of(path: Path) -> Path | None:
    """The leaderboard whose `results/<dataset>/` a record's file would be in; None where it lies too high for one."""
    folders = path.absolute().parents
    return folders[2] if len(folders) > 2 else None


def _report(runner: Runner, row: _Row, draws: int) -> Report:
    from ecgbench.susceptibility import report

    record = row.record
    words = f"{record.dataset} {record.model} {record.defense} {record.attack} seed {record.seed}"
    return report(words, record.headline, _saved(runner, row), record.classes, _measurements(runner, record), draws)


def _saved(runner: Runner, row: _Row) -> Perturbations:
    """Of all that were saved of this row those of most samples, or else those that are published."""
    from ecgbench.core.errors import EcgbenchError
    from ecgbench.leaderboard.perturbations import read_perturbations
    from ecgbench.runs.saved import saved_perturbations

    kept = saved_perturbations(runner.store, row.record)
    if kept is None and row.leaderboard is not None:
        kept = read_perturbations(row.record, row.leaderboard)
    if kept is None:
        key = row.record.key[:12]
        raise EcgbenchError(f"no perturbations of record {key} are kept; run its cell with --save-perturbations 1000.")
    return kept


def _measurements(runner: Runner, record: Record) -> tuple[str, ...]:
    """Their names; () where the recordings are not there."""
    from ecgbench.core.errors import DataError, EcgbenchError

    try:
        names = runner.task(runner.catalog.resolve("dataset", record.dataset)).features
    except DataError as fault:
        remark(f"measurements are numbered, since their names come with the recordings: {fault}")
        return ()
    if not names:
        raise EcgbenchError(f"{record.dataset} names no measurements; expected a table of them, as synthetic-icu is.")
    return names


def _lines(report: Report, title: str) -> Iterator[str]:
    from tabulate import tabulate

    yield fold(f"{title}, eps {report.eps:g}")
    for direction in report.directions:
        yield f"\n{fold(_summary(direction))}"
        if direction.maps is None or direction.interval is None:
            continue
        maps, s = direction.maps, direction.maps.s.sum(0)
        rows = [
            [
                report.measurements[j],
                f"{s[j]:.3f} [{direction.interval[0, j]:.3f}, {direction.interval[1, j]:.3f}]",
                f"{maps.gmp[:, j].max():.2f}",
                f"{maps.gap[:, j].sum():.3f}",
                f"{maps.gpp[:, j].mean():.3f}",
                f"{maps.sensitivity[:, j].sum():.2f}",
            ]
            for j in (-s).argsort(kind="stable")
        ]
        head = ["measurement", "S_j [95 %]", "max GMP", "sum GAP", "mean GPP", "sensitivity"]
        yield tabulate(rows, head, tablefmt="simple", disable_numparse=True)
    yield ""


def _summary(direction: Direction) -> str:
    share = f"{direction.name}: {len(direction.delta)} of {direction.attacked} stays ({direction.success:.0%})"
    if not len(direction.delta):
        return share
    from statistics import median

    found = f"median {median(direction.nonzero.tolist()):g} changed cells, L1 {median(direction.l1.tolist()):.3g}"
    halves = "too few to halve" if direction.halves is None else f"halves agree by {_said(direction.halves)}"
    return f"{share}, {found}, {direction.raised:.0%} of the changes raise a value; {halves}"


def _said(found: Agreement) -> str:
    low, high = found.interval
    return f"{found.correlation:.2f} [{low:.2f}, {high:.2f}]"
