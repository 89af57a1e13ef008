"""Entries as folders of a disk, local or shared over a network: written aside, then renamed.

A rename never replaces a folder that holds something, so of two writers the first wins on every file system of POSIX,
without a lock.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ecgbench.core.errors import accessing, refused
from ecgbench.storage.backend import MANIFEST
from ecgbench.storage.files import set_aside, unique, write_through

WRITING = "writing"
DAY = 86_400.0  # seconds; no writer takes as long


@dataclass(frozen=True)
class Folders:
    """Entries in `root`/stage/key, see `Backend`."""

    root: Path

    @property
    def place(self) -> str:
        return str(self.root.absolute())

    def where(self, stage: str, key: str) -> str:
        return (self.root / stage / key).as_posix()

    def manifest(self, stage: str, key: str) -> bytes | None:
        folder = self.root / stage / key
        with accessing(folder, "read"):
            if not folder.is_dir():
                return None
        return _read(folder / MANIFEST) or b""

    def file(self, stage: str, key: str, name: str, sha256: str) -> bytes | None:
        return _read(self.root / stage / key / name)

    def manifests(self, stage: str) -> Iterator[tuple[str, bytes]]:
        for folder in sorted((self.root / stage).glob("[0-9a-f]*")):
            yield folder.name, _read(folder / MANIFEST) or b""

    def add(self, stage: str, key: str, manifest: bytes, files: Mapping[str, bytes], replace: bool) -> bool:
        folder, aside = self.root / stage / key, self.root / WRITING / unique()
        old = aside.with_suffix(".old")
        try:
            with accessing(folder):
                folder.parent.mkdir(parents=True, exist_ok=True)
                aside.mkdir(parents=True)
                _sweep(aside)
                for name, content in {**files, MANIFEST: manifest}.items():
                    write_through(aside / name, content)
                if replace:
                    with suppress(FileNotFoundError):
                        folder.rename(old)
                return _put(aside, folder, old)
        finally:
            for left in (aside, old):
                shutil.rmtree(left, ignore_errors=True)

    def set_aside(self, stage: str, key: str) -> None:
        set_aside(self.root, self.root / stage / key, f"{stage}-{key[:12]}")


def _put(aside: Path, folder: Path, old: Path) -> bool:
    """Rename `aside` to `folder`; False where there is one already. `old` comes back where it fails."""
    try:
        aside.rename(folder)
    except OSError as fault:
        if folder.is_dir() and (fault.errno in (errno.EEXIST, errno.ENOTEMPTY) or not aside.exists()):
            return False  # without `aside` it was renamed, but NFS lost the answer (rename(2), BUGS): read it, too
        with suppress(OSError):
            old.rename(folder)
        raise
    return True


def _sweep(aside: Path) -> None:
    """Remove what writers that were killed have left beside `aside`, by the clock of the file system."""
    with suppress(OSError):
        now = aside.stat().st_mtime
        for left in aside.parent.iterdir():
            if now - left.stat().st_mtime > DAY:
                shutil.rmtree(left, ignore_errors=True)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as fault:
        raise refused(path, fault, "read") from fault
