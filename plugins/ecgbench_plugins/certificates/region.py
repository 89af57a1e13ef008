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
    def of(cls, x: Tensor, ball: Ball, dtype: torch.dtype = torch.float64) -> Region:
        """The region of `ball` round the rows of `x` (n, *shape). Raises EcgbenchError for another norm."""
        if ball.norm.name not in ("linf", "l2"):
            raise EcgbenchError(f"threat {ball.norm.name} given; linear bounds are known for linf and l2.")
        x, eps = x.to(dtype), ball.eps.to(dtype)
        sides = torch.ones_like(x) if ball.sides is None else ball.sides.to(dtype).expand_as(x)
        low = torch.maximum(ball.low.to(dtype).expand_as(x), -eps * sides)
        high = torch.minimum(ball.high.to(dtype).expand_as(x), eps * sides)
        free = torch.ones_like(x) if ball.mask is None else ball.mask.expand_as(x).to(dtype)
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
        off = (rows.abs() * self.slack.flatten(1)).sum(1)
        middle = (rows * self.x.flatten(1)).sum(1)
        if self.eps is None or self.sides is None:
            return middle + (rows * self.lowest(coefficients).flatten(1)).sum(1), off
        scaled, moved, twice = self._clipped(coefficients)
        return middle + (scaled * moved).sum(1) + (moved.square().sum(1) - self.eps.square()) / twice, off

    def lowest(self, coefficients: Tensor) -> Tensor:
        """The move inside the ball that makes each linear function least, (n, 1, *shape) as `coefficients` are."""
        if self.eps is None or self.sides is None:
            return torch.where(coefficients > 0, self.low, self.high)
        return self._clipped(coefficients)[1].view_as(coefficients) * self.sides

    def _clipped(self, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients c and the move d in the unit of each place, (n, d), and 2 t (n,): d = clip(-t c, low, high).

        t is the largest with |d|_2 <= eps: d is then the stationary point of the Lagrangian of min c . d over box and
        norm. By weak duality min over the box of c . d + (|d|^2 - eps^2) / (2 t) is a lower bound for every t; t is
        infinite where the norm does not bind.
        """
        assert self.sides is not None and self.eps is not None
        sides, eps = self.sides.flatten(1), self.eps
        rows, low, high = coefficients.flatten(1) * sides, self.low.flatten(1) / sides, self.high.flatten(1) / sides
        square, t = rows.square(), eps / rows.norm(dim=1).clamp_min(1e-150)
        for _ in range(64):
            move = -t[:, None] * rows
            inside = (move >= low) & (move <= high)
            left = eps.square() - torch.where(inside, 0.0, move.clamp(low, high)).square().sum(1)
            open_ = (square * inside).sum(1)
            better = (left.clamp_min(0) / open_.clamp_min(1e-300)).sqrt()
            moved = (better > t * (1 + 1e-9)) & (open_ > 0)
            if not bool(moved.any()):
                break
            t = torch.where(moved, better, t)
        corner = torch.where(rows > 0, low, high)
        whole = corner.norm(dim=1) <= eps
        move = torch.where(whole[:, None], corner, (-t[:, None] * rows).clamp(low, high))
        return rows, move, torch.where(whole, torch.inf, 2 * t)
