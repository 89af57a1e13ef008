"""A process that does one job: `python -P -m ecgbench.engine.child`, the request as one line of JSON on stdin.

Results go to the store alone; what is told on stdout is progress. The process ends when its stdin is closed, so none
outlives its parent. Whatever a plugin prints goes to stderr, and what it reads from stdin is empty.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Literal

import msgspec

from ecgbench.core.errors import EcgbenchError
from ecgbench.engine.request import Done, Ends, Failure, Message, Request, Seldom, told
from ecgbench.registry.catalog import discover
from ecgbench.runs.faults import met_own_limit, plain
from ecgbench.runs.job import CellJob, Job, VictimJob
from ecgbench.runs.runner import Runner

TERMINATED = threading.Event()
Status = Literal["ok", "failed", "skipped"]
END = 128 + signal.SIGTERM


def main() -> None:
    """Do the job on stdin, then end at once: nothing that a plugin left behind holds the process up."""
    channel, pipe = os.dup(1), os.dup(0)
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, _terminate)
    discover(())  # while the job is not known yet
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a plugin that asks for input would wait for ever
    _end_with_parent(pipe)

    def send(message: Message) -> None:
        os.write(channel, msgspec.json.encode(message) + b"\n")

    code = 0
    try:
        request = msgspec.json.decode(line, type=Request)
        send(Done(do(request, request.runner(Seldom(lambda progress: send(told(progress)))))))
    except KeyboardInterrupt:
        code = END
    except EcgbenchError as error:
        send(_failed_alone(request.job, error) if met_own_limit(error) else Ends(error.exit_code, str(error)))
        code = error.exit_code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stderr.flush()
    os._exit(code)


def do(request: Request, runner: Runner) -> Failure | None:
    """Do the job; where it gives no score, why."""
    job = request.job
    request.check_recordings(runner)
    status, reason = _trained(runner, job, request.cells) if isinstance(job, VictimJob) else _run(runner, job)
    return None if reason is None or status == "ok" else Failure(job=job, status=status, reason=reason)


def _run(runner: Runner, job: CellJob) -> tuple[Status, str | None]:
    try:
        record = runner.execute(job)
    except KeyboardInterrupt as error:
        return "failed", _raised_by_plugin(error, runner, job)
    return record.status, record.error


def _trained(runner: Runner, job: VictimJob, cells: tuple[CellJob, ...]) -> tuple[Status, str | None]:
    try:
        return "failed", runner.train(job, cells)
    except KeyboardInterrupt as error:
        return "failed", _raised_by_plugin(error, runner, cells[0])


def _failed_alone(job: Job, error: EcgbenchError) -> Done:
    return Done(Failure(job=job, status="failed", reason=f"the job has too many files open: {plain(error)}"))


def _raised_by_plugin(error: KeyboardInterrupt, runner: Runner, cell: CellJob) -> str:
    """The reason, where nobody has asked this process to end."""
    if TERMINATED.is_set():
        raise error
    return runner.fault(error, cell)


def _terminate(number: int, frame: FrameType | None) -> None:
    TERMINATED.set()
    raise KeyboardInterrupt


def _end_with_parent(pipe: int) -> None:
    """Let this process end when its parent closes the pipe, or dies, and whatever it has started in its session, too.

    A thread does it; on Linux the system does, which needs no turn where a plugin keeps all other threads waiting.
    """
    leads = os.getpgrp() == os.getpid()

    def watch() -> None:
        with suppress(OSError):
            while os.read(pipe, 1 << 16):
                pass
        if leads:
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if leads and sys.platform == "linux":
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)


if __name__ == "__main__":
    main()
