"""How cells are run from the command line: each job in a process of its own, or all in this one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

import click

from ecgbench.cli.options import gathered, remark

if TYPE_CHECKING:
    from ecgbench.cli.grid import GridReporter
    from ecgbench.cli.progress import Reporter
    from ecgbench.engine import Engine, Finished
    from ecgbench.runs.cell import Cell
    from ecgbench.runs.runner import Runner

STOPS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Engaged:
    """How many jobs run at once, what each may use, which are tried, and whether each has a process of its own."""

    jobs: int | None
    timeout: str | None
    memory: str | None
    retry: str | None
    isolate: bool
    engine: str
    scheduler: str | None

    def check(self) -> None:
        """Raises UsageError where options are given that nobody would heed."""
        on_cluster = self.engine == "dask"
        if not self.isolate and (self.jobs or self.timeout or self.memory or self.retry or on_cluster):
            raise click.UsageError(
                "--jobs, --timeout, --memory, --retry and --engine dask need a process for each job (--isolate)."
            )
        if on_cluster != (self.scheduler is not None):
            raise click.UsageError("--engine dask and --scheduler (an address or a file) go together; expected both.")
        if on_cluster and self.jobs:
            raise click.UsageError("--jobs is for this machine; a cluster does as many jobs at once as it has workers.")

    def reporter(self, quiet: bool, debug: bool) -> Reporter | GridReporter:
        """Who says how far the run is."""
        from ecgbench.cli.grid import GridReporter
        from ecgbench.cli.progress import Reporter

        return GridReporter(quiet, debug) if self.isolate else Reporter(quiet, debug)

    def chosen(self, cells: list[Cell], runner: Runner) -> list[Cell]:
        """The cells to run: all, or those that are kept and those that failed when they were last tried."""
        from ecgbench.engine import Failures
        from ecgbench.runs.job import CellJob

        if self.retry is None:
            return cells
        failures = Failures(runner.store)
        failed = {cell for cell in cells if failures.of(CellJob.of(cell, runner.catalog)) is not None}
        chosen = [cell for cell in cells if cell in failed or runner.kept(cell) is not None]
        if not chosen:
            remark("none of these cells has failed, and none is kept; without --retry failed they are run.")
        return chosen

    @contextmanager
    def run(
        self, runner: Runner, cells: Sequence[Cell], reporter: Reporter | GridReporter
    ) -> Iterator[Iterator[Finished]]:
        """Every cell, as its record comes. Raises KeyboardInterrupt where the run was stopped."""
        from ecgbench.cli.progress import Reporter

        if isinstance(reporter, Reporter):
            yield _here(runner, cells, reporter)
            return
        engine = self._engine(runner, reporter)
        with _stopped_by_signals(engine):
            yield _apart(engine, cells)

    def _engine(self, runner: Runner, reporter: GridReporter) -> Engine:
        from ecgbench.engine import Engine, Limits, Local, most_memory, parse_duration, parse_memory

        timeout = None if self.timeout is None else parse_duration(self.timeout)
        memory = None if self.memory is None else parse_memory(self.memory)
        if self.scheduler is not None:
            from ecgbench.engine.cluster import Dask

            place = Dask(self.scheduler, Limits(timeout, memory), runner.device, runner.catalog.given)
            return Engine(runner, reporter, place)
        memory = most_memory() if memory is None else memory
        return Engine(runner, reporter, Local(self.jobs, Limits(timeout, memory)))


def _here(runner: Runner, cells: Sequence[Cell], reporter: Reporter) -> Iterator[Finished]:
    from ecgbench.engine import Finished

    for number, cell in enumerate(cells):
        began = time.monotonic()
        reporter.begin(number + 1, len(cells))
        yield Finished(number, runner.execute(cell), time.monotonic() - began)


def _apart(engine: Engine, cells: Sequence[Cell]) -> Iterator[Finished]:
    done = 0
    for found in engine.run(cells):
        done += 1
        yield found
    if done < len(cells):
        raise KeyboardInterrupt


@contextmanager
def _stopped_by_signals(engine: Engine) -> Iterator[None]:
    """The first SIGINT or SIGTERM lets the jobs under way keep their states; the second ends at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if engine.stop.is_set():
            raise KeyboardInterrupt
        engine.stop.set()

    before = {each: signal.signal(each, stop) for each in STOPS if signal.getsignal(each) != signal.SIG_IGN}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def engine_options(command: Callable[..., object]) -> Callable[..., object]:
    """How to run it, as `how`."""
    command = gathered(command, Engaged, "how")
    for option in reversed(
        (
            click.option(
                "--jobs",
                "-j",
                type=click.IntRange(min=1),
                help="Jobs at once; default: the cores. They share the cores as threads, at most OMP_NUM_THREADS each.",
            ),
            click.option("--timeout", metavar="TIME", help="The most a job may take, such as 10m; default: no limit."),
            click.option(
                "--memory",
                metavar="SIZE",
                help="The most memory of its own a job may hold, such as 4GB; default: 80 % of the machine's.",
            ),
            click.option(
                "--retry",
                type=click.Choice(["failed"]),
                help="Run only the cells that failed when they were last tried, and show those that are kept.",
            ),
            click.option(
                "--isolate/--no-isolate",
                default=True,
                help="Each job in a process of its own (the default), or all in this one.",
            ),
            click.option(
                "--engine",
                type=click.Choice(["local", "dask"]),
                default="local",
                help="Where the jobs run: here (the default), or on the workers of a Dask cluster.",
            ),
            click.option("--scheduler", metavar="PLACE", help="The cluster's scheduler: its address, or its file."),
        )
    ):
        command = option(command)
    return command
