"""The convolutional victim gives the same logits in both layouts, whatever the number of rows."""

from __future__ import annotations

import pytest
import torch

from ecgbench.core.data import Samples, Task
from ecgbench_plugins.models.cnn import CNN
from ecgbench_plugins.models.conv1d import often_met

ROWS = Samples.of(torch.rand(37, 1, 187, generator=torch.Generator().manual_seed(0)), torch.arange(37) % 5)
TASK = Task("rows", tuple("NSVFQ"), ROWS, ROWS, ROWS)


@pytest.mark.parametrize("n", [1, 16, 17, 37])
def test_both_layouts_give_the_same_logits_and_gradients(n: int) -> None:
    flat, plain = CNN().build(TASK).double().eval(), CNN(layout="conv1d").build(TASK).double().eval()
    plain.load_state_dict(flat.state_dict())
    x = ROWS.x[:n].double().requires_grad_()
    (gradient,) = torch.autograd.grad(flat(x).square().sum(), x)
    (same,) = torch.autograd.grad(plain(x).square().sum(), x)
    assert flat(x).shape == (n, 5)
    torch.testing.assert_close(flat(x), plain(x))
    torch.testing.assert_close(gradient, same)


def test_a_row_is_answered_alike_in_any_number_of_rows() -> None:
    module = CNN().build(TASK).eval()
    torch.testing.assert_close(module(ROWS.x[:17])[:3], module(ROWS.x[:3]))


def test_few_numbers_of_rows_are_met_and_none_is_much_larger_than_asked_for() -> None:
    numbers = [often_met(n) for n in range(1, 1052)]
    assert all(n <= met <= 9 / 8 * n for n, met in enumerate(numbers, 1))
    assert len(set(numbers)) == 65 and numbers[:17] == [*range(1, 17), 18]
    assert often_met(0) == 0
