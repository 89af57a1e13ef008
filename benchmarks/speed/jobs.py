"""A grid of 24 cells by `ecgbench run`, two jobs against one: wall time, and whether the records are the same bytes.

Each job has one thread, but for a third run, of one job with two. On two cores one job leaves a core to the process
that starts for the next one, two jobs do not: cells should be long beside such a start (`job_cost.py`).

python benchmarks/speed/jobs.py [--seconds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pairs import machine

import ecgbench

CELLS, TRIED = 24, 100
VICTIM = {"dataset": "synthetic-beats", "model": "mlp", "defense": "none[epochs=1]", "eps": 0.001}


def steps_of(seconds: float, folder: Path) -> int:
    """How many steps of PGD take so long on this machine."""
    (record,) = ecgbench.run(**VICTIM, attack=f"pgd[steps={TRIED}]", store=folder)
    return max(1, round(TRIED * seconds / record.cost.attack_seconds))


def run(suite: Path, folder: Path, jobs: int, threads: int) -> tuple[float, list[dict[str, Any]]]:
    """Wall seconds of a run in a store of its own, and its records without their costs."""
    command = [sys.executable, "-m", "ecgbench", "run", str(suite), "--jobs", str(jobs), "--json", "--quiet"]
    variables = os.environ | {"OMP_NUM_THREADS": str(threads), "ECGBENCH_HOME": str(folder)}
    began = time.monotonic()
    answer = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.monotonic() - began
    records = [json.loads(line) | {"cost": None} for line in answer.stdout.splitlines()]
    return seconds, sorted(records, key=lambda record: str(record["key"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one thread, for each cell")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = steps_of(given.seconds, folder / "first")
        attacks = [f"pgd[steps={steps + more}]" for more in range(CELLS)]
        suite = folder / "suite.toml"
        suite.write_text("\n".join(["[[grid]]", *(f"{key} = {value!r}" for key, value in VICTIM.items())]))
        suite.write_text(f"{suite.read_text()}\nattack = {attacks!r}\n")
        print(f"{CELLS} cells of {steps} steps and more; {os.cpu_count()} cores; {machine()}")
        print(f"{'jobs':>4}{'threads':>9}{'wall s':>9}{'cells a second':>16}")
        runs = {}
        for jobs, threads in ((1, 1), (2, 1), (1, 2)):
            runs[jobs, threads] = run(suite, folder / f"{jobs}-{threads}", jobs, threads)
            seconds = runs[jobs, threads][0]
            print(f"{jobs:>4}{threads:>9}{seconds:>9.1f}{CELLS / seconds:>16.2f}", flush=True)
    one, two, threaded = runs.values()
    gain, over_threads = one[0] / two[0], threaded[0] / two[0]
    print(f"two jobs are {gain:.2f} times as fast as one, {over_threads:.2f} times as fast as one with two threads")
    print(f"the same records: {one[1] == two[1]} with one thread each, {threaded[1] == two[1]} with two threads")


if __name__ == "__main__":
    main()
