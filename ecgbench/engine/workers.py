"""Where the jobs of a grid run: children of this process, each under a thread that supervises it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from ecgbench.core.progress import Progress
from ecgbench.engine.request import Request
from ecgbench.engine.supervisor import Child, Ended, Limits, supervise
from ecgbench.runs.job import Job


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


Event = Began | Told | Over


class Pool(Protocol):
    """Jobs under way. All calls come from one thread."""

    @property
    def size(self) -> int:
        """How many jobs run at once."""

    @property
    def running(self) -> AbstractSet[Job]:
        """The jobs that were begun and are not over."""

    @property
    def has_room(self) -> bool:
        """Whether another job can be begun."""

    def begin(self, job: Job, request: Request, width: int, then: int | None) -> None:
        """Do a job, one of `width` that can run at once; `then`: as many as the job that is likely begun next."""

    def event(self, seconds: float) -> Event | None:
        """What happens next; None where nothing does for so long. Raises EcgbenchError where no job can go on."""

    def close(self) -> None:
        """End all that is under way, and wait for it."""


class Workers(Protocol):
    """A place where jobs can run."""

    def open(self, stop: threading.Event, jobs: int) -> Pool:
        """A pool for so many jobs; those under way end when `stop` is set. Raises EcgbenchError where there is none."""


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Local:
    """On the machine of this process: `jobs` at once (default: one for each core), which share the cores as threads.

    A job beside which no other can run, such as the training that all cells wait for, has all cores.
    """

    jobs: int | None = None
    limits: Limits = Limits()

    def open(self, stop: threading.Event, jobs: int) -> LocalPool:
        size = max(1, min(self.jobs or cores(), jobs))
        return LocalPool(size, self.limits, stop)


class LocalPool:
    """Children at work, and one that warms up for the next job."""

    def __init__(self, size: int, limits: Limits, stop: threading.Event) -> None:
        self.size = size
        self._limits, self._stop = limits, stop
        self._running: dict[Job, threading.Thread] = {}
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._spare: tuple[int, Child] | None = None

    @property
    def running(self) -> AbstractSet[Job]:
        return self._running.keys()

    @property
    def has_room(self) -> bool:
        return len(self._running) < self.size

    def begin(self, job: Job, request: Request, width: int, then: int | None) -> None:
        child = self._take_spare(self._threads(width)) or Child.start(self._threads(width))
        self._spare = None if then is None else (self._threads(then), Child.start(self._threads(then)))
        thread = threading.Thread(target=self._supervise, args=(job, child, request), daemon=True)
        self._running[job] = thread
        self._events.put(Began(job))
        thread.start()

    def event(self, seconds: float) -> Event | None:
        try:
            event = self._events.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(event, Over):
            self._running.pop(event.job).join()
        return event

    def close(self) -> None:
        self._stop.set()
        if self._spare is not None:
            self._spare[1].kill()
        for thread in self._running.values():
            thread.join()

    def _threads(self, width: int) -> int:
        return max(1, cores() // min(self.size, width))

    def _take_spare(self, threads: int) -> Child | None:
        """The child that waits, if it is alive and has so many threads; another one is ended."""
        if self._spare is None:
            return None
        (has, child), self._spare = self._spare, None
        if has == threads and child.alive:
            return child
        child.kill()
        return None

    def _supervise(self, job: Job, child: Child, request: Request) -> None:
        def tell(progress: Progress) -> None:
            self._events.put(Told(job, progress))

        self._events.put(Over(job, supervise(child, request, self._limits, self._stop.is_set, tell)))
