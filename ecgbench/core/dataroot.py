"""Where recordings lie on this machine, and the array files they are cached in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import numpy as np

from ecgbench.core.errors import DataError, accessing


@dataclass(frozen=True)
class Remote:
    """Where a dataset is downloaded: a base address, and the file below it that lists SHA-256 sums.

    `folder` is the directory the files come to lie in, below the data root; `wanted` are the file endings
    that are needed, "" for all; no file is larger than `largest` bytes. Tar files with the endings `archives` are
    unpacked where they lie.

    `content` is the `digest` of the recordings of this version, as they are known to whoever wrote the plugin: of the
    files that the dataset reads by default, those whose names have the endings `pinned`. "" pins nothing: the server's
    list of sums is believed. `newlines` are the line ends that text files are counted with, by ending of their names.
    """

    url: str
    folder: str
    sums: str = "SHA256SUMS.txt"
    wanted: tuple[str, ...] = ("",)
    archives: tuple[str, ...] = ()
    largest: int = 1 << 28
    content: str = ""
    pinned: tuple[str, ...] = ("",)
    newlines: tuple[tuple[str, bytes], ...] = ()


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

        A place given for `name` is searched instead of the data root; either is a candidate itself, before
        its layouts. Raises DataError, ending in `hint`, where none holds it.
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

        Opened copy-on-write: whoever writes into it changes nothing on disk. Raises StoreError where the cache
        cannot be written.
        """
        if self.cache is None:
            return make()
        path = self.cache / "arrays" / f"{name}-{key[:24]}.npy"
        try:
            return np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            pass
        array = make()
        aside = path.with_suffix(f".{uuid4().hex[:16]}.tmp")
        try:
            with accessing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with aside.open("wb") as file:
                    np.save(file, array, allow_pickle=False)
                aside.replace(path)
        finally:
            with suppress(OSError):
                aside.unlink()
        return np.load(path, mmap_mode="c", allow_pickle=False)


def digest(files: Mapping[str, Path], newlines: Iterable[tuple[str, bytes]] = ()) -> str:
    """SHA-256 over names and contents, in the order of names. Raises DataError for a file nobody may read.

    `newlines` are the line ends that text files are counted with, whatever they have, by ending of their names.
    """
    total = hashlib.sha256()
    for name in sorted(files):
        newline = next((newline for ending, newline in newlines if name.endswith(ending)), None)
        total.update(f"{name}\0{sha256(files[name], newline)}\n".encode())
    return total.hexdigest()


def sha256(path: Path, newline: bytes | None = None) -> str:
    """SHA-256 of one file, of a text file with the given line ends. Raises DataError where it cannot be read."""
    try:
        if newline is not None:
            return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", newline)).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
