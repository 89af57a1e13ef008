"""What a plugin may leave behind nowhere: in the global generators, in a module, in signals."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.data import Batch


@contextmanager
def fresh_generators(salt: int = 0) -> Iterator[Callable[[], str | None]]:
    """Global generators in a state that no seeding alone gives; yields a function that names those moved since.

    Afterwards they are as they were. Another `salt` is another state.
    """
    before = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    torch.manual_seed(20_250 + salt)
    np.random.seed(20_250 + salt)
    random.seed(20_250 + salt)
    torch.rand(3), np.random.random(3), random.random()
    start = _states()
    try:
        yield lambda: _moved(start)
    finally:
        torch.random.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


def _states() -> dict[str, object]:
    _, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.random.get_rng_state().numpy().tobytes(),
        "numpy": (np.asarray(keys).tobytes(), *rest),
        "python": random.getstate(),
    }


def _moved(start: dict[str, object]) -> str | None:
    now = _states()
    names = [name for name in start if now[name] != start[name]]
    return f"the global generator of {' and of '.join(names)} in another state" if names else None


def module_change(now: Module, before: Module) -> str | None:
    """The first difference between a module and an earlier copy of it, in weights, flags or gradients."""
    kept = before.state_dict()
    for name, value in now.state_dict().items():
        if name not in kept or not same(value, kept[name]):
            return f"another value of {name}"
    for (name, part), earlier in zip(now.named_modules(), before.modules(), strict=True):
        if part.training != earlier.training:
            return f"{name or 'the module'} in {'train' if part.training else 'eval'} mode"
    for (name, parameter), earlier_one in zip(now.named_parameters(), before.parameters(), strict=True):
        if parameter.requires_grad != earlier_one.requires_grad:
            return f"requires_grad={parameter.requires_grad} on {name}"
        if parameter.grad is not None:
            return f"a gradient left on {name}"
    return None


def batch_change(now: Batch, before: Batch) -> str | None:
    """The first difference between two batches, split or not, or a gradient left on one of their tensors."""
    for field in fields(before):
        value, earlier = getattr(now, field.name), getattr(before, field.name)
        if value is None or earlier is None:
            if value is not earlier:
                return f"another {field.name}"
        elif not same(value, earlier):
            return f"another {field.name}"
        elif value.requires_grad or value.grad is not None:
            return f"a gradient asked of {field.name}"
    return None


def same(one: Tensor, other: Tensor) -> bool:
    """Equal in shape, type and every byte but the sign of zero and the kind of NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())
