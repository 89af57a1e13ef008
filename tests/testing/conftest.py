"""How a mutant is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ecgbench.testing import BrokenPromiseError


@pytest.fixture
def refused() -> Callable[[Callable[..., None], object], str]:
    """A function that gives the name of the promise by which a check refuses a plugin."""

    def promise(check: Callable[..., None], plugin: object) -> str:
        with pytest.raises(BrokenPromiseError) as fault:
            check(plugin)
        return fault.value.promise

    return promise
