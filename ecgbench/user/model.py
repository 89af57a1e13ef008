"""A model that somebody has, as a module that attacks can ask, and left as it was: modules, functions, classifiers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module, ModuleList
from torch.nn.parameter import is_lazy

from ecgbench.core.ambient import default_dtype
from ecgbench.core.errors import EcgbenchError
from ecgbench.user.estimator import ClassifierLabels, ScoresAsLogits, is_estimator
from ecgbench.user.restoring import kept

DTYPES = (torch.float64, torch.bfloat16, torch.float16)


class UserModel(Module):
    """`ask` as a module: x float32 on the victim's device -> whatever `ask` returns.

    This is the one place where x is cast: to `dtype`, the type of the model's weights. `ask` gets a copy of x, and the
    default type of new tensors is `default` meanwhile, that of the caller. Once `blind`, no gradient is asked for.
    """

    def __init__(self, ask: Callable[..., Any], called: str, parts: list[Module], default: torch.dtype) -> None:
        super().__init__()
        self.ask, self.called, self.default = ask, called, default
        self.parts = ModuleList(parts)
        self.dtype = _dtype(parts)
        self.takes_mask = bool(getattr(ask, "takes_mask", False))
        self.takes_rng = bool(getattr(ask, "takes_rng", False))
        self.blind = False
        self.notes: list[str] = []
        if self.dtype != torch.float32:
            self.notes.append(f"the module computes in {self.dtype}: x is cast to it, its logits to float32")

    @property
    def labels(self) -> ClassifierLabels | None:
        """The labels of a classifier that has some of its own."""
        known = getattr(self.ask.estimator, "classes_", None) if isinstance(self.ask, ScoresAsLogits) else None
        return None if known is None or np.ndim(known) != 1 else ClassifierLabels(list(np.asarray(known).tolist()))

    def forward(self, x: Tensor, *mask: Tensor, **draws: Any) -> Any:
        x = (x.detach() if self.blind else x).clone().to(self.dtype)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.blind), default_dtype(self.default):
            return self.ask(x, *mask, **draws)


@contextmanager
def opened(given: Any, device: torch.device | None, default: torch.dtype) -> Iterator[UserModel]:
    """`given` in eval mode, weights without gradients, on `device` (where it is, for None); then as it was.

    A module is copied only where it must move. Raises EcgbenchError for what is no model, or cannot be moved.
    """
    called = str(getattr(given, "__name__", type(given).__name__))
    if isinstance(given, type) or not (callable(given) or is_estimator(given)):
        raise EcgbenchError(f"the model is {_shown(given)}; expected a module, a function, or a fitted classifier.")
    if isinstance(given, Module):
        given = _prepared(given, device)
    parts = [given] if isinstance(given, Module) else _modules_behind(given)
    restore = kept(parts)
    try:
        if isinstance(given, Module):
            given.eval()
        for part in parts:
            for weight in part.parameters():
                weight.requires_grad_(False)
        ask = ScoresAsLogits(given) if is_estimator(given) else given
        yield UserModel(ask, called, parts, default)
    finally:
        restore()


def one_line(fault: BaseException) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {text if len(text) <= 300 else text[:297] + '...'}"


def _shown(given: Any) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else f"of type {type(given).__name__}"


def _dtype(parts: list[Module]) -> torch.dtype:
    """The type that the first weight computes in."""
    tensors = (tensor for part in parts for tensor in (*part.parameters(), *part.buffers()))
    first = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    return first if first in DTYPES else torch.float32


def _prepared(module: Module, device: torch.device | None) -> Module:
    """`module` where it shall be: itself, or a copy that is moved or has weights of an ordinary kind."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise EcgbenchError(f"{type(module).__name__} has weights that were never set; expected one that was called.")
    moves = device is not None and any(tensor.device != _indexed(device) for tensor in tensors)
    if not moves and not any(tensor.is_inference() for tensor in tensors):
        return module
    try:
        copied = deepcopy(module)
        return copied if device is None else copied.to(device)
    except Exception as fault:
        raise EcgbenchError(
            f"{type(module).__name__} cannot be copied to {device or 'be asked'}: {one_line(fault)}"
        ) from fault


def _indexed(device: torch.device) -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def _modules_behind(given: Any) -> list[Module]:
    """The modules that a function or an object with a call of its own holds, one step away."""
    if isinstance(given, partial):
        values = [given.func, *given.args, *given.keywords.values()]
        behind = [part for value in values if not isinstance(value, Module) for part in _modules_behind(value)]
        return [*(value for value in values if isinstance(value, Module)), *behind]
    if inspect.ismethod(given):
        held = [given.__self__]
    elif inspect.isfunction(given):
        names = inspect.getclosurevars(given)
        held = [*names.nonlocals.values(), *names.globals.values()]
    else:
        held = list(getattr(given, "__dict__", {}).values())
    return [value for value in held if isinstance(value, Module)]
