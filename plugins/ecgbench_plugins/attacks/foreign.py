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
from math import prod, sqrt
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ecgbench.data import Task
from ecgbench.errors import ContractError, EcgbenchError
from ecgbench.interfaces import Attack
from ecgbench.keyed import Keyed
from ecgbench.threat import Norm, Threat
from ecgbench.trial import Trial
from ecgbench_plugins.attacks.foreign_isolation import isolated, seed_generators
from ecgbench_plugins.attacks.foreign_signature import Parameter, constructors
from ecgbench_plugins.attacks.foreign_view import ROUNDING, Tap, View, ball_view, bounded, groups, signal_view

OVERSHOOT = 1e-4  # of eps: what rounding in a library may cost; more is a fault of the adapter
BOTH: tuple[Norm, ...] = ("linf", "l2")
HOSTS = {
    *("model", "classifier", "estimator", "eps", "max_epsilon", "norm", "constraint", "distance", "minimal", "mask"),
    *("targeted", "n_classes", "seed", "batch_size", "channel_axis", "verbose", "summary_writer", "tensorboard"),
}
"""Parameters that the host sets: the ball gives the size, the trial the batch, the keyed stream the seed."""

SHAPES = {
    "any": "samples of any shape",
    "image": "images (channels, height, width)",
    "square": "square images (channels, side, side)",
    "colour": "square images of 3 channels",
}


@dataclass(frozen=True)
class Traits:
    """What an adapter must know of one attack.

    `norms` it is made for (a perturbation of minimal L0 or L1 norm stands under l2). `minimal`: it has no budget
    and its answer is clipped to each ball. `single`: it picks rows of the batch, so it gets them one by one.
    `coupled`: rows of one call share draws or a stop. `seedable`: its draws come from the global generators.
    `signal`: it needs the signal itself, not the ball (a search that starts far away). `inner`: see
    `signal_view`. `image`: it indexes channels, height and width. `targeted`, `classes`: what goals it serves.
    `most`: values a sample may have. `shape`: the sample shape it asks for. `lengths`: parameters that are sizes
    of a perturbation. `positive`: see `Tap`. `loose`: the library itself goes beyond its budget, so the answer is
    clipped. `more`: parameters of ours. `refused` says why it cannot run at all.
    """

    norms: tuple[Norm, ...] = ("linf",)
    access: Literal["gradient", "score"] = "gradient"
    minimal: bool = False
    single: bool = False
    coupled: bool = False
    seedable: bool = True
    signal: bool = False
    inner: bool = False
    image: bool = False
    targeted: Literal["also", "never", "only"] = "also"
    classes: int = 2
    most: int | None = None
    shape: Literal["any", "image", "square", "colour"] = "any"
    lengths: frozenset[str] = frozenset()
    positive: bool = False
    loose: bool = False
    more: tuple[Parameter, ...] = ()
    refused: str | None = None


@dataclass(frozen=True)
class Question:
    """One call of a library: attack `u` (n, *shape) in [0, 1] away from `label` (n,), or toward it.

    `parameters` are the attack's own, lengths already in the library's unit; `eps` is the budget there.
    """

    tap: Tap
    u: Tensor
    label: Tensor
    targeted: bool
    norm: Norm
    eps: float
    parameters: Mapping[str, Any]
    seed: int

    def classes(self) -> int:
        """How many classes the victim knows; costs one forward of one row."""
        one = self.tap.view.trial[torch.zeros(1, dtype=torch.int64, device=self.u.device)]
        return one.scores(torch.zeros_like(one.batch.x)).shape[1]


@dataclass(frozen=True)
class Foreign(Attack):
    """An attack of another library; `library` is its name and version, part of every result's identity."""

    library: str = field(default="", kw_only=True)

    traits: ClassVar[Traits]
    given: ClassVar[Mapping[str, Parameter]]
    called: ClassVar[str]
    installed: ClassVar[str]

    def __post_init__(self) -> None:
        if self.library != self.installed:
            raise ValueError(f"{self.library} given; installed is {self.installed}")

    @property
    def determinism(self) -> Literal["sample", "chunk", "none"]:
        """What fixes an answer: the seed and the sample, its chunk besides, or nothing."""
        if not self.traits.seedable:
            return "none"
        return "chunk" if self.traits.coupled and not self.traits.single else "sample"

    def unfit(self, task: Task, threat: Threat) -> str | None:
        traits, aimed, least, most = self.traits, threat.target is not None, self.least_classes(), self.traits.most
        faults = {
            f"cannot run here: {traits.refused}": traits.refused is not None,
            f"is made for {' and '.join(traits.norms)}; this threat is {threat.norm}": threat.norm not in traits.norms,
            "cannot aim at a target; expected a threat without one": aimed and traits.targeted == "never",
            "can only aim at a target; expected a threat with one": not aimed and traits.targeted == "only",
            f"needs {least} classes or more; here are {len(task.classes)}": len(task.classes) < least,
            f"compares all pairs of values, of {most} at most; a sample here has {prod(task.shape)}": (
                most is not None and prod(task.shape) > most
            ),
            f"works on {SHAPES[traits.shape]}; samples here have the shape {task.shape}": not self._fits(task.shape),
        }
        fault = next((words for words, true in faults.items() if true), None)
        return fault and f"{self.called} {fault}."

    def least_classes(self) -> int:
        """The number of classes that its losses need."""
        return self.traits.classes

    def _fits(self, shape: tuple[int, ...]) -> bool:
        if self.traits.shape == "any":
            return True
        image = len(shape) == 3 and min(shape[1:]) > 1
        square = self.traits.shape == "image" or shape[1:2] == shape[2:]
        return image and square and (self.traits.shape != "colour" or shape[0] == 3)

    def perturb(self, trial: Trial, rng: Keyed) -> Tensor:
        delta = torch.zeros_like(trial.batch.x)
        wide = self.traits.signal or bounded(trial.ball)
        with isolated(trial.victim.module):
            for rows in groups(trial, single=self.traits.single, together=not wide):
                delta[rows] = self._answer(trial[rows], rng.at(*trial.batch.ids[rows].tolist()), wide)
        trial.look(delta)
        return delta

    def _answer(self, trial: Trial, rng: Keyed, wide: bool) -> Tensor:
        """The library's perturbation of a few rows, inside their ball."""
        view = signal_view(trial, self.traits.inner) if wide else ball_view(trial)
        seed_generators(rng)
        answer = self.ask(self._question(view, rng)).detach().to(trial.batch.x).view_as(view.origin)
        delta = view.delta(answer)
        inside = trial.ball.project(delta)
        if not (self.minimal or self.traits.loose):
            self._measure(view, delta, inside)
        return inside

    def _question(self, view: View, rng: Keyed) -> Question:
        trial = view.trial
        return Question(
            tap=Tap(view, positive=self.traits.positive),
            u=view.origin.clone(),
            label=trial.aim.label,
            targeted=not trial.aim.leave,
            norm=trial.ball.norm,
            eps=view.eps,
            parameters={name: self._parameter(name, view) for name in self.given if name in self.__dataclass_fields__},
            seed=rng.seed % 2**31,
        )

    def _parameter(self, name: str, view: View) -> Any:
        """A parameter as the library takes it: lengths, given in the unit of eps, in its own coordinates."""
        value = getattr(self, name)
        if name not in self.traits.lengths:
            return value
        if value is not None:
            return float((view.trial.ball.length(value) / view.width).flatten()[0])
        size, own = self.given[name].default, self.given.get("eps") or self.given.get("max_epsilon")
        return size if size is None or own is None else size / own.default * view.eps

    def _measure(self, view: View, delta: Tensor, inside: Tensor) -> None:
        """Raises ContractError where more than rounding separates the library's answer from the ball."""
        ball = view.trial.ball
        over = ball.size(delta - inside)
        rounding = ROUNDING * view.width.flatten() * (sqrt(delta[0].numel()) if ball.norm == "l2" else 1)
        if bool((over > OVERSHOOT * ball.eps.flatten() + rounding).any()):
            worst = float((over / ball.eps.flatten()).amax())
            raise ContractError(self, "a perturbation inside the ball", f"one {worst:.3g} eps outside")

    def ask(self, question: Question) -> Tensor:
        """Run the library's attack: its u (n, *shape), still unjudged."""
        raise NotImplementedError


def offered(
    base: type[Foreign], package: str, distribution: str, folder: str, table: Mapping[str, Traits], advice: str
) -> dict[str, Foreign]:
    """One value for every attack of the table that the installed library has, by class name.

    Their classes are dataclasses made from the constructors in `folder`, members of the module of `base`.
    Raises EcgbenchError where the library is not installed, with the `advice` for it.
    """
    spec = importlib.util.find_spec(package)
    try:
        installed = f"{package} {version(distribution)}"
    except PackageNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise EcgbenchError(f"{distribution} is not installed; {advice}.")
    found = constructors(Path(spec.origin).parent / folder, table)
    return {name: _made(base, name, table[name], package, installed, given)() for name, given in found.items()}


def _made(
    base: type[Foreign], name: str, traits: Traits, package: str, installed: str, given: tuple[Parameter, ...]
) -> type[Foreign]:
    """The dataclass of one attack; its fields are the parameters that are the caller's to choose."""
    own = {each.name: each for each in (*given, *traits.more)}
    parts: list[tuple[str, Any, Any]] = []
    for each in own.values():
        if each.name in traits.lengths:
            parts.append((each.name, "float | None", field(default=None)))
        elif each.name not in HOSTS and each.kind is not None:
            parts.append((each.name, each.kind, field(default=each.default)))
    members = {
        "__doc__": f"{name} of {installed}, for {' and '.join(traits.norms)}, run under the host's threat model.",
        "__module__": base.__module__,
        "traits": traits,
        "given": own,
        "called": f"{package}.{name}",
        "installed": installed,
        "access": traits.access,
        "minimal": traits.minimal,
    }
    parts.append(("library", "str", field(default=installed, kw_only=True)))
    return make_dataclass(name, parts, bases=(base,), namespace=members, frozen=True)
