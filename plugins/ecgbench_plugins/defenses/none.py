"""No defense: plain training on clean samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from ecgbench import Batch, Checkpoint, Defense, RandomStream, Schedule, Task, Victim, hookimpl, train
from ecgbench_plugins.defenses.recipe import Recipe, coded, convolutional


@dataclass(frozen=True)
class Standard(Schedule, Defense):
    """Cross-entropy under the common schedule: Adamax 1e-3, balanced batches of 128, 50 epochs, last epoch.

    `recipe=code` is "ce" of Ma and Liang 2020 (arXiv 2005.09134) as coded: decay and the revival of dead kernels
    beside the loss, and on a convolutional net kernels kept at unit norm; text and plain are the loss alone.
    """

    recipe: Recipe = "plain"

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        mechanisms = coded(self.recipe, unit_norm=convolutional(model), decay=True)
        before_forward, hooks = mechanisms.begin(model)

        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            before_forward()
            return cross_entropy(Victim(module).logits(batch.x, batch, step), batch.y)

        return train(model, task, loss, self, rng, checkpoint, hooks)


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"none": Standard()}
