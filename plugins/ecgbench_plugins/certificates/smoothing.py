"""A radius in L2 of a victim that is smoothed by Gaussian noise, with a stated confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ecgbench import Ball, Batch, Certificate, EcgbenchError, Goal, Proof, RandomStream, Task, Threat, Victim, hookimpl
from ecgbench_plugins.certificates.region import TOLERANCE
from ecgbench_plugins.defenses.smoothing import Smoothed


@dataclass(frozen=True)
class SmoothingRadius(Certificate):
    """sigma Phi^-1(p) of a victim of the defense `smoothing`; Cohen et al. 2019 (arXiv 1902.02918), theorem 1.

    p is a lower bound of the chance that a noised copy is put into the true class, by Clopper and Pearson from `draws`
    copies: it is too large with a chance of at most `alpha` for each sample and eps. The class is fixed beforehand, so
    that no draws are spent on choosing it. Where p is not above 1/2 nothing is proven: an abstention.

    What is proven is that the true class keeps more than half of all noise; a vote of few draws may differ. Noise is
    taken as normal, though float32 rounds it.
    """

    statistical: ClassVar[bool] = True
    draws: int = 1000
    alpha: float = 0.001

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 < self.alpha < 1:
            raise EcgbenchError(
                f"draws={self.draws}, alpha={self.alpha} given; expected 1 draw or more and alpha between 0 and 1."
            )

    def unfit(self, task: Task, threat: Threat) -> str | None:
        return None if threat.norm == "l2" else f"smoothing proves a radius in l2; the threat is {threat.norm}."

    def prove(self, victim: Victim, batch: Batch, ball: Ball, goal: Goal, rng: RandomStream) -> Proof:
        module = victim.module
        if not isinstance(module, Smoothed):
            raise EcgbenchError(f"{victim.name} is not smoothed; expected a victim of the defense smoothing.")
        with torch.no_grad():
            hits = sum(
                (self._hit(victim, batch, rng.fold_in("draw", draw)) for draw in range(self.draws)),
                torch.zeros(len(batch), dtype=torch.int64),
            )
        radius = certified_radius(lower_bound(hits, self.draws, self.alpha), module.sigma)
        eps = ball.eps.double().flatten()
        if ball.sides is not None:  # the ball lies in that of its longest side
            eps = eps * ball.sides.double().expand_as(batch.x).flatten(1).amax(1)
        return Proof(radius - eps, 3 * TOLERANCE * eps, torch.full_like(batch.y, self.draws))

    def _hit(self, victim: Victim, batch: Batch, rng: RandomStream) -> Tensor:
        return (victim.outputs.predict(victim.logits(batch.x, batch, rng), batch.y) == batch.y).long()


def lower_bound(hits: Tensor, draws: int, alpha: float) -> Tensor:
    """What the chance of a hit is below with a chance of at most `alpha`, of `hits` (n,) among `draws`: (n,) float64.

    Clopper and Pearson 1934, one-sided.
    """
    from scipy.stats import beta

    counts = hits.numpy()
    bound = beta.ppf(alpha, counts.clip(min=1), draws - counts + 1)
    return torch.where(hits > 0, torch.from_numpy(bound), 0.0)


def certified_radius(chance: Tensor, sigma: float) -> Tensor:
    """The L2 distance within which the class keeps more than half of the noise, (n,); 0 where it does not have it."""
    return sigma * torch.special.ndtri(chance.clamp(0.5, 1.0))


@hookimpl
def certificates() -> Mapping[str, Certificate]:
    return {"smoothing": SmoothingRadius()}
