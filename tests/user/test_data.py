"""What is given to `evaluate` is read as it is meant, or refused in one sentence; nothing is cut or cast in silence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ecgbench.core.errors import EcgbenchError
from ecgbench.user.data import (
    check_labels,
    gather,
    read_bounds,
    read_groups,
    read_labels,
    read_mask,
    read_names,
    read_signals,
    shuffled,
)

X = torch.arange(12.0).view(3, 1, 4)
NAMES = ("N", "S", "V")
pandas = pytest.importorskip("pandas")


class Frame:
    """What numpy makes an array of, as a DataFrame is."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values if dtype is None else self.values.astype(dtype)


# signals


@pytest.mark.parametrize(
    "x",
    [
        X,
        X.double(),
        X.half(),
        X.bfloat16(),
        X.int(),
        X.clone().requires_grad_(),
        X.transpose(0, 2).contiguous().transpose(0, 2),
        X.to_sparse(),
        X.numpy(),
        X.numpy().astype(">f8"),
        X.numpy().astype(np.float16),
        X.numpy().astype(np.uint8),
        X.numpy().astype(np.uint64),
        X.numpy().astype(np.longdouble),
        X.flip(0).numpy()[::-1],
        X.tolist(),
        [*X],
        Frame(X),
        np.ma.masked_array(X.numpy(), mask=False),
    ],
    ids=lambda x: f"{type(x).__name__} {getattr(x, 'dtype', '')}",
)
def test_signals_of_every_kind_are_the_same_float32(x: Any) -> None:
    found = read_signals(x)
    assert torch.equal(found, X) and found.is_contiguous() and not found.requires_grad


def test_signals_are_a_copy() -> None:
    for x in (X.clone(), X.clone().numpy()):
        found = read_signals(x)
        x[:] = 99
        assert torch.equal(found, X)


def test_true_and_false_are_one_and_zero() -> None:
    assert read_signals(X > 5).tolist() == (X > 5).float().tolist()


def test_a_table_of_pandas_is_read() -> None:
    frame = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}, index=[7, 3])
    assert read_signals(frame).tolist() == [[1, 0.5], [2, 1.5]]
    assert read_labels(pandas.Series([1, 0], index=[7, 3]), None).tolist() == [1, 0]
    assert read_labels(pandas.Series(["V", "N"]), NAMES).tolist() == [2, 0]
    assert read_labels(pandas.Series(["V", "N"], dtype="category"), NAMES).tolist() == [2, 0]
    assert read_labels(pandas.Series([1, 0], dtype="Int64"), None).tolist() == [1, 0]
    assert read_labels(pandas.DataFrame({"y": [1, 0]}), None).tolist() == [1, 0]
    assert read_groups(pandas.Series(["b", "a", "b"])).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (X + 1j, "x is complex"),
        (X.numpy() + 1j, "x is complex"),
        (X.numpy().astype(object), "x holds no table of numbers (its type is object)"),
        (X.numpy().astype(str), "x holds no table of numbers"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "x holds no table of numbers"),
        ([[1.0], [1.0, 2.0]], "x holds no table of numbers"),
        ([X, X[:1]], "x holds tensors of shapes"),
        (X.to("meta"), "x holds no table of numbers"),
        (X[:, 0, 0], "x has shape (3,); expected (n, *shape)"),
        (X[:, :, :0], "x has shape (3, 1, 0)"),
        (3.0, "x has shape ()"),
        (None, "x holds no table of numbers"),
        (torch.tensor([[2**24 + 1]]), "whole numbers beyond 2**24"),
        (np.array([[2**64 - 1]], dtype=np.uint64), "expected numbers below 2**63"),
        (np.ma.masked_array(X.numpy(), mask=X.numpy() > 3), "x is a masked array"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_signals_that_are_no_real_numbers_are_refused(x: Any, reason: str) -> None:
    with pytest.raises(EcgbenchError) as refused:
        read_signals(x)
    assert reason in str(refused.value) and "\n" not in str(refused.value)


# labels


@pytest.mark.parametrize(
    "y",
    [
        [0, 2, 1],
        (0.0, 2.0, 1.0),
        np.array([0, 2, 1], dtype=np.uint8),
        np.array([0, 2, 1], dtype=object),
        np.array([[0], [2], [1]]),
        torch.tensor([0, 2, 1], dtype=torch.int16),
        torch.tensor([0.0, 2, 1]),
        [torch.tensor(0), torch.tensor(2), torch.tensor(1)],
        ["N", "V", "S"],
        np.array(["N", "V", "S"]),
        np.array(["N", "V", "S"], dtype=object),
    ],
    ids=lambda y: f"{type(y).__name__}",
)
def test_labels_are_whole_numbers_or_names(y: Any) -> None:
    found = read_labels(y, NAMES)
    assert found.tolist() == [0, 2, 1] and found.dtype == torch.int64


def test_labels_of_yes_and_no_are_one_and_zero() -> None:
    assert read_labels([True, False], None).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        ([0.9999999, 1.0], "labels are no whole numbers: 0.9999999 given at sample 0; expected"),
        ([0, 1.5], "labels are no whole numbers: 1.5 given at sample 1"),
        ([0, float("nan")], "labels are no whole numbers: nan given at sample 1"),
        ([0, float("inf")], "labels are no whole numbers: inf given at sample 1"),
        (torch.eye(3), "y has shape (3, 3); expected (n,)"),
        ([], "y has shape (0,)"),
        (1, "y has shape ()"),
        ([0, 1j], "y is complex"),
        ([0, None], "y holds no table of numbers"),
        (["N", "X"], "no class is named 'X'"),
        ([[0], [1, 2]], "y holds no table of numbers"),
    ],
)
def test_labels_that_are_none_are_refused(y: Any, reason: str) -> None:
    with pytest.raises(EcgbenchError) as refused:
        read_labels(y, NAMES)
    assert reason in str(refused.value) and "\n" not in str(refused.value)


def test_names_as_labels_need_classes() -> None:
    with pytest.raises(EcgbenchError, match="y holds names such as 'N'; expected classes="):
        read_labels(["N", "V"], None)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.floats(1e-9, 0.49), st.data())
def test_a_label_off_by_anything_is_refused_and_named(y: list[int], off: float, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(y) - 1))
    spoiled = [value + (off if at == row else 0.0) for at, value in enumerate(y)]
    if spoiled[row] != y[row]:
        with pytest.raises(EcgbenchError, match=f"at sample {row};"):
            read_labels(spoiled, None)
    assert read_labels([float(value) for value in y], None).tolist() == y


@pytest.mark.parametrize("odd", [-1, 3])
def test_a_label_that_no_class_has_is_named_with_its_sample(odd: int) -> None:
    check_labels(torch.tensor([0, 2]), 3)
    with pytest.raises(EcgbenchError, match=rf"a label lies outside 0..2: {odd} at sample 1"):
        check_labels(torch.tensor([0, odd]), 3)


# names, bounds, groups, masks


@pytest.mark.parametrize("names", [["N", "S"], ("N", "S"), np.array(["N", "S"]), pandas.Index(["N", "S"])])
def test_names_become_plain_words(names: Any) -> None:
    found = read_names(names)
    assert found == ("N", "S") and {type(name) for name in found} == {str}


@pytest.mark.parametrize("names", [[0, 1, 2], range(3), np.arange(3), torch.arange(3)])
def test_numbers_in_order_are_names_too(names: Any) -> None:
    assert read_names(names) == ("0", "1", "2")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["N", "N", "V"], "class 'N' is named twice"),
        (["1", 1], "class '1' is named twice"),
        (["N"], "one class is no classification"),
        ([], "one class is no classification"),
        ("NSV", "classes='NSV' is given"),
        ({0: "N", 1: "V"}, "is given; expected the name of each class"),
        (3, "classes=3 is given"),
        ([1, 2, 3], "are numbers other than the labels 0..2"),
        ([1, 0], "are numbers other than the labels 0..1"),
    ],
)
def test_names_that_name_nothing_are_refused(names: Any, reason: str) -> None:
    with pytest.raises(EcgbenchError) as refused:
        read_names(names)
    assert reason in str(refused.value)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30, unique=True))
def test_the_range_of_the_data_is_always_a_range_of_the_data(values: list[float]) -> None:
    data = np.array(values)[:, None]
    if np.float32(data.min()) < np.float32(data.max()):
        bounds = read_bounds((data.min(), data.max()))
        x = read_signals(data)
        assert bounds == (float(x.min()), float(x.max()))


@pytest.mark.parametrize(
    "bounds", [(1, 0), (0, 0), (0, np.nan), (-np.inf, 1), (0, None), (0, 1, 2), (0,), "01", 1, ("a", "b")]
)
def test_bounds_that_are_no_range_are_refused(bounds: Any) -> None:
    with pytest.raises(EcgbenchError, match="expected two finite numbers, the lower one first, or None"):
        read_bounds(bounds)


@pytest.mark.parametrize("bounds", [(0, 1), [0.0, 1.0], np.array([0, 1]), torch.tensor([0.0, 1.0])])
def test_bounds_of_every_kind(bounds: Any) -> None:
    assert read_bounds(bounds) == (0.0, 1.0) and read_bounds(None) is None


@pytest.mark.parametrize(
    "groups",
    [
        ["b", "a", "b"],
        [7, 3, 7],
        [7.0, 3.0, 7.0],
        [-1, -9, -1],
        torch.tensor([7, 3, 7]),
        np.array([["b"], ["a"], ["b"]]),
    ],
)
def test_groups_are_numbered_in_the_order_of_their_names(groups: Any) -> None:
    assert read_groups(groups).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (["a", None], "group holds no table of numbers"),
        ([1.5, 2], "groups are no whole numbers: 1.5 given at sample 0"),
        ([1, float("nan")], "groups are no whole numbers: nan"),
        (torch.eye(2), "group has shape (2, 2)"),
    ],
)
def test_groups_that_are_none_are_refused(groups: Any, reason: str) -> None:
    with pytest.raises(EcgbenchError) as refused:
        read_groups(groups)
    assert reason in str(refused.value)


def test_a_mask_holds_true_and_false() -> None:
    for mask in ([[True, False]], np.array([[1, 0]]), torch.tensor([[1.0, 0.0]])):
        assert read_mask(mask).tolist() == [[True, False]]
    with pytest.raises(EcgbenchError, match=r"mask holds 0\.5; expected True"):
        read_mask([[1, 0.5]])


# loaders


def test_batches_are_gathered_in_their_order() -> None:
    y, rest = torch.tensor([2, 0, 1]), torch.zeros(3)
    found = gather(DataLoader(TensorDataset(X, y, rest), batch_size=2))
    assert torch.equal(found.x, X) and found.y == [2, 0, 1]
    assert gather([(X[:2].numpy(), ["a", "b"]), (X[2:].numpy(), ("c",))]).y == ["a", "b", "c"]
    assert not shuffled(DataLoader(TensorDataset(X, y))) and shuffled(DataLoader(TensorDataset(X, y), shuffle=True))


@pytest.mark.parametrize(
    ("batches", "reason"),
    [
        ([], "x yields no batch"),
        ([X], "batch 0 of x is a Tensor; expected (x, y)"),
        ([{"x": X}], "batch 0 of x is a dict"),
        ([(X,)], "batch 0 of x is a tuple"),
        ([(X, [0, 1, 2]), (X[:, :, :2], [0, 1, 2])], "batch 1 of x has samples of shape (1, 2), others (1, 4)"),
        ([(X, [0, 1])], "batch 0 of x has signals (3, 1, 4) and 2 labels"),
        ([(X, 1)], "batch 0 of x has signals (3, 1, 4) and the label 1"),
        (TensorDataset(X[0], torch.zeros(1)), "and the label 0.0"),
    ],
)
def test_batches_that_do_not_fit_are_named(batches: Any, reason: str) -> None:
    with pytest.raises(EcgbenchError) as refused:
        gather(batches)
    assert reason in str(refused.value)


def test_tensors_are_never_shared() -> None:
    held: list[Tensor] = [X, torch.tensor([0, 1, 2])]
    found = read_labels(held[1], None)
    found[0] = 9
    assert held[1].tolist() == [0, 1, 2]
