"""An attack at work on linear problems: what it is asked, and what it answered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ecgbench.core.interfaces import Attack
from ecgbench.core.random import RandomStream, stream
from ecgbench.core.threat import Norm
from ecgbench.core.trial import Trial, Watch
from ecgbench.testing.problem import LinearVictim, Problem, linear_problem

NORMS: tuple[Norm, ...] = ("linf", "l2")
KINDS: tuple[tuple[int, tuple[float, float] | None], ...] = ((5, (0.0, 1.0)), (2, None))  # classes, bounds
RNG = stream("attack", 0)


@dataclass(frozen=True)
class Run:
    """What an attack returned for a trial of a problem, as it came."""

    problem: Problem
    trial: Trial
    delta: Tensor

    @property
    def answer(self) -> Tensor:
        """The perturbation that the host would judge."""
        return self.trial.best(self.delta) if self.trial.watch == "first" else self.delta

    @property
    def module(self) -> LinearVictim:
        """The attacked module."""
        assert isinstance(self.trial.victim.module, LinearVictim)
        return self.trial.victim.module


@dataclass
class AttackCase:
    """An attack and the problems it is asked about; what it answers is asked once."""

    plugin: Attack
    shapes: tuple[tuple[int, ...], ...]

    @cached_property
    def problems(self) -> list[Problem]:
        """Every problem, unfit ones included."""
        return [
            linear_problem(norm, shape, classes, bounds)
            for norm in NORMS
            for shape in self.shapes
            for classes, bounds in KINDS
        ]

    @cached_property
    def fit(self) -> list[Problem]:
        """The problems that the attack can run on."""
        return [problem for problem in self.problems if self.plugin.unfit(problem.task, problem.threat) is None]

    @cached_property
    def runs(self) -> list[Run]:
        """One run on every problem."""
        return [self.play(problem) for problem in self.fit]

    @property
    def first(self) -> list[Run]:
        """One of these runs for each norm."""
        return list({run.problem.threat.norm: run for run in reversed(self.runs)}.values())[::-1]

    def play(
        self,
        problem: Problem,
        *,
        rows: Tensor | None = None,
        eps: float | None = None,
        watch: Watch | None = None,
        training: bool = False,
        rng: RandomStream = RNG,
    ) -> Run:
        """Run the attack once, as the host does."""
        trial = problem.trial(
            rows=rows,
            eps=eps,
            watch=watch or ("last" if self.plugin.minimal else "first"),
            gradients=self.plugin.access == "gradient",
            training=training,
            surrogate=self.plugin.surrogate is not None,
        )
        return Run(problem, trial, self.plugin.perturb(trial, rng))

    def unwatched(self, problem: Problem) -> Run:
        """Run it as inside a training: nothing is remembered, the weights are trainable."""
        return self.play(problem, watch="never", training=True)
