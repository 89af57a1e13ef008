"""A threat that cannot be carried out is refused before anything runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ecgbench.core.data import Samples, Task
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.threat import Norm, Threat
from ecgbench.evaluation.feasibility import ROUNDING, check_feasible
from ecgbench.evaluation.sweep import check_grid


def task(x: Tensor, y: Sequence[int] = (0, 1), bounds: Any = None, **parts: Any) -> Task:
    samples = Samples.of(x, torch.tensor(y), **parts)
    return Task("made", ("a", "b", "c"), samples[:0], samples[:0], samples, bounds=bounds, physical="mV")


def refusal(threat: Threat, of: Task, *eps: float) -> str:
    with pytest.raises(EcgbenchError) as caught:
        check_feasible(threat, of, eps or (0.1,))
    return str(caught.value)


X = torch.linspace(-1, 1, 16).view(2, 1, 8)


# eps and float32


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("size", [1.0, 3000.0, 32767.0, 1e6])
def test_an_eps_is_refused_from_where_rounding_changes_it_by_a_hundredth(norm: Norm, size: float) -> None:
    of, d = task(torch.full((2, 1, 9), size)), 9
    half = float(np.spacing(np.float32(size))) / 2 * (1 if norm == "linf" else d**0.5)
    check_feasible(Threat(norm), of, (1.001 * half / ROUNDING, 1e6))
    assert "is too small for float32: on sample 0, whose values reach" in refusal(
        Threat(norm), of, 0.999 * half / ROUNDING, 1e6
    )


def test_raw_units_and_a_tiny_eps_are_refused_in_a_sentence_with_the_way_out() -> None:
    of = task(torch.stack([X[0] * 100, X[1] * 3000]))
    assert refusal(Threat("linf"), of, 1e-5, 1.0) == (
        "eps 1e-05 is too small for float32: on sample 1, whose values reach 3000, rounding changes a perturbation by "
        "1221% of it; expected eps of 0.013 or more, or signals of smaller numbers."
    )
    check_feasible(Threat("linf"), of, (0.013,))


@settings(deadline=None)
@given(st.floats(0.0, 1e7, width=32), st.floats(1e-9, 10), st.sampled_from(["linf", "l2"]), st.integers(0, 99))
def test_what_is_accepted_can_be_added_almost_exactly(size: float, eps: float, norm: Norm, seed: int) -> None:
    of = task(torch.full((2, 1, 5), size))
    try:
        check_feasible(Threat(norm), of, (eps,))
    except EcgbenchError:
        return
    rng = torch.Generator().manual_seed(seed)
    ball = Threat(norm).ball(of.test, eps)
    delta = ball.project(ball.eps * ball.steepest(torch.randn(2, 1, 5, generator=rng)))
    seen = ((of.test.x + delta).double() - of.test.x.double()).float()
    assert bool((ball.size(seen - delta) <= 2.1 * ROUNDING * eps).all())  # x + delta may lie one binade higher


def test_what_no_attack_may_change_need_not_be_fine() -> None:
    x, mask = X.clone(), torch.ones(2, 1, 8, dtype=torch.bool)
    x[1, 0, 3], mask[1, 0, 3] = 1e6, False
    check_feasible(Threat("linf"), task(x, mask=mask), (0.01,))
    assert "on sample 1" in refusal(Threat("linf", mask=False), task(x, mask=mask), 0.01)


def test_only_samples_that_are_meant_count() -> None:
    x = torch.stack([X[0], 1e6 * X[1]])
    check_feasible(Threat("linf", target="b"), task(x), (0.01,))
    assert "float32" in refusal(Threat("linf", target="a"), task(x), 0.01)


def test_an_eps_is_measured_in_the_unit_of_each_sample() -> None:
    of = task(3000 * X, scale=torch.tensor([0.005, 0.005]))  # 200 steps a mV
    check_feasible(Threat("linf", unit="mV"), of, (0.01,))
    assert "float32" in refusal(Threat("linf"), of, 0.01)
    assert "expected eps of 6.4e-05 or more" in refusal(Threat("linf", unit="mV"), of, 1e-5)


@pytest.mark.parametrize("scale", [0.0, torch.nan, torch.inf, -1.0])
def test_a_scale_that_gives_no_size_is_refused_where_it_is_used(scale: float) -> None:
    of = task(X, scale=torch.tensor([1.0, scale]))
    check_feasible(Threat("linf"), of, (0.1,))
    found = refusal(Threat("linf", unit="physical"), of)
    assert "in the unit of sample 1 (scale" in found and found.endswith("expected a finite size above 0.")


def test_an_eps_beyond_float32_is_refused() -> None:
    assert "expected a finite size above 0." in refusal(Threat("linf"), task(0 * X), 1e-50)
    with pytest.raises(EcgbenchError, match=r"eps 1e\+39 given; expected a finite number above 0"):
        check_grid((0.1, 1e39))


# nobody to attack


def test_a_target_that_all_samples_are_of_is_refused() -> None:
    assert refusal(Threat("linf", target="a"), task(X, (0, 0))) == (
        "all 2 test samples are of the target class a; expected a target that others can reach."
    )
    check_feasible(Threat("linf", target="a"), task(X, (0, 1)), (0.1,))


def test_source_classes_without_samples_are_refused() -> None:
    assert refusal(Threat("linf", source_classes=("c",), target="a"), task(X)) == (
        "none of the 2 test samples is of class c; expected source classes that occur."
    )
    check_feasible(Threat("linf", source_classes=("c", "b"), target="a"), task(X), (0.1,))


def test_masks_that_leave_nothing_are_refused_where_they_bind() -> None:
    mask = torch.zeros(2, 1, 8, dtype=torch.bool)
    of = task(X, mask=mask)
    for norm in ("linf", "l2"):
        assert "mask and bounds leave no value of any sample to change" in refusal(Threat(norm), of)
        check_feasible(Threat(norm, mask=False), of, (0.1,))
        one = mask.clone()
        one[1, 0, 2] = True
        check_feasible(Threat(norm), task(X, mask=one), (0.1,))


def test_bounds_that_leave_nothing_are_refused() -> None:
    of = task(torch.full((2, 1, 8), 0.5), bounds=(0.5, 0.5))
    assert "mask and bounds leave no value" in refusal(Threat("linf"), of)
    check_feasible(Threat("linf", bounds=False), of, (0.1,))


def test_no_samples_are_refused() -> None:
    of = task(X)
    assert refusal(Threat("linf"), replace(of, test=of.test[:0])).startswith("the test split has 0 samples")


def test_rules_that_do_not_fit_the_task_are_refused_first() -> None:
    assert "eps cannot be read in 'mm'" in refusal(Threat("linf", unit="mm"), task(X, (0, 0)), 1e-9)


def test_a_feature_of_which_eps_is_nothing_is_refused_with_its_scale() -> None:
    scale = torch.ones(3, 1, 5)
    scale[1, 0, 4] = torch.inf
    samples = Samples.of(torch.rand(3, 2, 5), torch.tensor([0, 1, 0]), scale=scale)
    task = Task("toy", ("a", "b"), samples, samples, samples, physical="mmol/L")
    with pytest.raises(EcgbenchError, match=re.escape("eps 0.1 is 0 in the unit of sample 1 (scale inf)")):
        check_feasible(Threat("linf", unit="physical"), task, (0.1,))
