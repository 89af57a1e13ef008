"""Progress on stderr: a bar on a terminal, one line per cell in a log and one a minute while it works."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

import click
from tqdm import tqdm

from ecgbench.core.progress import Epoch, Failed, Note, Progress, Started
from ecgbench.results.record import Record

EVERY = 60.0  # seconds between two lines of progress in a log


class Reporter:
    """Turns progress values into what a person sees; quiet shows faults only, `debug` their tracebacks, too."""

    def __init__(self, quiet: bool, debug: bool = False) -> None:
        self._quiet, self._debug = quiet, debug
        self._live = sys.stderr.isatty() and not quiet
        self._bar: tqdm[Any] | None = None
        self._what: tuple[object, ...] = ()
        self._prefix, self._began, self._logged = "", 0.0, 0.0

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def begin(self, number: int, of: int) -> None:
        """A cell begins."""
        self._prefix, self._began = f"[{number}/{of}]", time.monotonic()
        self._logged = self._began
        if self._live:
            self._show(("prepare", number), f"{self._prefix} prepare", 1, 0, "")

    def finish(self, record: Record, seconds: float) -> None:
        """A cell has its record, after so many seconds."""
        self._close()
        if self._quiet and record.status == "ok":
            return
        click.echo(line_of(self._prefix, record, seconds), err=True)

    def tell(self, progress: Progress) -> None:
        """Show one step."""
        if isinstance(progress, Note | Started):
            if isinstance(progress, Note) or not self._quiet:
                self._close()
                click.echo(f"note: {progress.text}", err=True)
        elif isinstance(progress, Failed):
            self._close()
            if self._debug:
                click.echo(progress.traceback, err=True, nl=False)
        elif isinstance(progress, Epoch):
            self._step(("train",), "train", progress.of, progress.number, f"loss {progress.loss:.3f}")
        else:
            title = f"attack eps {progress.eps:g} ({progress.position + 1}/{progress.of})"
            self._step(("attack", progress.eps), title, progress.remaining, progress.done, "")

    def _step(self, what: tuple[object, ...], title: str, total: int, done: int, text: str) -> None:
        if self._live:
            self._show(what, f"{self._prefix} {title}", total, done, text)
        elif not self._quiet and time.monotonic() - self._logged >= EVERY:
            self._logged = time.monotonic()
            click.echo(f"{self._prefix} {title}: {done}/{total} {text}".rstrip(), err=True)

    def _show(self, what: tuple[object, ...], title: str, total: int, done: int, text: str) -> None:
        if what != self._what or self._bar is None:
            self._close()
            self._what = what
            self._bar = tqdm(total=total, desc=title, leave=False, disable=None)
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def line_of(prefix: str, record: Record, seconds: float) -> str:
    """What came of a cell, in a line."""
    names = f"{record.dataset} {record.model} {record.defense} {record.attack} seed {record.seed}"
    if record.status == "ok":
        path = " -> ".join(f"{score.acc:.3f}" for score in (record.scores[0], record.scores[-1]))
        flags = f", flagged {' '.join(record.flags)}" if record.flags else ""
        result = f"ACC {path} at eps {record.scores[-1].eps:g}{flags}"
    else:
        result = f"{record.status}: {record.error}"
    return f"{prefix} {names}: {result} ({seconds:.1f} s)"
