"""Adversarial training: every batch is attacked afresh with the weights of the moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from ecgbench.data import Batch, Task
from ecgbench.errors import EcgbenchError
from ecgbench.hookspecs import hookimpl
from ecgbench.interfaces import Attack, Defense
from ecgbench.journal import Journal
from ecgbench.keyed import Keyed
from ecgbench.threat import Threat
from ecgbench.training import Schedule, train
from ecgbench.trial import Trial
from ecgbench.victim import Victim, evaluating
from ecgbench_plugins.attacks.pgd import PGD


@dataclass(frozen=True)
class Adaptive(Schedule, Defense):
    """Madry et al. 2018, eq. 2.1, with a share `clean` of the loss on clean samples (0 is their pure form).

    `attack` runs unwatched inside `threat` at `eps` (unit of the threat) on every batch, in eval mode; the
    update is made in train mode. The schedule is that of `none`.
    """

    attack: Attack = PGD(steps=10, rel_step=0.25)
    threat: Threat = Threat("linf")
    eps: float = 0.03
    clean: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eps < float("inf") or not 0 <= self.clean < 1:
            raise EcgbenchError(
                f"eps={self.eps}, clean={self.clean} given; expected eps above 0 and clean at least 0 and below 1."
            )

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        self.threat.check(task.physical, task.classes)

        def loss(module: Module, batch: Batch, step: Keyed) -> Tensor:
            student = Victim(module)
            delta = self._perturb(module, batch, task, step)
            attacked = cross_entropy(student.logits(batch.x + delta, batch, step.at("attacked")), batch.y)
            if not self.clean:
                return attacked
            clean = cross_entropy(student.logits(batch.x, batch, step.at("clean")), batch.y)
            return self.clean * clean + (1 - self.clean) * attacked

        return train(model, task, loss, self, rng, journal)

    def _perturb(self, module: Module, batch: Batch, task: Task, step: Keyed) -> Tensor:
        ball = self.threat.around(batch, self.eps, task.bounds)
        aim = self.threat.aim(batch.y, task.classes)
        with evaluating(module) as victim:
            trial = Trial.begin(victim, batch, ball, aim, step.at("victim"), watch="never")
            return self.attack.perturb(trial, step.at("attack")).detach()


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"adaptive": Adaptive()}
