"""One child under supervision: its time, its memory and its death become a value, whatever happens to it."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import psutil

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.progress import Progress
from ecgbench.engine.request import Done, Ends, Failure, Message, Request, heard
from ecgbench.runs.faults import plain
from ecgbench.storage.files import unique

COMMAND = (sys.executable, "-P", "-m", "ecgbench.engine.child")
GRACE = 3.0
"""Seconds between SIGTERM, on which a job leaves its last checkpoint as it is, and SIGKILL."""
EVERY = 0.02
"""Seconds between two looks at a child: memory grows by some 0.1 GB in that time."""
MARK = "ECGBENCH_JOB"
"""A variable by which all that a child has started is known."""
CLOCK = 2.0  # seconds by which the time when a process was created may be wrong
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**46)}
"""glibc gives every block above 32 MiB back when it is freed, and a training asks for the same ones at every step: the
system clears their pages anew, a third of the time of an LSTM. With these a process keeps what it had."""
LINES = 20  # of a log that are kept
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

End = Literal["ok", "timeout", "memory", "signal", "exit", "stopped", "lost"]


@dataclass(frozen=True)
class Limits:
    """What a job may use: seconds, and bytes of memory that no other process shares. None: as much as there is."""

    timeout: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a child ended. `number` is that of the signal or the exit status; `log` holds its last lines.

    `failure` is what a job says itself, `ends` is set where the whole run shall end. "stopped" is a child that ended
    with the run, "lost" one of a worker that is no more.
    """

    end: End
    number: int = 0
    log: tuple[str, ...] = ()
    seconds: float = 0.0
    limits: Limits = Limits()
    ends: Ends | None = None
    failure: Failure | None = None

    @property
    def reason(self) -> str:
        """One line for a record, the last line of the log included."""
        last = f"; its log ends: {plain(self.log[-1])}" if self.log and self.end in ("signal", "exit", "lost") else ""
        return f"{self._what()}{last}"

    def _what(self) -> str:
        match self.end:
            case "timeout":
                return f"timeout: the job was ended after {self.limits.timeout:g} s"
            case "memory":
                return f"memory: the job was ended when it held more than {_size(self.limits.memory or 0)}"
            case "signal":
                return f"signal {self.number}{_name(self.number)}: the job was killed"
            case "exit":
                return f"exit {self.number}: the job's process ended without a result"
            case "lost":
                return "lost: no worker could do the job"
        return self.end


@dataclass
class Child:
    """A fresh interpreter that waits for its job, in a session of its own."""

    process: subprocess.Popen[bytes]
    mark: str
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    last: Message | None = None
    readers: list[threading.Thread] = field(default_factory=list)
    started: set[psutil.Process] = field(default_factory=set)
    began: float = field(default_factory=time.time)

    @classmethod
    def start(cls, threads: int, command: Sequence[str] = COMMAND) -> Child:
        """Start one; torch and the plugins that are installed are loaded while it waits."""
        mark = unique()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(threads) | {MARK: mark},
            start_new_session=True,
        )
        child = cls(process, mark)
        child._read(child._collect)
        return child

    @property
    def alive(self) -> bool:
        """Whether it can be given a job."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it and all that it has started, at once; what it has printed is read to the end."""
        self.find_started()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for each in self.started:  # those that have begun a session of their own
            with suppress(psutil.Error):
                each.kill()
        self.process.wait()
        self._kill_marked()
        psutil.wait_procs(self.started, timeout=1)
        with suppress(OSError):  # a job that it has not read
            stdin = self.process.stdin
            assert stdin is not None
            stdin.close()
        if len(self.readers) == 1:  # it was never listened to
            self.listen(lambda _: None)
        for reader in self.readers:
            reader.join(1)

    def find_started(self) -> None:
        """Remember the processes that it has started, which can no longer be told when it is dead."""
        with suppress(psutil.Error):
            self.started |= set(psutil.Process(self.process.pid).children(recursive=True))

    def _kill_marked(self) -> None:
        """End what it has started and then lost: a process in a session of its own whose parent is gone."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.create_time() > self.began - CLOCK and process.environ().get(MARK) == self.mark:
                    process.kill()
                    self.started.add(process)

    def holds_more(self, limit: int) -> bool:
        """Whether it and what it has started hold more bytes than `limit` that no other process shares."""
        with suppress(psutil.Error):
            all_of_it = (psutil.Process(self.process.pid), *self.started)
            resident = sum(map(_resident, all_of_it))  # quickly read, and never less
            return resident > limit and sum(map(_unshared, all_of_it)) > limit
        return False

    def give(self, request: Request) -> None:
        """Give it its job; its standard input stays open as long as it may live."""
        stdin = self.process.stdin
        assert stdin is not None
        with suppress(OSError):  # it is dead already, which is seen later
            stdin.write(msgspec.json.encode(request) + b"\n")
            stdin.flush()

    def listen(self, tell: Callable[[Progress], None]) -> None:
        """Read what it tells, from another thread, until it has no more to tell; what is no message is passed over."""
        self._read(lambda: self._hear(tell))

    def _read(self, work: Callable[[], None]) -> None:
        reader = threading.Thread(target=work, daemon=True)
        self.readers.append(reader)
        reader.start()

    def _hear(self, tell: Callable[[Progress], None]) -> None:
        stdout = self.process.stdout
        assert stdout is not None
        with stdout:
            for line in stdout:
                with suppress(msgspec.DecodeError):
                    message: Message = msgspec.json.decode(line, type=Message)
                    if isinstance(message, Done | Ends):
                        self.last = message
                    elif (progress := heard(message)) is not None:
                        tell(progress)

    def _collect(self) -> None:
        stderr = self.process.stderr
        assert stderr is not None
        with stderr:
            for line in iter(lambda: stderr.readline(4096), b""):
                text = line.decode(errors="replace").rstrip()
                if text:
                    self.lines.append(text)


def supervise(
    child: Child, request: Request, limits: Limits, stopped: Callable[[], bool], tell: Callable[[Progress], None]
) -> Ended:
    """Let a waiting child do one job within its limits, until `stopped()`; how it ended. Never raises.

    Nothing that the child has started is left.
    """
    began = time.monotonic()
    child.listen(tell)
    child.give(request)
    cut = _awaited(child, limits, stopped)
    if cut in ("stopped", "timeout"):
        _terminate(child)
    elif cut is None:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(GRACE)
    code = child.process.poll()
    child.kill()
    code = child.process.returncode if code is None else code
    how = cut or ("signal" if code < 0 else "exit")
    ended = Ended(how, 0 if cut else abs(code), tuple(child.lines), time.monotonic() - began, limits)
    if isinstance(child.last, Done):
        return replace(ended, end="ok", number=0, failure=child.last.failure)
    if isinstance(child.last, Ends) and code == child.last.code:  # a plugin may have written such a line
        return replace(ended, end="ok", number=0, ends=child.last)
    return ended


def _awaited(child: Child, limits: Limits, stopped: Callable[[], bool]) -> End | None:
    """Why a child has to end before it has said that it is done; None where it has said so, or died.

    One that says what ends the run dies by itself.
    """
    began = time.monotonic()
    looks = 0
    while child.alive and not isinstance(child.last, Done):
        time.sleep(EVERY)
        looks += 1
        if looks % 25 == 0:
            child.find_started()  # which looks at all processes of the machine
        if stopped():
            return "stopped"
        if limits.timeout is not None and time.monotonic() - began > limits.timeout:
            return "timeout"
        if limits.memory is not None and child.holds_more(limits.memory):
            return "memory"
    return None


def parse_duration(text: str) -> float:
    """Seconds of "90s", "10m", "1.5h" or "90". Raises EcgbenchError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    seconds = 0.0 if found is None else float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
    if not 0 < seconds < math.inf:
        raise EcgbenchError(f"the time {text!r} is given; expected such as 90s, 10m or 1.5h.")
    return seconds


def parse_memory(text: str) -> int:
    """Bytes of "4GB", "500MB" or "2GiB". Raises EcgbenchError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)", text.strip().lower())
    unit = None if found is None else UNITS.get(found[2].upper())
    size = 0.0 if found is None or unit is None else float(found[1]) * unit
    if not 1 <= size < math.inf:
        raise EcgbenchError(f"the memory {text!r} is given; expected such as 4GB or 500MB.")
    return int(size)


def environment(threads: int) -> dict[str, str]:
    """The variables of a child: those of this process, its places of modules, and the threads, at most what they allow.

    All libraries are told the same number: torch follows MKL's, whatever OpenMP's is. Memory that is freed is kept for
    the next step, unless this process's own variables say otherwise.
    """
    places = [os.path.abspath(place) for place in sys.path if place]  # noqa: PTH100
    given = [os.environ.get(name, "").partition(",")[0].strip() for name in THREADS]
    fewest = max(1, min([threads, *(int(number) for number in given if number.isdecimal())]))
    return ALLOCATOR | os.environ | dict.fromkeys(THREADS, str(fewest)) | {"PYTHONPATH": os.pathsep.join(places)}


def most_memory() -> int:
    """Bytes that one job may hold unless told otherwise: 80 % of this machine's memory."""
    return int(0.8 * psutil.virtual_memory().total)


def _name(number: int) -> str:
    with suppress(ValueError):
        return f" ({signal.Signals(number).name})"
    return ""


def _size(given: int) -> str:
    return f"{given / 10**9:g} GB" if given >= 10**9 else f"{given / 10**6:g} MB"


def _terminate(child: Child) -> None:
    child.find_started()
    with suppress(ProcessLookupError):
        child.process.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.process.wait(GRACE)


def _unshared(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().uss)
    return 0


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0
