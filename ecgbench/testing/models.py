"""What every model promises."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from safetensors.torch import load
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Batch, Task
from ecgbench.core.interfaces import Model
from ecgbench.core.random import RandomStream
from ecgbench.core.victim import Victim
from ecgbench.evaluation.lending import module_change
from ecgbench.storage.arrays import pack_tensors
from ecgbench.testing.promise import Promise, examine, odd, unfit_everywhere, value
from ecgbench.testing.tasks import SHAPES, small_task
from ecgbench.testing.traces import fresh_generators

CLOSE = 1e-5  # between a row's logits in different batches, relative to logits above 1
ROWS = 8
STRIP = (1, 512)  # a rhythm, for networks that halve the time too often for a beat
RNG = RandomStream(("forward", 0))


def check_model(model: Model, task: Task | None = None, *, expected: Mapping[str, str] = MappingProxyType({})) -> None:
    """Hold a model to `MODEL_PROMISES` on `task`, or else on each small task that it can serve.

    These have samples of shape (1, 187), (1, 512), (3, 8, 8) and (48, 18). `expected` names the promises it cannot
    keep, each with the reason. Raises BrokenPromiseError (a ContractError) with the first promise broken.
    """
    offered = [small_task(shape) for shape in (*SHAPES, STRIP)] if task is None else [task]
    examine(ModelCase(model, tuple(offered)), MODEL_PROMISES, expected)


@dataclass
class ModelCase:
    """A model and the tasks it is asked about."""

    plugin: Model
    offered: tuple[Task, ...]

    @cached_property
    def tasks(self) -> list[Task]:
        """Those it can serve."""
        return [task for task in self.offered if self.plugin.unfit(task) is None]

    @cached_property
    def built(self) -> list[tuple[Task, Victim]]:
        """A victim for each of them, untrained."""
        return [(task, Victim(self.build(task).eval())) for task in self.tasks]

    def build(self, task: Task, seed: int = 0) -> Module:
        """A fresh module, as the host makes it: of a task without test samples."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.plugin.build(task.blind())


def interface(case: ModelCase) -> str | None:
    """default_dataset, unfit and build as `ecgbench.core.interfaces.Model` has them, and fit for some task."""
    fault = odd("default_dataset", case.plugin.default_dataset, str)
    return fault or unfit_everywhere([case.plugin.unfit(task) for task in case.offered])


def parameters(case: ModelCase) -> str | None:
    """A Module with float32 parameters."""
    for _, victim in case.built:
        kinds = {parameter.dtype for parameter in victim.module.parameters()}
        if kinds != {torch.float32}:
            return " and ".join(sorted(map(str, kinds))) or "none"
    return None


def steady(case: ModelCase) -> str | None:
    """weights, buffers and modes that a forward in eval mode leaves as they were."""
    for task, victim in case.built:
        before = deepcopy(victim.module)
        _ask(victim, task.test[:ROWS])
        change = module_change(victim.module, before)
        if change:
            return change
    return None


def logits(case: ModelCase) -> str | None:
    """Finite float32 logits of shape (n, classes), no probabilities, for one row as for many."""
    for task, victim in case.built:
        for rows in (ROWS, 1):
            got = _ask(victim, task.test[:rows])
            if got.shape != (rows, len(task.classes)) or got.dtype != torch.float32:
                return f"{tuple(got.shape)} {got.dtype} for {rows} rows and {len(task.classes)} classes"
            if not bool(got.isfinite().all()):
                return "NaN or infinity"
            if bool((got >= 0).all()) and bool(((got.sum(1) - 1).abs() <= CLOSE).all()):
                return "probabilities: leave out the softmax at the end"
    return None


def deterministic(case: ModelCase) -> str | None:
    """The same logits at every forward in eval mode (of the same `rng`, if it takes one)."""
    for task, victim in case.built:
        rows = task.test[:ROWS]
        with fresh_generators(salt=1):
            once = _ask(victim, rows)
        with fresh_generators(salt=2):
            again = _ask(victim, rows)
        if not torch.equal(once, again):
            return f"a difference of {float((once - again).abs().amax()):.2g}"
    return None


def rowwise(case: ModelCase) -> str | None:
    """Logits of a row that do not depend on the rows beside it."""
    for task, victim in case.built:
        rows = task.test[:ROWS]
        single = torch.cat([_ask(victim, rows[row : row + 1]) for row in range(ROWS)])
        together = _ask(victim, rows)
        gap = ((single - together).abs() / together.abs().clamp_min(1.0)).amax()
        if float(gap) > CLOSE:
            return f"a difference of {float(gap):.2g}"
    return None


def gradient(case: ModelCase) -> str | None:
    """A gradient with respect to x, finite and not 0 throughout, for every row."""
    for task, victim in case.built:
        batch = task.test[:ROWS]
        x = batch.x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(victim.logits(x, batch, RNG)[:, -1].sum(), x)
        if not bool(grad.isfinite().all()):
            return "NaN or infinity"
        if not bool(grad.flatten(1).any(1).all()):
            return "0 throughout"
    return None


def seeded(case: ModelCase) -> str | None:
    """Initial weights that the seed of torch's generator fixes."""
    for task in case.tasks:
        with fresh_generators(salt=1):
            once = case.build(task, seed=1)
        with fresh_generators(salt=2):
            again = case.build(task, seed=1)
        change = module_change(again, once)
        if change:
            return change
    return None


def generators(case: ModelCase) -> str | None:
    """Random draws from torch's generator only, and only in build and in train mode."""
    for task in case.tasks:
        with fresh_generators() as moved:
            module = case.build(task)
            _ask(Victim(module.eval()), task.test[:ROWS])
            trace = moved()
        if trace:
            return trace
    return None


def restorable(case: ModelCase) -> str | None:
    """Equal logits from a second module that was given the first one's state_dict."""
    for task, victim in case.built:
        other = case.build(task, seed=1)
        other.load_state_dict(load(pack_tensors(victim.module.state_dict())))
        if not torch.equal(_ask(Victim(other.eval()), task.test[:ROWS]), _ask(victim, task.test[:ROWS])):
            return "others"
    return None


def _ask(victim: Victim, batch: Batch) -> Tensor:
    with torch.no_grad():
        return victim.logits(batch.x, batch, RNG)


MODEL_PROMISES: tuple[Promise[ModelCase], ...] = tuple(
    Promise(check)
    for check in (
        value,
        interface,
        parameters,
        steady,
        logits,
        deterministic,
        rowwise,
        gradient,
        seeded,
        generators,
        restorable,
    )
)
