"""The code of the host that makes numbers, as it was before plugins were at work: a replaced method is found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from ecgbench.registry.sources import HOST, LAYERS

CODE = (FunctionType, type, property, staticmethod, classmethod)
PACKAGES = tuple(f"{HOST}.{layer}." for layer in LAYERS)


@dataclass(frozen=True)
class HostCode:
    """Functions, classes and methods of the host by their places, each with its code."""

    found: tuple[tuple[Any, str, Any, Any], ...]

    @classmethod
    def now(cls) -> HostCode:
        """What is loaded now."""
        return cls(tuple((owner, name, value, _code(value)) for owner, name, value in _all()))

    def put_back(self) -> list[str]:
        """The names of what is other code now; all is afterwards as it was."""
        changed = []
        for owner, name, value, code in self.found:
            if vars(owner).get(name) is not value:
                setattr(owner, name, value)
                changed.append(f"{owner.__name__}.{name}")
            if _code(value) is not code:
                value.__code__ = code
                changed.append(f"{owner.__name__}.{name}")
        return changed


def _all() -> Iterator[tuple[Any, str, Any]]:
    for module in [each for name, each in sys.modules.items() if name.startswith(PACKAGES)]:
        if isinstance(module, ModuleType):
            for name, value in list(vars(module).items()):
                if isinstance(value, CODE):
                    yield module, name, value
                if isinstance(value, type) and value.__module__ == module.__name__:
                    yield from ((value, part, of) for part, of in list(vars(value).items()) if isinstance(of, CODE))


def _code(value: Any) -> Any:
    return value.__code__ if isinstance(value, FunctionType) else None
