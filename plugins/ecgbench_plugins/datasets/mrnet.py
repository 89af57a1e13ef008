"""MRNet: knee MRI of 1,250 exams at Stanford, with labels of three findings. Not open: never stored or downloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ecgbench import (
    ByteSignals,
    DataError,
    DataRoot,
    Dataset,
    Defaults,
    EcgbenchError,
    RandomStream,
    Samples,
    Task,
    Threat,
    hookimpl,
)
from ecgbench_plugins.datasets.knee_files import SIDE, Tree, Volumes, mapped, read_labels
from ecgbench_plugins.datasets.knee_planes import knee_samples
from ecgbench_plugins.datasets.knees import PLANES, STANDARD, SWEPT, Plane, Question, classes

VALIDATES = 0.15  # of the training exams of each class
STUDY = "chosen and tested on the same exams, as the study did: figures are too good"


@dataclass(frozen=True)
class MRNet(Dataset):
    """Volumes x (n, slices, channels, 256, 256) of grey values in [0, 1] (8 bits / 255), padded to the longest exam.

    The tree MRNet-v1.0 of Bien et al. 2018 (PLoS Med 15(11) e1002699), which Stanford hands out for research, as it
    is: nothing is copied, files are mapped and decoded exam by exam. `scale` is in standard deviations of MRNet's grey
    values (49.73), so that `Threat[unit=SD]` has the eps of models on standardised input.

    `plane` and `task` choose one of nine tasks; `plane="all"` gives all three planes, x (n, slices, 3, channels, 256,
    256), for victims that see them at once. `channels=3` repeats the grey values, for attacks that perturb three
    channels each for itself. `split="holdout"` draws 15 % of the training exams of each class for validation, by
    `seed`, and tests on `valid`; `split="study"` both validates and tests on `valid`, as those who publish the best of
    their epochs did. `ids` are the numbers of the exams. The files name no patients: `group` is None.
    """

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), SWEPT, headline=0.01)
    plane: Literal["axial", "coronal", "sagittal", "all"] = "sagittal"
    task: Literal["abnormal", "acl", "meniscus"] = "abnormal"
    split: Literal["holdout", "study"] = "holdout"
    channels: Literal[1, 3] = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise EcgbenchError(f"mrnet: seed={self.seed} is out of range; expected 0 to 2**32 - 1.")

    @property
    def _planes(self) -> tuple[Plane, ...]:
        return PLANES if self.plane == "all" else (self.plane,)

    def files(self, root: DataRoot) -> Mapping[str, Path]:
        tree = Tree.of(root)
        parts = [tree.files(part, plane, self.task) for part in ("train", "valid") for plane in self._planes]
        return {name: path for part in parts for name, path in part.items()}

    def load(self, root: DataRoot) -> Task:
        tree = Tree.of(root)
        given, held = (_Exams.read(tree, part, self._planes, self.task) for part in ("train", "valid"))
        twice = np.intersect1d(given.ids, held.ids)
        if len(twice):
            raise DataError(f"mrnet: exam {twice[0]:04d} is in train and in valid; expected each exam once.")
        validates = _drawn(given, self.seed)
        train, val = (given, held) if self.split == "study" else (given[~validates], given[validates])
        for purpose, exams in (("train", train), ("validate", val)):
            if not len(exams.ids):
                raise DataError(f"mrnet: no exam is left to {purpose} on; expected two or more of a class in train.")
        longest = max(int(part.slices.max()) for part in (given, held))
        series = f"{' and '.join(self._planes)} series, task {self.task}"
        notes = [series, "no patients are named: no split can be patient-disjoint"]
        return Task(
            name="mrnet",
            classes=classes(self.task),
            train=train.samples(self.channels, longest),
            val=val.samples(self.channels, longest),
            test=held.samples(self.channels, longest),
            bounds=(0.0, 1.0),
            physical="SD",
            notes=(*notes, STUDY) if self.split == "study" else tuple(notes),
        )


@dataclass(frozen=True, eq=False)
class _Exams:
    """Volumes of exams by their numbers, (exams, planes), with label and number of slices."""

    paths: NDArray[np.object_]
    ids: NDArray[np.int64]
    label: NDArray[np.int64]
    slices: NDArray[np.int64]

    @classmethod
    def read(cls, tree: Tree, part: str, planes: Sequence[Plane], question: Question) -> _Exams:
        """Raises DataError, naming the exam, where labels and volumes do not fit or a volume is none."""
        columns = []
        for plane in planes:
            files = tree.files(part, plane, question)
            labels = read_labels(files[f"{part}-{question}.csv"])
            volumes = {int(path.stem): path for path in files.values() if path.suffix == ".npy"}
            for exam in sorted(labels.keys() ^ volumes.keys()):
                lacks = f"no volume in {part}/{plane}" if exam in labels else f"no label in {part}-{question}.csv"
                raise DataError(f"mrnet: exam {exam:04d} has {lacks}; expected one of each.")
            columns.append([volumes[exam] for exam in sorted(volumes)])
        ids = np.array(sorted(labels), np.int64)
        paths = np.array(columns, object).T
        slices = [[len(mapped(path)) for path in row] for row in paths]
        return cls(paths, ids, np.array([labels[exam] for exam in ids.tolist()], np.int64), np.array(slices, np.int64))

    def __getitem__(self, rows: NDArray[np.bool_]) -> _Exams:
        return _Exams(self.paths[rows], self.ids[rows], self.label[rows], self.slices[rows])

    def samples(self, channels: int, longest: int) -> Samples:
        """The exams as a split, padded to `longest` slices."""
        series = [Volumes(tuple(paths), channels) for paths in self.paths.T]
        planes = [ByteSignals(each, (channels, SIDE, SIDE), longest) for each in series]
        return knee_samples(planes, torch.from_numpy(self.label), torch.from_numpy(self.ids), STANDARD)


def _drawn(exams: _Exams, seed: int) -> NDArray[np.bool_]:
    """Exams for validation, a share of each class, one at least where there are two or more."""
    lot = RandomStream(("mrnet", "validation", seed)).uniform(torch.from_numpy(exams.ids), ()).numpy()
    drawn = np.zeros(len(lot), bool)
    for label in (0, 1):
        rows = np.flatnonzero(exams.label == label)
        drawn[rows[lot[rows].argsort(kind="stable")][: max(round(VALIDATES * len(rows)), min(len(rows) // 2, 1))]] = (
            True
        )
    return drawn


@hookimpl
def datasets() -> Mapping[str, Dataset]:
    return {"mrnet": MRNet()}
