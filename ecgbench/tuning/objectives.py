"""What a trial is worth: of a training, loss or ranking on validation; of an attack, how sparse its successes are.

The scores of attacks are those of a public study (lstm_adversarial_attack): the sum over all successful perturbations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from ecgbench.core.data import Samples
from ecgbench.core.errors import EcgbenchError, UnknownNameError
from ecgbench.core.random import RandomStream
from ecgbench.core.victim import Victim, chunks
from ecgbench.evaluation.binary import ranking
from ecgbench.evaluation.outcomes import Outcomes

Scores = NDArray[np.float64]
_COUNT = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Objective:
    """A number a trial is judged by: of a training from logits (n, classes) and labels, of an attack from outcomes."""

    name: str
    direction: Literal["minimize", "maximize"]
    of_training: Callable[[Tensor, Tensor], float] | None = None
    of_attack: Callable[[Outcomes, int], float] | None = None

    @property
    def attacks(self) -> bool:
        """Whether it judges an attack."""
        return self.of_attack is not None


def objective(name: str) -> Objective:
    """The objective of that name; `fewer-than-N` counts the successes with fewer than N changed cells."""
    word, _, number = name.rpartition("-")
    if word == "fewer-than" and _COUNT.fullmatch(number):
        return Objective(name, "maximize", of_attack=lambda found, cells: fewer_than(found, int(number)))
    if name not in OBJECTIVES:
        raise UnknownNameError("objective", name, [*OBJECTIVES, "fewer-than-50"])
    return OBJECTIVES[name]


def validation(victim: Victim, samples: Samples) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and labels (n,) of a split, on the CPU."""
    parts = []
    with torch.no_grad():
        for rows in chunks(torch.arange(len(samples)), tuple(samples.x.shape[1:])):
            batch = samples[rows].to(victim.device)
            parts.append(victim.logits(batch.x, batch, RandomStream(("tuning",))).cpu())
    return torch.cat(parts), samples.y.cpu()


def loss(logits: Tensor, y: Tensor) -> float:
    """Mean cross-entropy."""
    return float(cross_entropy(logits.double(), y))


def auroc(logits: Tensor, y: Tensor) -> float:
    """Area under the ROC curve of the second of two classes. Raises EcgbenchError for other tasks."""
    if logits.shape[1] != 2 or not 0 < int(y.sum()) < len(y):
        raise EcgbenchError(f"auroc of {logits.shape[1]} classes asked for; expected two, both of them there.")
    odds = (logits[:, 1] - logits[:, 0]).double().numpy()
    area, _ = ranking(odds, y.numpy() == 1, np.ones((1, len(y))))
    return float(area[0])


def balanced_accuracy(logits: Tensor, y: Tensor) -> float:
    """Mean recall over the classes present."""
    right = logits.argmax(1) == y
    return float(torch.stack([right[y == label].double().mean() for label in y.unique()]).mean())


def successful(found: Outcomes) -> NDArray[np.bool_]:
    """Which samples were right when clean and are adversarial at the largest eps, (n,)."""
    return np.asarray((found.clean == found.y) & found.adversarial[-1])


def sparsity(found: Outcomes, cells: int) -> Scores:
    """1 - the share of changed cells, of each success."""
    return np.asarray(1 - found.l0[-1][successful(found)] / cells, np.float64)


def sparse_small(found: Outcomes, cells: int) -> float:
    """The sum over successes of sparsity / L1 norm."""
    return float((sparsity(found, cells) / found.l1[-1][successful(found)]).sum())


def sparse_small_max(found: Outcomes, cells: int) -> float:
    """The sum over successes of sparsity / largest |delta|, which is the size under an L-inf threat."""
    return float((sparsity(found, cells) / found.size[-1][successful(found)]).sum())


def fewer_than(found: Outcomes, most: int) -> float:
    """How many successes change fewer than `most` cells."""
    return float((found.l0[-1][successful(found)] < most).sum())


def robust_accuracy(found: Outcomes, cells: int) -> float:
    """The share of samples that are right when clean and under attack at the largest eps."""
    return float(((found.clean == found.y) & ~found.adversarial[-1]).mean())


OBJECTIVES: Mapping[str, Objective] = {
    one.name: one
    for one in (
        Objective("loss", "minimize", of_training=loss),
        Objective("auroc", "maximize", of_training=auroc),
        Objective("balanced-accuracy", "maximize", of_training=balanced_accuracy),
        Objective("sparse-small-max", "maximize", of_attack=sparse_small_max),
        Objective("sparse-small", "maximize", of_attack=sparse_small),
        Objective("sparsity", "maximize", of_attack=lambda found, cells: float(sparsity(found, cells).sum())),
        Objective("robust-accuracy", "minimize", of_attack=robust_accuracy),
    )
}


def judged(one: Objective, found: Outcomes, shape: tuple[int, ...], norm: str) -> float:
    """The value of an attack. Raises EcgbenchError where the objective needs another threat."""
    if one.name == "sparse-small-max" and norm != "linf":
        raise EcgbenchError(f"objective {one.name} divides by the largest change; expected threat linf, got {norm}.")
    assert one.of_attack is not None
    return one.of_attack(found, prod(shape))
