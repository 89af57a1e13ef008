"""Files on a disk: written whole or not at all, and set aside where they are not what they should be."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ecgbench.core.errors import accessing


def write_file(path: Path, content: bytes) -> None:
    """Write a file all or nothing, readable by all. Raises StoreError where the machine does not let it."""
    aside = path.with_name(f".{path.name}.{unique()}.tmp")
    try:
        with accessing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_through(aside, content)
            aside.replace(path)
    finally:
        with suppress(OSError):
            aside.unlink()


def write_through(path: Path, content: bytes) -> None:
    """Write a file, and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def set_aside(root: Path, path: Path, name: str) -> None:
    """Move what is no result into `root`/damaged. Raises StoreError where the machine does not let it."""
    with accessing(path, "set aside"):
        place = root / "damaged"
        place.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            path.rename(place / f"{name}-{unique()}")


def unique() -> str:
    """A part of a name that no other process uses, on whatever machine it runs."""
    return uuid4().hex[:16]
