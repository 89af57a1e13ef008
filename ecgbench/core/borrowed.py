"""A model that somebody has, as a module that attacks can ask, and left as it was: modules, functions, classifiers."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module, ModuleList
from torch.nn.parameter import is_lazy

from ecgbench.core.ambient import default_dtype
from ecgbench.core.data import Batch
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.fingerprint import fingerprint
from ecgbench.core.outputs import Outputs
from ecgbench.core.random import RandomStream
from ecgbench.core.victim import Victim

LEAST = 1e-30  # a probability below counts as this one: its logarithm is finite
READINGS = ("decision_function", "predict_proba")
ASKED = 3  # rows of a trial question
KINDS = (torch.float64, torch.bfloat16, torch.float16)


class Borrowed(Module):
    """`ask` as a module: x float32 on the victim's device -> whatever `ask` returns.

    This is the one place where x is cast: to `kind`, the type of the model's weights. `ask` gets a copy of x, and the
    default type of new tensors is `default` meanwhile, that of the caller. Once `blind`, no gradient is asked for.
    """

    def __init__(self, ask: Callable[..., Any], called: str, parts: list[Module], default: torch.dtype) -> None:
        super().__init__()
        self.ask, self.called, self.default = ask, called, default
        self.parts = ModuleList(parts)
        self.kind = _kind(parts)
        self.takes_mask = bool(getattr(ask, "takes_mask", False))
        self.takes_rng = bool(getattr(ask, "takes_rng", False))
        self.blind = False
        self.notes: list[str] = []
        if self.kind != torch.float32:
            self.notes.append(f"the module computes in {self.kind}: x is cast to it, its logits to float32")

    @property
    def labels(self) -> OwnLabels | None:
        """The labels of a classifier that has some of its own."""
        known = getattr(self.ask.estimator, "classes_", None) if isinstance(self.ask, Scores) else None
        return None if known is None or np.ndim(known) != 1 else OwnLabels(list(np.asarray(known).tolist()))

    def forward(self, x: Tensor, *mask: Tensor, **draws: Any) -> Any:
        x = (x.detach() if self.blind else x).clone().to(self.kind)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.blind), default_dtype(self.default):
            return self.ask(x, *mask, **draws)


@dataclass(frozen=True)
class OwnLabels:
    """What a classifier calls its classes, in the order of its scores."""

    known: list[Any]

    def places(self, y: Any) -> np.ndarray:
        """The place of each label of `y` (n,) among those known. Raises EcgbenchError for one that is not."""
        listed = y.tolist() if hasattr(y, "tolist") else list(y)
        place = {label: number for number, label in enumerate(self.known)}
        try:
            odd = next(((row, label) for row, label in enumerate(listed) if label not in place), None)
        except TypeError:
            raise EcgbenchError("y is no row of labels; expected (n,), one label of each sample.") from None
        if odd is not None:
            row, label = odd
            raise EcgbenchError(f"y holds {label!r} at sample {row}; the classifier knows {self.known}.")
        return np.array([place[label] for label in listed], dtype=np.int64)

    def names(self, given: tuple[str, ...] | None) -> tuple[str, ...]:
        """Names of the classes: those given, else its own. Raises EcgbenchError for another number of them."""
        names = given or tuple(map(str, self.known))
        if len(names) != len(self.known):
            raise EcgbenchError(f"classes {list(names)} are given; the classifier knows {self.known}.")
        return names


@contextmanager
def borrowed(given: Any, device: torch.device | None, default: torch.dtype) -> Iterator[Borrowed]:
    """`given` in eval mode, weights without gradients, on `device` (where it is, for None); then as it was.

    A module is copied only where it must move. Raises EcgbenchError for what is no model, or cannot be moved.
    """
    called = str(getattr(given, "__name__", type(given).__name__))
    if isinstance(given, type) or not (callable(given) or _is_estimator(given)):
        raise EcgbenchError(f"the model is {_shown(given)}; expected a module, a function, or a fitted classifier.")
    if isinstance(given, Module):
        given = _settled(given, device)
    parts = [given] if isinstance(given, Module) else _modules_behind(given)
    restore = _kept(parts)
    try:
        if isinstance(given, Module):
            given.eval()
        for part in parts:
            for weight in part.parameters():
                weight.requires_grad_(False)
        ask = Scores(given) if _is_estimator(given) else given
        yield Borrowed(ask, called, parts, default)
    finally:
        restore()


def try_out(module: Borrowed, batch: Batch, outputs: Outputs) -> int:
    """Ask about a few samples, one sample, and a gradient; the number of logits.

    A model whose backward fails, or that cannot be asked while a gradient may follow, is `blind` from then on. Raises
    EcgbenchError where it cannot be asked at all, ContractError where it returns no logits of `outputs`.
    """
    rng, victim = RandomStream(("trial question",)), Victim(module, outputs)
    few = batch[:ASKED].to(victim.device)
    ask: Callable[[Batch], Tensor] = lambda rows: victim.logits(rows.x, rows, rng)  # noqa: E731
    try:
        if isinstance(module.ask, Scores):
            module.ask.settle(batch.x)
        with torch.no_grad():
            logits = ask(few)
            ask(few[:1])
    except EcgbenchError:
        raise
    except Exception as fault:
        shape = f"{tuple(few.x.shape)} {module.kind}"
        raise EcgbenchError(f"{module.called} cannot be asked about x of shape {shape}: {one_line(fault)}") from fault
    reason = _no_gradient(victim, few, rng)
    if reason is not None:
        module.blind = True
        module.notes.append(f"no gradient reaches the signal ({reason}): attacks that need one find nothing by it")
    if isinstance(module.ask, Scores):
        way = "logarithms of predict_proba" if module.ask.reading == "predict_proba" else module.ask.reading
        module.notes.append(f"its {way} serve as logits")
    if logits.shape[1] == 2 and not bool(logits[:, 0].any()):
        module.notes.append("one logit z a sample, read as (0, z)")
        return 1
    return logits.shape[1]


def _no_gradient(victim: Victim, few: Batch, rng: RandomStream) -> str | None:
    """Why no gradient of the logits reaches the signal; None where one does."""
    x = few.x.clone().requires_grad_()
    try:
        logits = victim.logits(x, few, rng)
        if not logits.requires_grad:
            return "its logits are detached from it"
        found = torch.autograd.grad(logits.sum(), x, allow_unused=True)[0]
        return "its logits are detached from it" if found is None else None
    except Exception as fault:  # autograd, or a model that reads x as an array
        return one_line(fault).rstrip(".")


def identity_of(module: Borrowed, batch: Batch, outputs: Outputs) -> str:
    """A digest of the weights; of what is no module, of its answers to a few samples, too."""
    weights = hashlib.sha256(fingerprint(module.parts).encode())
    if not isinstance(module.ask, Module) or isinstance(module.ask, Scores):
        victim = Victim(module, outputs)
        few = batch[:ASKED].to(victim.device)
        with torch.no_grad():
            weights.update(victim.logits(few.x, few, RandomStream(("trial question",))).cpu().numpy().tobytes())
    return weights.hexdigest()


def one_line(fault: BaseException) -> str:
    """What went wrong, in one line."""
    text = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {text if len(text) <= 300 else text[:297] + '...'}"


class Scores(Module):
    """A classifier of scikit-learn's kind: x (n, *shape), flattened, -> its decision function, or log-probabilities.

    Whichever agrees with `predict` first.
    """

    def __init__(self, estimator: Any) -> None:
        super().__init__()
        self.estimator = estimator
        self.reading = next((name for name in READINGS if hasattr(estimator, name)), READINGS[-1])

    def forward(self, x: Tensor) -> np.ndarray:
        return self.scores(self.reading, x)

    def scores(self, reading: str, x: Tensor) -> np.ndarray:
        """What `decision_function` or the logarithm of `predict_proba` gives for `x`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names of features, at every call
            found = getattr(self.estimator, reading)(_rows(x))
        return np.log(np.clip(found, LEAST, None)) if reading == "predict_proba" else np.asarray(found)

    def settle(self, x: Tensor) -> None:
        """Choose how it is read. Raises EcgbenchError where neither way agrees with `predict` on `x`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            predicted = np.asarray(self.estimator.predict(_rows(x)))
        labels = np.asarray(self.estimator.classes_)
        for reading in (name for name in READINGS if hasattr(self.estimator, name)):
            scores = self.scores(reading, x)
            best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
            if scores.shape[1:] in ((), (len(labels),)) and np.array_equal(labels[best], predicted):
                self.reading = reading
                return
        name = type(self.estimator).__name__
        raise EcgbenchError(f"predict of {name} disagrees with its scores; expected a classifier that follows them.")


def _rows(x: Tensor) -> np.ndarray:
    return np.asarray(x.detach().cpu().double().flatten(1).numpy())


def _is_estimator(given: Any) -> bool:
    return not isinstance(given, Module | type) and any(hasattr(given, name) for name in READINGS)


def _shown(given: Any) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else f"of type {type(given).__name__}"


def _kind(parts: list[Module]) -> torch.dtype:
    """The type that the first weight computes in."""
    tensors = (tensor for part in parts for tensor in (*part.parameters(), *part.buffers()))
    first = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    return first if first in KINDS else torch.float32


def _settled(module: Module, device: torch.device | None) -> Module:
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


def _kept(modules: list[Module]) -> Callable[[], None]:
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
