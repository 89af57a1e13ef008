"""Adversarial training: every batch is attacked afresh with the weights of the moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from ecgbench import (
    Attack,
    Batch,
    Checkpoint,
    Defense,
    EcgbenchError,
    RandomStream,
    Schedule,
    Task,
    Threat,
    Victim,
    hookimpl,
    train,
)
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.defenses.inner import perturbation
from ecgbench_plugins.defenses.ramp import Ramp, check_ramp
from ecgbench_plugins.defenses.recipe import Recipe, coded, convolutional


@dataclass(frozen=True)
class Adaptive(Schedule, Defense):
    """Madry et al. 2018, eq. 2.1, with a share `clean` of the loss on clean samples (0 is their pure form).

    `attack` runs unwatched inside `threat` at `eps` (unit of the threat) on every batch, in eval mode; the
    update is made in train mode. The schedule is that of `none`. Over the first `warmup` epochs eps grows in
    equal steps: epoch k of them trains at k/warmup of it. `madry` is the pure form, warmed up over 5 epochs.

    `adversarial-nsr` holds the values of Ma and Liang 2020 (arXiv 2005.09134), eq. 11: ten sign steps of 0.01 however
    large eps is, so that at eps 0.2 and 0.3 the attack does not cross the ball; 0.1, 0.2 and 0.3 are theirs. Its
    `recipe=code` adds what their code does: on an MLP both losses at full weight, and dead kernels revived; on a
    convolutional net also decay, kernels kept at unit norm, and two steps on one gradient.
    """

    attack: Attack = PGD(steps=10, rel_step=0.25)
    threat: Threat = Threat("linf")
    eps: float = 0.03
    clean: float = 0.5
    warmup: int = 0
    recipe: Recipe = "plain"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eps < float("inf") or not 0 <= self.clean < 1:
            raise EcgbenchError(
                f"eps={self.eps}, clean={self.clean} given; expected eps above 0 and clean at least 0 and below 1."
            )
        check_ramp(self.warmup)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        self.threat.check(task.physical, task.classes)
        of_cnn = convolutional(model)
        mechanisms = coded(self.recipe, unit_norm=of_cnn, decay=of_cnn, second_step=of_cnn)
        before_forward, hooks = mechanisms.begin(model)
        ramp, scale = Ramp(self.warmup), 2.0 if self.recipe == "code" and not of_cnn else 1.0

        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            student = Victim(module)
            delta = perturbation(module, batch, self.attack, self.threat, ramp.share * self.eps, task, step)
            before_forward()
            attacked = cross_entropy(student.logits(batch.x + delta, batch, step.fold_in("attacked")), batch.y)
            if not self.clean:
                return scale * attacked
            clean = cross_entropy(student.logits(batch.x, batch, step.fold_in("clean")), batch.y)
            return scale * (self.clean * clean + (1 - self.clean) * attacked)

        return train(model, task, loss, self, rng, checkpoint, [ramp, *hooks])


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {
        "adaptive": Adaptive(),
        "madry": Adaptive(clean=0.0, warmup=5),
        "adversarial-nsr": Adaptive(attack=PGD(steps=10, abs_step=0.01), threat=Threat("linf", mask=False), eps=0.1),
    }
