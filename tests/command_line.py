"""The command line as a test drives it: in this process, or in one of its own that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ecgbench.cli import main

BEATS = "synthetic-beats[beats=200]"
TINY = ("--dataset", BEATS, "--model", "linear", "--defense", "none[epochs=1]")
"""A victim in milliseconds."""
START = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ecgbench.cli import main; main()"
"""Whoever starts the tests in the background has SIGINT ignored; the command's own process shall not inherit it."""


@dataclass(frozen=True)
class Answer:
    """Exit status, what was printed on stdout and on stderr."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """What `--json` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


def ecgbench(home: Path, *arguments: str, **variables: str) -> Answer:
    """Run a command in this process, cells included, with everything it keeps below `home`."""
    arguments = _here(arguments)
    out, err = (TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code = 0
    with (
        patch.dict(os.environ, environment(home, **variables), clear=True),
        patch.object(sys, "argv", ["ecgbench", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Answer(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def spawn(home: Path, *arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own, in which its cells are run, too, unless it says --isolate."""
    arguments = _here(arguments)
    return subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        env=environment(home, **variables),
        cwd=cwd or home,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _here(arguments: tuple[str, ...]) -> tuple[str, ...]:
    isolated = {"--isolate", "--no-isolate"} & set(arguments)
    return arguments if "run" not in arguments[:2] or isolated else (*arguments, "--no-isolate")


def finished(process: subprocess.Popen[str], seconds: float = 120) -> Answer:
    """What a spawned command answered, within so many seconds."""
    out, err = process.communicate(timeout=seconds)
    return Answer(process.returncode, out, err)


def environment(home: Path, **variables: str) -> dict[str, str]:
    """This process's variables, but for those of ecgbench; nothing outside `home` is written."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ECGBENCH_")}
    own = {"HOME": str(home), "ECGBENCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return kept | own | variables


def wait_for(process: subprocess.Popen[str], happened: Callable[[], bool], seconds: float = 60) -> None:
    """Look every few milliseconds until `happened()`; a process that ends before has failed."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None and time.monotonic() < end, finished(process)
        time.sleep(0.002)


def stages(home: Path) -> dict[str, list[str]]:
    """The keys that are kept, by stage; whatever else the store holds is half-written."""
    store = home / "store"
    found = {place.name: sorted(each.name for each in place.iterdir()) for place in store.glob("*") if place.is_dir()}
    return {name: keys for name, keys in found.items() if keys and name not in ("locks", "plans")}


def stamps(home: Path) -> dict[Path, tuple[int, int]]:
    """Every kept file with its inode and time of change."""
    files = (path for path in (home / "store").rglob("*") if path.is_file() and path.parent.name != "locks")
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def sentence(answer: Answer) -> str:
    """The one line that an unhappy command says; fails if it said anything else."""
    (line,) = answer.err.strip().splitlines()
    assert line.startswith("error: ") and not answer.out and "Traceback" not in line, answer
    return line.removeprefix("error: ")
