"""Simultaneous perturbation: a gradient estimated from scores alone, by stepping along random signs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ecgbench import Attack, Ball, Loss, RandomStream, StepState, Trial, ValueAndGrad, chunks, hookimpl, iterate, margin


@dataclass(frozen=True)
class SPSA(Attack):
    """SPSA of Uesato et al. 2018 (arXiv 1802.05666) on the margin, from a random point.

    At each of `steps` steps the margin is asked for at `probe` (unit of eps, in every place) along and against
    `pairs` random sign vectors v: g = mean of (f(delta + probe v) - f(delta - probe v)) v / (2 probe). All samples
    share the vectors of a step. Steps are `rel_step * eps`, or `abs_step` in the unit of eps where that is given.
    `update=adamax` feeds the steepest direction (for L-inf the sign) to Adamax, as Ma and Liang 2020
    (arXiv 2005.09134) do with pairs=2048, abs_step=0.01; its second moment is then 1. A sample that stands to the
    end costs `steps * (2 * pairs + 1) + 1` forwards.
    """

    access: ClassVar[Literal["gradient", "score"]] = "score"
    steps: int = 100
    pairs: int = 512
    probe: float = 0.01
    rel_step: float = 0.1
    abs_step: float | None = None
    update: Literal["adamax", "plain"] = "adamax"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.pairs < 1:
            raise ValueError(f"steps={self.steps}, pairs={self.pairs} given; expected 1 or more")
        if self.probe <= 0 or (self.rel_step if self.abs_step is None else self.abs_step) <= 0:
            raise ValueError("a probe or step of 0 or less given; expected a positive one")

    def reach(self, eps: float) -> float | None:
        return self.steps * (self.rel_step * eps if self.abs_step is None else self.abs_step)

    def longer(self) -> Attack:
        return replace(self, steps=2 * self.steps)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        start = trial.ball.sample(trial.batch.ids, trial.shape, rng)
        oracle = partial(self._slope, draws=map(rng.fold_in, count()))
        return iterate(trial, start, margin, self._step, self.steps, (torch.zeros_like(start), 0), oracle)

    def _slope(
        self, trial: Trial, delta: Tensor, loss: Loss, draws: Iterator[RandomStream]
    ) -> tuple[Tensor, ValueAndGrad]:
        """What `Trial.value_and_grad` would give, from scores; rows that are adversarial at `delta` are not probed."""
        value, hit = loss(trial.logits(delta), trial.goal), trial.is_adversarial
        if not bool(hit.any()):
            return hit, ValueAndGrad(value, self.estimate(trial, delta, loss, next(draws)))
        stay, gradient = (~hit).nonzero().squeeze(1), torch.zeros_like(delta)
        gradient[stay] = self.estimate(trial[stay], delta[stay], loss, next(draws))
        return hit, ValueAndGrad(value, gradient)

    def estimate(self, trial: Trial, delta: Tensor, loss: Loss, rng: RandomStream) -> Tensor:
        """The estimated gradient (n, *shape) at `delta`, probing nothing outside the mask."""
        length, free = trial.ball.from_unit(trial.ball.length(self.probe)), trial.ball.mask
        reach = length if free is None else torch.where(free, length, 0.0)
        total, generator = torch.zeros_like(delta), rng.generator()
        for piece in chunks(torch.arange(self.pairs), (2, *trial.shape)):
            signs = torch.randint(2, (len(piece), *trial.shape), generator=generator, dtype=delta.dtype)
            signs = signs.mul_(2).sub_(1).to(delta.device)
            ahead, behind = trial.probe(delta, torch.cat([signs, -signs]), reach, loss).chunk(2, dim=1)
            total += ((ahead - behind) @ signs.flatten(1)).view_as(delta)
        return total / (2 * self.pairs * length)

    def _step(self, ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState) -> tuple[Tensor, StepState]:
        """Adamax (Kingma and Ba 2015, algorithm 2, beta1 0.9) where every gradient has size 1, or a plain step."""
        mean, step = state
        length = self.rel_step * ball.eps if self.abs_step is None else ball.length(self.abs_step)
        direction = ball.steepest(grad.gradient)
        if self.update == "adamax":
            mean = mean.lerp(direction, 0.1)
            direction = mean / (1 - 0.9 ** (step + 1))
        return ball.project(torch.addcmul(delta, length, direction)), (mean, step + 1)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"spsa": SPSA()}
