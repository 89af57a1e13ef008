"""The contract kit itself: how promises are told and excused, and the problems that attacks are asked about."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import ContractError, DataError, UnknownNameError
from ecgbench.core.random import RandomStream
from ecgbench.core.trial import Trial
from ecgbench.testing import (
    ATTACK_PROMISES,
    DATASET_PROMISES,
    DEFENSE_PROMISES,
    MODEL_PROMISES,
    BrokenPromiseError,
    SmallModel,
    check_attack,
    check_dataset,
    check_model,
    linear_problem,
)
from tests.testing.honest import Blobs, Chance, Step


class Wide(Step):
    """A ball one per cent larger."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return 1.01 * super().perturb(trial, rng)


def test_a_declared_exception_lets_a_weak_attack_pass() -> None:
    check_attack(Chance(), expected={"strong": "it draws one point", "targeted": "it has no aim"})


def test_a_declared_exception_that_does_not_occur_is_an_error() -> None:
    with pytest.raises(BrokenPromiseError, match=r"as declared: it is weak .* got it kept"):
        check_attack(Step(), expected={"strong": "it is weak"})


def test_an_exception_from_a_promise_nobody_made_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="no promise is named 'stron'; did you mean 'strong'"):
        check_attack(Step(), expected={"stron": "a slip"})


def test_a_broken_promise_is_told_in_one_sentence() -> None:
    with pytest.raises(ContractError) as fault:
        check_attack(Wide())
    assert str(fault.value) == (
        "Wide() broke its contract: expected a size of at most eps (1 + 1e-5) in the norm of the threat, with the eps "
        "of each row (promise 'inside'), got 1.01 eps on linf, samples (1, 187), 5 classes."
    )


def test_an_exception_inside_a_plugin_is_told_with_the_promise_and_kept_as_the_cause() -> None:
    class Broken(Blobs):
        def load(self, root: DataRoot) -> Task:
            raise DataError("record 100 is damaged.")

    with pytest.raises(BrokenPromiseError, match=r"promise 'task'.*DataError: record 100 is damaged") as fault:
        check_dataset(Broken(), expected={"value": "a class inside a function cannot be pickled"})
    assert isinstance(fault.value.__cause__, DataError)


@pytest.mark.parametrize("promises", [ATTACK_PROMISES, DATASET_PROMISES, MODEL_PROMISES, DEFENSE_PROMISES])
def test_every_promise_has_a_name_of_its_own_and_says_what_it_is(promises: tuple[Any, ...]) -> None:
    assert len({promise.name for promise in promises}) == len(promises)
    assert all(len(promise.text.split()) >= 3 and not promise.text.endswith(".") for promise in promises)


def test_a_check_leaves_the_global_generators_as_they_were() -> None:
    before = torch.random.get_rng_state(), str(np.random.get_state()), random.getstate()
    check_attack(Step())
    check_model(SmallModel())
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (str(np.random.get_state()), random.getstate()) == before[1:]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None], ids=["bounded", "z-scored"])
def test_no_attack_beats_the_critical_size_and_a_right_step_attains_it(norm: Any, bounds: Any) -> None:
    problem = linear_problem(norm, classes=2, bounds=bounds)
    trial = problem.trial()
    delta = Step().perturb(trial, RandomStream(("attack", 0)))
    adversarial = trial.submit(delta)
    certain = (problem.critical / problem.eps - 1).abs() > 1e-4
    assert torch.equal(adversarial[certain], (problem.critical < problem.eps)[certain])


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_without_bounds_the_critical_size_is_margin_over_dual_norm(norm: Any, dual: int) -> None:
    problem = linear_problem(norm, classes=2, bounds=None)
    samples, weight = problem.task.test, problem.module.weight.detach()
    logits = problem.module(samples.x).detach()
    pull = (weight[1] - weight[0]) * samples.mask.flatten(1)
    exact = (logits[:, 0] - logits[:, 1]).abs() / pull.norm(p=dual, dim=1) * samples.scale
    torch.testing.assert_close(problem.critical, exact, rtol=1e-4, atol=1e-6)


def test_a_problem_cannot_be_spoiled_by_what_runs_on_it() -> None:
    trial = linear_problem().trial(training=True)
    trial.batch.x.zero_()
    with torch.no_grad():
        next(trial.victim.module.parameters()).zero_()
    fresh = linear_problem().trial()
    assert bool(fresh.batch.x.any()) and bool(next(fresh.victim.module.parameters()).any())
