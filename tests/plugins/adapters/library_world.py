"""Victims, trials and foreign attacks for the tests of the adapters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Dropout, Flatten, Linear, Module, ReLU, Sequential

from ecgbench.core.data import Samples, Task
from ecgbench.core.interfaces import Attack
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm
from ecgbench.core.trial import Trial, Watch
from ecgbench.registry.catalog import Catalog, discover
from ecgbench.testing import LinearVictim, Problem, linear_problem
from ecgbench_plugins.attacks.adapters.base import AttackRequest, LibraryAttack
from ecgbench_plugins.attacks.adapters.signature import Parameter
from ecgbench_plugins.attacks.adapters.traits import BOTH, Traits

RNG = RandomStream(("attack", 0))
RANGE = (0.0, 1.0)


@cache
def catalog() -> Catalog:
    return discover()


def attack(text: str) -> Attack:
    """The attack that a selector spells."""
    return catalog().resolve("attack", text)


def mild(
    norm: Norm = "linf",
    shape: tuple[int, ...] = (1, 187),
    bounds: tuple[float, float] | None = RANGE,
    target: str | None = None,
    classes: int = 5,
    native: bool = False,
) -> Problem:
    """A linear problem with logits so small that no softmax saturates; `native`: one eps for all rows."""
    problem = linear_problem(norm, shape, classes, bounds)
    module = LinearVictim(0.2 * problem.module.weight.detach(), 0.2 * problem.module.offset).eval()
    threat = replace(problem.threat, unit="native") if native else problem.threat
    problem = replace(problem, module=module, threat=threat)
    return problem.with_target(target) if target else problem


def free_rows(problem: Problem, n: int) -> Tensor:
    """Places of the first `n` rows that are not of the first class, the target of these tests."""
    return (problem.task.test.y != 0).nonzero().squeeze(1)[:n]


def trial_of(problem: Problem, of: Attack, rows: Tensor | None = None) -> Trial:
    """The trial that a sweep would give `of`."""
    watch: Watch = "last" if of.minimal else "first"
    return problem.trial(rows=rows, watch=watch, gradients=of.access == "gradient")


class Normed(Module):
    """A victim with buffers that a forward in train mode would move."""

    def __init__(self, classes: int = 5, size: int = 187) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = Sequential(
                Flatten(), Linear(size, 16), BatchNorm1d(16), ReLU(), Dropout(0.2), Linear(16, classes)
            )
            self.layers(torch.randn(64, size))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def kept_sevens(module: Module) -> bool:
    """Whether every weight still has the gradient of sevens that a test gave it."""
    gradients = [weight.grad for weight in module.parameters()]
    return all(gradient is not None and bool(torch.all(gradient == 7)) for gradient in gradients)


@dataclass(frozen=True)
class Written(LibraryAttack):
    """A foreign attack whose library is one function of the question."""

    library: str = "none 1.0"
    gain: float = 1.0
    alpha: float | None = None

    traits: ClassVar[Traits] = Traits(BOTH)
    lengths: ClassVar[frozenset[str]] = frozenset({"alpha"})
    given: ClassVar = {
        name: Parameter(name, default, "float") for name, default in {"eps": 0.3, "gain": 1.0, "alpha": 0.1}.items()
    }
    called: ClassVar[str] = "test.Written"
    installed: ClassVar[str] = "none 1.0"

    def ask(self, request: AttackRequest) -> Tensor:
        """One step along the sign of x, `gain` times the budget."""
        return request.u + self.gain * request.eps * (request.u.new_ones(()) - 2 * (request.u < 0.5))


@cache
def waves(scored: bool, n: int = 200, classes: int = 5) -> Task:
    """Bumps at a class's place on a class's wave, in [0, 1] or z-scored record by record."""
    rng = torch.Generator().manual_seed(0)
    time, y = torch.linspace(0, 1, 187), torch.arange(4 * n) % classes
    middle = 0.3 + 0.1 * y[:, None] + 0.03 * torch.randn(4 * n, 1, generator=rng)
    bump = torch.exp(-(((time - middle) / 0.05) ** 2)) * (0.7 + 0.3 * torch.rand(4 * n, 1, generator=rng))
    wave = torch.sin(2 * torch.pi * (time * (1 + y[:, None] % 3) + torch.rand(4 * n, 1, generator=rng)))
    x = bump + 0.25 * wave + 0.1 * torch.randn(4 * n, 187, generator=rng)
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True) if scored else (x - low) / (high - low)
    samples = Samples.of(x[:, None].contiguous(), y)
    names = tuple(str(label) for label in range(classes))
    bounds = None if scored else RANGE
    return Task("waves", names, samples[n:], samples[n:], samples[:n], bounds=bounds)
