"""MI-FGSM: every gradient counts equally, and the sum of them decides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Samples
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.victim import Victim
from ecgbench.testing import check_attack
from ecgbench_plugins.attacks.mifgsm import MIFGSM
from ecgbench_plugins.attacks.pgd import PGD
from tests.plugins.attacks.test_closed_form import assert_exact
from tests.problems import Bounds, Written, linear_problem, random_mlp, trial_of

RNG = RandomStream((0, "attack"))


def test_it_keeps_its_promises() -> None:
    check_attack(MIFGSM())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_it_finds_the_exact_robust_accuracy_of_a_linear_victim(norm: Norm, bounds: Bounds | None) -> None:
    problem = linear_problem(2, masked=True, bounds=bounds, on_bound=0.3, seed=4)
    assert_exact(MIFGSM(steps=40), problem, Threat(norm))


def tent(x: Tensor) -> Tensor:
    """Rises up to 0.25, then falls a hundred times as steeply; class 0 everywhere."""
    height = torch.where(x < 0.25, x, 25.25 - 100 * x).flatten(1)
    return torch.cat([1 - height, height - 1], 1)


@pytest.mark.parametrize(("decay", "path"), [(1.0, [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]), (0.0, [0.1, 0.2, 0.3, 0.2, 0.3])])
def test_a_steep_gradient_weighs_no_more_than_a_flat_one(decay: float, path: list[float]) -> None:
    batch = Samples.of(torch.zeros(1, 1, 1), torch.zeros(1, dtype=torch.int64))
    for steps, place in enumerate(path, 1):
        seen = trial_of(Victim(Written(tent).eval()), batch, Threat("linf"), 1.0)
        assert float(MIFGSM(steps, decay).perturb(seen, RNG)) == pytest.approx(place)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_momentum_it_is_pgd_from_the_clean_sample(norm: Norm) -> None:
    task, victim = random_mlp(100)
    momentless, plain = (
        attack.perturb(trial_of(victim, task.test, Threat(norm), 0.1), RNG)
        for attack in (MIFGSM(decay=0), PGD(steps=10, start="zero"))
    )
    assert torch.allclose(momentless, plain, atol=1e-6)


def test_its_reach_is_that_of_its_steps() -> None:
    assert MIFGSM(steps=5).reach(0.2) == pytest.approx(0.1)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"decay": -1.0}, {"rel_step": 0.0}])
def test_impossible_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        MIFGSM(**wrong)  # type: ignore[arg-type]
