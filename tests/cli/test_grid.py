"""What a log says of a grid: what is under way, in words of training and attack, and the time that is left."""

from __future__ import annotations

import msgspec
import pytest

from ecgbench.cli import progress
from ecgbench.cli.grid import GridReporter
from ecgbench.core.progress import Epoch, Progress, Started, SweepProgress
from ecgbench.results.record import Cost
from ecgbench.runs.job import CellJob, Job, VictimJob
from tests.made_up_rows import made_up, row

VICTIM = VictimJob(dataset="d", model="m", defense="n", seed=0)


def cell(attack: str) -> CellJob:
    return CellJob(dataset="d", model="m", defense="n", attack=attack, threat="t", protocol="p", eps=(0.1,), seed=0)


@pytest.fixture
def reporter(monkeypatch: pytest.MonkeyPatch) -> GridReporter:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    return GridReporter(quiet=False)


@pytest.mark.parametrize(
    ("job", "step", "line"),
    [
        (VICTIM, None, "train d m n seed 0: prepare"),
        (VICTIM, Started("training a victim."), "train d m n seed 0: first epoch"),
        (VICTIM, Epoch(3, 50, 0.8125, None), "train d m n seed 0: epoch 3/50 loss 0.812"),
        (cell("strict"), SweepProgress(0.05, 1, 4, 30, 99), "d m n strict seed 0: attack eps 0.05 (2/4) 30/99 samples"),
    ],
    ids=["prepare", "first epoch", "epoch", "attack"],
)
def test_a_log_says_what_is_under_way(
    job: Job, step: Progress | None, line: str, reporter: GridReporter, capsys: pytest.CaptureFixture[str]
) -> None:
    reporter.plan(1, [job], 1)
    reporter.began(job)
    if step is not None:
        reporter.told(job, step)
    capsys.readouterr()
    reporter.tick()
    assert capsys.readouterr().err == f"[0/1] time left unknown, under way: {line}\n"


def test_the_time_left_follows_from_cells_that_are_kept(
    reporter: GridReporter, capsys: pytest.CaptureFixture[str]
) -> None:
    made = row(made_up(["0", "01"])).record
    kept = msgspec.structs.replace(made, dataset="d", attack="strict", cost=Cost(attack_seconds=7200.5))
    reporter.plan(2, [cell("strict")], 1)
    reporter.finish(kept, 0.0)
    reporter.began(cell("strict"))
    capsys.readouterr()
    reporter.tick()
    assert capsys.readouterr().err.startswith("[1/2] 2:00:00 left")
