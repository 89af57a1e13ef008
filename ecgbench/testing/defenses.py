"""What every defense promises, asked of it in trainings on a small task."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType, NoneType

import torch
from safetensors.torch import load
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Task
from ecgbench.core.interfaces import Defense, Model
from ecgbench.core.progress import Checkpoint, Epoch, Progress, State
from ecgbench.core.random import stream
from ecgbench.core.victim import Victim
from ecgbench.evaluation.lending import batch_change, same
from ecgbench.storage.arrays import pack_tensors
from ecgbench.testing.datasets import PARTS
from ecgbench.testing.promise import Promise, examine, odd, value
from ecgbench.testing.tasks import SmallModel, small_task
from ecgbench.testing.traces import fresh_generators

ROWS = 8
RNG = stream("train", 0)


def check_defense(
    defense: Defense,
    model: Model | None = None,
    task: Task | None = None,
    *,
    expected: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Hold a defense to `DEFENSE_PROMISES`, training `model` on `task`, by default small ones.

    It is trained about seven times: give a value with few epochs. `expected` names the promises it cannot keep,
    each with the reason. Raises BrokenPromiseError (a ContractError) with the first promise broken.
    """
    examine(DefenseCase(defense, model or SmallModel(), task or small_task()), DEFENSE_PROMISES, expected)


class Killed(BaseException):
    """Stands for a job that is killed; no plugin catches it by mistake."""


class MemoryCheckpoint(Checkpoint):
    """Keeps in memory what a store keeps on disk; after `limit` states the job is killed."""

    def __init__(self, pages: dict[str, State] | None = None, limit: int | None = None) -> None:
        self.told: list[Progress] = []
        super().__init__(self.told.append)
        self.pages: dict[str, State] = {} if pages is None else pages
        self.limit, self.name = limit, ""
        self.keeps: list[str] = []

    def save(self, state: State) -> None:
        self.pages[self.name] = {name: tensor.detach().clone() for name, tensor in state.items()}
        self.keeps.append(self.name)
        if len(self.keeps) == self.limit:
            raise Killed

    def load(self) -> State | None:
        page = self.pages.get(self.name)
        return None if page is None else {name: tensor.clone() for name, tensor in page.items()}

    def part(self, name: str) -> Checkpoint:
        part = copy(self)
        part.name = f"{self.name}/{name}"
        return part


@dataclass(frozen=True)
class Fit:
    """A training: the weights it began with, the module it gave, its checkpoint, and the task it was given."""

    begun: State
    module: Module
    checkpoint: MemoryCheckpoint
    task: Task
    trace: str | None


@dataclass
class DefenseCase:
    """A defense, and what it is tried on; the first training is done once."""

    plugin: Defense
    model: Model
    task: Task
    bases: dict[str, State] = field(default_factory=dict)

    @cached_property
    def fitted(self) -> Fit:
        """One undisturbed training."""
        return self.fit()

    def fit(self, checkpoint: MemoryCheckpoint | None = None, salt: int = 0) -> Fit:
        """Train as the host does, on a copy of the task; `salt` sets the global generators."""
        module, task, checkpoint = self.begun(self.plugin), _copied(self.blind), checkpoint or MemoryCheckpoint()
        state = deepcopy(module.state_dict())
        with fresh_generators(salt) as moved:
            trained = self.plugin.fit(module, task, RNG, checkpoint)
            return Fit(state, trained, checkpoint, task, moved())

    def begun(self, defense: Defense) -> Module:
        """The module that `defense` is given: its base's weights, trained once, or fresh ones."""
        module = self.blank(defense)
        if defense.base is None:
            return module
        name = repr(defense.base)
        if name not in self.bases:
            fitted = defense.base.fit(self.begun(defense.base), _copied(self.blind), RNG, MemoryCheckpoint())
            self.bases[name] = fitted.state_dict()
        base = self.blank(defense.base)
        base.load_state_dict(self.bases[name])
        return defense.wrap(base, self.blind)

    def blank(self, defense: Defense) -> Module:
        """The architecture, freshly initialised."""
        if defense.base is not None:
            return defense.wrap(self.blank(defense.base), self.task)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return defense.wrap(self.model.build(self.blind), self.blind)

    @property
    def blind(self) -> Task:
        """The task as the host hands it out: without test samples."""
        return self.task.blind()


def interface(case: DefenseCase) -> str | None:
    """base, wrap and fit as `ecgbench.core.interfaces.Defense` has them."""
    fault = odd("base", case.plugin.base, NoneType, Defense)
    return fault or odd("wrap(...) =", case.begun(case.plugin), Module)


def trains(case: DefenseCase) -> str | None:
    """Other weights than it was given."""
    fit = case.fitted
    return "the same" if _difference(fit.module.state_dict(), fit.begun) is None else None


def answers(case: DefenseCase) -> str | None:
    """A module in eval mode in all its parts, with finite float32 logits of shape (n, classes)."""
    module = case.fitted.module
    for name, part in module.named_modules():
        if part.training:
            return f"{name or 'the module'} in train mode"
    got = _logits(module, case.task)
    if got.shape != (ROWS, len(case.task.classes)) or got.dtype != torch.float32:
        return f"{tuple(got.shape)} {got.dtype} for {ROWS} rows and {len(case.task.classes)} classes"
    return None if bool(got.isfinite().all()) else "NaN or infinity"


def untouched(case: DefenseCase) -> str | None:
    """The task's tensors left as they were."""
    for part in PARTS:
        change = batch_change(getattr(case.fitted.task, part), getattr(case.blind, part))
        if change:
            return f"{change} in {part}"
    return None


def generators(case: DefenseCase) -> str | None:
    """The global generators of torch, numpy and python left as they were."""
    return case.fitted.trace


def repeatable(case: DefenseCase) -> str | None:
    """The same weights from the same `rng`, whatever the state of the global generators."""
    return _difference(case.fit(salt=1).module.state_dict(), case.fitted.module.state_dict())


def told(case: DefenseCase) -> str | None:
    """Every epoch told to the checkpoint, from number 1 to no more than announced."""
    epochs = [each for each in case.fitted.checkpoint.told if isinstance(each, Epoch)]
    if not epochs:
        return "none"
    numbers = [epoch.number for epoch in epochs]
    steps = all(after in (before + 1, 1) for before, after in zip([0, *numbers], numbers, strict=False))
    if not steps or any(epoch.number > epoch.of for epoch in epochs):
        return f"the numbers {numbers} of {epochs[0].of}"
    return None


def resumable(case: DefenseCase) -> str | None:
    """The same weights after being killed and going on from what the checkpoint kept, without starting over."""
    whole = len(case.fitted.checkpoint.keeps)
    if not whole:
        return "nothing kept"
    for limit in sorted({1, max(1, whole - 1)}):
        pages: dict[str, State] = {}
        with suppress(Killed):
            case.fit(MemoryCheckpoint(pages, limit), salt=1)
        rest = case.fit(MemoryCheckpoint(pages), salt=2)
        if len(rest.checkpoint.keeps) >= whole:
            return f"all {whole} states kept anew after being killed at number {limit}"
        change = _difference(rest.module.state_dict(), case.fitted.module.state_dict())
        if change:
            return f"{change} after being killed at state {limit} of {whole}"
    return None


def rebuildable(case: DefenseCase) -> str | None:
    """Equal logits from wrap(build(task)) that was given the trained state_dict."""
    rebuilt = case.blank(case.plugin)
    rebuilt.load_state_dict(load(pack_tensors(case.fitted.module.state_dict())))
    return None if torch.equal(_logits(rebuilt.eval(), case.task), _logits(case.fitted.module, case.task)) else "others"


def _copied(task: Task) -> Task:
    rows = torch.arange
    return replace(task, **{part: getattr(task, part)[rows(len(getattr(task, part)))] for part in PARTS})


def _difference(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> str | None:
    for name in sorted({*now, *before}):
        if name not in now or name not in before or not same(now[name], before[name]):
            return f"another value of {name}"
    return None


def _logits(module: Module, task: Task) -> Tensor:
    batch = task.test[:ROWS]
    with torch.no_grad():
        return Victim(module).logits(batch.x, batch, RNG)


DEFENSE_PROMISES: tuple[Promise[DefenseCase], ...] = tuple(
    Promise(check)
    for check in (
        value,
        interface,
        trains,
        answers,
        untouched,
        generators,
        repeatable,
        told,
        resumable,
        rebuildable,
    )
)
