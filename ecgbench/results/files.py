"""What may lie in a folder of published results: `<dataset>/<row>.json` and `.npz`, regular files of a sane size."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

LARGEST = {".json": 1 << 20, ".npz": 1 << 26}
"""Bytes of the largest file by its ending: some thirty times what the rows of this project need."""


def irregular(folder: Path, largest: dict[str, int] = LARGEST) -> dict[Path, str]:
    """Everything below `folder` that is no result by its place, kind or size: a sentence by path. Nothing is opened."""
    return {path: f"{path.as_posix()} {what}." for path, what in _odd(folder, largest)} if folder.is_dir() else {}


def _odd(folder: Path, largest: dict[str, int]) -> Iterator[tuple[Path, str]]:
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        if not entry.is_dir(follow_symlinks=False):
            yield Path(entry.path), "lies beside the folders of datasets; expected <dataset>/<row>.json and .npz"
            continue
        for file in sorted(os.scandir(entry.path), key=lambda one: one.name):
            fault = _fault(file, largest)
            if fault is not None:
                yield Path(file.path), fault


def _fault(file: os.DirEntry[str], largest: dict[str, int]) -> str | None:
    status = file.stat(follow_symlinks=False)
    limit = largest.get(Path(file.name).suffix)
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file; expected <dataset>/<row>.json and .npz, and no links or folders"
    if limit is None:
        return f"is no result; expected a name that ends in {' or '.join(largest)}"
    return f"has {status.st_size} bytes; expected at most {limit}" if status.st_size > limit else None
