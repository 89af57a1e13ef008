"""What a process for each job costs: its start, the engine beside it, and one cell against the same in one process.

python benchmarks/speed/job_cost.py [--pairs 5] [--cells 12]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from time import process_time

from pairs import machine

import ecgbench
from ecgbench.engine.supervisor import COMMAND, environment

CELL = {"dataset": "synthetic-beats[beats=200]", "model": "mlp", "defense": "none[epochs=1]", "eps": 0.05}


def of_children() -> float:
    """CPU seconds of all children that have ended."""
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start() -> tuple[float, float]:
    """Wall and CPU seconds of a child that is given no job."""
    began, before = time.monotonic(), of_children()
    subprocess.run(COMMAND, env=environment(1), stdin=subprocess.DEVNULL, check=True)
    return time.monotonic() - began, of_children() - before


def beside(folder: Path, cells: int) -> float:
    """CPU seconds of this process for each cell of a grid whose victim is kept, planning and watching included."""
    attacks = [f"noise[draws={draws}]" for draws in range(1, cells + 1)]
    ecgbench.run(**CELL, attack="identity", store=folder)
    began = process_time()
    records = ecgbench.run(**CELL, attack=attacks, store=folder, isolate=True, jobs=1)
    assert all(record.status == "ok" for record in records)
    return (process_time() - began) / cells


def command(folder: Path, *options: str) -> float:
    """Wall seconds of `ecgbench run` for one cell and its victim, in a store of its own."""
    cell = ["-d", CELL["dataset"], "-m", CELL["model"], "-D", CELL["defense"], "-e", CELL["eps"], "-a", "fgsm"]
    words = [sys.executable, "-m", "ecgbench", "run", *map(str, cell), "--store", str(folder), "--quiet", *options]
    began = time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cells", type=int, default=12)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        walls, cpus = zip(*(start() for _ in range(given.pairs)), strict=True)
        print(machine())
        print(f"start of a job's process: {median(walls):.2f} s, {median(cpus):.2f} CPU s", flush=True)
        cost = beside(folder / "grid", given.cells)
        print(f"the engine beside it: {1000 * cost:.1f} ms of CPU a cell, of {given.cells} cells", flush=True)
        pairs = [
            [command(folder / f"{number}{option}", option) for option in ("--isolate", "--no-isolate")]
            for number in range(given.pairs)
        ]
        apart, here = (median(taken) for taken in zip(*pairs, strict=True))
        more = median(one - other for one, other in pairs)
        print(f"one cell: {apart:.2f} s with a process for each job, {here:.2f} s in one, {more:.2f} s more")


if __name__ == "__main__":
    main()
