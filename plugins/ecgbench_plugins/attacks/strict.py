"""The strict attack: several attacks in turn, each on what the ones before left standing; the worst case decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import Tensor

from ecgbench.descent import in_turn
from ecgbench.hookspecs import hookimpl
from ecgbench.interfaces import Attack
from ecgbench.keyed import Keyed
from ecgbench.trial import Trial
from ecgbench_plugins.attacks.apgd import APGD
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.square import Square


def _components(steps: int, rel_step: float, restarts: int, queries: int) -> Mapping[str, Attack]:
    """By name, the cheapest first."""
    return {
        "pgd-ce": PGD(steps, rel_step),
        "apgd-ce": APGD(steps, restarts),
        "apgd-margin": APGD(steps, restarts, loss="margin"),
        "pgd-targeted-margin": PGD(steps, rel_step, loss="targeted-margin", start="zero", restarts=restarts),
        "square": Square(queries),
    }


BUDGETS = {
    "quick": _components(steps=20, rel_step=0.25, restarts=1, queries=200),
    "standard": _components(steps=100, rel_step=0.1, restarts=2, queries=1000),
    "thorough": _components(steps=200, rel_step=0.1, restarts=5, queries=5000),
}


@dataclass(frozen=True)
class Strict(Attack):
    """The worst case, sample by sample, over PGD, APGD on cross-entropy and margin, targeted PGD and Square.

    In the spirit of AutoAttack (Croce and Hein 2020), for any number of classes. Targeted PGD takes the margin
    toward every other class in turn, which fells victims whose untargeted gradient misleads; with a target, the
    margin of that one. Its first start is the clean sample, since an adversarial training may have met random starts
    and left them no gradient; where there is one start, it is that one. Steps of each descent, starts (PGD on the
    cross-entropy has one) and queries of Square: `budget=quick` 20, 1, 200; `standard` 100, 2, 1,000; `thorough`
    200, 5, 5,000. Every component draws as it would alone, so `standard` fells whatever `pgd100`, `apgd`,
    `apgd-margin` or `square` fells. Where a threat leaves the padding open, all run again on the signal alone, so
    that the larger ball loses whatever the smaller one in it loses. Outcomes name the component that felled each
    sample. `eot` draws of a randomised victim make one answer.
    """

    budget: Literal["quick", "standard", "thorough"] = "standard"
    eot: int = 1

    def __post_init__(self) -> None:
        if self.eot < 1:
            raise ValueError(f"eot={self.eot} given; expected 1 or more")

    def perturb(self, trial: Trial, rng: Keyed) -> Tensor:
        return in_turn(trial, self._parts(trial, rng))

    def _parts(self, trial: Trial, rng: Keyed) -> Iterator[partial[Tensor]]:
        components = BUDGETS[self.budget]
        for name, component in components.items():
            yield partial(_part, name=name, component=component, rng=rng)
        if trial.ball.free is None and not bool(trial.batch.mask.all()):
            for name, component in components.items():
                yield partial(_on_the_signal, name=f"{name}-signal", component=component, rng=rng)


def _part(trial: Trial, at: Tensor, name: str, component: Attack, rng: Keyed) -> Tensor:
    return component.perturb(trial.named(name), rng)


def _on_the_signal(trial: Trial, at: Tensor, name: str, component: Attack, rng: Keyed) -> Tensor:
    part = replace(trial.named(name), ball=trial.ball.within(trial.batch.mask))
    return component.perturb(part, rng)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"strict": Strict()}
