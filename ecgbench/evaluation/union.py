"""What several attacks leave of one victim, each alone and all together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import process_time

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.progress import Checkpoint
from ecgbench.evaluation.sweep import Sweep


@dataclass(frozen=True)
class Attacked:
    """What one attack leaves at one eps: which samples are `robust`, (n,) bool; CPU `seconds` of this process; and how
    many adversarial examples each part of the attack found, by its name.
    """

    attack: str
    robust: NDArray[np.bool_]
    seconds: float
    parts: Mapping[str, int]


def attacked(name: str, sweep: Sweep) -> Attacked:
    """Run a sweep of one eps. Raises EcgbenchError where it cannot be, ContractError where the attack breaks a rule."""
    began = process_time()
    outcomes = sweep.run(Checkpoint())
    seconds = process_time() - began
    found = outcomes.adversarial[0] & outcomes.correct
    parts, counts = np.unique(outcomes.components[outcomes.by[0][found]], return_counts=True)
    named = {str(part): int(count) for part, count in zip(parts, counts, strict=True) if part}
    return Attacked(name, outcomes.correct & ~outcomes.adversarial[0], seconds, named)


def union(runs: Sequence[Attacked]) -> NDArray[np.bool_]:
    """Which samples are robust under every attack, (n,)."""
    return np.logical_and.reduce([run.robust for run in runs])


def alone(runs: Sequence[Attacked]) -> list[int]:
    """Of each attack, how many adversarial examples no other attack found."""
    misses = sum((~run.robust).astype(int) for run in runs)
    return [int(((misses == 1) & ~run.robust).sum()) for run in runs]
