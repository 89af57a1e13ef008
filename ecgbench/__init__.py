"""ecgbench: how robust is this ECG classifier really?

`ecgbench.run(...)` gives the records of a suite, `ecgbench.evaluate(...)` judges a model you have,
`ecgbench.load_victim(...)` loads a published one. They load torch when they are first touched, so that the command
line starts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecgbench.api import evaluate, run
    from ecgbench.hookspecs import hookimpl
    from ecgbench.zoo import load_victim

__all__ = ["evaluate", "hookimpl", "load_victim", "run"]


def __getattr__(name: str) -> Any:
    if name in ("evaluate", "run"):
        from ecgbench import api

        return getattr(api, name)
    if name == "load_victim":
        from ecgbench.zoo import load_victim

        return load_victim
    if name == "hookimpl":
        from ecgbench.hookspecs import hookimpl

        return hookimpl
    raise AttributeError(f"module 'ecgbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
