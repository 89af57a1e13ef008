"""Runs a grid: its jobs in topological order, several at once, each in a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ecgbench.core.progress import Progress
from ecgbench.engine.grid import Grid
from ecgbench.engine.supervisor import Ended
from ecgbench.engine.workers import Began, Local, Over, Pool, Told, Workers
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.job import Job
from ecgbench.runs.runner import Runner

TICK = 0.2
"""Seconds after which somebody who watches is asked to look again, whatever happens."""


class Watch(Protocol):
    """Whoever watches a grid; all calls come from the thread that runs it."""

    def plan(self, cells: int, todo: Sequence[Job], workers: int) -> None:
        """What there is to do, before anything is begun."""

    def began(self, job: Job) -> None:
        """A job has begun."""

    def told(self, job: Job, progress: Progress) -> None:
        """A job tells how far it is."""

    def ended(self, job: Job, ended: Ended, again: bool) -> None:
        """A job has ended; `again`: it is begun anew."""

    def tick(self) -> None:
        """Time has passed."""


@dataclass(frozen=True)
class Listener:
    """A watch that passes on what jobs tell, and nothing else."""

    tell: Callable[[Progress], None]

    def plan(self, cells: int, todo: Sequence[Job], workers: int) -> None: ...

    def began(self, job: Job) -> None: ...

    def told(self, job: Job, progress: Progress) -> None:
        self.tell(progress)

    def ended(self, job: Job, ended: Ended, again: bool) -> None: ...

    def tick(self) -> None: ...


@dataclass(frozen=True)
class Finished:
    """The record of a cell, by the cell's number, and the seconds of its job; 0 for one that was kept."""

    number: int
    record: Record
    seconds: float = 0.0


@dataclass
class Engine:
    """Runs cells for `runner` on `workers`.

    `stop` is an event by which another thread or a signal handler ends the run: no job is begun any more, and those
    under way end by SIGTERM with the states that they have kept.
    """

    runner: Runner
    watch: Watch
    workers: Workers = Local()
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, cells: Sequence[Cell]) -> Iterator[Finished]:
        """Every cell as soon as its record is there: those that are kept, then the others.

        Raises what ends a run, see `Runner.execute`.
        """
        grid = Grid(self.runner, cells)
        kept, todo = sorted(grid.records), grid.todo
        pool = self.workers.open(self.stop, len(todo)) if todo else None
        self.watch.plan(len(cells), todo, 1 if pool is None else pool.size)
        yield from (Finished(number, grid.records[number]) for number in kept)
        if pool is not None:
            yield from self._made(grid, pool)

    def _made(self, grid: Grid, pool: Pool) -> Iterator[Finished]:
        try:
            while pool.running or not grid.is_done:
                self._begin(grid, pool)
                if self.stop.is_set() and not pool.running:
                    return
                yield from self._heard(grid, pool)
        finally:
            pool.close()

    def _begin(self, grid: Grid, pool: Pool) -> None:
        while pool.has_room and not self.stop.is_set() and (job := grid.next()) is not None:
            request, following = grid.request(job), grid.following()
            pool.begin(job, request, grid.width(job), None if following is None else grid.width(following))

    def _heard(self, grid: Grid, pool: Pool) -> list[Finished]:
        """The cells that the next event finishes."""
        finished: list[Finished] = []
        match pool.event(TICK):
            case Began(job):
                self.watch.began(job)
            case Told(job, progress):
                self.watch.told(job, progress)
            case Over(job, ended):
                if ended.ends is not None:
                    raise ended.ends.error()
                again = grid.begins_again(job, ended)
                self.watch.ended(job, ended, again)
                if not again:
                    finished = [Finished(n, grid.records[n], ended.seconds) for n in grid.settle(job, ended)]
        self.watch.tick()
        return finished
