"""The cells of a grid, the jobs that make them in topological order, and what has come of them."""

from __future__ import annotations

import heapq
import signal
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from ecgbench.core.errors import StoreError
from ecgbench.engine.request import Failure, Failures, Request
from ecgbench.engine.supervisor import Ended
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.job import CellJob, Job, jobs
from ecgbench.runs.runner import Runner

KILLED = 5
"""How often a job is begun that somebody else kills by SIGKILL: a machine out of memory, or a person."""


class Grid:
    """What is kept is found at once, what is missing waits; nothing is made yet.

    `records` are those of the cells that are done, by the cell's number. Raises EcgbenchError for a cell that no
    selector can write.
    """

    def __init__(self, runner: Runner, cells: Sequence[Cell]) -> None:
        self.cells = cells
        self.records: dict[int, Record] = {}
        self._runner, self._reader = runner, replace(runner, retrain=False)
        self._failures = Failures(runner.store)
        self._needs = jobs(cells, runner.catalog)
        self._numbers = {CellJob.of(cell, runner.catalog): number for number, cell in enumerate(cells)}
        self._begun: dict[Job, int] = {}
        todo = self._missing()
        self._order = {job: place for place, job in enumerate(todo)}
        self._open = {job: set(self._needs[job]) & todo.keys() for job in todo}
        self._followers = _followers(self._needs, todo)
        self._jobs = list(todo)
        self._depth = _depths(self._needs, todo)
        self._widths = Counter(self._depth.values())
        self._ready = [place for job, place in self._order.items() if not self._open[job]]

    @property
    def todo(self) -> list[Job]:
        """The jobs that are not done, those under way included, in order."""
        return list(self._open)

    @property
    def is_done(self) -> bool:
        """Whether every cell has its record."""
        return not self._open

    def next(self) -> Job | None:
        """The first job all of whose needs are met, which is now under way; None where there is none."""
        return self._jobs[heapq.heappop(self._ready)] if self._ready else None

    def following(self) -> Job | None:
        """The job that is likely begun next: one that could be now, or else the first that waits for one under way."""
        if self._ready:
            return self._jobs[self._ready[0]]
        return next((job for job in self._open if job not in self._begun), None)

    def width(self, job: Job) -> int:
        """How many jobs have as many others before them as this one: they can run at once."""
        return self._widths[self._depth[job]]

    def request(self, job: Job) -> Request:
        """What a child is asked."""
        self._begun[job] = self._begun.get(job, 0) + 1
        return Request.of(job, self._cells_behind(job), self._runner)

    def begins_again(self, job: Job, ended: Ended) -> bool:
        """Whether a job that has ended waits again, because it was stopped, or killed by somebody else."""
        killed = (ended.end, ended.number) == ("signal", signal.SIGKILL) and self._begun[job] < KILLED
        again = killed or ended.end == "stopped"
        if again:
            heapq.heappush(self._ready, self._order[job])
        return again

    def settle(self, job: Job, ended: Ended) -> list[int]:
        """The numbers of the cells that have their records by a job that has ended: its own, or all that needed it."""
        failure = self._failure(job, ended)
        if isinstance(job, CellJob):
            self._close(job)
            return [self._settled(job, failure, ended)]
        if failure is None:
            self._failures.forget(job)
            self._close(job)
            return []
        self._failures.keep(failure)
        hit = self._behind(job)
        for each in (job, *hit):
            self._open.pop(each, None)
        cells = (each for each in hit if isinstance(each, CellJob))
        return [self._failed(cell, msgspec.structs.replace(failure, job=cell)) for cell in cells]

    def _missing(self) -> dict[Job, None]:
        """The jobs to do, each after those that it needs."""
        wanted: set[Job] = set()
        for job, number in self._numbers.items():
            record = None if self._runner.retrain else self._kept(number)
            if record is not None and self._is_whole(self.cells[number]):
                self.records[number] = record
            else:
                wanted.add(job)
        there: dict[Job, bool] = {}
        for each in reversed(list(self._needs)):  # those that need stand behind what they need
            for need in self._needs[each] if each in wanted else ():
                if need not in there:
                    there[need] = self._has_victim(need)
                if not there[need]:
                    wanted.add(need)
        return {job: None for job in self._needs if job in wanted}

    def _close(self, job: Job) -> None:
        """A job is done; those that waited for it alone are ready."""
        self._open.pop(job, None)
        for each in self._followers.get(job, ()):
            if each in self._open:
                self._open[each].discard(job)
                if not self._open[each]:
                    heapq.heappush(self._ready, self._order[each])

    def _behind(self, job: Job) -> list[Job]:
        """All jobs not done that need a job, directly or not, in order."""
        found: set[Job] = set()
        waiting = [job]
        while waiting:
            following = [each for each in self._followers.get(waiting.pop(), ()) if each in self._open]
            waiting += [each for each in following if each not in found]
            found.update(following)
        return sorted(found, key=self._order.__getitem__)

    def _cells_behind(self, job: Job) -> tuple[CellJob, ...]:
        return tuple(each for each in self._behind(job) if isinstance(each, CellJob))

    def _failure(self, job: Job, ended: Ended) -> Failure | None:
        if ended.end != "ok":
            return Failure(job=job, status="failed", reason=ended.reason, log=ended.log)
        return None if ended.failure is None else msgspec.structs.replace(ended.failure, job=job, log=ended.log)

    def _settled(self, job: CellJob, failure: Failure | None, ended: Ended) -> int:
        number = self._numbers[job]
        record = self._kept(number) if failure is None else None
        if record is None:
            without = Failure(job=job, status="failed", reason="the job ended without a result", log=ended.log)
            return self._failed(job, failure or without)
        self._failures.forget(job)
        self.records[number] = record
        return number

    def _failed(self, job: CellJob, failure: Failure) -> int:
        if failure.status == "failed":
            self._failures.keep(failure)
        else:
            self._failures.forget(job)
        number = self._numbers[job]
        self.records[number] = self._reader.unscored(self.cells[number], failure.status, failure.reason)
        return number

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

    def _has_victim(self, job: Job) -> bool:
        if self._runner.retrain or isinstance(job, CellJob):
            return False
        try:
            return self._reader.has_victim(job)
        except StoreError:
            raise
        except Exception:
            return False


def _depths(needs: Mapping[Job, Sequence[Job]], todo: Iterable[Job]) -> dict[Job, int]:
    """How many of the jobs to do, given in topological order, are done one after another before each."""
    found: dict[Job, int] = {}
    for job in todo:
        found[job] = max((found[need] + 1 for need in needs[job] if need in found), default=0)
    return found


def _followers(needs: Mapping[Job, Sequence[Job]], todo: Iterable[Job]) -> dict[Job, list[Job]]:
    """The jobs to do that need a job directly."""
    found: dict[Job, list[Job]] = {}
    for job in todo:
        for need in needs[job]:
            found.setdefault(need, []).append(job)
    return found
