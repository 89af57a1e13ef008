"""What an attacker may do to a signal.

A `Threat` states the rules without a size; `ball` turns it into a `Ball` for given rows. The ball owns all
geometry (size, projection, steepest step, random point), so an attack is written once for every norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ecgbench.core.data import Batch, take
from ecgbench.core.errors import EcgbenchError, UnknownNameError
from ecgbench.core.norms import L2, NORMS, Linf, Norm
from ecgbench.core.outputs import SINGLE_LABEL, Outputs
from ecgbench.core.parameters import Parameterised
from ecgbench.core.random import RandomStream

__all__ = ["TOLERANCE", "Ball", "Goal", "Norm", "Threat"]

TOLERANCE = 1e-5  # of eps, for the size of a float32 perturbation; of the range's ends, for the bounds


@dataclass(frozen=True)
class Threat(Parameterised):
    """The rules: a norm, whether the sample's mask and the task's bounds bind, the unit of eps, the goal.

    `unit` is "native" (the unit of x) or "physical" (the task's physical unit, turned into each sample's own
    unit by `Batch.scale`); a unit's own name, such as "mV", means physical and is checked against the task. Where the
    scale differs by feature, the norm is that of delta * scale: eps is one number in each feature's own unit.
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
        radius = torch.full((len(batch), *[1] * (batch.x.ndim - 1)), float(eps), device=batch.x.device)
        unit = sides = None
        if self.unit != "native" and batch.scaled_by_feature:
            sides = 1 / batch.scale
        elif self.unit != "native":
            unit = 1 / batch.scale.view_as(radius)
            radius = radius * unit
        mask = batch.mask if self.mask else batch.present
        mask = None if mask is None or bool(mask.all()) else mask
        bounds = bounds if self.bounds else None
        return Ball.around(NORMS[self.norm], batch.x, radius, mask=mask, unit=unit, bounds=bounds, sides=sides)

    def goal(self, y: Tensor, outputs: Outputs) -> Goal:
        """What every row of `y` (n,) is attacked for. Raises UnknownNameError for a class nobody knows."""
        if self.target is None:
            return Goal(y, untargeted=True, eligible=torch.ones_like(y, dtype=torch.bool), outputs=outputs)
        target = _position(self.target, outputs.classes)
        eligible = ~outputs.shows(y, target)
        if self.source_classes:
            of = [outputs.shows(y, _position(name, outputs.classes)) for name in self.source_classes]
            eligible &= torch.stack(of).any(0)
        return Goal(torch.full_like(y, target), untargeted=False, eligible=eligible, outputs=outputs)

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
    """Per row: the label to leave (`untargeted`) or the class to reach, and whether the row is attacked at all.

    `rival`, where set, is the one other class that a loss over a pair of classes looks at. `outputs` says what labels
    and logits mean.
    """

    label: Tensor
    untargeted: bool
    eligible: Tensor
    rival: Tensor | None = None
    outputs: Outputs = SINGLE_LABEL

    def __getitem__(self, rows: Tensor | slice) -> Goal:
        rival = None if self.rival is None else take(self.rival, rows)
        return Goal(take(self.label, rows), self.untargeted, take(self.eligible, rows), rival, self.outputs)

    def met(self, predicted: Tensor) -> Tensor:
        """Which rows are adversarial, by prediction (n,) -> (n,) bool; -1, no prediction at all, is not adversarial."""
        found = predicted != self.label if self.untargeted else self.outputs.shows(predicted, self.label)
        return found & (predicted >= 0)

    def met_by(self, logits: Tensor, y: Tensor) -> Tensor:
        """Which rows are adversarial, by logits (n, width), of rows of true label `y` (n,): (n,) bool."""
        return self.met(self.outputs.predict(logits, y, self))


@dataclass(frozen=True, slots=True)
class Ball:
    """All perturbations allowed for given rows.

    `eps` (n, 1, ..., 1) is the radius in the unit of x; `low` and `high`, broadcastable to x, hold what mask
    and bounds (and, for L-inf, eps) allow in each place: low <= 0 <= high. `mask` is the mask, False where
    nothing may change; None where it does not bind. `unit` (n, 1, ..., 1) is what one unit of the threat is in
    the unit of x; None for 1. `bounds` is the valid range of x where it binds.

    Where features have units of their own, `sides`, broadcastable to x, is what one unit of the threat is in each
    place of x, and `eps` is in the unit of the threat: the ball holds every delta with norm(delta / sides) <= eps. Then
    sizes, steps and the nearest point are those of delta / sides. None where every place counts alike.
    """

    norm: Linf | L2
    eps: Tensor
    low: Tensor
    high: Tensor
    mask: Tensor | None = None
    unit: Tensor | None = None
    bounds: tuple[float, float] | None = None
    sides: Tensor | None = None

    @classmethod
    def around(
        cls,
        norm: Linf | L2,
        x: Tensor,
        eps: Tensor,
        *,
        mask: Tensor | None = None,
        unit: Tensor | None = None,
        bounds: tuple[float, float] | None = None,
        sides: Tensor | None = None,
    ) -> Ball:
        """The ball of radius `eps` (n, 1, ..., 1) round `x` (n, *shape), its sides cut by mask and bounds."""
        reach = norm.reach(eps) if sides is None else norm.reach(eps) * sides
        low, high = -reach, reach
        if bounds is not None:
            low, high = torch.maximum(low, bounds[0] - x), torch.minimum(high, bounds[1] - x)
        if mask is not None:
            low, high = (torch.where(mask, side, 0.0) for side in (low, high))
        return cls(norm, eps, low, high, mask, unit, bounds, sides)

    def __getitem__(self, rows: Tensor | slice) -> Ball:
        eps, low, high = (take(part, rows) for part in (self.eps, self.low, self.high))
        free, unit, sides = (None if part is None else take(part, rows) for part in (self.mask, self.unit, self.sides))
        return Ball(self.norm, eps, low, high, free, unit, self.bounds, sides)

    def within(self, mask: Tensor) -> Ball:
        """The part of the ball that is 0 where `mask`, broadcastable to x, is False."""
        low, high = (torch.where(mask, side, 0.0) for side in (self.low, self.high))
        return replace(self, low=low, high=high, mask=mask if self.mask is None else self.mask & mask)

    def scaled(self, factor: float, x: Tensor) -> Ball:
        """The ball of `factor` times the radius round the same `x` (n, *shape), under the same mask and bounds."""
        if factor == 1:
            return self
        parts = {"mask": self.mask, "unit": self.unit, "sides": self.sides}
        return Ball.around(self.norm, x, factor * self.eps, bounds=self.bounds, **parts)

    def length(self, given: float) -> Tensor:
        """A length given in the unit of the threat, in the unit of `eps`: (n, 1, ..., 1)."""
        return torch.full_like(self.eps, given) if self.unit is None else given * self.unit

    def from_unit(self, values: Tensor) -> Tensor:
        """Values (n, *shape) in the unit of `eps`, such as `eps` times a sign, as a perturbation of x."""
        return values if self.sides is None else values * self.sides

    def in_unit(self, delta: Tensor) -> Tensor:
        """A perturbation (n, *shape) of x in the unit of `eps`, where every place counts alike."""
        return delta if self.sides is None else delta / self.sides

    def size(self, delta: Tensor) -> Tensor:
        """Norm of each perturbation, in the unit of `eps`: (n, *shape) -> (n,)."""
        return self.norm.size(self.in_unit(delta))

    def project(self, delta: Tensor) -> Tensor:
        """The nearest point of the ball, in the Euclidean sense, to each row of `delta` (n, *shape)."""
        return self.norm.shrink(delta, self.low, self.high, self.eps, self.sides)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of size 1 that raises a linear loss of this gradient most; for L2, 0 outside the mask."""
        gradient = self.from_unit(gradient)  # the derivative by delta / sides
        if self.mask is not None and self.norm.shared:
            gradient = torch.where(self.mask, gradient, 0.0)
        return self.from_unit(self.norm.steepest(gradient))

    def sample(self, ids: Tensor, shape: Sequence[int], rng: RandomStream) -> Tensor:
        """A random perturbation per row: (n, *shape); see `inside` of the norm. Projected on mask and bounds."""
        return self.project(self.from_unit(self.norm.inside(self.eps, ids, shape, rng, self.mask)))

    def surface(self, ids: Tensor, shape: Sequence[int], rng: RandomStream) -> Tensor:
        """A random point as far out as the norm allows, without mask and bounds: (n, *shape)."""
        return self.eps * self.steepest(self.norm.surface(ids, shape, rng))

    def contains(self, delta: Tensor) -> Tensor:
        """Which rows keep every rule within rounding: (n, *shape) -> (n,) bool.

        size <= eps (1 + 1e-5); exactly 0 where nothing may change; x + delta inside the bounds; finite.
        """
        slack = TOLERANCE * self.eps
        walls = self.from_unit(slack)
        walls = walls if self.mask is None else torch.where(self.mask, walls, 0.0)
        boxed = ((delta >= self.low - walls) & (delta <= self.high + walls)).flatten(1).all(1)
        small = self.size(delta) <= (self.eps + slack).flatten()
        return boxed & small


def _position(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        raise UnknownNameError("class", name, classes)
    return list(classes).index(name)
