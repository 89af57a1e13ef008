"""Norms as values: how a perturbation is measured, shrunk, stepped along and drawn.

A norm works on perturbations (n, *shape) in the unit of its radius and knows no sample; `Ball` adds the mask, the
bounds and the unit of every feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ecgbench.core.random import RandomStream

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Linf:
    """The largest absolute value. `shared`: whether places share one budget, so that a closed one must get none."""

    name: ClassVar[Norm] = "linf"
    shared: ClassVar[bool] = False

    def size(self, delta: Tensor) -> Tensor:
        """(n, *shape) -> (n,)."""
        return delta.flatten(1).abs().amax(1)

    def size_of_ones(self, places: int) -> float:
        """The size of a perturbation that is 1 in each of `places` places."""
        return 1.0

    def reach(self, eps: Tensor) -> Tensor:
        """How far a single place may go in a ball of radius `eps` (n, 1, ..., 1), as far as box constraints can say."""
        return eps

    def shrink(self, delta: Tensor, low: Tensor, high: Tensor, eps: Tensor, sides: Tensor | None) -> Tensor:
        """The nearest point of box and ball: of the box, which lies in the ball."""
        return delta.clamp(low, high)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of size 1 that raises a linear loss of this gradient most, 0 where there is none."""
        return gradient.sign()

    def inside(self, eps: Tensor, ids: Tensor, shape: Sequence[int], rng: RandomStream, mask: Tensor | None) -> Tensor:
        """A uniform point of the ball of radius `eps` for each row: (n, *shape)."""
        return eps * (2 * rng.fold_in("point").uniform(ids, shape) - 1)

    def surface(self, ids: Tensor, shape: Sequence[int], rng: RandomStream) -> Tensor:
        """A gradient whose steepest step is a random corner of the unit ball: (n, *shape)."""
        return rng.signs(ids, shape)


@dataclass(frozen=True)
class L2:
    """The Euclidean length. `shared`: whether places share one budget, so that a closed one must get none."""

    name: ClassVar[Norm] = "l2"
    shared: ClassVar[bool] = True

    def size(self, delta: Tensor) -> Tensor:
        """(n, *shape) -> (n,)."""
        return delta.flatten(1).norm(dim=1)

    def size_of_ones(self, places: int) -> float:
        """The size of a perturbation that is 1 in each of `places` places."""
        return sqrt(places)

    def reach(self, eps: Tensor) -> Tensor:
        """How far a single place may go in a ball of radius `eps` (n, 1, ..., 1), as far as box constraints can say."""
        return torch.full_like(eps, inf)

    def shrink(self, delta: Tensor, low: Tensor, high: Tensor, eps: Tensor, sides: Tensor | None) -> Tensor:
        """The nearest point of box and ball: `clip(t * delta, low, high)`, t the largest in [0, 1] that fits.

        `sides`, broadcastable to delta, is what one unit of `eps` is in each place; distances are measured in that
        unit. The form follows from stationarity of the Lagrangian. The squared norm is concave and piecewise linear in
        t**2, so Newton's steps from below stay below and end on the root.
        """
        boxed = delta.clamp(low, high)
        outside = self.size(_in_unit(boxed, sides)) > eps.flatten()
        if not bool(outside.any()):
            return boxed
        limit = eps.flatten().square()
        square = _in_unit(delta, sides).flatten(1).square()
        scale = torch.where(outside, (limit / square.sum(1)).clamp(max=1.0), 1.0)
        left, walls, rows = delta, (low, high, sides), torch.arange(len(delta), device=delta.device)
        for _ in range(64):
            here = scale[rows]
            point = left * here.sqrt().view(-1, *[1] * (delta.ndim - 1))
            boxed = point.clamp(walls[0], walls[1])
            gradient = (square * (point == boxed).flatten(1)).sum(1)
            clipped = _in_unit(boxed, walls[2]).flatten(1).square().sum(1) - here * gradient
            better = ((limit - clipped) / gradient.clamp_min(1e-38)).clamp(max=1.0)
            scale[rows] = torch.maximum(here, better)
            moved = (better > here * (1 + 1e-6)).nonzero().squeeze(1)
            if not len(moved):
                break
            rows, left, square, limit = rows[moved], left[moved], square[moved], limit[moved]
            walls = (walls[0][moved], walls[1][moved], None if walls[2] is None else walls[2][moved])
        return (delta * scale.sqrt().view_as(eps)).clamp(low, high)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of size 1 that raises a linear loss of this gradient most, 0 where there is none."""
        one = [1] * (gradient.ndim - 1)
        size = gradient.flatten(1).norm(dim=1)
        if bool(((size < 1e-15) | (size > 1e18)).any()):  # squares under- or overflow: scale by the largest entry first
            gradient = gradient / gradient.flatten(1).abs().amax(1).clamp_min(1e-38).view(-1, *one)
            size = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
        return gradient / size.view(-1, *one)

    def inside(self, eps: Tensor, ids: Tensor, shape: Sequence[int], rng: RandomStream, mask: Tensor | None) -> Tensor:
        """A point of the ball of radius `eps` for each row, of uniform direction and uniform radius: (n, *shape).

        A uniform point of a ball in many dimensions lies on its sphere, where small steps crawl. Where `mask` is
        False the direction is 0.
        """
        draw = rng.fold_in("direction").normal(ids, shape)
        direction = self.steepest(draw if mask is None else torch.where(mask, draw, 0.0))
        return eps * rng.fold_in("radius").uniform(ids, ()).view_as(eps) * direction

    def surface(self, ids: Tensor, shape: Sequence[int], rng: RandomStream) -> Tensor:
        """A gradient whose steepest step is a random point of the unit sphere: (n, *shape)."""
        return rng.normal(ids, shape)


def _in_unit(delta: Tensor, sides: Tensor | None) -> Tensor:
    return delta if sides is None else delta / sides


NORMS: Mapping[Norm, Linf | L2] = {"linf": Linf(), "l2": L2()}
