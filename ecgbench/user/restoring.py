"""Modules as they were: modes, attributes, weights and buffers are put back after somebody else's work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module


@dataclass(frozen=True)
class _Tensor:
    """A weight or buffer, and what it was."""

    now: Tensor
    value: Tensor
    asks: bool
    grad: Tensor | None

    def restore(self) -> None:
        if _differs(self.now, self.value):
            with torch.no_grad():
                self.now.copy_(self.value)
        if self.now.is_leaf:
            self.now.requires_grad_(self.asks)
        self.now.grad = self.grad


def _differs(one: Tensor, other: Tensor) -> bool:
    if one.layout != torch.strided or one.is_quantized:
        return False
    return not torch.equal(*(value.detach().contiguous().reshape(-1).view(torch.uint8) for value in (one, other)))


def kept(modules: list[Module]) -> Callable[[], None]:
    """Remember modes, attributes, weights and buffers of every part; gives the call that puts them back."""
    parts = list(dict.fromkeys(part for module in modules for part in module.modules()))
    modes = [(part, getattr(part, "training", None)) for part in parts]
    attributes = [(vars(part), _shallow(vars(part))) for part in parts if not isinstance(part, torch.jit.ScriptModule)]
    tensors = {id(t): t for module in modules for t in (*module.parameters(), *module.buffers())}.values()
    kept = [_Tensor(t, t.detach().clone(), t.requires_grad, t.grad if t.is_leaf else None) for t in tensors]

    def restore() -> None:
        for now, before in attributes:
            _put_back(now, before)
        for tensor in kept:
            tensor.restore()
        for part, mode in modes:
            if mode is not None and part.training != mode:
                part.training = mode

    return restore


def _shallow(attributes: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Every attribute, and of a dict, list or set its contents."""
    holds = (dict, list, set)
    return {name: (value, value.copy() if isinstance(value, holds) else None) for name, value in attributes.items()}


def _put_back(now: dict[str, Any], before: dict[str, tuple[Any, Any]]) -> None:
    for name in [name for name in now if name not in before]:
        del now[name]
    for name, (value, contents) in before.items():
        now[name] = value
        if isinstance(value, list):
            value[:] = contents
        elif contents is not None:
            value.clear()
            value.update(contents)
