"""Synthetic knees: made-up volumes in the form of MRNet's knee MRI, without a download.

Every rule here is our own: never validated against recordings, and no result on them is a clinical one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from ecgbench import ByteSignals, DataRoot, Dataset, Defaults, EcgbenchError, Samples, Task, Threat, hookimpl
from ecgbench_plugins.datasets.knee_planes import knee_samples
from ecgbench_plugins.datasets.knees import PLANES, STANDARD, SWEPT, TASKS, Plane, classes

Array = NDArray[np.float64]

SIDE = 64  # pixels
SLICES = (12, 24)  # of a series, each number equally often
REACH = 0.85  # of the half length: where the outermost slices lie
RATES = {"abnormal": 0.806, "acl": 0.233, "meniscus": 0.371}  # of the exams, as in MRNet's
PARTS = (0.0, 0.60, 0.75, 1.0)  # of the exams: training, validation, test
NOISE = 8.0  # grey values
DISTRACTED = 0.5  # of the knees have a faint lesion of a kind
ACROSS = {"axial": 0, "coronal": 1, "sagittal": 2}  # the axis of (up, front, side) that a plane's slices follow


@dataclass(frozen=True)
class SyntheticKnee(Dataset):
    """Volumes x (n, 24, 1, 64, 64) of grey values in [0, 1], 12 to 24 slices and then padding; scale as in `mrnet`.

    Every exam is one phantom: an ellipsoid of smooth texture with two bright bones and the joint between them, and one
    series of slices in each plane, with noise of its own. `task` "acl" adds to 23 % of the exams a bright spot in the
    middle of the joint, "meniscus" to 37 % a dark stripe beside it; 81 % are "abnormal", those with either and those
    with a broad bright stain in a bone. Half of all knees, healthy or not, have a lesion of each kind that counts for
    nothing: 0.45 to 0.8 of the height of one that does, and at any place. It says nothing about patients: the set is
    synthetic, and was never compared with recordings.

    `plane="all"` gives all three, x (n, 24, 3, 1, 64, 64), for victims that see them at once. `exams` in all: 60, 15
    and 25 % to train, validate and test on, with the same shares of labels; `seed` fixes every byte, of the other
    planes and tasks as well. Raises EcgbenchError for a parameter out of range.
    """

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), SWEPT, headline=0.01)
    plane: Literal["axial", "coronal", "sagittal", "all"] = "sagittal"
    task: Literal["abnormal", "acl", "meniscus"] = "abnormal"
    exams: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        if self.exams < 40:
            raise EcgbenchError(f"synthetic-knee: exams={self.exams} given; expected 40 or more.")
        if self.seed < 0:
            raise EcgbenchError(f"synthetic-knee: seed={self.seed} given; expected 0 or more.")

    def load(self, root: DataRoot) -> Task:
        planes: tuple[Plane, ...] = PLANES if self.plane == "all" else (self.plane,)
        edges = [round(part * self.exams) for part in PARTS]
        rng = Generator(PCG64(self.seed))
        labels = [_labels(stop - start, rng) for start, stop in pairwise(edges)]
        found = {name: np.concatenate([part[name] for part in labels]) for name in TASKS}
        label = [{name: bool(found[name][exam]) for name in TASKS} for exam in range(self.exams)]
        exams = [[_volume(of, plane, self.seed, exam)[:, None] for plane in planes] for exam, of in enumerate(label)]
        train, val, test = (_split(exams, found[self.task], slice(*ends)) for ends in pairwise(edges))
        return Task(
            name="synthetic-knee",
            classes=classes(self.task),
            train=train,
            val=val,
            test=test,
            bounds=(0.0, 1.0),
            physical="SD",
            notes=("synthetic", f"{' and '.join(planes)} series, task {self.task}"),
            synthetic=True,
        )


def _split(exams: list[list[NDArray[np.uint8]]], label: NDArray[np.bool_], rows: slice) -> Samples:
    """Some rows of the exams, each a series (slices, 1, 64, 64) for every plane."""
    planes = [ByteSignals(series, (1, SIDE, SIDE), SLICES[1]) for series in zip(*exams[rows], strict=True)]
    y = torch.from_numpy(label[rows].astype(np.int64))
    return knee_samples(planes, y, torch.arange(rows.start, rows.stop), STANDARD)


def _labels(n: int, rng: Generator) -> Mapping[str, NDArray[np.bool_]]:
    """`n` exams in the exact shares of the labels; acl and meniscus fall on abnormal exams, each for itself."""
    sick = rng.permutation(n)[: round(RATES["abnormal"] * n)]
    rows = {"abnormal": sick} | {name: rng.permutation(sick)[: round(RATES[name] * n)] for name in ("acl", "meniscus")}
    return {name: np.isin(np.arange(n), rows[name]) for name in TASKS}


@dataclass(frozen=True)
class _Kind:
    """A kind of lesion, a Gaussian stain: the least and most grey values it adds, and where.

    Those that count for nothing have `faint` of its height. `middle` is its place and `spread` that place's standard
    deviation, `width` its own, all along (up, front, side) in half lengths of the volume. It lies on
    either side of the middle, up or sideways.
    """

    heights: tuple[float, float]
    faint: float
    middle: tuple[float, float, float]
    spread: tuple[float, float, float]
    width: tuple[float, float, float]

    def drawn(self, faint: bool, rng: Generator) -> _Lesion:
        """A lesion where it belongs, or a fainter one anywhere."""
        share, signs = rng.uniform(0, 1), rng.choice((-1.0, 1.0), 3)
        low, high = (self.faint * height for height in self.heights) if faint else self.heights
        place = rng.uniform(-0.6, 0.6, 3), signs * self.middle + self.spread * rng.standard_normal(3)
        return _Lesion(low + share * (high - low), place[0 if faint else 1], np.array(self.width))


KINDS = {
    "abnormal": _Kind((70, 140), 0.45, (0.45, 0.0, 0.35), (0.1, 0.25, 0.15), (0.2, 0.2, 0.2)),
    "acl": _Kind((60, 130), 0.55, (0.0, 0.0, 0.0), (0.06, 0.1, 0.08), (0.1, 0.12, 0.1)),
    "meniscus": _Kind((-45, -100), 0.8, (0.0, 0.0, 0.5), (0.12, 0.25, 0.12), (0.1, 0.25, 0.14)),
}


@dataclass(frozen=True)
class _Lesion:
    """Grey values added in the middle, and middle and width along (up, front, side)."""

    height: float
    middle: Array
    width: Array

    def on(self, axes: list[Array]) -> Array:
        """What it adds on the grid of three axes."""
        bells = (
            np.exp(-0.5 * ((axis - at) / w) ** 2) for axis, at, w in zip(axes, self.middle, self.width, strict=True)
        )
        return self.height * _product(*bells)


def _volume(label: Mapping[str, bool], plane: Plane, seed: int, exam: int) -> NDArray[np.uint8]:
    """One series (slices, 64, 64) of an exam, read-only."""
    knee, series = (Generator(PCG64(SeedSequence((seed, exam, *more)))) for more in ((), (1 + PLANES.index(plane),)))
    slices = int(series.integers(SLICES[0], SLICES[1] + 1))
    axes = [np.linspace(-1, 1, SIDE) for _ in range(3)]
    axes[ACROSS[plane]] = np.linspace(-REACH, REACH, slices)
    grey = _knee(axes, knee)
    for lesion in _lesions(label, knee):
        grey += lesion.on(axes)
    grey = np.moveaxis(grey, ACROSS[plane], 0)
    volume = np.clip(np.rint(grey + NOISE * series.standard_normal(grey.shape)), 0, 255).astype(np.uint8)
    volume.flags.writeable = False
    return volume


def _knee(axes: list[Array], rng: Generator) -> Array:
    """Healthy tissue on the grid of three axes: grey values (up, front, side)."""
    radii, joint = rng.uniform(0.8, 0.95, 3), rng.uniform(-0.1, 0.1)
    up, front, side = axes
    outside = (up[:, None, None] / (1.2 * radii[0])) ** 2 + (front[:, None] / radii[1]) ** 2 + (side / radii[2]) ** 2
    body = np.clip(6 * (1 - outside), 0, 1)
    bones = np.clip(np.abs(up - joint) / 0.15 - 0.6, 0, 1)
    texture = sum(
        _product(*(np.cos(np.pi * rate * axis + phase) for axis, rate, phase in zip(axes, rates, phases, strict=True)))
        for rates, phases in zip(rng.uniform(0.4, 2.5, (5, 3)), rng.uniform(0, 2 * np.pi, (5, 3)), strict=True)
    )
    return 70 + body * (30 + 12 * bones[:, None, None] + 3 * texture)


def _lesions(label: Mapping[str, bool], rng: Generator) -> list[_Lesion]:
    """What an exam's labels add to it, and the fainter ones of every kind that any knee may have.

    All are drawn, so that a label changes nothing but its own lesion.
    """
    made = []
    for name, kind in KINDS.items():
        lesion, other, more = kind.drawn(False, rng), kind.drawn(True, rng), rng.random() < DISTRACTED
        made += [lesion] * label[name] + [other] * more
    return made


def _product(up: Array, front: Array, side: Array) -> Array:
    return up[:, None, None] * front[:, None] * side


@hookimpl
def datasets() -> Mapping[str, Dataset]:
    return {"synthetic-knee": SyntheticKnee()}
