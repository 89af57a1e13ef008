"""How jobs of this machine share its cores."""

from __future__ import annotations

import threading
from typing import ClassVar, cast

import pytest

from ecgbench.engine import workers
from ecgbench.engine.request import Request
from ecgbench.engine.supervisor import Ended, Limits
from ecgbench.engine.workers import LocalPool
from ecgbench.runs.job import VictimJob

REQUEST = cast(Request, None)


class Started:
    """A child that does nothing, with so many threads."""

    alive = True
    all: ClassVar[list[Started]] = []

    def __init__(self, threads: int) -> None:
        self.threads, self.killed = threads, False
        self.all.append(self)

    @classmethod
    def start(cls, threads: int) -> Started:
        return cls(threads)

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> LocalPool:
    monkeypatch.setattr(Started, "all", [])
    monkeypatch.setattr(workers, "Child", Started)
    monkeypatch.setattr(workers, "cores", lambda: 8)
    monkeypatch.setattr(workers, "supervise", lambda *_: Ended("ok"))
    return LocalPool(4, Limits(), threading.Event())


def begin(pool: LocalPool, seed: int, width: int, then: int | None = None) -> None:
    pool.begin(VictimJob(dataset="d", model="m", defense="n", seed=seed), REQUEST, width, then)


def test_a_job_has_the_cores_of_all_that_could_run_beside_it(pool: LocalPool) -> None:
    for seed, width in enumerate((1, 2, 3, 4, 100)):
        begin(pool, seed, width)
    assert [child.threads for child in Started.all] == [8, 4, 2, 2, 2]


def test_the_child_that_waits_is_taken_by_a_job_of_as_many_threads_alone(pool: LocalPool) -> None:
    begin(pool, 0, 1, then=4)
    begin(pool, 1, 4, then=4)
    assert [child.threads for child in Started.all] == [8, 2, 2]
    begin(pool, 2, 1)
    assert [(child.threads, child.killed) for child in Started.all[2:]] == [(2, True), (8, False)]


def test_the_child_that_waits_ends_with_the_pool(pool: LocalPool) -> None:
    begin(pool, 0, 4, then=4)
    pool.close()
    assert [child.killed for child in Started.all] == [False, True]
