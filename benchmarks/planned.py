"""How many cells of each suite are published, and what they took: a row of Markdown for every suite.

python benchmarks/planned.py benchmarks/nsr-*.toml

A cell is published when the board has a record of the same names, sizes, protocol and seed. Hours are wall times as the
records state them, on machines with other work; a victim counts once, whatever attacks it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from ecgbench.registry.catalog import Catalog, discover
from ecgbench.results.record import Record, read_record
from ecgbench.results.verification import is_older
from ecgbench.runs.cell import Cell
from ecgbench.runs.suite import read_suite, unfold

Names = tuple[object, ...]
RESULTS = Path("leaderboard/results")


def of_record(record: Record) -> Names:
    """What tells a record from all others but those of other code."""
    kinds = (record.dataset, record.model, record.defense, record.attack, record.threat, record.protocol)
    return *kinds, record.eps, record.seed, record.limit


def of_cell(cell: Cell, catalog: Catalog) -> Names:
    """The same of a cell."""
    kinds = ("dataset", "model", "defense", "attack", "threat", "protocol")
    return *(catalog.canonical(kind, getattr(cell, kind)) for kind in kinds), cell.eps, cell.seed, cell.limit


def row(suite: Path, cells: int, done: Iterable[Record]) -> str:
    """A row of the table."""
    records = list(done)
    trained = {(of.dataset, of.model, of.defense, of.seed): of.cost.train_seconds or 0.0 for of in records}
    hours = (sum(seconds) / 3600 for seconds in (trained.values(), (of.cost.attack_seconds or 0.0 for of in records)))
    counts = (cells, len(records), sum(map(is_older, records)), len(trained))
    return f"| `{suite.name}` | {' | '.join([*map(str, counts), *(f'{time:.1f}' for time in hours)])} |"


def published() -> Callable[[Names], Record | None]:
    """Looks up the record of a cell, the one of present code where there are two."""
    records = [read_record(path.read_bytes(), path.as_posix()) for path in sorted(RESULTS.rglob("*.json"))]
    newest_last = sorted(records, key=is_older, reverse=True)
    return {of_record(record): record for record in newest_last if record.status == "ok"}.get


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", nargs="+", type=Path)
    catalog, find = discover(), published()
    columns = ("suite", "cells", "published", "of older code", "victims", "trained, h", "attacked, h")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for suite in parser.parse_args().suite:
        cells = {of_cell(cell, catalog) for cell in unfold(read_suite(suite), catalog)}
        print(row(suite, len(cells), filter(None, map(find, cells))))


if __name__ == "__main__":
    main()
