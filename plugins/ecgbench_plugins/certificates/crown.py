"""Proofs by linear bounds: intervals, and CROWN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ecgbench import Ball, Batch, Certificate, EcgbenchError, Goal, Proof, RandomStream, Victim, hookimpl
from ecgbench_plugins.certificates.graph import Graph
from ecgbench_plugins.certificates.propagation import Bounds, Margins, bounded, by_intervals, margins, pieces
from ecgbench_plugins.certificates.region import Region
from ecgbench_plugins.certificates.tracing import trace

ROWS = 1 << 22
"""How many numbers all nodes of the samples bounded at once may have: 32 MiB in float64."""


@dataclass(frozen=True)
class LinearBounds(Certificate):
    """Proofs by bounds of every value of the network, in float64 with all roundings of float32 accounted for.

    `relaxation` says what bounds a ReLU: its "box" (interval bound propagation; Gowal et al. 2018, arXiv 1810.12715),
    or "lines" above and below (CROWN; Zhang et al. 2018, arXiv 1811.00866). `hidden` says the same of the values
    before each ReLU: lines for all of them cost as much as there are values, from boxes the logits alone are bounded
    by lines (Zhang et al. 2020, arXiv 1906.06316).
    """

    relaxation: Literal["lines", "box"] = "lines"
    hidden: Literal["lines", "box"] = "lines"

    def prove(self, victim: Victim, batch: Batch, ball: Ball, goal: Goal, rng: RandomStream) -> Proof:
        graph = trace(victim, batch[:8])
        length = ROWS // sum(node.size for node in graph.nodes)
        parts = [self._part(graph, batch[rows], ball[rows], goal[rows]) for rows in pieces(len(batch), length)]
        return Proof.joined(parts)

    def _part(self, graph: Graph, batch: Batch, ball: Ball, goal: Goal) -> Proof:
        with torch.no_grad():
            region = Region.of(batch.x, ball)
            bounds = bounded(graph, region, self.hidden)
            ahead = leads(batch.y, goal, graph.nodes[-1].shape[-1])
            found = self._margins(graph, region, bounds, ahead)
        worst = (found.least - found.error).argmin(1, keepdim=True)
        least, error = (part.gather(1, worst).squeeze(1) for part in (found.least, found.error))
        return Proof(least, error, torch.zeros_like(batch.y))

    def _margins(self, graph: Graph, region: Region, bounds: Bounds, ahead: Tensor) -> Margins:
        boxes = margins(graph, region, by_intervals(graph, bounds), ahead)
        return boxes if self.relaxation == "box" else margins(graph, region, bounds, ahead).best(boxes)


def leads(y: Tensor, goal: Goal, classes: int) -> Tensor:
    """Coefficients (n, rivals, classes) on the logits: of how far class `y` (n,) leads each class that meets the goal."""
    if goal.untargeted:
        others = torch.arange(classes - 1).expand(len(y), -1)
        rivals = others + (others >= y[:, None])
    else:
        rivals = goal.label[:, None]
    if bool((rivals == y[:, None]).any()):
        raise EcgbenchError("a row is to be proven not to reach the class that it has; expected another target.")
    true, rival = (torch.nn.functional.one_hot(each, classes) for each in (y[:, None], rivals))
    return (true - rival).double()


@hookimpl
def certificates() -> Mapping[str, Certificate]:
    return {
        "ibp": LinearBounds(relaxation="box", hidden="box"),
        "crown": LinearBounds(),
        "crown-ibp": LinearBounds(hidden="box"),
    }
