"""The channels-last convolution is conv1d with "same" padding, in values, gradients and layout."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Conv1d
from torch.nn.functional import pad

from ecgbench_plugins.models.conv1d import convolved, flat

X = torch.randn(5, 3, 41, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kernel", [1, 2, 5, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_convolution_is_conv1d_with_the_odd_remainder_of_the_padding_at_the_end(kernel: int, channels: int) -> None:
    layer = Conv1d(channels, 4, kernel).double()
    x = X[:, :channels].clone().requires_grad_()
    same = layer(pad(x, ((kernel - 1) // 2, kernel // 2)))
    answer = convolved(layer, flat(x, len(x))).squeeze(2)
    torch.testing.assert_close(answer, same)
    assert layer.bias is not None
    inputs = (x, layer.weight, layer.bias)
    for slope, expected in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in (answer, same)), strict=True):
        torch.testing.assert_close(slope, expected)


@pytest.mark.parametrize("kernel", [5, 16])
def test_a_convolution_answers_channels_last_even_where_its_signal_has_one_channel(kernel: int) -> None:
    answer = convolved(Conv1d(1, 4, kernel), flat(X[:, :1].float(), 5))
    assert answer.stride() == answer.clone(memory_format=torch.channels_last).stride() != answer.contiguous().stride()


def test_the_last_row_is_repeated_up_to_the_rows_asked_for() -> None:
    assert torch.equal(flat(X, 5).squeeze(2), X)
    assert torch.equal(flat(X, 7).squeeze(2), X[[0, 1, 2, 3, 4, 4, 4]])


@pytest.mark.parametrize("rows", [5, 7])
def test_what_is_written_into_a_flat_signal_is_not_written_into_the_given_one(rows: int) -> None:
    x = X.clone()
    flat(x, rows).zero_()
    assert torch.equal(x, X)
