"""Results kept on disk: one folder per key, written aside and renamed, one writer at a time.

A folder holds its files and a manifest with the key's pre-image and each file's digest; both are checked on
every read. What does not match is set aside and counts as missing. Nothing here can execute what it reads.
"""

from __future__ import annotations

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
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from ecgbench.journal import Journal, Progress, State

MANIFEST = "manifest.json"


def key_of(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity's canonical JSON."""
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


@dataclass(frozen=True)
class Store:
    """A folder of results by stage ("victims", "outcomes", ...) and key; `tell` gets one line for people."""

    root: Path
    tell: Callable[[str], None] = lambda _: None

    def get(self, stage: str, key: str) -> dict[str, bytes] | None:
        """The files kept under `key` by name, None where there are none; a damaged folder is set aside."""
        folder = self.root / stage / key
        if not folder.is_dir():
            return None
        fault, files = _read(folder, key)
        if fault is not None:
            fault, files = _read(folder, key)  # another process may just have replaced it
        if fault is None:
            return files
        self._set_aside(folder, f"{stage}-{key[:12]}")
        self.tell(f"{stage}/{key[:12]} {fault}; it is set aside and counts as missing.")
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
        aside.mkdir(parents=True)
        try:
            manifest = {
                "identity": identity,
                "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            }
            for name, content in {**files, MANIFEST: canonical_json(manifest) + b"\n"}.items():
                _write(aside / name, content)
            if folder.exists():
                folder.rename(old)
            aside.rename(folder)
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
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.tell(f"another process is working on {stage}/{key[:12]}; waiting for its result.")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def journal(self, stage: str, key: str, tell: Callable[[Progress], None]) -> StoredJournal:
        """A journal whose states survive the process; `finish` it once the result is kept."""
        return StoredJournal(self.root / "unfinished" / f"{stage}-{key}", "main", tell)

    def _set_aside(self, folder: Path, name: str) -> None:
        place = self.root / "damaged"
        place.mkdir(exist_ok=True)
        number = 1
        while (target := place / f"{name}-{number}").exists():
            number += 1
        with suppress(FileNotFoundError):
            folder.rename(target)


class StoredJournal(Journal):
    """States as safetensors files, replaced whole."""

    def __init__(self, folder: Path, name: str, tell: Callable[[Progress], None]) -> None:
        super().__init__(tell)
        self._folder, self._name, self._sink = folder, name, tell
        self._began, self._before = time.perf_counter(), 0.0

    def start(self) -> None:
        """The work begins here, or goes on: what came before, such as the training of a base, is not its own."""
        self._began, self._before = time.perf_counter(), self._kept_seconds()

    @property
    def seconds(self) -> float:
        """How long the work has taken since its start, that of killed processes up to what they kept included."""
        return self._before + time.perf_counter() - self._began

    def keep(self, state: State) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._file.with_suffix(".tmp")
        aside.write_bytes(pack_tensors(state, {"seconds": repr(self.seconds)}))
        aside.replace(self._file)

    def kept(self) -> State | None:
        try:
            return load(self._file.read_bytes())
        except (OSError, SafetensorError):
            return None

    def measured_once(self, what: Mapping[str, str], measure: Callable[[], float]) -> float:
        path = self._folder.parent.parent / "machine" / f"{key_of(what)}.json"
        try:
            return float(json.loads(path.read_bytes())["measured"])
        except (OSError, ValueError, KeyError, TypeError):
            measured = measure()
        write_file(path, json.dumps({**what, "measured": measured}, indent=2).encode() + b"\n")
        return measured

    def chapter(self, name: str) -> Journal:
        return StoredJournal(self._folder, f"{self._name}.{name}", self._sink)

    def finish(self) -> None:
        """Forget the states; the result is kept elsewhere."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _kept_seconds(self) -> float:
        try:
            with safe_open(self._file, "pt") as kept:
                return float((kept.metadata() or {}).get("seconds", 0.0))
        except (OSError, ValueError, SafetensorError):
            return 0.0

    @property
    def _file(self) -> Path:
        return self._folder / f"{self._name}.safetensors"


def pack_tensors(tensors: Mapping[str, Tensor], notes: dict[str, str] | None = None) -> bytes:
    """Tensors, and notes on them, as the bytes of a safetensors file; equal ones give equal bytes."""
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, notes)


def write_file(path: Path, content: bytes) -> None:
    """Write a file all or nothing, readable by all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(aside, content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read(folder: Path, key: str) -> tuple[str | None, dict[str, bytes]]:
    """What is wrong with a folder, or None, and its files."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if key_of(manifest["identity"]) != key:
            return "does not belong to its key", {}
        digests = dict(manifest["files"])
        files = {name: (folder / name).read_bytes() for name in digests}
    except (OSError, ValueError, KeyError, TypeError):
        return "lacks its files", {}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != digests[name]:
            return f"holds a {name} that was changed by hand", {}
    return None, files
