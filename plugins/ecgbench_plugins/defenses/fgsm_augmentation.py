"""Adversarial examples as augmentation: a trained network goes on with a few attacked exams an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench import (
    Attack,
    Batch,
    Checkpoint,
    Defense,
    EcgbenchError,
    Hook,
    RandomStream,
    Samples,
    Schedule,
    Task,
    Threat,
    Victim,
    hookimpl,
    train,
)
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.defenses.augmentation import (
    Augmentation,
    Augmented,
    auroc,
    class_weights,
    misfit,
    weighted_loss,
)
from ecgbench_plugins.defenses.inner import perturbation
from ecgbench_plugins.models.mrnet import DEVIATION, MEAN


@dataclass(frozen=True)
class FGSMAugmentation(Schedule, Defense):
    """Starts from the weights of `base`; every epoch visits int(share * n) training samples, drawn anew, all attacked.

    `attack` runs unwatched inside `threat` at `eps` (unit of the threat) on the weights of the moment. With `mix_clean`
    half of the loss is that on the same samples unperturbed. Loss and augmentation are those of `augmentation`; the
    epoch of the highest AUROC on validation is kept. **`eps=0` is the control**: the same steps on the same samples
    without an attack; a gain that is not reported against it is one of training for longer.

    `clamp=study` puts what the network is trained on into [0, 1] of standardised grey values, 58 to 108 of 0 to 255,
    at every eps, as the code of the public study does above eps 0 (there with eps in standard deviations:
    `threat=linf[unit=SD]`). `fgsm-augmentation-study` holds its values for the real data; its decay of the weights
    and its schedule by the loss on validation are left out.
    """

    epochs: int = 8
    batch: int = 4
    lr: float = 3e-4
    optimizer: Literal["adamax", "adam"] = "adam"
    balanced: bool = False
    keep: Literal["last", "best"] = "best"
    recalibrate_batchnorm: bool = False
    base: Defense = Augmented()
    attack: Attack = FGSM()
    threat: Threat = Threat("linf")
    eps: float = 0.01
    share: float = 0.5
    mix_clean: bool = False
    augment: bool = False
    clamp: Literal["range", "study"] = "range"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eps < float("inf") or not 0 < self.share <= 1:
            raise EcgbenchError(
                f"eps={self.eps}, share={self.share} given; expected eps of 0 or more, share above 0 and at most 1."
            )
        if self.balanced or self.recalibrate_batchnorm:
            raise EcgbenchError(
                "balanced or recalibrate_batchnorm given; expected neither: an epoch is a few samples, drawn anew."
            )

    def unfit(self, task: Task) -> str | None:
        if self.attack.surrogate is not None:
            return "a training has no second victim; expected an attack that needs none."
        try:
            self.threat.check(task.physical, task.classes)
        except EcgbenchError as fault:
            return f"the threat that this defense trains against does not fit {task.name}: {fault}"
        if self._visited(task) < 1:
            return f"share={self.share} of {len(task.train)} training samples is none; expected one or more."
        return misfit(task, self.augment) or self.attack.unfit(task, self.threat)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        samples = task.train.to(next(model.parameters()).device)
        weight = class_weights(samples.y)
        drawn = _Drawn(len(samples), self._visited(task))
        change = Augmentation() if self.augment else None

        def loss(module: Module, places: Batch, step: RandomStream) -> Tensor:
            batch = samples[drawn.rows[places.ids.cpu()]]
            batch = batch if change is None else change(batch, step.fold_in("augmentation"))
            delta = self._perturb(module, batch, task, step.fold_in("attack"))
            student = Victim(module)
            logits = student.logits(self._clamped(batch.x + delta), batch, step.fold_in("attacked"))
            attacked = weighted_loss(logits, batch.y, weight)
            if not self.mix_clean:
                return attacked
            clean = weighted_loss(student.logits(batch.x, batch, step.fold_in("clean")), batch.y, weight)
            return (attacked + clean) / 2

        return train(model, replace(task, train=drawn.places(task.train)), loss, self, rng, checkpoint, [drawn], auroc)

    def _visited(self, task: Task) -> int:
        return int(self.share * len(task.train))

    def _perturb(self, module: Module, batch: Batch, task: Task, rng: RandomStream) -> Tensor:
        """Perturbations (n, *shape), 0 at eps 0: no attack is run."""
        if self.eps == 0:
            return torch.zeros_like(batch.x)
        return perturbation(module, batch, self.attack, self.threat, self.eps, task, rng)

    def _clamped(self, x: Tensor) -> Tensor:
        """`x`, or what the study's code leaves of it: standardised grey values of 0 to 1."""
        return x.clamp(MEAN, MEAN + DEVIATION) if self.clamp == "study" else x


class _Drawn(Hook):
    """Which of n samples an epoch visits: `rows` (k,), k of them, drawn anew at the begin of each.

    The loop goes through k places, whose ids say which of `rows` to take. What else they hold is not looked at.
    """

    def __init__(self, n: int, k: int) -> None:
        self.n, self.rows = n, torch.arange(k)

    def places(self, samples: Samples) -> Samples:
        return replace(samples.select(self.rows), ids=torch.arange(len(self.rows)))

    def begin_epoch(self, epoch: int, rng: RandomStream) -> None:
        self.rows = torch.randperm(self.n, generator=rng.generator())[: len(self.rows)]


STUDY = FGSMAugmentation(
    epochs=40,
    batch=1,
    lr=1e-6,
    base=Augmented(epochs=50, batch=1, lr=1e-5, keep="best", cosine_lr=False, augment=True),
    threat=Threat("linf", bounds=False, unit="SD"),
    eps=1e-5,
    share=0.06,
    augment=True,
    clamp="study",
)


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"fgsm-augmentation": FGSMAugmentation(), "fgsm-augmentation-study": STUDY}
