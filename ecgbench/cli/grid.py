"""Progress of a grid on stderr: on a terminal a bar and a line for each job, in a log a line for each event and one a
minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from types import TracebackType
from typing import Any

import click
from tqdm import tqdm

from ecgbench.cli import progress as one
from ecgbench.core.progress import Epoch, Failed, Note, Progress, Started, SweepProgress
from ecgbench.engine import Ended
from ecgbench.results.record import Record
from ecgbench.runs.job import Job, VictimJob


@dataclass
class Costs:
    """Seconds of finished jobs, by what they do, and of the attacks of kept cells; how long the others will take."""

    _seconds: dict[tuple[str, ...], list[float]] = field(default_factory=dict)

    def add(self, job: Job | Record, seconds: float) -> None:
        """A job, or the attack of a cell that is kept, took so long."""
        for kind in _kinds(job):
            self._seconds.setdefault(kind, []).append(seconds)

    def left(self, jobs: Iterable[Job], spent: float, workers: int) -> float | None:
        """Seconds until all are done, of which `spent` are behind those under way; None where nothing like one is
        measured.
        """
        total = 0.0
        for job in jobs:
            known = next((self._seconds[kind] for kind in _kinds(job) if kind in self._seconds), None)
            if known is None:
                return None
            total += mean(known)
        return max(0.0, total - spent) / workers


def _kinds(job: Job | Record) -> tuple[tuple[str, ...], ...]:
    """What a job does, the most special first."""
    if isinstance(job, VictimJob):
        return ("victim", job.dataset, job.model, job.defense), ("victim", job.dataset, job.model), ("victim",)
    return ("cell", job.dataset, job.model, job.attack), ("cell", job.dataset, job.attack), ("cell",)


@dataclass
class Running:
    """A job under way."""

    began: float
    step: str = "prepare"
    line: tqdm[Any] | None = None


class GridReporter:
    """Watches an engine; quiet shows faults only, `debug` their tracebacks, too."""

    def __init__(self, quiet: bool, debug: bool = False) -> None:
        self._quiet, self._debug = quiet, debug
        self._live = sys.stderr.isatty() and not quiet
        self._cells = self._done = 0
        self._workers = 1
        self._todo: dict[Job, None] = {}
        self._running: dict[Job, Running] = {}
        self._costs, self._said = Costs(), set[str]()
        self._logged = time.monotonic()
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> GridReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in list(self._running):
            self._close(job)
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def plan(self, cells: int, todo: Sequence[Job], workers: int) -> None:
        """What there is to do."""
        self._cells, self._workers = cells, workers
        self._todo = dict.fromkeys(todo)
        if self._live and todo:
            shape = "{desc} {bar} {n_fmt}/{total_fmt} {postfix}"
            self._bar = tqdm(total=cells, desc="cells", position=0, leave=False, bar_format=shape)

    def began(self, job: Job) -> None:
        """A job has begun."""
        self._running[job] = Running(time.monotonic())
        if self._live:
            self._running[job].line = tqdm(position=len(self._running), leave=False, bar_format="{desc}")
        self._show(job)

    def told(self, job: Job, progress: Progress) -> None:
        """A job tells how far it is."""
        if isinstance(progress, Note | Started | Failed):
            self.tell(progress)
        if job in self._running and not isinstance(progress, Note | Failed):
            self._running[job].step = _step(progress)
            self._show(job)

    def ended(self, job: Job, ended: Ended, again: bool) -> None:
        """A job has ended."""
        self._close(job)
        if again and ended.end != "stopped":
            self._say(f"note: {_words(job)}: {ended.reason}, not by this run; it is begun again.")
        if not again:
            self._todo.pop(job, None)
            self._costs.add(job, ended.seconds)
            if isinstance(job, VictimJob) and not self._quiet:
                self._say(f"{_words(job)}: ended ({ended.seconds:.1f} s)")

    def finish(self, record: Record, seconds: float) -> None:
        """A cell has its record, after so many seconds of its job; 0 for one that was kept."""
        self._done += 1
        if not seconds and record.status == "ok":
            self._costs.add(record, record.cost.attack_seconds)
        if self._bar is not None:
            self._bar.update()
        if not (self._quiet and record.status == "ok"):
            self._say(one.line_of(f"[{self._done}/{self._cells}]", record, seconds))

    def tell(self, progress: Progress) -> None:
        """Say one line of a note, once; with `debug`, a traceback."""
        if isinstance(progress, Failed):
            if self._debug:
                self._say(progress.traceback.rstrip())
        elif isinstance(progress, Note):
            if progress.text not in self._said:
                self._said.add(progress.text)
                self._say(f"note: {progress.text}")
        elif isinstance(progress, Started) and not self._quiet:
            self._say(f"note: {progress.text}")

    def tick(self) -> None:
        """Say what is under way, if nothing was said for a minute."""
        if self._bar is not None:
            self._bar.set_postfix_str(self._left(), refresh=True)
        elif not self._quiet and not self._live and self._running and time.monotonic() - self._logged >= one.EVERY:
            under_way = "; ".join(f"{_words(job)}: {running.step}" for job, running in self._running.items())
            self._say(f"[{self._done}/{self._cells}] {self._left()}, under way: {under_way}".replace("  ", " "))

    def _left(self) -> str:
        spent = sum(time.monotonic() - running.began for running in self._running.values())
        seconds = self._costs.left(self._todo, spent, self._workers)
        return "time left unknown" if seconds is None else f"{tqdm.format_interval(seconds)} left"

    def _show(self, job: Job) -> None:
        running = self._running[job]
        if running.line is not None:
            seconds = tqdm.format_interval(time.monotonic() - running.began)
            running.line.set_description_str(f"  {_words(job)}: {running.step} [{seconds}]", refresh=True)

    def _close(self, job: Job) -> None:
        running = self._running.pop(job, None)
        if running is not None and running.line is not None:
            running.line.close()

    def _say(self, line: str) -> None:
        self._logged = time.monotonic()
        if self._live:
            tqdm.write(line, file=sys.stderr)
        else:
            click.echo(line, err=True)


def _words(job: Job) -> str:
    if isinstance(job, VictimJob):
        return f"train {job.dataset} {job.model} {job.defense} seed {job.seed}"
    return f"{job.dataset} {job.model} {job.defense} {job.attack} seed {job.seed}"


def _step(progress: Epoch | SweepProgress | Started) -> str:
    if isinstance(progress, Started):
        return "first epoch"
    if isinstance(progress, Epoch):
        return f"epoch {progress.number}/{progress.of} loss {progress.loss:.3f}"
    eps = f"attack eps {progress.eps:g} ({progress.position + 1}/{progress.of})"
    return f"{eps} {progress.done}/{progress.remaining} samples"
