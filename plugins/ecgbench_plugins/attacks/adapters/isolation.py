"""Room for library code: seeded generators to draw from, and nothing left behind."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy as np
import torch
from torch.nn import Module

from ecgbench import ContractError, RandomStream


@contextmanager
def isolated(module: Module) -> Iterator[None]:
    """Run library code that leaves no trace: weights cannot gather gradients, modes and generators come back.

    What it prints or warns of is dropped. Raises ContractError where a weight or a buffer has changed.
    """
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [(part, part.training) for part in module.modules()]
    flags = [(weight, weight.requires_grad, weight.grad) for weight in module.parameters()]
    module.requires_grad_(False)
    states = np.random.get_state(), random.getstate()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
        for part, mode in modes:
            part.training = mode
        for weight, asked, gradient in flags:
            weight.requires_grad_(asked)
            weight.grad = gradient
    for name, value in module.state_dict().items():
        if not torch.equal(value, kept[name]):
            raise ContractError("an attack of another library", "weights and buffers as they were", f"another {name}")


def seed_generators(rng: RandomStream) -> None:
    """Set the global generators of torch, NumPy and Python, all that a library may draw from."""
    torch.manual_seed(rng.seed)
    np.random.seed(rng.seed % 2**32)
    random.seed(rng.seed)
