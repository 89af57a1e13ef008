"""What a ball allows, in float64: where it ends in each place, and the least of a linear function over it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ecgbench import Ball

TOLERANCE = 1e-5
"""By how much of eps a perturbation may be larger and still count as inside, as `Ball.contains` has it."""
UNIT = 2.0**-24
"""The most that float32 rounds by, relative to what it rounds."""


@dataclass(frozen=True)
class Region:
    """What the perturbed samples of some rows can be: n rows, each with an axis of 1 in front of its shape.

    `x` (n, 1, *shape) are the samples, `low` <= 0 <= `high` how far each place may move, `eps` (n,) the L2 norm that
    all places together may have, None for L-inf. `slack` (n, 1, *shape) is what a place may be off beside that: by the
    tolerance of the ball, and where x + delta is rounded to float32.
    """

    x: Tensor
    low: Tensor
    high: Tensor
    slack: Tensor
    eps: Tensor | None

    @classmethod
    def of(cls, x: Tensor, ball: Ball) -> Region:
        """The region of `ball` round the rows of `x` (n, *shape)."""
        x = x.double()
        low, high = (side.double().expand_as(x) for side in (ball.low, ball.high))
        eps, n = ball.eps.double(), len(x)
        free = torch.ones_like(x) if ball.mask is None else ball.mask.expand_as(x).double()
        farthest = torch.maximum(-low, high).clamp(max=eps)
        slack = free * (TOLERANCE * eps + 4 * UNIT * (x.abs() + farthest))
        norm = eps.view(n) if ball.norm == "l2" else None
        if norm is not None:
            low, high = torch.maximum(low, -eps), torch.minimum(high, eps)
            slack = slack + free * norm.view(eps.shape) * UNIT * x[0].numel()  # what a norm in float32 may be off
        return cls(*(part.unsqueeze(1) for part in (x, low, high, slack)), norm)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor) -> Region:
        parts = (part[rows] for part in (self.x, self.low, self.high, self.slack))
        return Region(*parts, None if self.eps is None else self.eps[rows])

    def least(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """The least of each linear function over the row beside it, (n, 1, *shape) -> (n,), and how far off it may be.

        The first is exact over the ball; less the second it holds for all that the ball counts as inside.
        """
        rows = coefficients.flatten(1)
        low, high, slack = (part.flatten(1) for part in (self.low, self.high, self.slack))
        moved = torch.where(rows > 0, low, high)
        reach = (rows * moved).sum(1) if self.eps is None else _least_l2(rows, low, high, moved, self.eps)
        return (rows * self.x.flatten(1)).sum(1) + reach, (rows.abs() * slack).sum(1)


def _least_l2(rows: Tensor, low: Tensor, high: Tensor, corner: Tensor, eps: Tensor) -> Tensor:
    """min of `rows` . d over low <= d <= high and |d|_2 <= eps: at d = clip(-t rows, low, high), t as large as eps lets.

    That is the stationary point of the Lagrangian; a t that is off leaves a lower bound all the same, by weak duality:
    min over the box of rows . d + (|d|^2 - eps^2) / (2 t).
    """
    square = rows.square()
    inside = corner.norm(dim=1) <= eps  # the whole box
    t = eps / square.sum(1).sqrt().clamp_min(1e-300)
    for _ in range(64):
        point = -t[:, None] * rows
        cut = point.clamp(low, high)
        open_ = (square * (point == cut)).sum(1)
        left = eps.square() - torch.where(point == cut, 0.0, cut).square().sum(1)
        better = (left.clamp_min(0) / open_.clamp_min(1e-300)).sqrt()
        moved = (better > t * (1 + 1e-9)) & ~inside & (open_ > 0)
        if not bool(moved.any()):
            break
        t = torch.where(moved, better, t)
    cut = (-t[:, None] * rows).clamp(low, high)
    dual = (rows * cut).sum(1) + (cut.square().sum(1) - eps.square()) / (2 * t)
    return torch.where(inside, (rows * corner).sum(1), dual)
