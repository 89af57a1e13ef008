"""The strict attack: several attacks in turn, each on what the ones before left robust; the worst case decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, product
from typing import Literal

from torch import Tensor

from ecgbench import Attack, RandomStream, Trial, hookimpl, run_sequentially
from ecgbench_plugins.attacks.apgd import APGD
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.square import Square

RADII = ((3.0, 2.0, 1.0), (3.0, 2.0, 1.0), (2.0, 1.0), (1.0,), (3.0, 2.0, 1.0))
SIGNAL = 3  # every third pass


@dataclass(frozen=True)
class Budget:
    """Steps of APGD on the cross-entropy, of each pass toward all other classes, and queries of each Square."""

    steps: int
    passes: tuple[int, ...]
    queries: tuple[int, ...]


BUDGETS = {
    "quick": Budget(20, 6 * (25,), (50,)),
    "standard": Budget(20, 6 * (25,) + 10 * (50,) + 2 * (100,), (50, 500)),
    "thorough": Budget(20, 6 * (25,) + 10 * (50,) + 2 * (100,) + 20 * (100,), (50, 500, 5000)),
}


@dataclass(frozen=True)
class Strict(Attack):
    """The worst case, sample by sample, over APGD on the cross-entropy, short APGD toward each other class, and Square.

    In the spirit of AutoAttack (Croce and Hein 2020), for any number of classes. First come 20 steps of APGD on the
    cross-entropy, the cheapest way to most samples. Then passes of APGD toward all other classes at once, on the margin
    and on the targeted DLR in turn; below four classes on the margin alone. Most begin in a ball of 3 or 2 eps (`radii`
    of `apgd`), which leads away from a flat neighbourhood. The first starts at the clean sample, since an adversarial
    training may have met random starts and left them no gradient, the others at random. Square comes last: it needs no
    gradient. Many short restarts find more than few long ones in the same time; docs/strict.md has the figures.

    `budget=quick` has 6 passes of 25 steps and a Square of 50 queries; `standard` has 10 passes of 50 steps, 2 of 100
    and a Square of 500 queries more; `thorough` 20 passes of 100 steps and a Square of 5,000 queries more. What two
    budgets have in common draws the same, so the larger one finds all that the smaller one finds. Where a threat leaves
    the padding open, every third pass and a second Square perturb the signal alone. To reach a target, PGD on the
    margin and APGD on the cross-entropy take the place of the passes toward each class. Outcomes name the part that
    found each adversarial example. `eot` draws of a randomised victim make one answer.
    """

    budget: Literal["quick", "standard", "thorough"] = "standard"
    eot: int = 1

    def __post_init__(self) -> None:
        if self.eot < 1:
            raise ValueError(f"eot={self.eot} given; expected 1 or more")

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return run_sequentially(trial, self._parts(trial, rng))

    def _parts(self, trial: Trial, rng: RandomStream) -> Iterator[partial[Tensor]]:
        budget = BUDGETS[self.budget]
        padded = trial.ball.mask is None and not bool(trial.batch.mask.all())
        yield partial(_part, name="apgd-ce", attack=APGD(budget.steps), rng=rng)
        for number, attack in enumerate(_passes(budget, trial)):
            on_signal = padded and number % SIGNAL == SIGNAL - 1
            name = f"{type(attack).__name__.lower()}-{attack.loss}{'-signal' if on_signal else ''}"
            yield partial(_part, name=name, attack=attack, rng=rng.fold_in("pass", number), on_signal=on_signal)
        for queries, on_signal in product(budget.queries, (False, True) if padded else (False,)):
            name = "square-signal" if on_signal else "square"
            yield partial(_part, name=name, attack=Square(queries), rng=rng, on_signal=on_signal)


def _passes(budget: Budget, trial: Trial) -> Iterator[APGD | PGD]:
    if not trial.goal.untargeted:
        yield from _passes_to_a_target(budget)
        return
    first = APGD(loss="margin", rival="each", start="zero")
    dlr = trial.rivals().shape[1] >= 3 and trial.goal.outputs.exclusive
    for number, (steps, radii) in enumerate(zip(budget.passes, cycle(RADII))):
        loss: Literal["margin", "dlr"] = "dlr" if dlr and number % 2 else "margin"
        yield replace(first, steps=steps, loss=loss, radii=radii, start="random" if number else "zero")


def _passes_to_a_target(budget: Budget) -> Iterator[APGD | PGD]:
    """The margin of a target has a kink wherever its nearest rival changes: PGD averages the gradient there, and the
    cross-entropy has none.
    """
    for number, (steps, radii) in enumerate(zip(budget.passes, cycle(RADII))):
        if number % 2:
            yield APGD(steps, radii=radii)
        else:
            yield PGD(steps, rel_step=5 / steps, loss="targeted-margin", start="random" if number else "zero")


def _part(trial: Trial, at: Tensor, name: str, attack: Attack, rng: RandomStream, on_signal: bool = False) -> Tensor:
    part = trial.named(name)
    if on_signal:
        part = replace(part, ball=part.ball.within(part.batch.mask))
    return attack.perturb(part, rng)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"strict": Strict()}
