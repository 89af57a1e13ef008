"""Jobs are begun when what they need is done, a victim's failure is that of its cells, and nothing is made twice.

The jobs here are done by the process of the test; how children end is seen elsewhere.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ecgbench.api import open_runner
from ecgbench.core.errors import StoreError
from ecgbench.core.progress import Progress
from ecgbench.engine import Ended, Engine, Failures, Finished, Limits, Listener
from ecgbench.engine.child import do
from ecgbench.engine.grid import KILLED
from ecgbench.engine.request import Ends, Failure, Request
from ecgbench.engine.workers import Began, Event, Over
from ecgbench.results.record import Record
from ecgbench.runs.job import CellJob, Job, VictimJob, jobs
from ecgbench.runs.runner import Runner
from ecgbench.runs.suite import Grid as Asked
from ecgbench.runs.suite import unfold
from tests.command_line import BEATS

PLAIN = "none[epochs=1]"
RETRAINED = f"static[base={PLAIN},epochs=1,attack=fgsm]"
TRANSFER = f"transfer[surrogate={PLAIN},attack=fgsm]"
SHOT = Ended("signal", signal.SIGKILL)


@dataclass
class Here:
    """Does jobs in this process; `ends` says how those whose words hold a text end instead, one after the other."""

    ends: dict[str, list[Ended]] = field(default_factory=dict)
    size: int = 2
    begun: list[Job] = field(default_factory=list)
    running: AbstractSet[Job] = frozenset()
    most: int = 0
    widths: list[int] = field(default_factory=list)
    thens: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._events: list[Event] = []

    def open(self, stop: threading.Event, jobs: int) -> Here:
        return self

    @property
    def has_room(self) -> bool:
        return len(self.running) < self.size

    def begin(self, job: Job, request: Request, width: int, then: int | None) -> None:
        self.begun.append(job)
        self.widths.append(width)
        self.thens.append(then)
        self.running |= {job}
        self.most = max(self.most, len(self.running))
        given = next((ends.pop(0) for text, ends in self.ends.items() if text in str(job) and ends), None)
        if given is None:
            given = Ended("ok", failure=do(request, request.runner(lambda _: None)))
        self._events = [Began(job), *self._events, Over(job, given)]

    def event(self, seconds: float) -> Event | None:
        event = self._events.pop(0) if self._events else None
        if isinstance(event, Over):
            self.running -= {event.job}
        return event

    def close(self) -> None:
        self._events.clear()


@dataclass
class Place:
    """A store and a grid."""

    runner: Runner

    def grid(self, defense: tuple[str, ...] = (PLAIN,), attack: tuple[str, ...] = ("fgsm",), **more: Any) -> list[Any]:
        asked = Asked(dataset=(BEATS,), model=("linear",), defense=defense, attack=attack, eps=(0.05,), **more)
        return unfold((asked,), self.runner.catalog)

    def run(self, cells: list[Any], here: Here, retrain: bool = False) -> dict[int, Record]:
        return records(Engine(replace(self.runner, retrain=retrain), Listener(lambda _: None), here).run(cells))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    def tell(_: Progress) -> None: ...

    return Place(open_runner(data={}, store=tmp_path, device="cpu", plugins=(), tell=tell))


def records(finished: Iterable[Finished]) -> dict[int, Record]:
    return {cell.number: cell.record for cell in finished}


def score(record: Record) -> tuple[Any, ...]:
    return record.key, record.status, record.scores, record.error


def test_a_job_that_all_wait_for_is_alone(place: Place) -> None:
    here = Here()
    place.run(place.grid((PLAIN,), ("fgsm", "noise")), here)
    assert here.widths == [1, 2, 2]
    assert here.thens == [2, 2, None]  # the first cell is expected while the training runs
    again = Here()
    place.run(place.grid((RETRAINED, PLAIN), ("fgsm", "noise", "pgd[steps=1]")), again)
    assert again.widths == [2, 2, 3, 3, 3]  # the retraining beside a cell of its base, then its own three cells


def test_every_job_is_begun_once_after_what_it_needs(place: Place) -> None:
    cells = place.grid((RETRAINED, PLAIN), (TRANSFER, "fgsm"))
    here = Here()
    found = place.run(cells, here)
    needs = jobs(cells, place.runner.catalog)
    assert sorted(here.begun, key=str) == sorted(needs, key=str) and here.most == here.size
    for number, job in enumerate(here.begun):
        assert set(needs[job]) <= set(here.begun[:number])
    assert [score(found[number]) for number in range(len(cells))] == [
        score(place.runner.execute(cell)) for cell in cells
    ]
    assert all(record.status == "ok" for record in found.values())


def test_what_is_kept_is_not_made_again_unless_all_is(place: Place) -> None:
    cells = place.grid((RETRAINED,))
    first = place.run(cells, Here())
    for more, expected in ((cells, 0), (place.grid((RETRAINED,), ("fgsm", "identity")), 1)):
        here = Here()
        assert place.run(more, here)[0] == first[0] and len(here.begun) == expected
    here = Here()
    again = place.run(cells, here, retrain=True)
    assert len(here.begun) == 3 and score(again[0]) == score(first[0])


def test_a_base_is_not_trained_for_a_victim_that_is_there(place: Place) -> None:
    (cell,) = place.grid((RETRAINED,))
    place.run([cell], Here())
    for base in place.runner.store.identities("victims"):
        if base[1]["defense"]["class"].endswith("Standard"):
            (folder,) = (place.runner.store.root / "victims").glob(base[0])
            folder.rename(place.runner.store.root / "gone")
    here = Here()
    place.run(place.grid((RETRAINED,), ("identity",)), here)
    assert [type(job) for job in here.begun] == [CellJob]


def test_a_job_that_somebody_kills_is_begun_again_but_not_for_ever(place: Place) -> None:
    cells = place.grid(attack=("fgsm", "identity"))
    here = Here({"attack='fgsm'": [SHOT] * (KILLED - 1)})
    assert all(record.status == "ok" for record in place.run(cells, here).values())
    assert len(here.begun) == 3 + KILLED - 1
    here = Here({"attack='pgd'": [SHOT] * KILLED})
    (failed,) = place.run(place.grid(attack=("pgd",)), here).values()
    assert failed.status == "failed" and failed.error == "signal 9 (SIGKILL): the job was killed"
    assert len(here.begun) == KILLED


def test_a_victim_that_fails_fails_all_that_needs_it_and_nothing_else(place: Place) -> None:
    cells = place.grid((PLAIN, RETRAINED), seed=(0, 1))
    here = Here({f"defense='{PLAIN}', seed=1": [Ended("timeout", limits=Limits(9))]})
    found = place.run(cells, here)
    for number, cell in enumerate(cells):
        record = found[number]
        assert record.status == ("ok" if cell.seed == 0 else "failed"), record
        assert cell.seed == 0 or str(record.error).startswith("timeout: the job was ended after 9 s")
    assert not [job for job in here.begun if isinstance(job, CellJob) and job.seed == 1]
    failures = Failures(place.runner.store)
    needed = jobs(cells, place.runner.catalog)
    assert all((failures.of(job) is not None) == (job.seed == 1) for job in needed if isinstance(job, CellJob))
    here = Here()
    assert all(record.status == "ok" for record in place.run(cells, here).values())
    assert len(here.begun) == 4 and not any(failures.of(job) for job in needed)


def test_a_job_without_result_is_a_failed_cell(place: Place) -> None:
    here = Here({"CellJob": [Ended("ok", log=("last words",))]})
    cells = place.grid()
    (record,) = place.run(cells, here).values()
    assert record.error == "the job ended without a result"
    failure = Failures(place.runner.store).of(here.begun[-1])
    assert failure is not None and failure.log == ("last words",)


def test_a_failure_is_that_of_the_job_whoever_it_names(place: Place) -> None:
    fgsm, identity = place.grid(attack=("fgsm", "identity"))
    other = CellJob.of(identity, place.runner.catalog)
    here = Here({"attack='fgsm'": [Ended("ok", failure=Failure(job=other, status="failed", reason="made up"))]})
    (record,) = place.run([fgsm], here).values()
    failures = Failures(place.runner.store)
    assert record.error == "made up" and failures.of(other) is None and failures.of(here.begun[-1]) is not None


def test_a_stop_begins_no_job_and_what_ends_a_run_is_raised(place: Place) -> None:
    cells = place.grid(attack=("fgsm", "identity", "pgd"))
    here = Here(size=1)
    engine = Engine(place.runner, Listener(lambda _: None), here)
    found = {}
    for cell in engine.run(cells):
        found[cell.number] = cell.record
        engine.stop.set()
    assert list(found) == [0] and len(here.begun) == 2
    here = Here({"attack='identity'": [Ended("ok", ends=Ends(1, "the disk is full."))]}, size=1)
    found = {}
    with pytest.raises(StoreError, match="the disk is full"):
        found.update(records(Engine(place.runner, Listener(lambda _: None), here).run(cells)))
    assert [type(job) for job in here.begun] == [CellJob]


def test_a_cell_that_cannot_be_is_skipped_and_no_failure_is_kept(place: Place) -> None:
    cells = place.grid(("static-study",))
    here = Here()
    (record,) = place.run(cells, here).values()
    assert record.status == "skipped" and record.error
    assert Failures(place.runner.store).of(here.begun[-1]) is None
    assert [type(job) for job in here.begun] == [VictimJob, VictimJob, CellJob]
