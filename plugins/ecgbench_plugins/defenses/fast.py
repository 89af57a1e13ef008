"""Adversarial training at about the price of a plain one: one step from a random start, or gradients used twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from ecgbench import (
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
from ecgbench_plugins.defenses.inner import check_untargeted, perturbation
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.defenses.ramp import Ramp, check_ramp
from ecgbench_plugins.defenses.retraining import composed

WATCH = PGD(steps=10, rel_step=0.25)


@dataclass(frozen=True)
class Fast(Schedule, Defense):
    """Adversarial training with one gradient for the attack and one for the update; Wong et al. 2020, algorithm 3.

    Every batch is perturbed from a uniform start by one step of `rel_step * eps` inside `threat` at `eps` (unit of the
    threat), in eval mode. Such a training may lose all robustness from one epoch to the next while its own loss
    still falls (section 5.1). The score of an epoch is therefore the balanced accuracy under PGD-10 on `watched`
    validation samples of each class, and the weights of the best epoch are kept. Over the first `warmup` epochs eps
    grows in equal steps. The schedule is that of `none`.
    """

    keep: Literal["last", "best"] = "best"
    rel_step: float = 1.25
    threat: Threat = Threat("linf")
    eps: float = 0.03
    warmup: int = 0
    watched: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.threat, self.eps)
        if not self.rel_step > 0 or self.watched < 1:
            raise EcgbenchError(
                f"rel_step={self.rel_step}, watched={self.watched} given; expected a step above 0, 1 or more samples."
            )
        check_ramp(self.warmup)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        self.threat.check(task.physical, task.classes)
        ramp, attack = Ramp(self.warmup), PGD(steps=1, rel_step=self.rel_step)

        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            delta = perturbation(module, batch, attack, self.threat, ramp.share * self.eps, task, step)
            return cross_entropy(Victim(module).logits(batch.x + delta, batch, step.fold_in("attacked")), batch.y)

        return train(model, task, loss, self, rng, checkpoint, [ramp], RobustScore(task, self, rng.fold_in("watched")))


@dataclass(frozen=True)
class FastFinetuning(Fast):
    """`fast` that starts from the weights of `base`, for a share of its epochs.

    Jeddi et al. 2020 fine-tune a network trained without attacks to one that withstands them, by PGD and with a
    learning rate that begins small and falls fast; here by one step, `warmup` of eps, and `cosine_lr` if asked for.
    """

    base: Defense = Standard()


@dataclass(frozen=True)
class Free(Schedule, Defense):
    """Adversarial training whose attack costs nothing: the gradient of the update also moves the perturbation.

    Shafahi et al. 2019, algorithm 1: every batch is visited `replays` times in a row; each visit updates the weights
    and, by `eps` times the steepest direction, a perturbation that is carried from batch to batch inside `threat` at
    `eps` (unit of the threat). An epoch has as many updates as one of `none` and sees a share 1 / `replays` of the
    samples. The weights kept are those of the epoch with the best score, which is that of `fast`.
    """

    keep: Literal["last", "best"] = "best"
    replays: int = 8
    threat: Threat = Threat("linf")
    eps: float = 0.03
    watched: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.threat, self.eps)
        if self.replays < 1 or self.watched < 1:
            raise EcgbenchError(f"replays={self.replays}, watched={self.watched} given; expected 1 or more.")

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        self.threat.check(task.physical, task.classes)
        device = next(model.parameters()).device
        carried = _Carried(self, task, device)

        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            batch, delta = carried.visit(batch)
            return cross_entropy(Victim(module).logits(batch.x + delta, batch, step.fold_in("attacked")), batch.y)

        score = RobustScore(task, self, rng.fold_in("watched"))
        return train(model, task, loss, self, rng, checkpoint, [carried], score)


class RobustScore:
    """Balanced accuracy under PGD-10 on the same few validation samples of each class after every epoch."""

    def __init__(self, task: Task, how: Fast | Free, rng: RandomStream) -> None:
        self.task, self.how, self.rng = task, how, rng
        self.watched = composed(task.val, how.watched, rng)

    def __call__(self, module: Module, val: Samples, rng: RandomStream) -> float:
        watched = self.watched.to(val.y.device)
        pieces = [watched[rows] for rows in chunks(torch.arange(len(watched)), self.task.shape)]
        draws = self.rng.fold_in("attack")
        delta = [
            perturbation(module, piece, WATCH, self.how.threat, self.how.eps, self.task, draws) for piece in pieces
        ]
        return balanced_accuracy(module, replace(watched, x=watched.x + torch.cat(delta)), rng)


class _Carried(Hook):
    """The perturbation that is carried from visit to visit, `delta` (batch, *shape), and the batch now replayed."""

    def __init__(self, how: Free, task: Task, device: torch.device) -> None:
        self.how, self.task = how, task
        self.delta = torch.zeros(how.batch, *task.shape, device=device)
        self.visits, self.used = 0, self.delta[:0]
        self.batch: Batch = task.train[:0]
        self.ball = how.threat.ball(self.batch, how.eps, task.bounds)

    def state(self) -> dict[str, Tensor]:
        return {"delta": self.delta}

    def begin_epoch(self, epoch: int, rng: RandomStream) -> None:
        self.visits = 0

    def visit(self, offered: Batch) -> tuple[Batch, Tensor]:
        """The batch to train on, another one after `replays` visits, and its perturbation, which needs a gradient."""
        if self.visits % self.how.replays == 0:
            self.batch = offered
            self.ball = self.how.threat.ball(offered, self.how.eps, self.task.bounds)
        self.visits += 1
        self.used = self.ball.project(self.delta[: len(self.batch)]).requires_grad_()
        return self.batch, self.used

    def after_backward(self, optimizer: Optimizer) -> None:
        assert self.used.grad is not None
        ball = self.ball
        moved = ball.project(self.used.detach() + ball.eps * ball.steepest(self.used.grad))
        self.delta[: len(moved)] = moved


def _check(threat: Threat, eps: float) -> None:
    """Raises EcgbenchError for an eps that is no size, or a threat with a target."""
    if not eps > 0:
        raise EcgbenchError(f"eps={eps} given; expected a size above 0.")
    check_untargeted(threat)


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"fast": Fast(), "fast-finetuning": FastFinetuning(epochs=10), "free": Free()}
