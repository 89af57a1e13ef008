"""On a linear victim robust accuracy is mathematics: no attack may beat it, and ours must find it."""

from __future__ import annotations

import numpy as np
import pytest

from ecgbench.checks.cheap import CheapChecks
from ecgbench.core.interfaces import Attack
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep
from ecgbench_plugins.attacks.pgd import PGD
from tests.problems import Bounds, Linear, linear_problem, reach, size_for

UNIT: Bounds = (0.0, 1.0)
ROUNDING = 1e-4  # of a lead between logits of size 10, in float32

norms = pytest.mark.parametrize("norm", ["linf", "l2"])
masks = pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
ranges = pytest.mark.parametrize(
    ("bounds", "on_bound"), [(None, 0.0), (UNIT, 0.0), (UNIT, 0.6)], ids=["unbounded", "bounded", "on-bound"]
)
goals = pytest.mark.parametrize("target", [None, "1"], ids=["untargeted", "targeted"])


def sweep_of(attack: Attack, problem: Linear, threat: Threat, grid: tuple[float, ...]) -> Sweep:
    return Sweep(attack, problem.victim, problem.task, threat, grid, RandomStream((0, "attack")))


def assert_exact(attack: Attack, problem: Linear, threat: Threat) -> None:
    """At two sizes of the ball, from both sides: exact <= found <= exact + 0.005, and no sample falls that cannot."""
    grid = tuple(size_for(problem, threat, standing) for standing in (0.6, 0.4))
    outcomes = sweep_of(attack, problem, threat, grid).run(Checkpoint())
    attacked = threat.goal(problem.task.test.y, problem.task.outputs).eligible.numpy()
    assert (outcomes.clean == outcomes.y).all()
    for eps, fallen in zip(grid, outcomes.adversarial, strict=True):
        lead = reach(problem, threat, eps)[attacked]
        exact, found = (lead <= 0).mean(), (~fallen[attacked]).mean()
        assert 0.2 <= exact <= 0.8
        assert exact <= found <= exact + 0.005
        assert not (fallen[attacked] & (lead < -ROUNDING)).any()


@norms
@masks
@ranges
@goals
@pytest.mark.parametrize("classes", [2, 5])
def test_pgd_on_the_margin_finds_the_exact_robust_accuracy(
    norm: Norm,
    masked: bool,
    bounds: Bounds | None,
    on_bound: float,
    target: str | None,
    classes: int,
) -> None:
    problem = linear_problem(classes, masked=masked, bounds=bounds, on_bound=on_bound, seed=classes)
    assert_exact(PGD(loss="margin"), problem, Threat(norm, target=target))


@norms
@masks
@ranges
@goals
def test_pgd_on_the_cross_entropy_finds_it_for_two_classes(
    norm: Norm, masked: bool, bounds: Bounds | None, on_bound: float, target: str | None
) -> None:
    problem = linear_problem(2, masked=masked, bounds=bounds, on_bound=on_bound, seed=7)
    assert_exact(PGD(loss="ce"), problem, Threat(norm, target=target))


@norms
@pytest.mark.parametrize("shape", [(3, 8, 8), (48, 18)])
def test_it_is_found_for_samples_of_any_shape(norm: Norm, shape: tuple[int, ...]) -> None:
    problem = linear_problem(5, shape, masked=True, bounds=UNIT, on_bound=0.3, seed=1)
    assert_exact(PGD(loss="margin"), problem, Threat(norm))


@norms
def test_rules_that_do_not_bind_are_not_obeyed(norm: Norm) -> None:
    problem = linear_problem(2, n=2000, masked=True, bounds=UNIT, on_bound=0.6, seed=3)
    assert_exact(PGD(loss="margin"), problem, Threat(norm, mask=False, bounds=False))


@norms
def test_cross_entropy_misses_falls_among_five_classes_and_the_loss_check_says_so(norm: Norm) -> None:
    problem, threat = linear_problem(5, seed=5), Threat(norm)
    eps = size_for(problem, threat, 0.5)
    exact = float((reach(problem, threat, eps) <= 0).mean())
    raised = {}
    for loss in ("ce", "margin"):
        sweep = sweep_of(PGD(loss=loss), problem, threat, (eps,))
        outcomes = sweep.run(Checkpoint())
        overshoot = standing(outcomes) - exact
        assert overshoot > 0.005 if loss == "ce" else overshoot <= 0.005
        raised[loss] = {check.code: check.raised for check in CheapChecks(sweep, outcomes, eps).run()}["LOSS"]
    assert raised == {"ce": True, "margin": False}


def standing(outcomes: Outcomes) -> float:
    return float(np.mean(~outcomes.adversarial[-1]))
