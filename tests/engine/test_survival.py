"""A grid whose workers are killed at random and whose plugins do the worst gives every other record as undisturbed."""

from __future__ import annotations

import random
import re
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.command_line import BEATS, ecgbench, finished, spawn
from tests.engine.hostile import HOSTILE
from tests.engine.records import PATIENCE, figures

SEEDS, ATTACKS = range(5), [f"pgd[steps={n}]" for n in range(1, 21)] + [f"noise[draws={n}]" for n in range(1, 20)]
"""195 cells of five victims, each trained and attacked in a fraction of a second."""
TIMEOUT, MEMORY = 120.0, 1_500_000_000
KILLS = 20
POISONED = {
    "boom": "RuntimeError in attack hostile[act=boom]",
    "segv": "signal 11 (SIGSEGV): the job was killed",
    "osexit": "exit 3: the job's process ended without a result",
    "hang": f"timeout: the job was ended after {TIMEOUT:g} s",
    "memory": "memory: the job was ended when it held more than 1.5 GB",
}


def grid(attacks: list[str], seeds: range) -> str:
    """A part of a suite."""
    victims = f'[[grid]]\ndataset = "{BEATS}"\nmodel = "mlp[widths=8]"\ndefense = "none[epochs=1]"\neps = 0.05\n'
    return f"{victims}attack = {attacks}\nseed = {list(seeds)}\n"


def kill_at_random(process: subprocess.Popen[str], records: Path, draws: random.Random, killed: list[int]) -> None:
    """SIGKILL `KILLS` children of a run, each a moment after a number of records is there that is drawn before."""
    for number in sorted(draws.sample(range(190), KILLS)):
        while len(list(records.glob("*"))) < number and process.poll() is None:
            time.sleep(0.05)
        time.sleep(draws.uniform(0, 2))
        with suppress(psutil.Error):
            child = draws.choice(psutil.Process(process.pid).children())
            child.kill()
            killed.append(child.pid)


@pytest.mark.slow
def test_twenty_kills_and_five_poisoned_cells_leave_the_other_195_as_they_were(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    honest, whole, held = (tmp_path / name for name in ("honest.toml", "whole.toml", "held"))
    honest.write_text(grid(ATTACKS, SEEDS))
    whole.write_text(grid([f"hostile[act={act}]" for act in POISONED], range(1)) + honest.read_text())
    expected = figures(ecgbench(tmp_path / "serial", "run", str(honest), "--json", "--quiet"))
    limits = ("--timeout", f"{TIMEOUT:g}s", "--memory", "1.5GB", "--jobs", "2")
    process = spawn(tmp_path, "run", str(whole), *HOSTILE, *limits, "--isolate", "--json", HOSTILE_HELD=str(held))
    killed: list[int] = []
    records = tmp_path / "store" / "records"
    killer = threading.Thread(target=kill_at_random, args=(process, records, random.Random(0), killed))
    killer.start()
    answer = finished(process, 2 * PATIENCE)
    killer.join()
    assert answer.code == 3 and len(killed) == KILLS
    assert len(answer.records) == 200 and len(expected) == 195 and figures(answer) == expected
    reasons = {record["attack"]: str(record["error"]) for record in answer.records if record["status"] == "failed"}
    assert len(reasons) == len(POISONED)
    assert all(reasons[f"hostile[act={act}]"].startswith(reason) for act, reason in POISONED.items()), reasons
    (seconds,) = map(float, re.findall(rf"ended after {TIMEOUT:g} s \((\d+\.\d) s\)", answer.err))
    assert TIMEOUT <= seconds <= TIMEOUT + 5
    assert MEMORY <= float(held.read_text()) <= 1.2 * MEMORY
    record_property("jobs begun again", answer.err.count("it is begun again"))
    record_property("seconds of the hang", seconds)
    record_property("memory held, of the limit", float(held.read_text()) / MEMORY)
