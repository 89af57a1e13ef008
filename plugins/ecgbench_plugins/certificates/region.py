"""What a ball allows, in float64: where it ends in each place, and the least of a linear function over it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ecgbench import Ball, EcgbenchError

TOLERANCE = 1e-5
"""By how much of eps a perturbation may be larger and still count as inside, as `Ball.contains` has it."""
UNIT = 2.0**-24
"""The most that float32 rounds by, relative to what it rounds."""


@dataclass(frozen=True)
class Region:
    """What the perturbed samples of some rows can be: n rows, each with an axis of 1 in front of its shape.

    `x` (n, 1, *shape) are the samples, `low` <= 0 <= `high` how far each place may move. For L2 `eps` (n,) is the norm
    that all places together may have and `sides` (n, 1, *shape) the unit of each place; both are None for L-inf.
    `slack` (n, 1, *shape) is what a place may be off beside that: by the tolerance of the ball, and because x + delta
    is rounded to float32.
    """

    x: Tensor
    low: Tensor
    high: Tensor
    slack: Tensor
    sides: Tensor | None = None
    eps: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor, ball: Ball) -> Region:
        """The region of `ball` round the rows of `x` (n, *shape). Raises EcgbenchError for another norm."""
        if ball.norm.name not in ("linf", "l2"):
            raise EcgbenchError(f"threat {ball.norm.name} given; linear bounds are known for linf and l2.")
        x, eps = x.double(), ball.eps.double()
        sides = torch.ones_like(x) if ball.sides is None else ball.sides.double().expand_as(x)
        low = torch.maximum(ball.low.double().expand_as(x), -eps * sides)
        high = torch.minimum(ball.high.double().expand_as(x), eps * sides)
        free = torch.ones_like(x) if ball.mask is None else ball.mask.expand_as(x).double()
        off = 2 * TOLERANCE + UNIT * (x[0].numel() if ball.norm.shared else 8)  # of eps; a norm in float32 is a sum
        slack = free * (off * eps * sides + 4 * UNIT * (x.abs() + torch.maximum(-low, high)))
        x, low, high, slack, sides = (part.unsqueeze(1) for part in (x, low, high, slack, sides))
        return cls(x, low, high, slack, sides, eps.flatten()) if ball.norm.shared else cls(x, low, high, slack)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor) -> Region:
        parts = (self.x, self.low, self.high, self.slack, self.sides, self.eps)
        return Region(*(None if part is None else part[rows] for part in parts))  # type: ignore[arg-type]

    def least(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """The least of each linear function over the row beside it, (n, 1, *shape) -> (n,), and how far off it may be.

        The first is exact over the ball; less the second it holds for all that the ball counts as inside.
        """
        rows = coefficients.flatten(1)
        x, low, high, slack = (part.flatten(1) for part in (self.x, self.low, self.high, self.slack))
        if self.eps is None or self.sides is None:
            reach = (rows * torch.where(rows > 0, low, high)).sum(1)
        else:
            sides = self.sides.flatten(1)
            reach = _least_l2(rows * sides, low / sides, high / sides, self.eps)
        return (rows * x).sum(1) + reach, (rows.abs() * slack).sum(1)


def _least_l2(rows: Tensor, low: Tensor, high: Tensor, eps: Tensor) -> Tensor:
    """min of `rows` . d over low <= d <= high and |d|_2 <= eps: at d = clip(-t rows, low, high), t as large as eps lets.

    That is the stationary point of the Lagrangian; a t that is off leaves a lower bound all the same, by weak duality:
    min over the box of rows . d + (|d|^2 - eps^2) / (2 t).
    """
    square = rows.square()
    corner = torch.where(rows > 0, low, high)
    whole = corner.norm(dim=1) <= eps
    t = eps / square.sum(1).sqrt().clamp_min(1e-300)
    for _ in range(64):
        point = -t[:, None] * rows
        cut = point.clamp(low, high)
        inside = point == cut
        left = eps.square() - torch.where(inside, 0.0, cut).square().sum(1)
        better = (left.clamp_min(0) / (square * inside).sum(1).clamp_min(1e-300)).sqrt()
        moved = (better > t * (1 + 1e-9)) & ~whole & inside.any(1)
        if not bool(moved.any()):
            break
        t = torch.where(moved, better, t)
    cut = (-t[:, None] * rows).clamp(low, high)
    dual = (rows * cut).sum(1) + (cut.square().sum(1) - eps.square()) / (2 * t).clamp_min(1e-300)
    return torch.where(whole, (rows * corner).sum(1), dual)
