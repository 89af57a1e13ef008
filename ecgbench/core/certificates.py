"""Certificates: plugins that prove a victim's answer for all of a ball, where attacks look for a counterexample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from ecgbench.core.data import Batch, Task
from ecgbench.core.hookspecs import hookspec
from ecgbench.core.parameters import Parameterised
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Goal, Threat
from ecgbench.core.victim import Victim


@dataclass(frozen=True)
class Proof:
    """What is known of n rows: `least` (n,) float64 is a lower bound of what has to be above 0 for all of the ball.

    That is the lead of the true logit over every rival's, or how far a proven radius goes beyond eps. `error` (n,) is
    what rounding and the ball's tolerance may take from it. `queries` (n,) int64 are the answers asked of the victim.
    """

    least: Tensor
    error: Tensor
    queries: Tensor

    @property
    def proven(self) -> Tensor:
        """Which rows no perturbation of the ball makes adversarial, (n,) bool."""
        return self.least > self.error

    @classmethod
    def joined(cls, parts: list[Proof]) -> Proof:
        """The rows of all parts, in their order."""
        each = zip(*((part.least, part.error, part.queries) for part in parts), strict=True)
        return cls(*(torch.cat(values) for values in each))


@runtime_checkable
class Certificate(Parameterised, Protocol):
    """A way to prove that rows keep their class. No proof says nothing; a wrong proof is a fault.

    `statistical` proofs are of what a randomised victim answers most often, and hold with a stated confidence; a few
    draws of it may differ. All others are certain.
    """

    statistical: ClassVar[bool] = False

    def unfit(self, task: Task, threat: Threat) -> str | None:
        """Why nothing can be proven here, in one sentence; None if it can."""
        return None

    def prove(self, victim: Victim, batch: Batch, ball: Ball, goal: Goal, rng: RandomStream) -> Proof:
        """A proof for rows that the victim gets right: that no point of `ball` meets `goal`.

        It holds for the victim in float32 as it is, and for all points that `Ball.contains` counts as inside. Raises
        EcgbenchError for a victim that the method cannot read, naming what it has no rule for.
        """
        ...


@hookspec
def certificates() -> Mapping[str, Certificate]:  # type: ignore[empty-body]
    """Certificates by name, presets included. Called once when the catalog is built; all are merged."""
