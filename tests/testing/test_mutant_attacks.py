"""Faulty attacks, each refused by the promise meant for it: a promise that nothing can break is none."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Task
from ecgbench.core.interfaces import Attack
from ecgbench.core.losses import cross_entropy
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.testing import check_attack
from tests.testing.honest import Chance, Step


class Distant(Step):
    """Reaches for infinity, with a reach that nobody can have."""

    def reach(self, eps: float) -> float | None:
        return float("nan")


class UnfitForAll(Step):
    def unfit(self, task: Task, threat: Threat) -> str | None:
        return "it never runs."


class Wordless(Step):
    def unfit(self, task: Task, threat: Threat) -> str | None:
        return ""


class Omniscient(Step):
    access: ClassVar[Any] = "everything"


@dataclass
class Mutable(Attack):
    """No value: its fields can be set."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return Step().perturb(trial, rng)


@dataclass(frozen=True)
class Listing(Step):
    """A parameter that cannot be hashed."""

    steps: Any = None


@dataclass(frozen=True)
class Anonymous(Step):
    """A parameter that nobody can write down."""

    rule: Any = len


class Peeking(Step):
    """Says it needs scores only."""

    access: ClassVar[Literal["gradient", "score"]] = "score"


class PeekingAside(Peeking):
    """The same, past the trial."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        delta = torch.zeros_like(trial.batch.x, requires_grad=True)
        logits = trial.victim.logits(trial.batch.x + delta, trial.batch, rng)
        (gradient,) = torch.autograd.grad(cross_entropy(logits, trial.goal).sum(), delta)
        return trial.ball.project(trial.ball.eps * trial.ball.steepest(gradient))


class Flat(Step):
    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return super().perturb(trial, rng).flatten(1)


class Double(Step):
    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return super().perturb(trial, rng).double()


class NotANumber(Step):
    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return super().perturb(trial, rng) * torch.nan


class Wide(Step):
    """A ball one per cent larger."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return 1.01 * super().perturb(trial, rng)


class Cube(Step):
    """An L-inf ball under every threat."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        gradient = trial.gradient(torch.zeros_like(trial.batch.x), cross_entropy)[1]
        return (trial.ball.eps * gradient.sign()).clamp(trial.ball.low, trial.ball.high)


class Uniform(Step):
    """The first row's eps for all of them."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        ball = replace(trial.ball, eps=trial.ball.eps[:1].expand_as(trial.ball.eps))
        gradient = trial.gradient(torch.zeros_like(trial.batch.x), cross_entropy)[1]
        high = torch.where(trial.ball.low < trial.ball.high, ball.eps, 0.0)
        return replace(ball, low=-high, high=high).project(ball.eps * ball.steepest(gradient))


class Signal(Step):
    """The perturbed signal instead of the perturbation."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return trial.batch.x + super().perturb(trial, rng)


class Unmasked(Step):
    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        trial = replace(trial, ball=Threat(trial.ball.norm.name, mask=False, unit="mV").ball(trial.batch, 0.01))
        return self._noise(trial, rng)

    def _noise(self, trial: Trial, rng: RandomStream) -> Tensor:
        return trial.ball.sample(trial.batch.ids, trial.shape, rng)


class Unbounded(Step):
    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        gradient = trial.gradient(torch.zeros_like(trial.batch.x), cross_entropy)[1]
        wall = torch.where(trial.ball.low < trial.ball.high, trial.ball.eps, 0.0)
        ball = replace(trial.ball, low=-wall, high=wall)
        return ball.project(ball.eps * ball.steepest(gradient))


class Restless(Step):
    """Divides by eps."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        delta = super().perturb(trial, rng)
        return delta * (trial.ball.eps / trial.ball.eps)


class Dice(Step):
    """Noise from torch's global generator."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return trial.ball.project(super().perturb(trial, rng) * (1 - 1e-3 * torch.rand_like(trial.batch.x)))


class Reseeding(Dice):
    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        torch.manual_seed(0)
        return super().perturb(trial, rng)


class NumpySeed(Step):
    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        np.random.seed(0)
        return super().perturb(trial, rng)


class PythonDraw(Step):
    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        random.random()
        return super().perturb(trial, rng)


class Fickle(Step):
    """Another answer at every call."""

    calls: ClassVar[list[int]] = []

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        self.calls.append(1)
        return super().perturb(trial, rng) * (1 - 1e-4 * len(self.calls))


class Vandal(Step):
    """Changes a weight."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        delta = super().perturb(trial, rng)
        with torch.no_grad():
            next(trial.victim.module.parameters()).mul_(1.001)
        return delta


class Switch(Step):
    """Leaves the victim in train mode."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        trial.victim.module.train()
        return super().perturb(trial, rng)


class Backward(Step):
    """Fills .grad of weights that are trainable."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        delta = torch.zeros_like(trial.batch.x, requires_grad=True)
        cross_entropy(trial.victim.logits(trial.batch.x + delta, trial.batch, rng), trial.goal).sum().backward()
        assert delta.grad is not None
        return trial.ball.project(trial.ball.eps * trial.ball.steepest(delta.grad))


class Freezing(Step):
    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        trial.victim.module.requires_grad_(False)
        return super().perturb(trial, rng)


class Overwriting(Step):
    """Works in place on the signals."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        delta = super().perturb(trial, rng)
        trial.batch.x.add_(delta)
        return delta


class Positional(Step):
    """Noise by the place in the batch."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        draw = rng.uniform(torch.arange(len(trial)), trial.shape)
        return super().perturb(trial, rng) * (1 - 1e-3 * draw)


class Coupled(Step):
    """Follows the mean gradient of the batch."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        gradient = trial.gradient(torch.zeros_like(trial.batch.x), cross_entropy)[1]
        gradient = gradient + gradient.mean(0, keepdim=True)
        return trial.ball.project(trial.ball.eps * trial.ball.steepest(gradient))


class Watched(Step):
    """Trusts that what it looked at is remembered."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        delta = super().perturb(trial, rng)
        trial.submit(delta)
        return torch.where(
            trial.is_adversarial.view(-1, *[1] * len(trial.shape)), delta, delta + (trial.watch == "never")
        )


class Downhill(Step):
    """The wrong sign."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        gradient = trial.gradient(torch.zeros_like(trial.batch.x), cross_entropy)[1]
        return trial.ball.project(-trial.ball.eps * trial.ball.steepest(gradient))


class Aimless(Step):
    """Leaves the class it should reach."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        clean = trial.logits(torch.zeros_like(trial.batch.x)).argmax(1)
        return super().perturb(replace(trial, goal=replace(trial.goal, label=clean, untargeted=True)), rng)


class Repelled(Step):
    """Runs from the class it should reach."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return super().perturb(replace(trial, goal=replace(trial.goal, untargeted=True)), rng)


@pytest.mark.parametrize(
    ("attack", "promise"),
    [
        (Distant(), "interface"),
        (UnfitForAll(), "interface"),
        (Wordless(), "interface"),
        (Omniscient(), "interface"),
        (Step, "value"),
        (object(), "value"),
        (Mutable(), "value"),
        (Listing([1]), "value"),
        (Anonymous(), "value"),
        (Peeking(), "access"),
        (PeekingAside(), "access"),
        (Flat(), "shape"),
        (Double(), "shape"),
        (NotANumber(), "finite"),
        (Wide(), "inside"),
        (Cube(), "inside"),
        (Uniform(), "inside"),
        (Signal(), "inside"),
        (Unmasked(), "masked"),
        (Unbounded(), "bounded"),
        (Restless(), "zero"),
        (Dice(), "generators"),
        (Reseeding(), "generators"),
        (NumpySeed(), "generators"),
        (PythonDraw(), "generators"),
        (Fickle(), "repeatable"),
        (Vandal(), "untouched"),
        (Switch(), "untouched"),
        (Backward(), "untouched"),
        (Freezing(), "untouched"),
        (Overwriting(), "untouched"),
        (Positional(), "order"),
        (Coupled(), "alone"),
        (Watched(), "unwatched"),
        (Chance(), "strong"),
        (Downhill(), "strong"),
        (Aimless(), "targeted"),
        (Repelled(), "targeted"),
    ],
    ids=lambda part: part if isinstance(part, str) else getattr(part, "__name__", type(part).__name__),
)
def test_a_faulty_attack_is_refused_by_the_promise_it_breaks(
    attack: Any, promise: str, refused: Callable[..., str]
) -> None:
    assert refused(check_attack, attack) == promise


def test_the_step_that_the_mutants_are_made_from_keeps_every_promise() -> None:
    check_attack(Step())
