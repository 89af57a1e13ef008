"""Unfinished work: states of a job on this machine's disk, from which a killed job goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load

from ecgbench.core.errors import accessing, refused
from ecgbench.core.progress import Checkpoint, Note, Progress, State
from ecgbench.storage.arrays import pack_tensors
from ecgbench.storage.files import set_aside, unique, write_file
from ecgbench.storage.keys import key_of


class TimedCheckpoint(Checkpoint):
    """Knows how long the work takes."""

    def __init__(self, tell: Callable[[Progress], None] | None = None) -> None:
        super().__init__(tell)
        self._began, self._before = time.perf_counter(), 0.0

    def start(self) -> None:
        """The work begins here, or goes on: what came before, such as the training of a base, is not its own."""
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the work has taken since its start, that of killed processes up to what they kept included."""
        return self._before + time.perf_counter() - self._began

    def finish(self) -> None:
        """Forget the states; the result is kept elsewhere."""


class MemoryCheckpoint(TimedCheckpoint):
    """Keeps states for this process alone."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        super().__init__(tell)
        self._state: State | None = None
        self._parts: dict[str, MemoryCheckpoint] = {}
        self._sink = tell

    def save(self, state: State) -> None:
        self._state = {name: tensor.detach().clone() for name, tensor in state.items()}

    def load(self) -> State | None:
        return None if self._state is None else dict(self._state)

    def part(self, name: str) -> Checkpoint:
        return self._parts.setdefault(name, MemoryCheckpoint(self._sink))


class StoredCheckpoint(TimedCheckpoint):
    """States as safetensors files, replaced whole.

    A file names its job and holds a digest of its state. What is none of this job's, or was changed, is set aside
    with a note, and the job begins anew.
    """

    def __init__(self, folder: Path, name: str, tell: Callable[[Progress], None]) -> None:
        super().__init__(tell)
        self._folder, self._name, self._sink = folder, name, tell

    def start(self) -> None:
        super().start()
        self._before = self._read()[1]

    def save(self, state: State) -> None:
        notes = {"job": self._job, "seconds": repr(self.seconds), "sha256": _digest(state)}
        content, aside = pack_tensors(state, notes), self._folder / f".{self._name}.{unique()}.tmp"
        try:
            with accessing(self._file):
                self._folder.mkdir(parents=True, exist_ok=True)
                aside.write_bytes(content)
                aside.replace(self._file)
        except BaseException:
            with suppress(OSError):
                aside.unlink()
            raise

    def load(self) -> State | None:
        return self._read()[0]

    def measured_once(self, what: Mapping[str, str], measure: Callable[[], float]) -> float:
        path = self._folder.parent.parent / "machine" / f"{key_of(what)}.json"
        try:
            return float(json.loads(path.read_bytes())["measured"])
        except (OSError, ValueError, KeyError, TypeError):
            measured = measure()
        write_file(path, json.dumps({**what, "measured": measured}, indent=2).encode() + b"\n")
        return measured

    def part(self, name: str) -> Checkpoint:
        return StoredCheckpoint(self._folder, f"{self._name}.{name}", self._sink)

    def finish(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self) -> tuple[State | None, float]:
        """The kept state and the seconds it took; None and 0 where there is none of this job."""
        with accessing(self._folder, "read"):
            foreign = self._folder.is_file()
        if foreign:
            self._disown(self._folder)
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return None, 0.0
        except IsADirectoryError:
            self._disown(self._file)
            return None, 0.0
        except OSError as fault:
            raise refused(self._file, fault, "read") from fault
        try:
            state, notes = load(content), _notes(content)
            if (notes["job"], notes["sha256"]) == (self._job, _digest(state)):
                return state, float(notes["seconds"])
        except (SafetensorError, ValueError, LookupError, TypeError):
            pass
        self._disown(self._file)
        return None, 0.0

    def _disown(self, path: Path) -> None:
        """Set aside what is in the way and is no state of this job."""
        set_aside(self._folder.parent.parent, path, f"unfinished-{path.stem[:24]}")
        text = f"unfinished/{self._folder.name[:24]} holds no whole state of this job; it is set aside"
        self._sink(Note(f"{text}, and the job begins anew."))

    @property
    def _job(self) -> str:
        return f"{self._folder.name}/{self._name}"

    @property
    def _file(self) -> Path:
        return self._folder / f"{self._name}.safetensors"


def _notes(content: bytes) -> dict[str, str]:
    """What `pack_tensors` was given as notes; raises what readers of JSON raise on other bytes."""
    length = int.from_bytes(content[:8], "little")
    notes: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return notes


def _digest(state: State) -> str:
    return hashlib.sha256(pack_tensors(state)).hexdigest()
