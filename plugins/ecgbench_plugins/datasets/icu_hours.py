"""Hourly values of ICU stays as a task: gaps filled, clipped and scaled to [0, 1] by what the training stays show.

The steps are those of the public reimplementations of Sun et al. 2018 (arXiv 1802.04822), with three differences that
keep what is tested out of what is trained on: percentiles and medians are those of the training split, of observed
values only; gaps are filled from inside the 48 hours alone; of a stay nothing later is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ecgbench import DataError, Samples, Task
from ecgbench_plugins.datasets.icu_features import Feature

SOURCE = Path(__file__)
HOURS = 48
CLASSES = ("survived", "died")
LOWEST, MIDDLE, HIGHEST = 5, 50, 95  # percentiles of the observed hourly values
PHYSICAL = "feature unit"  # each feature's own

Inputs = Literal["values", "values-observed"]
Attackable = Literal["all", "observed"]


@dataclass(frozen=True)
class Stays:
    """Hourly `values` (n, 48, features), gaps bridged, NaN where a stay never has the feature; `observed` likewise.

    `died` (n,) is the label, `ids` (n,) are stable numbers; `group` (n,) is the patient, None where every stay is of
    another one.
    """

    values: NDArray[np.float32]
    observed: NDArray[np.bool_]
    died: NDArray[np.int64]
    ids: NDArray[np.int64]
    group: NDArray[np.int64] | None = None

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Stays:
        group = None if self.group is None else self.group[rows]
        return Stays(self.values[rows], self.observed[rows], self.died[rows], self.ids[rows], group)


def bridged(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` (n, hours, features) without gaps (NaN): linear between observed hours, the nearest one outside of them.

    A feature that a stay never has stays NaN.
    """
    hours = values.shape[1]
    hour = np.arange(hours, dtype=np.int32)[:, None]
    seen = ~np.isnan(values)
    before = np.maximum.accumulate(np.where(seen, hour, -1), 1)
    after = np.minimum.accumulate(np.where(seen, hour, hours)[:, ::-1], 1)[:, ::-1]
    left = np.where(before < 0, after, before).clip(max=hours - 1)
    right = np.where(after == hours, left, after)
    one, other = (np.take_along_axis(values, place, 1) for place in (left, right))
    share = (hour - left) / np.maximum(right - left, 1).astype(np.float32)
    between: NDArray[np.float32] = np.where(seen, values, one + share * (other - one)).astype(np.float32)
    return between


@dataclass(frozen=True)
class Scaling:
    """Per feature the 5th, 50th and 95th percentile of observed hourly values, in its unit."""

    low: NDArray[np.float32]
    median: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, name: str, train: Stays, features: Sequence[Feature]) -> Scaling:
        """Raises DataError, for the dataset `name`, where a feature hardly varies over the training stays."""
        table = np.zeros((3, len(features)), np.float32)
        for place, feature in enumerate(features):
            seen = train.values[..., place][train.observed[..., place]]
            if len(seen):
                table[:, place] = np.percentile(seen, (LOWEST, MIDDLE, HIGHEST))
            if not table[0, place] < table[2, place]:
                raise DataError(
                    f"{name}: {feature.name} has {len(seen)} observed hours in the {len(train.died)} training stays, "
                    "and no spread between their 5th and 95th percentile; expected more stays."
                )
        return cls(*table)

    def scaled(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Medians for NaN, then clipped; low and high become 0 and 1: (n, 48, features)."""
        x = (np.where(np.isnan(values), self.median, values) - self.low) / (self.high - self.low)
        return np.clip(x, 0, 1, out=x)


@dataclass(frozen=True)
class Recipe:
    """How stays become the samples of the dataset `name`.

    `inputs` "values-observed" puts 0 or 1 for every value beside the values, which nobody may attack; `attackable`
    "observed" leaves an attack the hours with a value only.
    """

    name: str
    features: tuple[Feature, ...]
    inputs: Inputs = "values"
    attackable: Attackable = "all"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of x."""
        names = tuple(feature.name for feature in self.features)
        return names if self.inputs == "values" else (*names, *(f"{name} observed" for name in names))

    def samples(self, stays: Stays, scaling: Scaling) -> Samples:
        """Samples x (n, 48, features) in [0, 1], twice as many columns with "values-observed"; scale per feature."""
        observed = torch.from_numpy(stays.observed)
        x = torch.from_numpy(scaling.scaled(stays.values))
        mask = (
            observed if self.attackable == "observed" else torch.ones(len(x), 1, len(self.features), dtype=torch.bool)
        )
        scale = torch.from_numpy(scaling.high - scaling.low).repeat(len(x), 1, 1)
        if self.inputs == "values-observed":
            x = torch.cat([x, observed.float()], 2)
            mask = torch.cat([mask, torch.zeros_like(mask)], 2)
            scale = torch.cat([scale, torch.ones_like(scale)], 2)
        return Samples.of(
            x,
            torch.from_numpy(stays.died),
            mask=mask,
            ids=torch.from_numpy(stays.ids),
            scale=scale,
            group=None if stays.group is None else torch.from_numpy(stays.group),
        )

    def task(
        self, train: Stays, val: Stays, test: Stays, *, notes: tuple[str, ...] = (), synthetic: bool = False
    ) -> Task:
        """The task, scaled by the training stays alone. Raises DataError where their values do not suffice."""
        scaling = Scaling.of(self.name, train, self.features)
        return Task(
            name=self.name,
            classes=CLASSES,
            train=self.samples(train, scaling),
            val=self.samples(val, scaling),
            test=self.samples(test, scaling),
            bounds=(0.0, 1.0),
            physical=PHYSICAL,
            rate=1 / 3600,
            features=self.columns,
            notes=notes,
            synthetic=synthetic,
        )
