"""Retraining on a balanced set of which some rows are attacked: examples made once, or anew for every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

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
    balanced_accuracy,
    chunks,
    hookimpl,
    train,
)
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.defenses.inner import perturbation
from ecgbench_plugins.defenses.none import Standard


@dataclass(frozen=True)
class Retraining(Schedule, Defense):
    """Starts from the weights of `base` and goes on with a set drawn once, part of it attacked.

    At most `per_class` rows of each class are drawn (0: all). Of those that `threat` has attacked, the
    share `attacked` is perturbed by `attack` at `eps` (unit of the threat); the rest stays clean. With
    `examples="once"` that is done on the base's weights and kept; with "each-epoch" the attacked rows are drawn
    and attacked anew on the weights of the moment. With `weighted` a row of class c weighs n / (classes n_c).
    The score of an epoch is the recall, on validation rows under a fresh attack, of the classes attacked.

    `static` is the general form made once. `static-study` and `adaptive-study` hold the composition of the public
    study of PGD and retraining on CinC 2017 (300 rows a class, of 300 AF half attacked toward N, eps 0.2 in units
    of the z-score, Adam 1e-4 for the first and taken for the second); its text leaves batch, draws and class weights
    open: 64, once, as above. Padding stays clean here, not there; of noisy recordings it had 46.
    """

    base: Defense = Standard()
    attack: Attack = PGD(steps=20, rel_step=0.25)
    threat: Threat = Threat("linf")
    eps: float = 0.03
    attacked: float = 0.5
    per_class: int = 0
    examples: Literal["once", "each-epoch"] = "once"
    weighted: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eps < float("inf") or not 0 < self.attacked <= 1 or self.per_class < 0:
            raise EcgbenchError(
                f"eps={self.eps}, attacked={self.attacked}, per_class={self.per_class} given; expected eps above 0, "
                "attacked above 0 and at most 1, and per_class of 0 or more."
            )

    def unfit(self, task: Task) -> str | None:
        if self.attack.surrogate is not None:
            return "a retraining has no second victim; expected an attack that needs none."
        try:
            self.threat.check(task.physical, task.classes)
        except EcgbenchError as fault:
            return f"the threat that this defense trains against does not fit {task.name}: {fault}"
        return self.attack.unfit(task, self.threat)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        device = next(model.parameters()).device
        drawn = composed(task.train, self.per_class, rng.fold_in("draw")).to(device)
        weight = class_weights(drawn.y, len(task.classes)) if self.weighted else drawn.x.new_ones(len(task.classes))
        examples = _Examples(self, model, drawn, task, rng.fold_in("examples"))

        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            logits = Victim(module).logits(batch.x + examples.delta[batch.ids], batch, step)
            return (weight[batch.y] * cross_entropy(logits, batch.y, reduction="none")).mean()

        def score(module: Module, of: Samples, step: RandomStream) -> float:
            aimed = of[self.threat.goal(of.y, task.outputs).eligible]
            delta = self._attack(module, aimed, task, step.fold_in("attack"))
            return balanced_accuracy(module, replace(aimed, x=aimed.x + delta), step) if len(aimed) else 0.0

        return train(model, replace(task, train=drawn), loss, self, rng, checkpoint, [examples], score)

    def _attack(self, module: Module, batch: Batch, task: Task, rng: RandomStream) -> Tensor:
        """Perturbations (n, *shape) of all rows on the present weights, in pieces."""
        parts = [
            perturbation(module, batch[rows], self.attack, self.threat, self.eps, task, rng)
            for rows in chunks(torch.arange(len(batch), device=batch.y.device), task.shape)
        ]
        return torch.cat(parts) if parts else torch.zeros_like(batch.x)


class _Examples(Hook):
    """The perturbation of every row of the set, `delta` (n, *shape): zero where a row stays clean.

    A training that goes on after a kill makes those of the base again, the same ones: it begins with its weights.
    """

    def __init__(self, how: Retraining, module: Module, rows: Samples, task: Task, rng: RandomStream) -> None:
        self.how, self.module, self.rows, self.task = how, module, rows, task
        self.delta = torch.zeros_like(rows.x)
        if how.examples == "once":
            self._remake(rng)

    def begin_epoch(self, epoch: int, rng: RandomStream) -> None:
        if self.how.examples == "each-epoch":
            self._remake(rng)

    def _remake(self, rng: RandomStream) -> None:
        aimed = self.how.threat.goal(self.rows.y, self.task.outputs).eligible
        chosen = share_of_each(self.rows.y.where(aimed, -1), self.how.attacked, rng.fold_in("which"))
        self.delta.zero_()
        self.delta[chosen] = self.how._attack(self.module, self.rows[chosen], self.task, rng.fold_in("attack"))


def composed(samples: Samples, per_class: int, rng: RandomStream) -> Samples:
    """At most `per_class` rows of each class drawn from `samples` (0: all), numbered anew from 0."""
    lot = rng.uniform(samples.ids, ())
    chosen = []
    for label in samples.y.unique():
        rows = (samples.y == label).nonzero().squeeze(1)
        chosen.append(rows[lot[rows].argsort(stable=True)][: per_class or None])
    part = samples[torch.cat(chosen).sort().values]
    return replace(part, ids=torch.arange(len(part), device=part.ids.device))


def share_of_each(y: Tensor, share: float, rng: RandomStream) -> Tensor:
    """Row numbers of a random `share` of each class of y (n,), rounded up; rows of class -1 are never drawn."""
    lot = rng.uniform(torch.arange(len(y), device=y.device), ())
    chosen = [torch.zeros(0, dtype=torch.int64, device=y.device)]
    for label in y.unique():
        if label >= 0:
            rows = (y == label).nonzero().squeeze(1)
            chosen.append(rows[lot[rows].argsort(stable=True)][: -int(-share * len(rows) // 1)])
    return torch.cat(chosen).sort().values


def class_weights(y: Tensor, classes: int) -> Tensor:
    """The weight n / (classes n_c) of each class, (classes,) float32; 1 for a class without rows."""
    counts = y.bincount(minlength=classes)
    return torch.where(counts > 0, len(y) / (classes * counts.clamp(min=1)), 1.0).float()


STUDY = Retraining(
    epochs=75,
    batch=64,
    lr=1e-4,
    optimizer="adam",
    balanced=False,
    attack=PGD(steps=20, abs_step=0.02, start="zero"),
    threat=Threat("linf", source_classes=("A",), target="N"),
    eps=0.2,
    per_class=300,
    weighted=True,
)


@hookimpl
def defenses() -> Mapping[str, Defense]:
    fresh = replace(STUDY, epochs=150, attack=PGD(steps=10, abs_step=0.02, start="zero"), examples="each-epoch")
    return {"static": Retraining(), "static-study": STUDY, "adaptive-study": fresh}
