"""A plant is there, lies inside the ball, is hidden from its middle, and is found by what is worth its name."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import Flatten, Linear, Module, ReLU, Sequential

from ecgbench.checks.binarization import BinarizedVictim, Readouts, binarization_test, fit_readouts
from ecgbench.checks.probe import Check, FinishedSweep
from ecgbench.core.data import Batch, Task
from ecgbench.core.interfaces import Attack, Defense
from ecgbench.core.losses import margin
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Goal, Norm, Threat
from ecgbench.core.victim import Victim, frozen
from ecgbench.evaluation.sweep import Sweep
from ecgbench_plugins.attacks.apgd import APGD
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.attacks.identity import Identity
from ecgbench_plugins.attacks.mifgsm import MIFGSM
from ecgbench_plugins.attacks.noise import Noise
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.spsa import SPSA
from ecgbench_plugins.attacks.square import Square
from ecgbench_plugins.attacks.strict import Strict
from ecgbench_plugins.defenses.none import Standard
from tests.problems import Written, blobs, linear_problem

RNG = RandomStream((0, "plants"))


@cache
def trained() -> tuple[Task, Victim]:
    task = blobs(1500)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Sequential(Flatten(), Linear(16, 32), ReLU(), Linear(32, 3))
    module = Standard(epochs=6, batch=64, lr=1e-2).fit(module, task, RandomStream(("train", 0)), Checkpoint())  # type: ignore[assignment]
    return task, frozen(module)


def planted(
    victim: Victim, task: Task, threat: Threat | None = None, eps: float = 0.3
) -> tuple[Batch, Ball, Goal, Readouts]:
    threat, batch = threat or Threat("linf"), task.test[:80]
    ball = threat.ball(batch, eps, task.bounds)
    return batch, ball, threat.goal(batch.y, task.outputs), fit_readouts(victim, batch, ball, RNG)


def asked(victim: Victim, batch: Batch, goal: Goal, readouts: Readouts, delta: Tensor | float = 0.0) -> Tensor:
    """Logits of the planted victim."""
    return BinarizedVictim(victim, batch, goal, readouts)(batch.x + delta, rng=RNG, ids=batch.ids)


def searched(attack: Attack, victim: Victim, task: Task, threat: Threat | None = None, eps: float = 0.3) -> Check:
    """The check's verdict on an attack; nobody fell before."""
    sweep = Sweep(attack, victim, task, threat or Threat("linf"), (eps,), RandomStream((0, "attack")))
    outcomes = replace(sweep, attack=Identity()).run(Checkpoint())
    return binarization_test(FinishedSweep(sweep, outcomes, eps))


# the plant


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_a_linear_victim_has_a_plant_that_the_ball_reaches(norm: Norm, masked: bool) -> None:
    """The readout's largest value in the ball is known: at the offset, plus eps times the dual norm of its slope."""
    problem = linear_problem(4, (1, 60), 80, masked=masked)
    batch, _, goal, readouts = planted(problem.victim, problem.task, Threat(norm), 0.05)
    assert bool(readouts.valid.all())
    gradient = (readouts.weight @ torch.tensor(problem.weight, dtype=torch.float32)) * batch.mask.flatten(1)
    here = asked(problem.victim, batch, goal, readouts).gather(1, ((batch.y + 1) % 4)[:, None]).squeeze(1)
    top = here + 0.05 * (gradient.abs().sum(1) if norm == "linf" else gradient.norm(dim=1))
    assert bool((here <= -1 + 1e-3).all()) and bool((top >= 1 - 1e-3).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_middle_of_the_ball_is_on_the_near_side(norm: Norm) -> None:
    task, victim = trained()
    batch, ball, goal, readouts = planted(victim, task, Threat(norm))
    fresh = [
        asked(victim, batch, goal, readouts, 0.4 * ball.sample(batch.ids, (1, 16), RNG.fold_in(n))) for n in range(30)
    ]
    assert bool((asked(victim, batch, goal, readouts).argmax(1) == batch.y)[readouts.valid].all())
    wrong = torch.stack([logits.argmax(1) != batch.y for logits in fresh])[:, readouts.valid]
    assert float(wrong.float().mean()) < 0.02


def test_nothing_can_be_planted_where_nothing_moves() -> None:
    task, _ = trained()
    for flat in (lambda x: torch.zeros(len(x), 3), lambda x: 5 + 1e-7 * x.flatten(1)[:, :3]):
        assert not bool(planted(frozen(Written(flat)), task)[3].valid.any())


@pytest.mark.parametrize("scale", [1e-30, 1e6])
def test_the_scale_of_the_logits_does_not_matter(scale: float) -> None:
    task, victim = trained()
    scaled = frozen(Sequential(victim.module, Written(lambda logits: scale * logits)))
    batch, _, goal, readouts = planted(victim, task)
    same = planted(scaled, task)[3]
    assert torch.equal(same.valid, readouts.valid)
    torch.testing.assert_close(
        asked(scaled, batch, goal, same), asked(victim, batch, goal, readouts), rtol=1e-3, atol=1e-3
    )


def test_rows_are_told_apart_by_number() -> None:
    task, victim = trained()
    batch, _, goal, readouts = planted(victim, task)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))[:30]
    module = BinarizedVictim(victim, batch, goal, readouts)
    part = module(batch.x[order], rng=RNG, ids=batch.ids[order])
    torch.testing.assert_close(part, module(batch.x, rng=RNG, ids=batch.ids)[order])


@pytest.mark.parametrize("target", [None, "2"])
def test_the_margin_has_a_slope_however_far_the_plant_is(target: str | None) -> None:
    """The lead over the other classes follows the readout down, so that a margin never turns flat."""
    task, victim = trained()
    batch, ball, goal, readouts = planted(victim, task, Threat("linf", target=target))
    point = (-ball.eps * torch.ones_like(batch.x)).requires_grad_()
    with torch.enable_grad():
        value = margin(asked(victim, batch, goal, readouts, point), goal)
    (gradient,) = torch.autograd.grad(value.sum(), point)
    chosen = readouts.valid & goal.eligible
    assert float(value.detach()[chosen].amin()) < -5
    assert bool((gradient.flatten(1).abs().amax(1) > 0)[chosen].all())


def test_a_target_is_what_the_plant_is_predicted_as() -> None:
    task, victim = trained()
    batch, _, goal, readouts = planted(victim, task, Threat("linf", target="2"))
    module = BinarizedVictim(victim, batch, goal, readouts)
    raised = replace(readouts, offset=readouts.offset + 1000)
    assert bool((BinarizedVictim(victim, batch, goal, raised)(batch.x, rng=RNG, ids=batch.ids).argmax(1) == 2).all())
    others = (batch.y != 2) & readouts.valid
    assert bool((module(batch.x, rng=RNG, ids=batch.ids).argmax(1) == batch.y)[others].all())


# the search


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    "attack",
    [
        PGD(steps=20, rel_step=0.25),
        PGD(steps=100, loss="margin"),
        PGD(loss="targeted-margin"),
        APGD(),
        APGD(loss="margin"),
        APGD(loss="dlr"),
        MIFGSM(),
        SPSA(steps=20, pairs=64),
        Square(queries=300),
        Strict("quick"),
    ],
    ids=lambda attack: str(attack)[:32],
)
def test_attacks_worth_their_name_find_the_known_examples(attack: Attack, norm: Norm) -> None:
    task, victim = trained()
    found = searched(attack, victim, task, Threat(norm))
    assert not found.raised
    assert found.note == "share missed of 50 known adversarial examples"


def test_one_step_is_enough_on_a_linear_victim() -> None:
    problem = linear_problem(3, (1, 40), 100, masked=True, bounds=(0.0, 1.0))
    assert searched(FGSM(), problem.victim, problem.task, eps=0.02).effect == 0


@pytest.mark.parametrize("target", [None, "1"])
def test_attacks_that_look_away_miss_it(target: str | None) -> None:
    task, victim = trained()
    threat = Threat("linf", target=target)
    assert searched(Identity(), victim, task, threat).effect == 1
    assert searched(Noise(draws=1), victim, task, threat).raised
    assert searched(PGD(loss="margin"), victim, task, threat).effect == 0


def test_a_victim_that_hides_its_gradient_hides_its_plants() -> None:
    task, victim = trained()
    rounded = frozen(Sequential(victim.module, Written(lambda logits: logits.round(decimals=2))))
    assert searched(PGD(), rounded, task).raised
    assert not searched(Square(queries=500), rounded, task).raised


class Borrowing(Identity):
    """An attack that works on a second victim."""

    surrogate: ClassVar[Defense] = Standard()


def test_an_attack_on_a_second_victim_is_not_asked() -> None:
    task, victim = trained()
    found = searched(Borrowing(), victim, task)
    assert not found.raised and found.note.startswith("not asked")


def test_the_search_leaves_the_victim_alone() -> None:
    task, victim = trained()
    before = {name: value.clone() for name, value in victim.module.state_dict().items()}
    searched(PGD(), victim, task)
    assert all(torch.equal(value, before[name]) for name, value in victim.module.state_dict().items())
    assert not any(parameter.requires_grad for parameter in _parameters(victim.module))


def _parameters(module: Module) -> list[Tensor]:
    return list(module.parameters())
