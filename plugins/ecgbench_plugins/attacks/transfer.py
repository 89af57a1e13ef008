"""Transfer: examples made on another victim, of which this one is only asked whether they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ecgbench import Attack, ContractError, Defense, Determinism, RandomStream, Task, Threat, Trial, delta_of, hookimpl
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.defenses.none import Standard


@dataclass(frozen=True)
class Transfer(Attack):
    """Papernot et al. 2016 (arXiv 1605.07277): `attack` runs on a victim of the same model, trained by `surrogate`.

    It runs there to its end, not to the first adversarial point: an example that has only just crossed the surrogate's
    boundary seldom crosses another. The attacked victim sees the last perturbation, in one forward a sample, which is
    all that is counted. A victim that is attacked more easily by this than to its own gradients hides them.
    """

    access: ClassVar[Literal["gradient", "score"]] = "score"
    surrogate: Defense = Standard()
    attack: Attack = PGD(steps=100, loss="margin")

    def __post_init__(self) -> None:
        if self.attack.surrogate is not None:
            raise ValueError(f"attack={self.attack!r} given; expected one that needs no second victim itself")

    @property
    def determinism(self) -> Determinism:
        return self.attack.determinism

    @property
    def libraries(self) -> Mapping[str, str]:
        return self.attack.libraries

    def unfit(self, task: Task, threat: Threat) -> str | None:
        return self.attack.unfit(task, threat)

    def reach(self, eps: float) -> float | None:
        return self.attack.reach(eps)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        delta = delta_of(self.attack, self._rehearsal(trial), rng)
        trial.submit(delta)
        return delta

    def _rehearsal(self, trial: Trial) -> Trial:
        """The same rows, ball and goal on the surrogate, with a memory of its own."""
        if trial.surrogate is None:
            raise ContractError(self, "a trial with a surrogate", "one without")
        return Trial.begin(
            trial.surrogate,
            trial.batch,
            trial.ball,
            trial.goal,
            trial.rng.fold_in("source"),  # the name of a stream: another one would be other noise
            watch="never" if trial.watch == "never" else "last",
            gradients_allowed=self.attack.access == "gradient",
            rate=trial.rate,
        )


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"transfer": Transfer()}
