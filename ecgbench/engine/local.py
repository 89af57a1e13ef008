"""The jobs of a grid on this machine: several at once, each in a process of its own, in topological order."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec

from ecgbench.core.errors import EcgbenchError, StoreError
from ecgbench.core.progress import Progress
from ecgbench.engine.request import Failure, Failures, Request
from ecgbench.engine.supervisor import Child, Ended, Limits, supervise
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.job import CellJob, Job, VictimJob, jobs
from ecgbench.runs.runner import Runner

TICK = 0.2
"""Seconds after which somebody who watches is asked to look again, whatever happens."""
KILLED = 5
"""How often a job is begun that somebody else kills by SIGKILL: a machine out of memory, or a person."""


class Watch(Protocol):
    """Whoever watches a grid; all calls come from the thread that runs it."""

    def plan(self, cells: int, kept: int, todo: Sequence[Job], workers: int) -> None:
        """What there is to do, before anything is begun."""

    def began(self, job: Job) -> None:
        """A job has begun."""

    def told(self, job: Job, progress: Progress) -> None:
        """A job tells how far it is."""

    def ended(self, job: Job, ended: Ended, again: bool) -> None:
        """A job has ended; `again`: it is begun anew."""

    def finish(self, record: Record, seconds: float) -> None:
        """A cell has its record, after so many seconds of its job; 0 for one that was kept."""

    def tick(self) -> None:
        """Time has passed."""


@dataclass(frozen=True)
class Began:
    """A job was given to a child."""

    job: Job


@dataclass(frozen=True)
class Told:
    """A child tells how far its job is."""

    job: Job
    progress: Progress


@dataclass(frozen=True)
class Over:
    """A child has ended."""

    job: Job
    ended: Ended


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Engine:
    """Runs cells for `runner`, `workers` jobs at once (default: a job for each core), within `limits` a job.

    `stop` is an event by which another thread or a signal handler ends the run: no job is begun any more, and those
    under way end by SIGTERM with the states that they have kept.
    """

    runner: Runner
    watch: Watch
    workers: int | None = None
    limits: Limits = Limits()
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Record]]:
        """Every cell and its record, in order, each as soon as it and all before it are there.

        Raises what ends a run, see `Runner.execute`; what is finished by then is yielded first.
        """
        grid = _Grid.of(self.runner, cells)
        given = 0
        fault: EcgbenchError | None = None
        try:
            for record, seconds in self._records(grid):
                self.watch.finish(record, seconds)
                while given < len(cells) and (ready := grid.records.get(given)) is not None:
                    yield cells[given], ready
                    given += 1
        except EcgbenchError as error:
            fault = error
        for number in range(given, len(cells)):
            if number in grid.records:
                yield cells[number], grid.records[number]
        if fault is not None:
            raise fault

    def _records(self, grid: _Grid) -> Iterator[tuple[Record, float]]:
        """Records as they come, with the seconds of their jobs."""
        workers = max(1, min(self.workers or cores(), len(grid.cells) - len(grid.records)))
        self.watch.plan(len(grid.cells), len(grid.records), list(grid.waiting), workers)
        yield from ((record, 0.0) for _, record in sorted(grid.records.items()))
        pool = _Pool(self.limits, self.stop, max(1, cores() // workers))
        try:
            while grid.waiting or pool.running:
                while len(pool.running) < workers and not self.stop.is_set() and (job := grid.next()) is not None:
                    pool.begin(job, grid.request(job), more=bool(grid.waiting))
                if self.stop.is_set() and not pool.running:
                    return
                yield from self._heard(grid, pool)
        finally:
            self.stop.set()
            pool.close()

    def _heard(self, grid: _Grid, pool: _Pool) -> Iterator[tuple[Record, float]]:
        """What the next event brings."""
        match pool.event(TICK):
            case Began(job):
                self.watch.began(job)
            case Told(job, progress):
                self.watch.told(job, progress)
            case Over(job, ended):
                if ended.ends is not None:
                    raise ended.ends.error()
                again = grid.take(job, ended)
                self.watch.ended(job, ended, again)
                if not again and ended.end != "stopped":
                    yield from ((record, ended.seconds) for record in grid.settle(job, ended))
        self.watch.tick()


class _Pool:
    """Children at work, each under a thread that supervises it, and one that warms up for the next job."""

    def __init__(self, limits: Limits, stop: threading.Event, threads: int) -> None:
        self.running: dict[Job, threading.Thread] = {}
        self._limits, self._stop, self._threads = limits, stop, threads
        self._events: queue.SimpleQueue[Began | Told | Over] = queue.SimpleQueue()
        self._spare: Child | None = None

    def begin(self, job: Job, request: Request, more: bool) -> None:
        """Give a job to a child; `more` jobs wait for the next one."""
        child = self._spare if self._spare is not None and self._spare.alive else Child.start(self._threads)
        self._spare = Child.start(self._threads) if more else None
        thread = threading.Thread(target=self._supervise, args=(job, child, request), daemon=True)
        self.running[job] = thread
        self._events.put(Began(job))
        thread.start()

    def event(self, seconds: float) -> Began | Told | Over | None:
        """What happens next; None where nothing does for so long."""
        try:
            event = self._events.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(event, Over):
            self.running.pop(event.job).join()
        return event

    def close(self) -> None:
        """Wait for those that were told to stop."""
        if self._spare is not None:
            self._spare.kill()
        for thread in self.running.values():
            thread.join()

    def _supervise(self, job: Job, child: Child, request: Request) -> None:
        ended = supervise(child, request, self._limits, self._stop, lambda told: self._events.put(Told(job, told)))
        self._events.put(Over(job, ended))


class _Grid:
    """Cells, the jobs that make them, and what has come of them."""

    def __init__(self, runner: Runner, cells: Sequence[Cell], needs: Mapping[Job, tuple[Job, ...]]) -> None:
        self.cells, self.records = cells, dict[int, Record]()
        self.waiting: dict[Job, None] = {}
        self._runner, self._needs = runner, needs
        self._reader = replace(runner, retrain=False)
        self._numbers = {CellJob.of(cell, runner.catalog): number for number, cell in enumerate(cells)}
        self._failures = Failures(runner.store)
        self._begun: dict[Job, int] = {}
        self._open: set[Job] = set()

    @classmethod
    def of(cls, runner: Runner, cells: Sequence[Cell]) -> _Grid:
        """What is missing waits; nothing is made yet. Raises EcgbenchError for a cell that no selector can write."""
        grid = cls(runner, cells, jobs(cells, runner.catalog))
        wanted: set[Job] = set()
        for job, number in grid._numbers.items():
            record = None if runner.retrain else grid._kept(number)
            if record is not None and grid._is_whole(cells[number]):
                grid.records[number] = record
            else:
                wanted |= {job, *grid._all_needed(job)}
        for each in grid._needs:
            if each in wanted and (isinstance(each, CellJob) or runner.retrain or not grid._has_victim(each)):
                grid.waiting[each] = None
        grid._open = set(grid.waiting)
        return grid

    def next(self) -> Job | None:
        """The first job all of whose needs are met; it waits no more."""
        ready = next((job for job in self.waiting if not self._open & set(self._needs[job])), None)
        if ready is not None:
            del self.waiting[ready]
        return ready

    def request(self, job: Job) -> Request:
        """What a child is asked; the job's last failure is forgotten."""
        self._failures.forget(job)
        self._begun[job] = self._begun.get(job, 0) + 1
        return Request.of(job, self._waiting_for(job), self._runner)

    def take(self, job: Job, ended: Ended) -> bool:
        """Whether a job that has ended is begun again, because somebody else killed it."""
        again = (ended.end, ended.number) == ("signal", signal.SIGKILL) and self._begun[job] < KILLED
        if again:
            self.waiting = {job: None, **self.waiting}
        return again

    def settle(self, job: Job, ended: Ended) -> list[Record]:
        """The records that follow from a job that has ended; those of all cells that waited for it, where it failed."""
        self._open.discard(job)
        failure = self._failure(job, ended)
        if isinstance(job, VictimJob):
            return [] if failure is None else self._spread(job, failure)
        number = self._numbers[job]
        record = self._kept(number) if failure is None else None
        if record is None:
            failure = failure or Failure(
                job=job, status="failed", reason="the job ended without a result", log=ended.log
            )
            return [self._failed(job, failure)]
        self.records[number] = record
        return [record]

    def _failure(self, job: Job, ended: Ended) -> Failure | None:
        if ended.end != "ok":
            return Failure(job=job, status="failed", reason=ended.reason, log=ended.log)
        failure = self._failures.of(job)
        return None if failure is None else msgspec.structs.replace(failure, log=ended.log)

    def _spread(self, job: VictimJob, failure: Failure) -> list[Record]:
        """A victim that failed fails all that waits for it."""
        self._failures.keep(failure)
        hit = self._waiting_for(job)
        for each in list(self.waiting):
            if job in self._all_needed(each):
                del self.waiting[each]
                self._open.discard(each)
        return [self._failed(cell, msgspec.structs.replace(failure, job=cell)) for cell in hit]

    def _failed(self, job: CellJob, failure: Failure) -> Record:
        if failure.status == "failed":
            self._failures.keep(failure)
        else:
            self._failures.forget(job)
        number = self._numbers[job]
        self.records[number] = self._reader.unscored(self.cells[number], failure.status, failure.reason)
        return self.records[number]

    def _waiting_for(self, job: Job) -> tuple[CellJob, ...]:
        waiting = (each for each in self.waiting if isinstance(each, CellJob))
        return tuple(each for each in waiting if job in self._all_needed(each))

    def _all_needed(self, job: Job) -> set[Job]:
        """All that must be done before a job."""
        return {each for need in self._needs[job] for each in (need, *self._all_needed(need))}

    def _kept(self, number: int) -> Record | None:
        """The record of a cell, if it is there; a plugin that breaks when it is asked is said by the cell's own job."""
        try:
            return self._reader.kept(self.cells[number])
        except StoreError:
            raise
        except Exception:
            return None

    def _is_whole(self, cell: Cell) -> bool:
        return not cell.save_perturbations or self._reader.has_perturbations(cell)

    def _has_victim(self, job: VictimJob) -> bool:
        try:
            return self._reader.has_victim(job)
        except StoreError:
            raise
        except Exception:
            return False
