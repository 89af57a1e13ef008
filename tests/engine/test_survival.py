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

ATTACKS = [f"pgd[steps={n}]" for n in range(1, 21)] + [f"noise[draws={n}]" for n in range(1, 20)]
"""39 cells of each victim, which are trained and attacked in a fraction of a second."""
TIMEOUT, MEMORY = 120.0, 1_500_000_000
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


def kill_at_random(process: subprocess.Popen[str], records: Path, moments: list[int], killed: list[int]) -> None:
    """SIGKILL some child of a run a moment after so many records are there."""
    draws = random.Random(0)
    for number in moments:
        while len(list(records.glob("*"))) < number and process.poll() is None:
            time.sleep(0.05)
        time.sleep(draws.uniform(0, 2))
        with suppress(psutil.Error):
            child = draws.choice(psutil.Process(process.pid).children())
            child.kill()
            killed.append(child.pid)


@pytest.mark.slow
@pytest.mark.parametrize(("victims", "kills"), [(5, 20)])
def test_kills_and_poisoned_cells_leave_the_other_195_as_they_were(
    victims: int, kills: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    honest, whole, held = (tmp_path / name for name in ("honest.toml", "whole.toml", "held"))
    honest.write_text(grid(ATTACKS, range(victims)))
    whole.write_text(grid([f"hostile[act={act}]" for act in POISONED], range(1)) + honest.read_text())
    expected = figures(ecgbench(tmp_path / "serial", "run", str(honest), "--json", "--quiet"))
    assert len(expected) == victims * len(ATTACKS)
    moments = sorted(random.Random(0).sample(range(len(expected) - 5), kills))
    limits = ("--timeout", f"{TIMEOUT:g}s", "--memory", "1.5GB", "--jobs", "2")
    process = spawn(tmp_path, "run", str(whole), *HOSTILE, *limits, "--isolate", "--json", HOSTILE_HELD=str(held))
    killed: list[int] = []
    records = tmp_path / "store" / "records"
    killer = threading.Thread(target=kill_at_random, args=(process, records, moments, killed))
    killer.start()
    try:
        answer = finished(process, 2 * PATIENCE)
    finally:
        process.kill()
        killer.join()
    assert answer.code == 3 and len(killed) == kills
    assert len(answer.records) == len(expected) + len(POISONED) and figures(answer) == expected
    reasons = {record["attack"]: str(record["error"]) for record in answer.records if record["status"] == "failed"}
    assert len(reasons) == len(POISONED)
    assert all(reasons[f"hostile[act={act}]"].startswith(reason) for act, reason in POISONED.items()), reasons
    (seconds,) = map(float, re.findall(rf"ended after {TIMEOUT:g} s \((\d+\.\d) s\)", answer.err))
    assert TIMEOUT <= seconds <= TIMEOUT + 5
    assert MEMORY <= float(held.read_text()) <= 1.2 * MEMORY
    record_property("jobs begun again", answer.err.count("it is begun again"))
    record_property("seconds of the hang", seconds)
    record_property("memory held, of the limit", float(held.read_text()) / MEMORY)
