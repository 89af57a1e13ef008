"""What a plugin may leave behind nowhere: in the global generators."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


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
