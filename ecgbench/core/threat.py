"""What an attacker may do to a signal.

A `Threat` states the rules without a size; `around` turns it into a `Ball` for given rows. The ball owns all
geometry (size, projection, steepest step, random point), so an attack is written once for every norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ecgbench.core.data import Batch, take
from ecgbench.core.errors import EcgbenchError, UnknownNameError
from ecgbench.core.parameters import Parameterised
from ecgbench.core.random import RandomStream

Norm = Literal["linf", "l2"]
TOLERANCE = 1e-5  # of eps, for the size of a float32 perturbation; of the range's ends, for the bounds


@dataclass(frozen=True)
class Threat(Parameterised):
    """The rules: a norm, whether the sample's mask and the task's bounds bind, the unit of eps, the goal.

    `unit` is "native" (the unit of x) or "physical" (the task's physical unit, turned into each sample's own
    unit by `Batch.scale`); a unit's own name, such as "mV", means physical and is checked against the task.
    Without `target` a sample is adversarial when it leaves its class; with one, samples of the `source_classes`
    (all other classes, if empty) are adversarial when they are predicted as `target`.
    """

    norm: Norm
    mask: bool = True
    bounds: bool = True
    unit: str = "native"
    source_classes: tuple[str, ...] = ()
    target: str | None = None

    def ball(self, batch: Batch, eps: float, bounds: tuple[float, float] | None = None) -> Ball:
        """The ball of radius `eps` round each row of `batch`; `bounds` is the valid range of x."""
        ones = [1] * (batch.x.ndim - 1)
        radius = torch.full((len(batch), *ones), float(eps), device=batch.x.device)
        unit = None if self.unit == "native" else 1 / batch.scale.view(-1, *ones)
        if unit is not None:
            radius = radius * unit
        free = batch.mask if self.mask and not bool(batch.mask.all()) else None
        return _ball(self.norm, batch.x, radius, free, unit, bounds if self.bounds else None)

    def goal(self, y: Tensor, classes: Sequence[str]) -> Goal:
        """What every row of `y` (n,) is attacked for. Raises UnknownNameError for a class nobody knows."""
        if self.target is None:
            return Goal(label=y, untargeted=True, eligible=torch.ones_like(y, dtype=torch.bool))
        target = _position(self.target, classes)
        source = [_position(name, classes) for name in self.source_classes]
        free = torch.isin(y, torch.tensor(source, device=y.device)) if source else y != target
        return Goal(label=torch.full_like(y, target), untargeted=False, eligible=free & (y != target))

    def comparable(self, other: Threat) -> bool:
        """Whether an eps means the same size under both."""
        return (self.norm, self.unit) == (other.norm, other.unit)

    def check(self, physical: str | None, classes: Sequence[str]) -> None:
        """Raises EcgbenchError where the rules do not fit a task's physical unit or classes."""
        if self.unit not in ("native", "physical", physical):
            known = "only 'native'" if physical is None else f"'native' or {physical!r}"
            raise EcgbenchError(f"eps cannot be read in {self.unit!r}: this dataset knows {known}.")
        if self.unit == "physical" and physical is None:
            raise EcgbenchError("eps cannot be read in a physical unit: this dataset states none.")
        if self.source_classes and self.target is None:
            raise EcgbenchError("source classes were given without a target; expected target=<class>.")
        for name in (*self.source_classes, *([self.target] if self.target else [])):
            _position(name, classes)
        if self.source_classes == (self.target,):
            raise EcgbenchError(f"target={self.target} is the only source class as well; expected another source.")


@dataclass(frozen=True, slots=True)
class Goal:
    """Per row: the class to leave (`untargeted`) or to reach, and whether the row is attacked at all.

    `rival`, where set, is the one other class that a loss over a pair of classes looks at.
    """

    label: Tensor
    untargeted: bool
    eligible: Tensor
    rival: Tensor | None = None

    def __getitem__(self, rows: Tensor | slice) -> Goal:
        rival = None if self.rival is None else take(self.rival, rows)
        return Goal(take(self.label, rows), self.untargeted, take(self.eligible, rows), rival)

    def met(self, predicted: Tensor) -> Tensor:
        """Which rows are adversarial, by predicted class (n,) -> (n,) bool; -1, no prediction at all, is not
        adversarial.
        """
        return (predicted != self.label) & (predicted >= 0) if self.untargeted else predicted == self.label


@dataclass(frozen=True, slots=True)
class Ball:
    """All perturbations allowed for given rows.

    `eps` (n, 1, ..., 1) is the radius in the unit of x; `low` and `high`, broadcastable to x, hold what mask
    and bounds (and, for L-inf, eps) allow in each place: low <= 0 <= high. `mask` is the mask, False where
    nothing may change; None where it does not bind. `unit` (n, 1, ..., 1) is what one unit of the threat is in
    the unit of x; None for 1. `bounds` is the valid range of x where it binds.
    """

    norm: Norm
    eps: Tensor
    low: Tensor
    high: Tensor
    mask: Tensor | None = None
    unit: Tensor | None = None
    bounds: tuple[float, float] | None = None

    def __getitem__(self, rows: Tensor | slice) -> Ball:
        eps, low, high = (take(part, rows) for part in (self.eps, self.low, self.high))
        free, unit = (None if part is None else take(part, rows) for part in (self.mask, self.unit))
        return Ball(self.norm, eps, low, high, free, unit, self.bounds)

    def within(self, mask: Tensor) -> Ball:
        """The part of the ball that is 0 where `mask`, broadcastable to x, is False."""
        low, high = (torch.where(mask, side, 0.0) for side in (self.low, self.high))
        return replace(self, low=low, high=high, mask=mask if self.mask is None else self.mask & mask)

    def scaled(self, factor: float, x: Tensor) -> Ball:
        """The ball of `factor` times the radius round the same `x` (n, *shape), under the same mask and bounds."""
        return self if factor == 1 else _ball(self.norm, x, factor * self.eps, self.mask, self.unit, self.bounds)

    def length(self, given: float) -> Tensor:
        """A length given in the unit of the threat, in the unit of x: (n, 1, ..., 1)."""
        return torch.full_like(self.eps, given) if self.unit is None else given * self.unit

    def size(self, delta: Tensor) -> Tensor:
        """Norm of each perturbation: (n, *shape) -> (n,)."""
        flat = delta.flatten(1)
        return flat.abs().amax(1) if self.norm == "linf" else flat.norm(dim=1)

    def project(self, delta: Tensor) -> Tensor:
        """The nearest point of the ball, in the Euclidean sense, to each row of `delta` (n, *shape)."""
        boxed = delta.clamp(self.low, self.high)
        if self.norm == "linf":
            return boxed
        outside = self.size(boxed) > self.eps.flatten()
        return self._shrink(delta, outside) if bool(outside.any()) else boxed

    def _shrink(self, delta: Tensor, outside: Tensor) -> Tensor:
        """`clip(t * delta, low, high)`, t the largest in (0, 1] that keeps the norm within eps; 1 if not `outside`.

        That is the nearest point of box and sphere (stationarity of the Lagrangian). The squared norm is
        concave and piecewise linear in t**2, so Newton's steps from below stay below and end on the root.
        """
        square = delta.flatten(1).square()
        scale = torch.where(outside, (self.eps.flatten().square() / square.sum(1)).clamp(max=1.0), 1.0)
        ball, left, rows = self, delta, torch.arange(len(delta), device=delta.device)
        for _ in range(64):
            here = scale[rows]
            point = left * here.sqrt().view_as(ball.eps)
            boxed = point.clamp(ball.low, ball.high)
            gradient = (square * (point == boxed).flatten(1)).sum(1)
            clipped = boxed.flatten(1).square().sum(1) - here * gradient
            better = ((ball.eps.flatten().square() - clipped) / gradient.clamp_min(1e-38)).clamp(max=1.0)
            scale[rows] = torch.maximum(here, better)
            moved = (better > here * (1 + 1e-6)).nonzero().squeeze(1)
            if not len(moved):
                break
            rows, left, square, ball = rows[moved], left[moved], square[moved], ball[moved]
        return (delta * scale.sqrt().view_as(self.eps)).clamp(self.low, self.high)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of size 1 that raises a linear loss of this gradient most; for L2, 0 outside the mask."""
        if self.norm == "linf":
            return gradient.sign()
        if self.mask is not None:
            gradient = torch.where(self.mask, gradient, 0.0)
        size = gradient.flatten(1).norm(dim=1)
        if bool(((size < 1e-15) | (size > 1e18)).any()):  # squares under- or overflow: scale by the largest entry first
            gradient = gradient / gradient.flatten(1).abs().amax(1).clamp_min(1e-38).view_as(self.eps)
            size = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
        return gradient / size.view_as(self.eps)

    def sample(self, ids: Tensor, shape: Sequence[int], rng: RandomStream) -> Tensor:
        """A random perturbation per row: (n, *shape).

        L-inf: uniform in the cube; L2: uniform direction and uniform radius (a uniform point of a ball in
        many dimensions lies on its sphere, where small steps crawl). Both then projected on mask and bounds.
        """
        if self.norm == "linf":
            return self.project(self.eps * (2 * rng.fold_in("point").uniform(ids, shape) - 1))
        direction = self.steepest(rng.fold_in("direction").normal(ids, shape))
        radius = rng.fold_in("radius").uniform(ids, ()).view_as(self.eps)
        return self.project(self.eps * radius * direction)

    def contains(self, delta: Tensor) -> Tensor:
        """Which rows keep every rule within rounding: (n, *shape) -> (n,) bool.

        size <= eps (1 + 1e-5); exactly 0 where nothing may change; x + delta inside the bounds; finite.
        """
        slack = TOLERANCE * self.eps
        walls = slack if self.mask is None else torch.where(self.mask, slack, 0.0)
        boxed = ((delta >= self.low - walls) & (delta <= self.high + walls)).flatten(1).all(1)
        small = self.size(delta) <= (self.eps + slack).flatten()
        return boxed & small


def _ball(
    norm: Norm,
    x: Tensor,
    eps: Tensor,
    free: Tensor | None,
    unit: Tensor | None,
    bounds: tuple[float, float] | None,
) -> Ball:
    """The ball of radius `eps` (n, 1, ..., 1) round `x`, its sides cut by mask and bounds."""
    reach = eps if norm == "linf" else torch.full_like(eps, torch.inf)
    low, high = -reach, reach
    if bounds is not None:
        low, high = torch.maximum(low, bounds[0] - x), torch.minimum(high, bounds[1] - x)
    if free is not None:
        low, high = (torch.where(free, side, 0.0) for side in (low, high))
    return Ball(norm, eps, low, high, free, unit, bounds)


def _position(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        raise UnknownNameError("class", name, classes)
    return list(classes).index(name)
