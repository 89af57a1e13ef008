"""The four kinds of plugin. Each plugin is a value: a frozen dataclass whose fields are its parameters.

A parameter of another type than its field is refused when the value is made, see `Parameterised`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot, Remote
from ecgbench.core.errors import ContractError
from ecgbench.core.parameters import Parameterised
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat

if TYPE_CHECKING:
    from ecgbench.core.trial import Trial

Determinism = Literal["sample", "chunk", "none"]
T = TypeVar("T")


@dataclass(frozen=True)
class Defaults:
    """What a run on a dataset uses unless told otherwise; eps in the unit of `threat`."""

    threat: Threat
    eps: tuple[float, ...]
    headline: float


@runtime_checkable
class Dataset(Parameterised, Protocol):
    """Recordings, as a task.

    `defaults` stands apart from the task so that a run is planned without loading a signal; `remote` says
    where the files can be downloaded, None for an embedded set.
    """

    defaults: ClassVar[Defaults]
    remote: ClassVar[Remote | None] = None

    def files(self, root: DataRoot) -> Mapping[str, Path]:
        """The files that `load` reads, by a name that is the same on every machine; {} if embedded.

        Their content is part of the identity of every result. Raises DataError where one is missing.
        """
        return {}

    def load(self, root: DataRoot) -> Task:
        """The task, same values at every call. Raises DataError for damaged or missing recordings."""
        ...


@runtime_checkable
class Model(Parameterised, Protocol):
    """An architecture; `default_dataset` names an embedded dataset it can be tried on at once."""

    default_dataset: ClassVar[str]

    def build(self, task: Task) -> Module:
        """A fresh module, x (n, *shape) -> logits (n, classes); called inside a seeded fork of torch's RNG."""
        ...

    def unfit(self, task: Task) -> str | None:
        """Why the model cannot serve this task, in one sentence; None if it can."""
        return None


@runtime_checkable
class Defense(Parameterised, Protocol):
    """A way to train a victim, or to wrap one.

    `base` is a defense whose trained weights this one starts from: the host trains or finds them first.
    """

    @property
    def base(self) -> Defense | None:
        return None

    def unfit(self, task: Task) -> str | None:
        """Why the defense cannot train on this task, in one sentence; None if it can."""
        return None

    def wrap(self, module: Module, task: Task) -> Module:
        """The architecture that is trained and attacked: `module`, or a module round it."""
        return module

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        """Train the wrapped module (fresh, or with the base's weights) and give it back."""
        ...


@runtime_checkable
class Attack(Parameterised, Protocol):
    """A way to perturb the rows of a trial.

    `access` "score" never sees a gradient. `minimal` attacks seek the smallest perturbation: they run once,
    at the largest eps, and the table per eps is read from the size of what they found. `eot` is how often a
    randomised victim is asked for each answer the attack gets (expectation over transformation).
    """

    access: ClassVar[Literal["gradient", "score"]] = "gradient"
    minimal: ClassVar[bool] = False

    @property
    def eot(self) -> int:
        return 1

    @property
    def surrogate(self) -> Defense | None:
        """The defense of the surrogate that the attack needs, a second victim of the same model; None for most."""
        return None

    @property
    def determinism(self) -> Determinism:
        """What fixes an answer beside the seed: the "sample" alone, the "chunk" it is attacked in, or "none"."""
        return "sample"

    @property
    def libraries(self) -> Mapping[str, str]:
        """Versions, by name, of the attack libraries that do its work."""
        return {}

    def unfit(self, task: Task, threat: Threat) -> str | None:
        """Why the attack cannot run here, in one sentence; None if it can."""
        return None

    def reach(self, eps: float) -> float | None:
        """How far its steps can carry it, in the unit of `eps`; None where that has no meaning."""
        return None

    @property
    def stops_at_success(self) -> bool:
        """Whether it leaves a sample at its first adversarial point, also where the protocol asks for the last one."""
        return False

    def longer(self) -> Attack:
        """The same attack with twice the steps, itself where that has no meaning: what converged gains nothing."""
        return self

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        """The perturbation delta (n, *shape) of every row, inside `trial.ball`; x + delta is adversarial."""
        ...


def returned(plugin: object, method: str, value: Any, kind: type[T]) -> T:
    """`value`, which the `method` of `plugin` gave back. Raises ContractError unless it is a `kind`."""
    if isinstance(value, kind):
        return value
    got = "None" if value is None else f"{type(value).__name__}"
    raise ContractError(plugin, f"{method} to return a {kind.__name__}", got)


def delta_of(attack: Attack, trial: Trial, rng: RandomStream) -> Tensor:
    """The attack's delta for `trial`, (n, *shape) float32 as the signals are, without autograd.

    Raises ContractError for anything else that it returns; nothing is cast.
    """
    delta, x = returned(attack, "perturb", attack.perturb(trial, rng), Tensor).detach(), trial.batch.x
    for name in ("layout", "device", "dtype", "shape"):
        expected, got = (_plain(getattr(tensor, name)) for tensor in (x, delta))
        if got != expected:
            raise ContractError(attack, f"a perturbation of {name} {expected}", got)
    return delta


def _plain(value: object) -> str:
    return str(tuple(value)) if isinstance(value, torch.Size) else str(value).removeprefix("torch.")
