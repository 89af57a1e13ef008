"""Two modules have one fingerprint exactly where all that they hold is the same."""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Linear, Module, Sequential

from ecgbench.core.fingerprint import fingerprint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    SPARSE = torch.eye(3).to_sparse_csr()
    QUANTISED = torch.ao.quantization.quantize_dynamic(Sequential(Linear(4, 3)), {Linear})


class Holding(Module):
    def __init__(self, state: Any = None, persistent: bool = True, **buffers: Tensor) -> None:
        super().__init__()
        self.state = state
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=persistent)

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        self.state = state


ODD: list[Module] = [
    Linear(3, 2),
    Linear(3, 2).to(torch.bfloat16),
    BatchNorm1d(3),
    Holding(a=torch.tensor([torch.nan, 1.0])),
    Holding(a=torch.eye(3).to_sparse()),
    Holding(a=torch.eye(3) + 1j),
    Holding(a=torch.tensor(True)),
    Holding({"mean": 0.5, "of": [np.arange(3), None, "x"], "odd": object()}),
    Holding(a=torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)),
    Holding(a=torch.quantize_per_channel(torch.eye(3), torch.ones(3), torch.zeros(3), 0, torch.qint8)),
    QUANTISED,
]


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")  # copying quantised tensors
@pytest.mark.parametrize("module", ODD, ids=lambda module: type(module).__name__)
def test_the_same_twice_and_in_a_copy(module: Module) -> None:
    assert fingerprint(module) == fingerprint(module) == fingerprint(deepcopy(module))


def test_a_tensor_that_cannot_be_copied_has_one_too() -> None:
    assert fingerprint(Holding(a=SPARSE)) == fingerprint(Holding(a=SPARSE)) != fingerprint(Holding(a=2 * SPARSE))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Holding(a=torch.tensor([1.0, 2.0])), Holding(a=torch.tensor([2.0, 1.0]))),
        (Holding(a=torch.zeros(2)), Holding(b=torch.zeros(2))),
        (Holding(a=torch.zeros(2)), Holding(a=torch.zeros(1, 2))),
        (Holding(a=torch.zeros(2)), Holding(a=torch.zeros(2, dtype=torch.int32))),
        (Holding(persistent=False, a=torch.zeros(2)), Holding(persistent=False, a=torch.ones(2))),
        (Holding(a=torch.eye(3).to_sparse()), Holding(a=torch.eye(3).flip(0).to_sparse())),
        (Holding({"mean": 0.5}), Holding({"mean": 0.25})),
        (Holding(["ab", "c"]), Holding(["a", "bc"])),
        (Holding([1, [2]]), Holding([1, 2])),
        (Holding(a=torch.zeros(2)), Holding(a=torch.full((2,), torch.nan))),
        (
            Holding(a=torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)),
            Holding(a=torch.quantize_per_tensor(torch.zeros(3), 0.2, 0, torch.qint8)),
        ),
    ],
)
def test_another_value_name_shape_or_type_is_another_fingerprint(one: Module, other: Module) -> None:
    assert fingerprint(one) != fingerprint(other)
