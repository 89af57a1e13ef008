"""run, plan and explain: do the cells, say what would be done, say why it is not there yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecgbench.cli.engaged import Engaged, engine_options
from ecgbench.cli.layout import fold
from ecgbench.cli.options import Asked, Place, grid_options, remark, runner_options

if TYPE_CHECKING:
    from ecgbench.results.bounds import Bounds
    from ecgbench.results.record import Record
    from ecgbench.runs.cell import Cell
    from ecgbench.runs.runner import Runner

SYNTHETIC = "these signals are synthetic, no recordings; real ones: ecgbench data get mitbih, or cinc2017."


@click.command()
@grid_options
@click.option("--json", "as_json", is_flag=True, help="One record a line on stdout.")
@click.option("--results", type=click.Path(file_okay=False), help="Publish records and outcomes into this folder.")
@click.option("--victims", is_flag=True, help="With --results: publish the trained victims, too, beside that folder.")
@click.option(
    "--figures", type=click.Path(file_okay=False), help="Draw curves, matrices and saved perturbations as SVG."
)
@click.option("--retrain", is_flag=True, help="Make every stage again, whatever is kept.")
@engine_options
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def run(
    as_json: bool,
    results: str | None,
    victims: bool,
    figures: str | None,
    retrain: bool,
    quiet: bool,
    how: Engaged,
    asked: Asked,
    place: Place,
) -> int:
    """Train, attack and score every combination of the selectors, or a SUITE (TOML)."""
    from ecgbench.cli.tables import tables
    from ecgbench.results.bounds import Bounds

    how.check()
    debug = click.get_current_context().find_root().params.get("debug", False)
    reporter = how.reporter(quiet, debug)
    runner = place.runner(reporter.tell, retrain)
    cells = how.chosen(asked.cells(runner), runner)
    runner.find(cells)
    bounds = None if results is None else Bounds.read(Path(results).parent)
    found: dict[int, Record] = {}
    interrupted = False
    with reporter, how.run(runner, cells, reporter) as finished:
        try:
            for cell in finished:
                record = cell.record if bounds is None else _judged(runner, cell.record, bounds)
                reporter.finish(record, cell.seconds)
                found[cell.number] = record
                if as_json:
                    click.echo(record.json() + b"\n", nl=False)
                if results is not None:
                    _publish(runner, record, Path(results), victims)
        except KeyboardInterrupt:
            interrupted = True
    records = [found[number] for number in sorted(found)]
    if not as_json and (records or not interrupted):
        click.echo(tables(records), nl=False)
    if figures is not None and not interrupted:
        _draw(replace(runner, retrain=False), cells, records, Path(figures))
    if any(record.synthetic for record in records):
        remark(SYNTHETIC)
    if interrupted:
        raise KeyboardInterrupt
    return _status([record.status for record in records])


def _judged(runner: Runner, record: Record, bounds: Bounds) -> Record:
    """The record, or a failed one where its attack broke what a published certificate proves."""
    from ecgbench.results.published import Published, place

    return bounds.judged(Published(record, runner.outcomes_of(record), Path(place(record)))).record


def _publish(runner: Runner, record: Record, folder: Path, victims: bool) -> None:
    from ecgbench.leaderboard.check_rows import write_labels_for
    from ecgbench.results.published import publish
    from ecgbench.storage.store import Store

    if record.status == "skipped":
        return
    publish(record, runner.outcomes_of(record), folder)
    write_labels_for(record, folder.parent, runner)
    if victims:
        runner.publish_victim(record, Store(folder.parent / "checkpoints"))


def _draw(runner: Runner, cells: Sequence[Cell], records: Sequence[Record], folder: Path) -> None:
    """The figures that the board would show of these records, and one for each sample whose perturbation is saved."""
    from ecgbench.core.errors import EcgbenchError
    from ecgbench.leaderboard.figures import draw_all, of_perturbations, run_figures
    from ecgbench.leaderboard.naming import Names
    from ecgbench.leaderboard.sections import sections
    from ecgbench.leaderboard.titles import Titles
    from ecgbench.results.published import Published, place

    gone = [r.key[:12] for r in records if r.status == "ok" and runner.outcomes_of(r) is None]
    if gone:
        raise EcgbenchError(f"the outcomes of record {gone[0]} are no longer kept; make them again by --retrain.")
    rows = [Published(record, runner.outcomes_of(record), Path(place(record))) for record in records]
    figures = run_figures(Names.of(Titles(), sections(rows)))
    for cell, record in zip(cells, records, strict=True):
        if cell.save_perturbations and record.status == "ok" and runner.has_perturbations(cell):
            figures |= of_perturbations(record, runner.task(cell.dataset), runner.perturbations_of(cell))
    draw_all(folder, figures)


def _status(states: list[str]) -> int:
    """0: every cell has its scores; 3: some have; 4: none has."""
    good = states.count("ok")
    return 0 if good == len(states) else 3 if good else 4


WORK = {
    "none": "cached",
    "save": "to save perturbations",
    "score": "to score",
    "check": "to check and score",
    "audit": "to audit and score",
    "attack": "to attack",
    "train": "to train and attack",
}


@click.command()
@grid_options
@click.option("--json", "as_json", is_flag=True, help="One planned cell a line.")
def plan(as_json: bool, asked: Asked, place: Place) -> None:
    """Say which cells a run would make and which are cached; run nothing."""
    from ecgbench.runs.explain import remember

    runner = place.runner()
    cells = asked.cells(runner)
    for planned in runner.plan(cells):
        cell = planned.cell
        kinds = ("dataset", "model", "defense", "attack", "threat")
        names = {kind: runner.catalog.canonical(kind, getattr(cell, kind)) for kind in kinds}
        if as_json:
            click.echo(json.dumps({"key": planned.key, "work": planned.work, **names, "seed": cell.seed}))
        else:
            words = " ".join([*names.values(), f"seed={cell.seed}"])
            click.echo(fold(f"{planned.key[:12]}  {WORK[planned.work]:<20}{words}", " " * 14))
        remember(runner, planned)


@click.command()
@click.argument("key")
@runner_options
def explain(key: str, place: Place) -> None:
    """Say what makes the cell KEY (as `plan` or a record prints it) missing, or that it is there."""
    from ecgbench.runs import explain as missing

    for line in missing.explain(place.runner(), key):
        click.echo(fold(line))
