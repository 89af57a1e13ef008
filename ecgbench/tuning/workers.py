"""Processes at work on a study: each holds a lock as long as it lives, so that others see whether it was killed."""

from __future__ import annotations

import platform
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from getpass import getuser
from pathlib import Path

from filelock import FileLock, Timeout

UNNOTED = timedelta(minutes=1)  # a trial without a note of its process is being begun, or its process was killed


FORGOTTEN = timedelta(days=1)  # a trial whose process left no lock, as after a restart of the machine


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"ecgbench-tuning-{getuser()}"


@dataclass(frozen=True)
class Worker:
    """A process, by a name that no other has."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    def note(self) -> dict[str, str]:
        """What a trial keeps of it."""
        return {"host": platform.node(), "lock": str(self.lock)}

    @property
    def lock(self) -> Path:
        """The file that it holds."""
        return _folder() / f"{self.name}.lock"

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Hold the lock."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.lock):
            yield
        self.lock.unlink(missing_ok=True)


@contextmanager
def begun_one_by_one() -> Iterator[None]:
    """Alone on this machine: two processes that begin at once would both make the tables of a new database."""
    _folder().mkdir(parents=True, exist_ok=True)
    with FileLock(_folder() / "begin.lock"):
        yield


def is_gone(note: Mapping[str, str] | None, began: datetime | None) -> bool | None:
    """Whether the process of a running trial is there no more; None where that cannot be seen from here."""
    age = datetime.now() - began if began is not None else timedelta()
    if note is None:
        return age > UNNOTED
    path = Path(note["lock"])
    if note["host"] != platform.node() or not path.exists():
        return True if note["host"] == platform.node() and age > FORGOTTEN else None
    try:
        with FileLock(path, timeout=0):
            pass
    except Timeout:
        return False
    path.unlink(missing_ok=True)
    return True
