"""Results kept on disk: one folder per key, written aside and renamed, one writer at a time.

A folder holds its files and a manifest with the key's pre-image and each file's digest; both are checked on
every read. What does not match is set aside and counts as missing. Nothing here can execute what it reads. What the
machine does not allow (a full disk, a folder that nobody may write) is a StoreError, which ends the run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load

from ecgbench.core.errors import accessing, refused
from ecgbench.core.progress import Checkpoint, Note, Progress, State
from ecgbench.storage.arrays import pack_tensors

MANIFEST = "manifest.json"


def key_of(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity's canonical JSON."""
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True)
class Store:
    """A folder of results by stage ("victims", "outcomes", ...) and key; `report` gets one line for people."""

    root: Path
    report: Callable[[str], None] = lambda _: None

    def get(self, stage: str, key: str) -> dict[str, bytes] | None:
        """The files kept under `key` by name, None where there are none; a damaged folder is set aside."""
        folder = self.root / stage / key
        with accessing(folder, "read"):
            if not folder.is_dir():
                return None
        fault, files = _read(folder, key)
        if fault is not None:
            fault, files = _read(folder, key)  # another process may just have replaced it
        if fault is None:
            return files
        _set_aside(self.root, folder, f"{stage}-{key[:12]}")
        self.report(f"{stage}/{key[:12]} {fault}; it is set aside and counts as missing.")
        return None

    def put(self, stage: str, identity: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
        """Keep `files` under the key of `identity`, all or nothing, in place of any earlier ones. Returns the key.

        Whoever shares the store holds `writing` meanwhile.
        """
        key = key_of(identity)
        folder = self.root / stage / key
        aside, old = folder.with_name(f".writing-{key}"), folder.with_name(f".old-{key}")
        for left in (aside, old):  # by a writer that was killed
            shutil.rmtree(left, ignore_errors=True)
        manifest = {
            "identity": identity,
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        try:
            with accessing(folder):
                aside.mkdir(parents=True)
                for name, content in {**files, MANIFEST: canonical_json(manifest) + b"\n"}.items():
                    _write(aside / name, content)
                _replace(folder, aside, old)
        finally:
            for left in (aside, old):
                shutil.rmtree(left, ignore_errors=True)
        return key

    def identities(self, stage: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and pre-image of everything kept in a stage, by key; unreadable entries are passed over."""
        for manifest in sorted((self.root / stage).glob(f"[0-9a-f]*/{MANIFEST}")):
            try:
                yield manifest.parent.name, json.loads(manifest.read_bytes())["identity"]
            except (OSError, ValueError, KeyError, TypeError):
                continue

    def faults(self, stage: str) -> Iterator[tuple[Path, str]]:
        """Everything in a stage that cannot be used, and what is wrong with it."""
        for folder in sorted((self.root / stage).glob("[0-9a-f]*")):
            fault, _ = _read(folder, folder.name)
            if fault is not None:
                yield folder, fault

    @contextmanager
    def writing(self, stage: str, key: str) -> Iterator[None]:
        """Sole right to write `key`; whoever comes second waits, and says so."""
        path = self.root / "locks" / f"{stage}-{key}.lock"
        lock = FileLock(path)
        try:
            with accessing(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
            if not _locked(lock, path, timeout=0):
                self.report(f"another process is working on {stage}/{key[:12]}; waiting for its result.")
                _locked(lock, path, timeout=-1)
            yield
        finally:
            lock.release()

    def checkpoint(self, stage: str, key: str, tell: Callable[[Progress], None]) -> StoredCheckpoint:
        """A checkpoint whose states survive the process; `finish` it once the result is kept."""
        return StoredCheckpoint(self.root / "unfinished" / f"{stage}-{key}", "main", tell)


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
        content, aside = pack_tensors(state, notes), self._file.with_suffix(".tmp")
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
        """Forget the states; the result is kept elsewhere."""
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
        """Set aside what is robust in the way and is no state of this job."""
        _set_aside(self._folder.parent.parent, path, f"unfinished-{path.stem[:24]}")
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


def write_file(path: Path, content: bytes) -> None:
    """Write a file all or nothing, readable by all. Raises StoreError where the machine does not let it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with accessing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(aside, content)
            aside.replace(path)
    finally:
        with suppress(OSError):
            aside.unlink()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(folder: Path, new: Path, old: Path) -> None:
    """Put `new` in the place of `folder`, which goes to `old`, and comes back if that fails."""
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        with suppress(OSError):
            old.rename(folder)
        raise


def _locked(lock: FileLock, path: Path, timeout: float) -> bool:
    """Whether the lock is held now; False if another process has it. Raises StoreError where there can be none."""
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    except (OSError, NotImplementedError) as fault:
        error = fault if isinstance(fault, OSError) else OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        raise refused(path, error, "locked") from fault
    return True


def _set_aside(root: Path, path: Path, name: str) -> None:
    """Move what is no result out of the way. Raises StoreError where the machine does not let it."""
    with accessing(path, "set aside"):
        place = root / "damaged"
        place.mkdir(exist_ok=True)
        number = 1
        while (target := place / f"{name}-{number}").exists():
            number += 1
        with suppress(FileNotFoundError):
            path.rename(target)


def _read(folder: Path, key: str) -> tuple[str | None, dict[str, bytes]]:
    """What is wrong with a folder, or None, and its files. Raises StoreError where the machine lets nobody read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if key_of(manifest["identity"]) != key:
            return "does not belong to its key", {}
        digests = dict(manifest["files"])
        files = {name: (folder / name).read_bytes() for name in digests}
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, LookupError, TypeError):
        return "lacks its files", {}
    except OSError as fault:
        raise refused(folder, fault, "read") from fault
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != digests[name]:
            return f"holds a {name} that was changed by hand", {}
    return None, files
