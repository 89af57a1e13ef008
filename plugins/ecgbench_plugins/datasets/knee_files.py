"""MRNet's files: one .npy of slices for each exam and plane, and three lists of labels without a header."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ecgbench import DataError, DataRoot
from ecgbench_plugins.datasets.knees import PLANES, Plane, Question
from ecgbench_plugins.datasets.textfiles import read_text

SIDE = 256  # pixels
HINT = "expected Stanford's tree MRNet-v1.0 below the data root, or its place by --data mrnet=FOLDER."
LEAST, MOST = 1, 512  # slices of an exam that is believed
MAGIC, PICKLE = b"\x93NUMPY", b"\x80"  # what files of arrays and of pickled objects begin with

_EXAM = re.compile(r"[0-9]{1,9}")
_LABEL = re.compile(r"\s*(?P<exam>[0-9]{1,9})\s*,\s*(?P<label>[01])\s*")


@dataclass(frozen=True)
class Tree:
    """The folder MRNet-v1.0, with train/ and valid/, each with a folder for every plane."""

    folder: Path

    @classmethod
    def of(cls, root: DataRoot) -> Tree:
        """Raises DataError where there is none."""
        return cls(root.find("mrnet", "train-abnormal.csv", ("MRNet-v1.0", "mrnet"), HINT))

    def files(self, part: str, plane: Plane, question: Question) -> Mapping[str, Path]:
        """The list of labels and the volumes of "train" or "valid" by their names in the tree.

        Raises DataError where the plane is missing or empty, and for volumes that are of no exam, or of the same one.
        """
        volumes = sorted((self.folder / part / plane).glob("*.npy"))
        exams: dict[int, Path] = {}
        for path in volumes:
            if not _EXAM.fullmatch(path.stem):
                raise DataError(f"mrnet: {part}/{plane}/{path.name} is no exam; expected names such as 0042.npy.")
            first = exams.setdefault(int(path.stem), path)
            if first is not path:
                names = f"{first.name} and {path.name}"
                raise DataError(f"mrnet: exam {first.stem} lies twice in {part}/{plane} ({names}); expected it once.")
        if not volumes:
            there = ", ".join(name for name in PLANES if (self.folder / part / name).is_dir()) or "no plane"
            raise DataError(f"mrnet: {part}/{plane} holds no volume NNNN.npy in {self.folder} (there is {there}).")
        labels = self.folder / f"{part}-{question}.csv"
        if not labels.is_file():
            raise DataError(f"mrnet: {labels.name} is missing in {self.folder}; expected the labels of {part}.")
        return {labels.name: labels} | {f"{part}/{plane}/{path.name}": path for path in volumes}


def read_labels(path: Path) -> Mapping[int, int]:
    """Label of each exam, 0 or 1. Raises DataError, naming the line, for anything else."""
    try:
        lines = read_text(path).splitlines()
    except OSError as fault:
        raise DataError(f"mrnet: {path.name} cannot be read ({fault.strerror}); expected lines exam,label.") from None
    found: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        parts = _LABEL.fullmatch(line)
        if parts is None and line.strip():
            raise DataError(f"mrnet: line {number} of {path.name} is {line[:40]!r}; expected exam,0 or exam,1.")
        if parts is None:
            continue
        exam = int(parts["exam"])
        if exam in found:
            raise DataError(f"mrnet: exam {exam:04d} stands twice in {path.name}; expected each exam once.")
        found[exam] = int(parts["label"])
    return found


@dataclass(frozen=True)
class Volumes(Sequence[NDArray[np.uint8]]):
    """Volumes of exams as they lie on disk, (slices, channels, 256, 256) each; a file is mapped when it is taken.

    Nothing is kept open, so that what was read once need not stay in memory.
    """

    paths: tuple[Path, ...]
    channels: int

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, at: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, at: slice) -> Volumes: ...
    def __getitem__(self, at: int | slice) -> NDArray[np.uint8] | Volumes:
        if isinstance(at, slice):
            return Volumes(self.paths[at], self.channels)
        volume = mapped(self.paths[at])
        return np.broadcast_to(volume[:, None], (len(volume), self.channels, *volume.shape[1:]))


def mapped(path: Path) -> NDArray[np.uint8]:
    """The volume (slices, 256, 256) of an exam, mapped read-only; 8 bits, or whole numbers that fit into them.

    Nothing in the file is executed. Raises DataError, naming exam and fault.
    """
    volume = _opened(path)
    if volume.ndim != 3 or volume.shape[1:] != (SIDE, SIDE):
        raise DataError(f"mrnet: exam {path.stem} has the shape {volume.shape}; expected slices of {SIDE} x {SIDE}.")
    if not LEAST <= len(volume) <= MOST:
        raise DataError(f"mrnet: exam {path.stem} has {len(volume)} slices; expected {LEAST} to {MOST}.")
    surplus = path.stat().st_size - volume.offset - volume.nbytes
    if surplus:
        raise DataError(f"mrnet: exam {path.stem} has {surplus} bytes behind its {len(volume)} slices; expected none.")
    return volume if volume.dtype == np.uint8 else _narrowed(volume, path.stem)


def _opened(path: Path) -> np.memmap:
    """The array of a .npy file. What numpy makes of a header that is none can be any error."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(MAGIC))
        if begins == MAGIC:
            with np.errstate(over="ignore"):
                return np.lib.format.open_memmap(path, "r")
        fault = "it is a pickle of Python objects" if begins[:1] == PICKLE else f"it begins with {begins!r}"
    except OSError as error:
        fault = error.strerror or "cut short"
    except Exception as error:
        fault = "it holds Python objects" if "Python objects" in str(error) else "cut short, or no array"
    raise DataError(f"mrnet: exam {path.stem} cannot be read ({fault}); expected a .npy of 8 bits.")


def _narrowed(volume: NDArray[np.generic], exam: str) -> NDArray[np.uint8]:
    """The same whole numbers of 0 to 255 in 8 bits."""
    if volume.dtype.kind not in "iuf":
        raise DataError(f"mrnet: exam {exam} is of type {volume.dtype}; expected 8 bits.")
    with np.errstate(invalid="ignore"):  # what is no number differs afterwards
        narrow = np.clip(volume, 0, 255).astype(np.uint8)
    if not np.array_equal(narrow, volume):
        raise DataError(
            f"mrnet: exam {exam} holds {volume.dtype} that are no whole numbers of 0 to 255; expected 8 bits."
        )
    narrow.flags.writeable = False
    return narrow
