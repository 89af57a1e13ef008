"""One PGD sweep by ecgbench and by three libraries, each called as its users call it: the whole batch, eps by eps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from real_beats import REACH, Problem
from torch import Tensor
from torch.nn import CrossEntropyLoss, Module

from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import Victim
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import STANDARD, Protocol, Sweep
from ecgbench_plugins.attacks.pgd import PGD

THEIR_PROTOCOL = Protocol(success="last", sweep="independent")
Wrong = Tensor
"""Which beats are misclassified under attack: (eps, n) bool."""


def outcomes(problem: Problem, protocol: Protocol = STANDARD) -> Outcomes:
    """The sweep of the bench."""
    attack = PGD(steps=problem.steps, rel_step=REACH / problem.steps, start="zero")
    threat, rng = Threat("linf", mask=False), RandomStream(("speed",))
    sweep = Sweep(attack, Victim(problem.frozen), problem.task, threat, problem.eps, rng, protocol)
    return sweep.run(Checkpoint())


def ecgbench(problem: Problem, protocol: Protocol = STANDARD) -> Wrong:
    found = outcomes(problem, protocol)
    return torch.from_numpy(found.predicted != found.y)


def torchattacks(problem: Problem) -> Wrong:
    import torchattacks as library

    def attacked(eps: float) -> Tensor:
        step = REACH * eps / problem.steps
        attack = library.PGD(problem.plain, eps=eps, alpha=step, steps=problem.steps, random_start=False)
        return _wrong(problem, attack(problem.x, problem.y))

    return torch.stack([attacked(eps) for eps in problem.eps])


def torchattacks_relaid(problem: Problem) -> Wrong:
    """Theirs on a network whose convolutions run in the layout that ours run in."""
    return torchattacks(replace(problem, plain=problem.relaid))


def foolbox(problem: Problem) -> Wrong:
    import foolbox as library

    model = library.PyTorchModel(problem.plain, bounds=(0, 1), device="cpu")
    step = REACH / problem.steps
    attack = library.attacks.LinfPGD(rel_stepsize=step, steps=problem.steps, random_start=False)
    _, _, success = attack(model, problem.x, problem.y, eps=problem.eps)
    return success


def art(problem: Problem) -> Wrong:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    x, y, n = problem.x.numpy(), problem.y.numpy(), len(problem.y)
    shape, classes = problem.task.shape, len(problem.task.classes)
    model = PyTorchClassifier(problem.plain, CrossEntropyLoss(), shape, classes, clip_values=(0, 1), device_type="cpu")

    def attacked(eps: float) -> Tensor:
        size = {"eps": eps, "eps_step": REACH * eps / problem.steps, "max_iter": problem.steps}
        attack = ProjectedGradientDescent(model, np.inf, **size, batch_size=n, verbose=False)
        return torch.from_numpy(model.predict(attack.generate(x, y), batch_size=n).argmax(1) != y)

    return torch.stack([attacked(eps) for eps in problem.eps])


def _wrong(problem: Problem, attacked: Tensor) -> Tensor:
    with torch.no_grad():
        return problem.plain(attacked).argmax(1) != problem.y


Side = Callable[[Problem], Wrong]
LIBRARIES: dict[str, Side] = {"torchattacks": torchattacks, "foolbox": foolbox, "art": art}


class Counted(Module):
    """A module that counts the samples of its forwards and of the gradients with respect to its input."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module
        self.forwards = self.gradients = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        if x.requires_grad:
            x.register_hook(self._gradient)
        return self.module(x)

    def _gradient(self, gradient: Tensor) -> None:
        self.gradients += len(gradient)


def counted(side: Side, problem: Problem) -> tuple[Wrong, int, int]:
    """What a side finds, and the samples of its forwards and gradients."""
    counters = [Counted(module) for module in (problem.frozen, problem.plain, problem.relaid)]
    frozen, plain, relaid = (counter.eval() for counter in counters)
    wrong = side(replace(problem, frozen=frozen, plain=plain, relaid=relaid))
    return wrong, sum(each.forwards for each in counters), sum(each.gradients for each in counters)
