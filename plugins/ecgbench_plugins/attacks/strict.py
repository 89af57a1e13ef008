"""The strict attack: several attacks in turn, each on what the ones before left robust; the worst case decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
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

RADII = ((3.0, 2.0, 1.0), (3.0, 2.0, 1.0), (2.0, 1.0), (1.0,), (3.0, 2.0, 1.0))
SIGNAL = 3  # every third pass


@dataclass(frozen=True)
class Budget:
    """Steps of APGD on the cross-entropy, of each pass toward all other classes, and queries of Square."""

    steps: int
    passes: tuple[int, ...]
    queries: int


BUDGETS = {
    "quick": Budget(20, 6 * (25,), 50),
    "standard": Budget(20, 6 * (25,) + 10 * (50,) + 2 * (100,), 500),
    "thorough": Budget(20, 6 * (25,) + 10 * (50,) + 2 * (100,) + 20 * (100,), 5000),
}


@dataclass(frozen=True)
class Strict(Attack):
    """The worst case, sample by sample, over APGD on the cross-entropy, many short APGD toward every other class, Square.

    In the spirit of AutoAttack (Croce and Hein 2020), for any number of classes. First 20 steps of APGD on the
    cross-entropy, the cheapest way to most samples. Then passes of APGD toward all other classes at once, on the margin and
    on the targeted DLR in turn (the margin alone below four classes, or toward a target); most begin in a ball of 3 or 2
    eps (`radii` of `apgd`), which leads out of the flat neighbourhood of a sample; the first from the clean sample, since
    an adversarial training may have met random starts and left them no gradient, the others at random. Last Square,
    which needs no gradient. Many short restarts find more than few long ones in the same time (docs/strict.md).

    Steps of the passes and queries of Square: `budget=quick` 6 of 25, 50 queries; `standard` 10 of 50 and 2 of 100 more, 500;
    `thorough` 20 of 100 more, 5,000. Passes draw the same in every budget, so that a larger one loses whatever a smaller
    one loses. Where a threat leaves the padding open, every third pass perturbs the signal alone. Outcomes name the part that
    found each adversarial example. `eot` draws of a randomised victim make one answer.
    """

    budget: Literal["quick", "standard", "thorough"] = "standard"
    eot: int = 1

    def __post_init__(self) -> None:
        if self.eot < 1:
            raise ValueError(f"eot={self.eot} given; expected 1 or more")

    def perturb(self, trial: Trial, rng: Keyed) -> Tensor:
        return in_turn(trial, self._parts(trial, rng))

    def _parts(self, trial: Trial, rng: Keyed) -> Iterator[partial[Tensor]]:
        budget = BUDGETS[self.budget]
        padded = trial.ball.free is None and not bool(trial.batch.mask.all())
        yield partial(_part, name="apgd-ce", attack=APGD(budget.steps), rng=rng)
        for number, attack in enumerate(_passes(budget, trial)):
            on_signal = padded and number % SIGNAL == SIGNAL - 1
            name = f"{type(attack).__name__.lower()}-{attack.loss}{'-signal' if on_signal else ''}"
            yield partial(_part, name=name, attack=attack, rng=rng.at("pass", number), on_signal=on_signal)
        for on_signal in (False, True) if padded else (False,):
            name = "square-signal" if on_signal else "square"
            yield partial(_part, name=name, attack=Square(budget.queries), rng=rng, on_signal=on_signal)


def _passes(budget: Budget, trial: Trial) -> Iterator[APGD | PGD]:
    """Toward a target the margin has a kink wherever its nearest rival changes: PGD, which averages the gradient there,
    and the cross-entropy, which has none, replace the passes toward each class.
    """
    losses = ("margin", "dlr") if trial.aim.leave and trial.rivals().shape[1] >= 3 else ("margin",)
    for number, (steps, loss, radii) in enumerate(zip(budget.passes, cycle(losses), cycle(RADII))):
        start = "random" if number else "zero"
        if trial.aim.leave:
            yield APGD(steps, loss=loss, rival="each", radii=radii, start=start)
        elif number % 2:
            yield APGD(steps, loss="ce", radii=radii)
        else:
            yield PGD(steps, rel_step=5 / steps, loss="targeted-margin", start=start)


def _part(trial: Trial, at: Tensor, name: str, attack: Attack, rng: Keyed, on_signal: bool = False) -> Tensor:
    part = trial.named(name)
    if on_signal:
        part = replace(part, ball=part.ball.within(part.batch.mask))
    return attack.perturb(part, rng)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"strict": Strict()}
