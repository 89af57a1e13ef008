"""Training on linear bounds: what intervals say of the hidden values, and CROWN of the logits over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import one_hot

from ecgbench import Batch, Defense, EcgbenchError, RandomStream, Task, Victim, evaluating, hookimpl
from ecgbench_plugins.certificates.propagation import bounded, by_intervals, margins
from ecgbench_plugins.certificates.region import Region
from ecgbench_plugins.certificates.tracing import recorded
from ecgbench_plugins.defenses.ibp import IBP


@dataclass(frozen=True)
class CrownIBP(IBP):
    """clean CE(z, y) + (1 - clean) CE(-m, y), m = beta CROWN-IBP + (1 - beta) IBP; Zhang et al. 2020, arXiv 1906.06316.

    m (section 3) are lower bounds of the lead of the true logit over each other, both over what intervals say of the
    hidden values; beta falls from 1 to `beta` while eps grows. All else is that of `ibp`. Raises EcgbenchError for a
    module that linear bounds cannot read.
    """

    beta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta <= 1:
            raise EcgbenchError(f"beta={self.beta} given; expected 0 to 1.")

    def _worst(self, module: Module, batch: Batch, eps: float, task: Task, step: RandomStream) -> Tensor:
        region = Region.of(batch.x, self.threat.ball(batch, eps, task.bounds), batch.x.dtype)
        with evaluating(module):
            graph = recorded(Victim(module, task.outputs), batch)
            bounds = bounded(graph, region, "box")
            classes = graph.nodes[-1].size
            ahead = (one_hot(batch.y, classes)[:, None] - torch.eye(classes, dtype=torch.int64)).to(batch.x.dtype)
            lines = margins(graph, region, bounds, ahead).least
            intervals = margins(graph, region, by_intervals(graph, bounds), ahead).least
        beta = 1 - (1 - self.beta) * eps / self.eps
        return -(beta * lines + (1 - beta) * intervals)


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"crown-ibp": CrownIBP()}
