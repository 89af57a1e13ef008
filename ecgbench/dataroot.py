"""Where recordings lie on this machine, and the array files they are cached in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ecgbench.errors import DataError


@dataclass(frozen=True)
class Remote:
    """Where a dataset is downloaded: a base address, and the file below it that lists SHA-256 sums.

    `folder` is the directory the files come to lie in, below the data root; `wanted` are the file endings
    that are needed, "" for all.
    """

    url: str
    folder: str
    sums: str = "SHA256SUMS.txt"
    wanted: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class DataRoot:
    """Finds files below `home` (the data root) or at a place named for one dataset in `places`.

    `cache` is a folder for arrays made from them; None keeps nothing.
    """

    home: Path | None = None
    places: Mapping[str, Path] = field(default_factory=dict)
    cache: Path | None = None

    def find(self, name: str, marker: str, layouts: Iterable[str], hint: str) -> Path:
        """The first folder of `layouts` that holds the file `marker`.

        A place given for `name` is searched first, itself and its layouts. Raises DataError, ending in
        `hint`, where there is none.
        """
        layouts = tuple(layouts)
        roots = [self.places[name]] if name in self.places else [] if self.home is None else [self.home]
        for root in roots:
            for folder in (root, *(root / layout for layout in layouts)):
                if (folder / marker).is_file():
                    return folder
        looked = f"below {roots[0]}" if roots else "anywhere: no data root is set"
        raise DataError(f"{name}: found no {marker} {looked}; {hint}")

    def array(self, name: str, key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array `make()` gives, kept as one memory-mapped file under `name` and `key` (see `digest`).

        Opened copy-on-write: whoever writes into it changes nothing on disk.
        """
        if self.cache is None:
            return make()
        path = self.cache / "arrays" / f"{name}-{key[:24]}.npy"
        try:
            return np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError):
            pass
        array = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        with aside.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        aside.replace(path)
        return np.load(path, mmap_mode="c", allow_pickle=False)


def digest(files: Mapping[str, Path]) -> str:
    """SHA-256 over names and contents, in the order of names."""
    total = hashlib.sha256()
    for name in sorted(files):
        with files[name].open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{name}\0{content}\n".encode())
    return total.hexdigest()
