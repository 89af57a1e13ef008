"""What a module returned is read as logits, or refused in a sentence that says what was given."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ecgbench.core.errors import ContractError
from ecgbench.core.logits import read_logits

Named = namedtuple("Named", "features logits")
X = torch.zeros(5, 1, 7)
Z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
ONE = Z[:, 0]
ZEROED = torch.stack([torch.zeros(5), ONE], 1)


def read(output: object, classes: int | None, x: Tensor = X) -> Tensor:
    return read_logits(output, x, classes, "Net")


@pytest.mark.parametrize("classes", [3, None])
@pytest.mark.parametrize(
    "output",
    [
        Z,
        Z.double(),
        Z[:, :, None],
        Z[:, None],
        Z[None],
        Z.numpy(),
        (Z, None),
        [Z],
        (Z, Z + 1),
        {"logits": Z, "features": torch.zeros(5, 9)},
        {"scores": Z},
        SimpleNamespace(logits=Z),
        Named(torch.zeros(5, 9), Z),
        ({"logits": Z}, "words"),
        Z.to_sparse(),
    ],
)
def test_logits_are_found_in_what_modules_return(output: object, classes: int | None) -> None:
    assert torch.equal(read(output, classes), Z)


def test_of_several_values_the_one_of_the_right_width_counts() -> None:
    features = torch.ones(5, 9)
    assert torch.equal(read((features, Z), 3), Z)
    assert torch.equal(read((features, ONE, Z[:, :2]), 2), Z[:, :2])
    with pytest.raises(ContractError, match=r"got a tuple of \(5, 9\), \(5, 3\)"):
        read((features, Z), None)


@pytest.mark.parametrize("classes", [2, None])
@pytest.mark.parametrize("output", [ONE, ONE[:, None], ONE[:, None, None], ONE.numpy(), (ONE, None), ONE.double()])
def test_a_single_logit_stands_for_two_classes(output: object, classes: int | None) -> None:
    assert torch.equal(read(output, classes), ZEROED)


def test_one_row_may_have_lost_its_axis() -> None:
    assert torch.equal(read(Z[0], 3, X[:1]), Z[:1])
    assert torch.equal(read(ONE[0], 2, X[:1]), ZEROED[:1])


@pytest.mark.parametrize(
    ("output", "classes", "got"),
    [
        (ONE, 3, "(5,)"),
        (Z[:, :2], 5, "(5, 2)"),
        (Z, 2, "(5, 3)"),
        (Z.T, 3, "(3, 5)"),
        (Z.T, None, "(3, 5)"),
        (Z[:4], 3, "(4, 3)"),
        (torch.zeros(1, 5), 2, "(1, 5)"),
        (torch.zeros(5, 4, 3), 3, "(5, 4, 3)"),
        (Z.argmax(1), 3, "(5,) of torch.int64"),
        (Z.argmax(1), 2, "(5,) of torch.int64"),
        (Z > 0, 3, "(5, 3) of torch.bool"),
        (Z + 0j, 3, "(5, 3) of torch.complex64"),
        (np.array(["a"] * 5), 2, "(5,) of <U1"),
        ({"a": Z[:4], "b": None}, 3, "a dict of a, b"),
        ({}, 3, "a dict of nothing"),
        ((), 3, "a tuple of nothing"),
        (None, 3, "a value of type NoneType"),
        (3.0, 2, "a value of type float"),
        (ONE.tolist(), 2, "a list of a value of type float"),
        (torch.zeros(()), 2, "()"),
        (torch.zeros(5, 0), None, "(5, 0)"),
    ],
)
def test_what_is_no_table_of_logits_is_refused_and_described(output: object, classes: int | None, got: str) -> None:
    with pytest.raises(ContractError) as refused:
        read(output, classes)
    assert str(refused.value).startswith(
        f"Net broke its contract: expected logits of shape (5, {classes or 'classes'})"
    )
    assert f", got {got}" in str(refused.value) and "\n" not in str(refused.value)


def test_whole_numbers_count_where_there_is_one_for_each_class() -> None:
    assert torch.equal(read(torch.eye(5, 3).long(), 3), torch.eye(5, 3))


def test_gradients_pass_through_what_is_read() -> None:
    z = ONE.double().requires_grad_()
    read((z[:, None], None), 2)[:, 1].sum().backward()
    assert z.grad is not None and torch.equal(z.grad, torch.ones(5).double())


@given(st.integers(1, 6), st.integers(2, 6), st.lists(st.booleans(), min_size=3, max_size=3))
def test_axes_of_length_one_never_change_what_is_read(n: int, classes: int, axes: list[bool]) -> None:
    table = torch.arange(float(n * classes)).view(n, classes)
    shape = [*([1] if axes[0] else []), n, *([1] if axes[1] else []), classes, *([1] if axes[2] else [])]
    assert torch.equal(read_logits(table.view(shape), torch.zeros(n, 2), classes, "Net"), table)
