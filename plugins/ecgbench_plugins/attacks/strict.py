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
    "quick": Budget(20, 4 * (25,), 100),
    "standard": Budget(20, 4 * (25,) + 8 * (50,) + 2 * (100,), 500),
    "thorough": Budget(20, 4 * (25,) + 8 * (50,) + 2 * (100,) + 20 * (100,), 5000),
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

    Steps of the passes and queries of Square: `budget=quick` 4 of 25, 100 queries; `standard` 8 of 50 and 2 of 100 more, 500;
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
        dlr = trial.aim.leave and trial.rivals().shape[1] >= 3
        for number, attack in enumerate(_passes(budget, dlr)):
            on_signal = padded and number % SIGNAL == SIGNAL - 1
            name = f"apgd-{attack.loss}{'-signal' if on_signal else ''}"
            yield partial(_part, name=name, attack=attack, rng=rng.at("pass", number), on_signal=on_signal)
        yield partial(_part, name="square", attack=Square(budget.queries), rng=rng)


def _passes(budget: Budget, dlr: bool) -> Iterator[APGD]:
    losses = cycle(("margin", "dlr") if dlr else ("margin",))
    for number, (steps, loss, radii) in enumerate(zip(budget.passes, losses, cycle(RADII))):
        yield APGD(steps, loss=loss, rival="each", radii=radii, start="random" if number else "zero")


def _part(trial: Trial, at: Tensor, name: str, attack: Attack, rng: Keyed, on_signal: bool = False) -> Tensor:
    part = trial.named(name)
    if on_signal:
        part = replace(part, ball=part.ball.within(part.batch.mask))
    return attack.perturb(part, rng)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"strict": Strict()}
