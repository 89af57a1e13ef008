"""S_j of publications, set beside ours: their order may be compared, their size says nothing about our data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from ecgbench.susceptibility.agreement import FEWEST, Agreement, agreement
from ecgbench.susceptibility.report import Direction


@dataclass(frozen=True)
class PublishedScores:
    """S_j by measurement, from survival `toward` death and `away` from it."""

    name: str
    note: str
    toward: Mapping[str, float]
    away: Mapping[str, float]

    def beside(self, direction: Direction, at: int, measurements: Sequence[str], draws: int = 1000) -> Agreement | None:
        """Rank agreement with our direction number `at`, 0 toward and 1 away, over what both measure.

        None where nothing succeeded or too few measurements are shared.
        """
        theirs = self.toward if at == 0 else self.away
        shared = [place for place, name in enumerate(measurements) if name in theirs]
        if not len(direction.delta) or len(shared) < FEWEST:
            return None
        values = np.array([theirs[measurements[place]] for place in shared])
        return agreement(direction.delta[:, :, shared], values, draws)


def published() -> tuple[PublishedScores, ...]:
    """Sun et al. 2018 and a public re-implementation of it."""
    text = files("ecgbench.susceptibility").joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(PublishedScores(**study) for study in tomllib.loads(text)["study"])
