"""TRADES: the loss on clean samples plus how far an attack moves the predicted distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from ecgbench import (
    Ball,
    Batch,
    Checkpoint,
    Defense,
    EcgbenchError,
    Goal,
    RandomStream,
    Schedule,
    StepState,
    Task,
    Threat,
    Trial,
    ValueAndGrad,
    Victim,
    evaluating,
    hookimpl,
    iterate,
    train,
)
from ecgbench_plugins.defenses.inner import check_untargeted
from ecgbench_plugins.defenses.ramp import Ramp, check_ramp

START = 0.03  # of eps: at the clean sample itself the divergence has no gradient


@dataclass(frozen=True)
class Trades(Schedule, Defense):
    """CE(z(x), y) + `beta` KL(p(x) || p(x')), x' in the ball far from x in that KL; Zhang et al. 2019, eq. 5.

    x' is found in eval mode by `steps` steps of `rel_step * eps` inside `threat` at `eps` (unit of the threat),
    from Gaussian noise of 0.03 eps (their code: 0.001 for eps 0.031); both terms are then taken in train mode.
    Over the first `warmup` epochs eps grows in equal steps. The schedule is that of `none`.
    """

    beta: float = 6.0
    steps: int = 10
    rel_step: float = 0.25
    threat: Threat = Threat("linf")
    eps: float = 0.03
    warmup: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.eps < float("inf") and self.beta > 0 and self.steps >= 1 and self.rel_step > 0):
            raise EcgbenchError(
                f"eps={self.eps}, beta={self.beta}, steps={self.steps}, rel_step={self.rel_step} given; "
                "expected steps of 1 or more and the others above 0."
            )
        check_untargeted(self.threat)
        check_ramp(self.warmup)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        self.threat.check(task.physical, task.classes)
        ramp = Ramp(self.warmup)

        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            delta = self._perturb(module, batch, ramp.share * self.eps, task, step)
            student = Victim(module)
            clean = student.logits(batch.x, batch, step.fold_in("clean"))
            attacked = student.logits(batch.x + delta, batch, step.fold_in("attacked"))
            return cross_entropy(clean, batch.y) + self.beta * divergence(clean, attacked).mean()

        return train(model, task, loss, self, rng, checkpoint, [ramp])

    def _perturb(self, module: Module, batch: Batch, eps: float, task: Task, step: RandomStream) -> Tensor:
        """A perturbation (n, *shape) that moves the answer far from the clean one."""
        ball = self.threat.ball(batch, eps, task.bounds)
        goal = self.threat.goal(batch.y, task.outputs)
        with evaluating(module) as victim:
            trial = Trial.begin(victim, batch, ball, goal, step.fold_in("victim"), watch="never", rate=task.rate)
            noise = step.fold_in("attack").normal(batch.ids, trial.shape)
            start = ball.project(ball.from_unit(START * ball.eps * noise))
            clean = trial.logits(start.new_zeros(()).expand_as(start))

            def away(logits: Tensor, goal: Goal) -> Tensor:
                return divergence(clean, logits)

            return iterate(trial, start, away, self._uphill, self.steps)

    def _uphill(self, ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState) -> tuple[Tensor, StepState]:
        return ball.project(delta + self.rel_step * ball.eps * ball.steepest(grad.gradient)), state


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(attacked)) of each row: two (n, classes) -> (n,), in nats."""
    return kl_div(log_softmax(attacked, 1), log_softmax(clean, 1), reduction="none", log_target=True).sum(1)


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"trades": Trades()}
