"""Losses by hand: one value per row, the larger the nearer to adversarial."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ecgbench.core.losses import cross_entropy, margin, pair_margin
from ecgbench.core.threat import Goal
from ecgbench.core.trial import Loss

LOGITS = torch.tensor([[2.0, 1.0, -1.0], [0.5, 3.0, 3.0]])


def aim(labels: list[int], leave: bool = True, rival: list[int] | None = None) -> Goal:
    label = torch.tensor(labels)
    return Goal(label, leave, torch.ones_like(label, dtype=torch.bool), None if rival is None else torch.tensor(rival))


def test_the_margin_to_leave_is_the_best_other_logit_minus_the_own() -> None:
    assert margin(LOGITS, aim([0, 1])).tolist() == [-1, 0]
    assert margin(LOGITS, aim([2, 0])).tolist() == [3, 2.5]


def test_the_margin_to_reach_is_its_negative() -> None:
    assert margin(LOGITS, aim([0, 0], leave=False)).tolist() == [1, -2.5]


def test_the_pair_margin_looks_at_one_rival_only() -> None:
    assert pair_margin(LOGITS, aim([0, 2], rival=[2, 0])).tolist() == [-3, -2.5]


def test_a_pair_margin_without_a_rival_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a goal with a rival"):
        pair_margin(LOGITS, aim([0, 1]))


def test_cross_entropy_by_hand() -> None:
    total = math.exp(2) + math.exp(1) + math.exp(-1)
    left, reached = (cross_entropy(LOGITS, aim([0, 0], leave=leave))[0] for leave in (True, False))
    assert float(left) == pytest.approx(math.log(total) - 2)
    assert float(reached) == -float(left)


@given(
    st.lists(st.lists(st.floats(-9, 9, width=32), min_size=4, max_size=4, unique=True), min_size=1, max_size=9),
    st.booleans(),
)
@settings(deadline=None)
def test_the_margin_is_above_0_exactly_where_the_row_has_fallen(rows: list[list[float]], leave: bool) -> None:
    logits = torch.tensor(rows)
    goal = aim([row % 4 for row in range(len(rows))], leave)
    assert torch.equal(margin(logits, goal) > 0, goal.met(logits.argmax(1)))


@pytest.mark.parametrize("loss", [cross_entropy, margin, pair_margin])
@pytest.mark.parametrize("leave", [True, False])
def test_gradients_are_those_of_finite_differences(loss: Loss, leave: bool) -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    goal = aim([0, 1, 2, 3, 0], leave, rival=[1, 2, 3, 0, 3])

    def value(logits: Tensor) -> Tensor:
        return loss(logits, goal)

    assert torch.autograd.gradcheck(value, logits)


def test_the_margin_keeps_its_gradient_where_the_cross_entropy_has_none() -> None:
    logits = torch.tensor([[1000.0, 0.0, -5.0]], requires_grad=True)
    for loss, size in ((cross_entropy, 0.0), (margin, 1.0)):
        (grad,) = torch.autograd.grad(loss(logits, aim([0])).sum(), logits)
        assert float(grad.abs().max()) == size
