"""What plugins are lent: copies of what the host judges on, compared with it afterwards.

An ordinary write in place is seen by torch's version counters, which cost nothing; a write round them (`.data`, an
array on the same memory) by its value. The labels of the samples to judge are out of reach while a victim answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Batch, Samples, Task
from ecgbench.core.signals import Signals
from ecgbench.core.threat import Ball, Goal
from ecgbench.core.victim import Victim
from ecgbench.evaluation.guard import blame

AS_LENT = "what it was lent to be left as it was"
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def lent(victim: Victim) -> Victim:
    """The victim with a module of its own; with the same one where it cannot be copied."""
    try:
        return Victim(deepcopy(victim.module), victim.outputs)
    except Exception:  # modules hold anything; weights are then watched by version counters alone
        return victim


@contextmanager
def unwritten(who: object, parts: Iterable[tuple[str, Tensor]]) -> Iterator[None]:
    """Run code of the plugin `who`. Raises ContractError where one of the named tensors is written into meanwhile."""
    before = [(name, tensor, tensor._version) for name, tensor in parts]
    try:
        yield
    finally:
        written = [name for name, tensor, version in before if tensor._version != version]
        if written:
            blame(who, AS_LENT, f"another {written[0]}")


def tensors(part: Task | Batch | Ball | Goal, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a task, of rows, of a ball or of a goal, by name.

    Signals that are decoded on access are none: what is read is a copy, what it is read from cannot be written.
    """
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor) and not value.is_meta:
            yield f"{name}{field.name}", value
        elif isinstance(value, Samples):
            yield from tensors(value, f"{field.name} ")


@contextmanager
def unpatched(who: object, module: Module) -> Iterator[None]:
    """Run code of the plugin `who`; a `forward` that it replaces on a class of the module is put back.

    Raises ContractError where it did.
    """
    classes = {kind for part in module.modules() for kind in type(part).__mro__}
    before = {kind: vars(kind).get("forward") for kind in classes}
    try:
        yield
    finally:
        replaced = [kind for kind in classes if vars(kind).get("forward") is not before[kind]]
        for kind in replaced:
            kept = before[kind]
            delattr(kind, "forward") if kept is None else setattr(kind, "forward", kept)
        if replaced:
            blame(who, AS_LENT, f"another forward of {replaced[0].__name__}")


@contextmanager
def unlabelled(*labels: Tensor) -> Iterator[None]:
    """Meanwhile no label can be looked up in these tensors, by no way: they hold -1."""
    kept = [y.clone().numpy() if y.device.type == "cpu" else y.clone() for y in labels]
    for y in labels:
        y.fill_(-1)
    try:
        yield
    finally:
        for y, values in zip(labels, kept, strict=True):
            y.copy_(torch.as_tensor(values))


def module_change(now: Module, before: Module) -> str | None:
    """The first difference between a module and an earlier copy of it, or a gradient left on one of its weights."""
    left = (f"a gradient left on {name}" for name, weight in now.named_parameters() if weight.grad is not None)
    return _changed(now.state_dict(), before.state_dict()) or victim_change(now, before) or next(left, None)


def victim_change(now: Module, before: Module) -> str | None:
    """The same for what no forward of an honest module changes: weights, modes and hooks, but no buffers."""
    parts, earlier = dict(now.named_modules()), dict(before.named_modules())
    if parts.keys() != earlier.keys():
        return "other parts of the module"
    return next(filter(None, (_part_change(parts[name], earlier[name], name) for name in parts)), None)


def _part_change(now: Module, before: Module, name: str) -> str | None:
    training, trained = (getattr(part, "training", False) for part in (now, before))  # a frozen module has no mode
    if training != trained:
        return f"{name or 'the module'} in {'train' if training else 'eval'} mode"
    if _hooks(now) != _hooks(before):
        return f"another hook or forward on {name or 'the module'}"
    weights = dict(now.named_parameters(name, recurse=False))
    kept = dict(before.named_parameters(name, recurse=False))
    for key, weight in weights.items():
        if key in kept and weight.requires_grad != kept[key].requires_grad:
            return f"requires_grad={weight.requires_grad} on {key}"
    return _changed(weights, kept)


def _changed(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> str | None:
    for name in {**before, **now}:
        if name not in before or name not in now or not same(now[name], before[name]):
            return f"another value of {name}"
    return None


def _hooks(part: Module) -> tuple[object, ...]:
    """How many hooks of each kind a module has, and whether its `forward` is its own.

    A scripted module puts its `forward` on itself when it is first called.
    """
    own = vars(part)
    replaced = "forward" in own and not isinstance(part, torch.jit.ScriptModule)
    return (replaced, *(len(own.get(kind, ())) for kind in HOOKS))


def batch_change(now: Batch, before: Batch) -> str | None:
    """The first difference between two batches, split or not, or a gradient left on one of their tensors."""
    for field in fields(before):
        value, earlier = getattr(now, field.name), getattr(before, field.name)
        if not isinstance(value, Tensor) or not isinstance(earlier, Tensor):
            if value is not earlier and not (field.name == "signals" and _same_signals(value, earlier)):
                return f"another {field.name}"
        elif not same(value, earlier):
            return f"another {field.name}"
        elif value.requires_grad or value.grad is not None:
            return f"a gradient asked of {field.name}"
    return None


def _same_signals(now: Signals | None, before: Signals | None) -> bool:
    """Whether both decode to the same values, compared one sample after the other."""
    if now is None or before is None or now.shape != before.shape or now.span != before.span:
        return False
    return all(same(now.read(row), before.read(row)) for row in torch.arange(now.shape[0]).split(1))


def same(one: Tensor, other: Tensor) -> bool:
    """Equal in shape, type and every byte but the sign of zero and the kind of NaN."""
    if (one.shape, one.dtype, one.is_meta) != (other.shape, other.dtype, other.is_meta):
        return False
    if one.is_meta:  # of signals that are decoded on access, compared as such
        return True
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())
