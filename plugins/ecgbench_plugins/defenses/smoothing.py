"""Randomised smoothing: a victim that answers on a noised copy of the signal, trained on such copies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    Victim,
    hookimpl,
    train,
)


class Smoothed(Module):
    """x (n, *shape) -> what `inner` answers on x + `sigma` times standard normal noise, new at every call."""

    takes_rng = True

    def __init__(self, inner: Module, sigma: float) -> None:
        super().__init__()
        self.inner, self.sigma = inner, sigma

    def forward(self, x: Tensor, rng: RandomStream, ids: Tensor) -> object:
        noise = rng.fold_in("smoothing").normal(ids, x.shape[1:])
        return self.inner(x + self.sigma * noise)


@dataclass(frozen=True)
class Smoothing(Schedule, Defense):
    """Cross-entropy on x + sigma N(0, 1), and the same noise whenever the victim is asked; `sigma` in the unit of x.

    Cohen et al. 2019 (arXiv 1902.02918), sections 3.2 and 3.3. The schedule is that of `none`. The certificate of this
    name proves a radius in L2 of it.
    """

    sigma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sigma < float("inf"):
            raise EcgbenchError(f"sigma={self.sigma} given; expected a finite number above 0.")

    def wrap(self, module: Module, task: Task) -> Module:
        return Smoothed(module, self.sigma)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            return cross_entropy(Victim(module, task.outputs).logits(batch.x, batch, step), batch.y)

        return train(model, task, loss, self, rng, checkpoint)


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"smoothing": Smoothing()}
