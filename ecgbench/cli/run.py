"""run, plan and why: do the cells, say what would be done, say why it is not there yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ecgbench.cli.options import bench_options, grid_options, open_bench, remark, unfolded

if TYPE_CHECKING:
    from ecgbench.bench import Bench
    from ecgbench.cell import Cell
    from ecgbench.record import Record

SYNTHETIC = "these signals are synthetic, no recordings; real ones: ecgbench data get mitbih, or cinc2017."


@click.command()
@grid_options
@click.option("--json", "as_json", is_flag=True, help="One record a line on stdout.")
@click.option("--results", type=click.Path(file_okay=False), help="Publish records and outcomes into this folder.")
@click.option("--victims", is_flag=True, help="With --results: publish the trained victims, too, beside that folder.")
@click.option("--figures", type=click.Path(file_okay=False), help="Draw curves, matrices and kept deltas, as SVG.")
@click.option("--retrain", is_flag=True, help="Make every stage again, whatever is kept.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def run(
    as_json: bool,
    results: str | None,
    victims: bool,
    figures: str | None,
    retrain: bool,
    quiet: bool,
    data: tuple[str, ...],
    store: str | None,
    device: str,
    plugins: tuple[str, ...],
    leaderboard: str | None,
    **grid: Any,
) -> int:
    """Train, attack and score every combination of the selectors, or a SUITE (TOML)."""
    from ecgbench.cli.progress import Reporter
    from ecgbench.cli.tables import tables

    reporter = Reporter(quiet, debug=click.get_current_context().find_root().params.get("debug", False))
    bench = open_bench(data, store, device, plugins, leaderboard, reporter.tell, retrain)
    cells = unfolded(bench, **grid)
    bench.find(cells)
    records: list[Record] = []
    with reporter:
        for number, cell in enumerate(cells, 1):
            reporter.begin(number, len(cells))
            record = bench.execute(cell)
            reporter.finish(record)
            records.append(record)
            if as_json:
                click.echo(record.json() + b"\n", nl=False)
            if results is not None:
                _publish(bench, record, Path(results), victims)
    if not as_json:
        click.echo(tables(records), nl=False)
    if figures is not None:
        _draw(bench, cells, records, Path(figures))
    if any(record.synthetic for record in records):
        remark(SYNTHETIC)
    return _status([record.status for record in records])


def _publish(bench: Bench, record: Record, folder: Path, victims: bool) -> None:
    from ecgbench.published import publish
    from ecgbench.store import Store

    if record.status == "skipped":
        return
    publish(record, bench.outcomes_of(record), folder)
    if victims:
        bench.publish_victim(record, Store(folder.parent / "checkpoints"))


def _draw(bench: Bench, cells: Sequence[Cell], records: Sequence[Record], folder: Path) -> None:
    """The figures that the board would show of these records, and a figure for each sample whose delta is kept."""
    from ecgbench.errors import EcgbenchError
    from ecgbench.gallery import draw_all, gallery, of_deltas
    from ecgbench.published import Published, place
    from ecgbench.sections import sections

    gone = [r.key[:12] for r in records if r.status == "ok" and bench.outcomes_of(r) is None]
    if gone:
        raise EcgbenchError(f"the outcomes of record {gone[0]} are no longer kept; make them again by --retrain.")
    rows = [Published(record, bench.outcomes_of(record), Path(place(record))) for record in records]
    figures = gallery(sections(rows), (), records)
    for cell, record in zip(cells, records, strict=True):
        if cell.keep_deltas and record.status == "ok" and bench.has_deltas(cell):
            figures |= of_deltas(record, bench.task(cell.dataset), bench.deltas_of(cell))
    draw_all(folder, figures)


def _status(states: list[str]) -> int:
    """0: every cell has its scores; 3: some have; 4: none has."""
    good = states.count("ok")
    return 0 if good == len(states) else 3 if good else 4


WORK = {
    "none": "cached",
    "keep": "to keep deltas",
    "score": "to score",
    "check": "to check and score",
    "audit": "to audit and score",
    "attack": "to attack",
    "train": "to train and attack",
}


@click.command()
@grid_options
@click.option("--json", "as_json", is_flag=True, help="One planned cell a line.")
def plan(
    as_json: bool,
    data: tuple[str, ...],
    store: str | None,
    device: str,
    plugins: tuple[str, ...],
    leaderboard: str | None,
    **grid: Any,
) -> None:
    """Say which cells a run would make and which are cached; run nothing."""
    from ecgbench.whatchanged import remember

    bench = open_bench(data, store, device, plugins, leaderboard)
    cells = unfolded(bench, **grid)
    for planned in bench.plan(cells):
        cell = planned.cell
        kinds = ("dataset", "model", "defense", "attack", "threat")
        names = {kind: bench.catalog.canonical(kind, getattr(cell, kind)) for kind in kinds}
        if as_json:
            click.echo(json.dumps({"key": planned.key, "work": planned.work, **names, "seed": cell.seed}))
        else:
            click.echo(f"{planned.key[:12]}  {WORK[planned.work]:<20}{' '.join(names.values())} seed={cell.seed}")
        remember(bench, planned)


@click.command()
@click.argument("key")
@bench_options
def why(
    key: str,
    data: tuple[str, ...],
    store: str | None,
    device: str,
    plugins: tuple[str, ...],
    leaderboard: str | None,
) -> None:
    """Say what makes the cell KEY (as `plan` or a record prints it) missing, or that it is there."""
    from ecgbench.whatchanged import why as reasons

    for line in reasons(open_bench(data, store, device, plugins, leaderboard), key):
        click.echo(line)
