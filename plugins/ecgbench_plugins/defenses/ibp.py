"""Training on interval bounds: the worst answer that an attacker could cause, bounded from above, is made right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from ecgbench import (
    Batch,
    Checkpoint,
    Defense,
    EcgbenchError,
    RandomStream,
    Schedule,
    Task,
    Threat,
    Victim,
    evaluating,
    hookimpl,
    train,
)
from ecgbench_plugins.defenses.inner import check_untargeted
from ecgbench_plugins.defenses.intervals import Box, leads
from ecgbench_plugins.defenses.ramp import Ramp, check_ramp


@dataclass(frozen=True)
class IBP(Schedule, Defense):
    """clean CE(z, y) + (1 - clean) CE(worst z, y); Gowal et al. 2018 (arXiv 1810.12715), eq. 12, kappa = `clean`.

    Worst logits are those of interval bounds over what `threat` allows at `eps` (unit of the threat): for L-inf,
    mask and bounds included. `wait` epochs train on clean samples alone; over the next `warmup` ones eps and the
    bounds' share of the loss grow in equal steps. The schedule is that of `none`. Raises EcgbenchError for a module
    that intervals do not pass through, and for another norm.
    """

    threat: Threat = Threat("linf")
    eps: float = 0.03
    clean: float = 0.5
    wait: int = 1
    warmup: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eps < float("inf") or not 0 <= self.clean < 1:
            raise EcgbenchError(
                f"eps={self.eps}, clean={self.clean} given; expected eps above 0 and clean at least 0 and below 1."
            )
        if self.threat.norm != "linf":
            raise EcgbenchError(f"threat {self.threat.norm} given; intervals bound linf only.")
        check_untargeted(self.threat)
        check_ramp(self.wait, self.warmup)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        self.threat.check(task.physical, task.classes)
        one = task.train[:1].to(Victim(model).device)
        self._worst(model, one, self.eps, task, rng)  # a module without intervals fails before it is trained
        ramp = Ramp(self.warmup, self.wait)

        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            clean = cross_entropy(Victim(module).logits(batch.x, batch, step), batch.y)
            if not ramp.share:
                return clean
            bounded = cross_entropy(self._worst(module, batch, ramp.share * self.eps, task, step), batch.y)
            share = ramp.share * (1 - self.clean)
            return (1 - share) * clean + share * bounded

        return train(model, task, loss, self, rng, checkpoint, [ramp])

    def _worst(self, module: Module, batch: Batch, eps: float, task: Task, step: RandomStream) -> Tensor:
        """Upper bounds (n, classes) of all logits less the true one."""
        ball = self.threat.ball(batch, eps, task.bounds)
        low, high = (side.expand_as(batch.x) for side in (ball.low, ball.high))
        with evaluating(module) as victim:
            box = cast(Tensor, Box.between(batch.x + low, batch.x + high))
            return leads(cast(Box, victim.output(box, batch, step)), batch.y)


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"ibp": IBP()}
