"""Attacks of other libraries under the host's rules, by name and parameters: what the adapters have in common.

The library sees coordinates (`foreign_view`) and a tap instead of the victim, draws from generators that are
seeded for it and restored, and may change nothing. What it returns is a proposal: it is put back into the ball,
looked at by the trial and judged by the host, whatever the library says of its success.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ecgbench import Attack, ContractError, Determinism, Norm, NotInstalledError, RandomStream, Task, Threat, Trial
from ecgbench_plugins.attacks.adapters.isolation import isolated, seed_generators
from ecgbench_plugins.attacks.adapters.signature import Parameter, constructors
from ecgbench_plugins.attacks.adapters.traits import Traits
from ecgbench_plugins.attacks.adapters.view import ROUNDING, VictimModule, View, ball_view, groups, signal_view

OVERSHOOT = 1e-4  # of eps: what rounding in a library may cost; more is a fault of the adapter
HOSTS = {
    *("model", "classifier", "estimator", "eps", "max_epsilon", "norm", "constraint", "distance", "minimal", "mask"),
    *("targeted", "n_classes", "seed", "batch_size", "channel_axis", "verbose", "summary_writer", "tensorboard"),
}
"""Parameters that the host sets: the ball gives the size, the trial the batch, the random stream the seed."""


@dataclass(frozen=True)
class AttackRequest:
    """One call of a library: attack `u` (n, *shape) in [0, 1] away from `label` (n,), or toward it.

    `parameters` are the attack's own, lengths already in the library's unit; `eps` is the budget there.
    """

    module: VictimModule
    u: Tensor
    label: Tensor
    targeted: bool
    norm: Norm
    eps: float
    parameters: Mapping[str, Any]
    seed: int

    def classes(self) -> int:
        """How many classes the victim knows; costs one forward of one row."""
        one = self.module.view.trial[torch.zeros(1, dtype=torch.int64, device=self.u.device)]
        return one.logits(torch.zeros_like(one.batch.x)).shape[1]


@dataclass(frozen=True)
class LibraryAttack(Attack):
    """An attack of another library; `library` is its name and version, part of every result's identity.

    `given` are the parameters of its constructor, `lengths` those that are sizes of a perturbation.
    """

    library: str = field(default="", kw_only=True)

    traits: ClassVar[Traits]
    given: ClassVar[Mapping[str, Parameter]]
    called: ClassVar[str]
    installed: ClassVar[str]
    lengths: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.library != self.installed:
            raise ValueError(f"{self.library} given; installed is {self.installed}")
        for name, value in self._own().items():
            if name in self.lengths and value is not None and value <= 0:
                raise ValueError(f"{name}={value:g} given; expected a size above 0")
            if self.given[name].kind == "int" and value < 1 <= self.given[name].default:
                raise ValueError(f"{name}={value} given; expected 1 or more")

    @property
    def determinism(self) -> Determinism:
        return self.traits.determinism

    @property
    def libraries(self) -> Mapping[str, str]:
        name, _, number = self.library.partition(" ")
        return {name: number}

    def unfit(self, task: Task, threat: Threat) -> str | None:
        fault = self.traits.fault(task, threat, self.least_classes())
        if threat.unit != "native" and task.test.scaled_by_feature and self._wide(task, threat):
            fault = "has one eps for all features, and here each has a unit of its own; expected unit=native"
        return fault and f"{self.called} {fault}."

    def _wide(self, task: Task, threat: Threat) -> bool:
        """Whether the library sees the signals, and not the ball, as the cube [0, 1]."""
        return self.traits.signal or (threat.bounds and task.bounds is not None)

    def least_classes(self) -> int:
        """The number of classes that its losses need."""
        return self.traits.classes

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        delta = torch.zeros_like(trial.batch.x)
        wide = self.traits.signal or trial.ball.bounds is not None
        with isolated(trial.victim.module):
            for rows in groups(trial, single=self.traits.single, together=not wide):
                delta[rows] = self._answer(trial[rows], rng.fold_in(*trial.batch.ids[rows].tolist()), wide)
        trial.submit(delta)
        return delta

    def _answer(self, trial: Trial, rng: RandomStream, wide: bool) -> Tensor:
        """The library's perturbation of a few rows, inside their ball."""
        view = signal_view(trial, self.traits.inner) if wide else ball_view(trial)
        seed_generators(rng)
        answer = self.ask(self._request(view, rng)).detach().to(trial.batch.x).view_as(view.origin)
        delta = view.delta(answer)
        inside = trial.ball.project(delta)
        if not (self.minimal or self.traits.loose):
            self._measure(view, delta, inside)
        return inside

    def _request(self, view: View, rng: RandomStream) -> AttackRequest:
        trial = view.trial
        return AttackRequest(
            module=VictimModule(view, positive=self.traits.positive),
            u=view.origin.clone(),
            label=trial.goal.label,
            targeted=not trial.goal.untargeted,
            norm=trial.ball.norm.name,
            eps=view.eps,
            parameters={name: self._parameter(name, value, view) for name, value in self._own().items()},
            seed=rng.seed % 2**31,
        )

    def _own(self) -> dict[str, Any]:
        """The parameters that are the caller's to choose, by name."""
        return {name: getattr(self, name) for name in self.given if name in self.__dataclass_fields__}

    def _parameter(self, name: str, value: Any, view: View) -> Any:
        """A parameter as the library takes it: lengths, given in the unit of eps, in its own coordinates."""
        if name not in self.lengths:
            return value
        if value is not None:
            return view.length(value)
        size, own = self.given[name].default, self.given.get("eps") or self.given.get("max_epsilon")
        return size if size is None or own is None else size / own.default * view.eps

    def _measure(self, view: View, delta: Tensor, inside: Tensor) -> None:
        """Raises ContractError where more than rounding separates the library's answer from the ball."""
        ball = view.trial.ball
        over = ball.size(delta - inside)
        width = ball.in_unit(view.width).flatten(1).amax(1)
        rounding = ROUNDING * width * ball.norm.size_of_ones(delta[0].numel())
        if bool((over > OVERSHOOT * ball.eps.flatten() + rounding).any()):
            worst = float((over / ball.eps.flatten()).amax())
            raise ContractError(self, "a perturbation inside the ball", f"one {worst:.3g} eps outside")

    def arguments(self, request: AttackRequest, host: Mapping[str, Any]) -> dict[str, Any]:
        """What its constructor is called with: the caller's parameters, and of the host's those that it has."""
        return dict(request.parameters) | {name: value for name, value in host.items() if name in self.given}

    def ask(self, request: AttackRequest) -> Tensor:
        """Run the library's attack: its u (n, *shape), still unjudged."""
        raise NotImplementedError


@dataclass(frozen=True)
class Library:
    """Where a library's attacks are found: its package, the folder of their classes there, its distribution.

    `advice` says how to install it.
    """

    package: str
    folder: str
    distribution: str
    advice: str


def offered(
    base: type[LibraryAttack], library: Library, table: Mapping[str, Traits], aliases: Mapping[str, str]
) -> dict[str, LibraryAttack]:
    """One value for every attack of the table that the installed library has, by name; `aliases` are second names.

    Their classes are dataclasses made from the library's constructors, members of the module of `base`.
    Raises NotInstalledError where the library is absent.
    """
    spec = importlib.util.find_spec(library.package)
    try:
        installed = f"{library.package} {version(library.distribution)}"
    except PackageNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise NotInstalledError(library.distribution, library.advice)
    found = constructors(Path(spec.origin).parent / library.folder, table)
    values = {name: _made(base, f"{library.package}.{name}", table[name], installed, found[name])() for name in found}
    values |= {alias: values[name] for alias, name in aliases.items() if name in values}
    return {f"{library.package}.{name}": value for name, value in values.items()}


def _made(
    base: type[LibraryAttack], called: str, traits: Traits, installed: str, given: tuple[Parameter, ...]
) -> type[LibraryAttack]:
    """The dataclass of one attack; its fields are the parameters that are the caller's to choose."""
    name, lengths = called.rpartition(".")[2], base.lengths | traits.lengths
    own = {each.name: each for each in (*given, *traits.more)}
    parts: list[tuple[str, Any, Any]] = []
    for each in own.values():
        if each.name in lengths:
            parts.append((each.name, "float | None", field(default=None)))
        elif each.name not in HOSTS and each.kind is not None:
            parts.append((each.name, each.kind, field(default=each.default)))
    members = {
        "__doc__": f"{name} of {installed}, for {' and '.join(traits.norms)}, run under the host's threat model.",
        "__module__": base.__module__,
        "traits": traits,
        "given": own,
        "called": called,
        "installed": installed,
        "lengths": lengths,
        "access": traits.access,
        "minimal": traits.minimal,
    }
    parts.append(("library", "str", field(default=installed, kw_only=True)))
    return make_dataclass(name, parts, bases=(base,), namespace=members, frozen=True)
