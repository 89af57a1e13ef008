"""Results by the key of what they are made of: whole or not there, whoever writes, and however many.

An entry holds its files and a manifest with the key's pre-image and each file's digest; both are checked on every
read. What does not match is set aside and counts as missing. Nothing here can execute what it reads. What the
machine does not allow (a full disk, a folder that nobody may write) is a StoreError, which ends the run.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ecgbench.core.errors import StoreError, accessing, refused
from ecgbench.core.progress import Progress
from ecgbench.storage.backend import MANIFEST, Backend
from ecgbench.storage.checkpoint import MemoryCheckpoint, StoredCheckpoint, TimedCheckpoint
from ecgbench.storage.files import write_file
from ecgbench.storage.folders import Folders
from ecgbench.storage.keys import canonical_json, key_of

__all__ = [
    "MANIFEST",
    "Store",
    "StoredCheckpoint",
    "TimedCheckpoint",
    "canonical_json",
    "key_of",
    "write_file",
]
LACKS = "lacks its files"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
TRIES = 5


@dataclass(frozen=True)
class Store:
    """Results by stage ("victims", "outcomes", ...) and key; `report` gets one line for people.

    `root` is a folder: what is unfinished, and the locks, are there, and the results, too, unless they are `elsewhere`.
    """

    root: Path
    report: Callable[[str], None] = lambda _: None
    elsewhere: Backend | None = None
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def entries(self) -> Backend:
        """Where the results are."""
        return Folders(self.root) if self.elsewhere is None else self.elsewhere

    def get(self, stage: str, key: str) -> dict[str, bytes] | None:
        """The files kept under `key` by name, None where there are none; a damaged entry is set aside."""
        fault, files = self._read(stage, key)
        if fault is not None:
            fault, files = self._read(stage, key)  # another process may just have replaced it
        if fault is None:
            return files
        self.entries.set_aside(stage, key)
        self.report(f"{stage}/{key[:12]} {fault}; it is set aside and counts as missing.")
        return None

    def put(self, stage: str, identity: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
        """Keep `files` under the key of `identity`, all or nothing, in place of any earlier ones. Returns the key."""
        self._keep(stage, identity, files, replace=True)
        return key_of(identity)

    def add(self, stage: str, identity: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, bytes]:
        """Keep `files` under the key of `identity`, all or nothing, unless there are some. Returns those that are kept.

        Of several processes, on whatever machines, that made the same result the first wins.
        """
        return self._keep(stage, identity, files, replace=False)

    def where(self, stage: str, key: str) -> str:
        """The place of a result, for messages."""
        return self.entries.where(stage, key)

    def identities(self, stage: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and pre-image of everything kept in a stage, by key; unreadable entries are passed over."""
        for key, manifest in self.entries.manifests(stage):
            try:
                yield key, json.loads(manifest)["identity"]
            except (ValueError, KeyError, TypeError):
                continue

    def faults(self, stage: str) -> Iterator[tuple[str, str]]:
        """The key of everything in a stage that cannot be used, and what is wrong with it."""
        for key, _ in self.entries.manifests(stage):
            fault, _files = self._read(stage, key)
            if fault is not None:
                yield key, fault

    @contextmanager
    def writing(self, stage: str, key: str) -> Iterator[bool]:
        """Work on `key` while others on this machine wait for it, and say so; False where there are no locks.

        A lock saves work and no more: which of two results is kept does not hang on it.
        """
        path = self.root / "locks" / f"{stage}-{key}.lock"
        lock = FileLock(path, fallback_to_soft=False)
        try:
            with accessing(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
            held = _locked(lock, path, timeout=0)
            if held is False:
                self.report(f"another process is working on {stage}/{key[:12]}; waiting for its result.")
                held = _locked(lock, path, timeout=-1)
            if held is None and not self._said:
                self._said.add(str(path.parent))
                self.report(f"{path.parent} has no locks: another process may do the same work, and none is resumed.")
            yield bool(held)
        finally:
            lock.release()

    def checkpoint(self, stage: str, key: str, tell: Callable[[Progress], None], alone: bool = True) -> TimedCheckpoint:
        """A checkpoint whose states survive the process, where it is `alone`; `finish` it once the result is kept."""
        if not alone:
            return MemoryCheckpoint(tell)
        return StoredCheckpoint(self.root / "unfinished" / f"{stage}-{key}", "main", tell)

    def _keep(
        self, stage: str, identity: Mapping[str, Any], files: Mapping[str, bytes], replace: bool
    ) -> dict[str, bytes]:
        """Raises StoreError where other processes put and damage entries under the key all the time."""
        key = key_of(identity)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        manifest = canonical_json({"identity": identity, "files": digests}) + b"\n"
        for _ in range(TRIES):
            if self.entries.add(stage, key, manifest, files, replace):
                return dict(files)
            first = None if replace else self.get(stage, key)
            if first is not None:
                self.report(f"another process was first with {stage}/{key[:12]}; its result is used.")
                return first
        raise StoreError(f"{self.where(stage, key)} cannot be written (others change it all the time); run it again.")

    def _read(self, stage: str, key: str) -> tuple[str | None, dict[str, bytes] | None]:
        """What is wrong with an entry, or None, and its files, None where there is no entry."""
        text = self.entries.manifest(stage, key)
        if text is None:
            return None, None
        try:
            manifest = json.loads(text)
            if key_of(manifest["identity"]) != key:
                return "does not belong to its key", None
            digests = dict(manifest["files"])
        except (ValueError, LookupError, TypeError):
            return LACKS, None
        files = {}
        for name, digest in digests.items():
            content = self.entries.file(stage, key, name, digest)
            if content is None:
                return LACKS, None
            if hashlib.sha256(content).hexdigest() != digest:
                return f"holds a {name} that was changed by hand", None
            files[name] = content
        return None, files


def _locked(lock: FileLock, path: Path, timeout: float) -> bool | None:
    """Whether the lock is held now: False if another process has it, None where the file system has no locks.

    Raises StoreError where no file may be made there.
    """
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return False
    except NotImplementedError:
        return None
    except OSError as fault:
        if fault.errno in NO_LOCKS:
            return None
        raise refused(path, fault, "locked") from fault
    return True
