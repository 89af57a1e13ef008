"""Proofs by linear bounds: intervals, CROWN, and what is done about the samples that they leave open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ecgbench import Ball, Batch, Certificate, EcgbenchError, Goal, Proof, RandomStream, Victim, hookimpl
from ecgbench_plugins.certificates.branching import Search, searched
from ecgbench_plugins.certificates.graph import Graph
from ecgbench_plugins.certificates.propagation import Bounds, Margins, bounded, by_intervals, margins, pieces
from ecgbench_plugins.certificates.region import Region
from ecgbench_plugins.certificates.slopes import optimised
from ecgbench_plugins.certificates.tracing import trace

ROWS = 1 << 22
"""How many numbers all nodes of the samples bounded at once may have: 32 MiB in float64."""
GRADIENTS = 1 << 23
"""How many numbers a step of ascent may remember for each operation: 64 MiB in float64."""


@dataclass(frozen=True)
class LinearBounds(Certificate):
    """Proofs by bounds of every value of the network, in float64 with all roundings of float32 accounted for.

    `relaxation` says what bounds a ReLU: its "box" (interval bound propagation; Gowal et al. 2018, arXiv 1810.12715),
    or "lines" above and below (CROWN; Zhang et al. 2018, arXiv 1811.00866). `hidden` says the same of the values
    before each ReLU: lines for all of them cost as much as there are values, from boxes the logits alone are bounded
    by lines (Zhang et al. 2020, arXiv 1906.06316).

    What stays open gets `steps` of ascent of the lines' slopes (alpha-CROWN; Xu et al. 2021, arXiv 2011.13824), and
    then a search through about `domains` halves of split ReLUs for each row and rival class (beta-CROWN; Wang et al.
    2021, arXiv 2103.06624). A budget of domains, not of seconds, gives the same proofs on every machine.
    """

    relaxation: Literal["lines", "box"] = "lines"
    hidden: Literal["lines", "box"] = "lines"
    steps: int = 0
    domains: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.domains < 0:
            raise EcgbenchError(f"steps={self.steps}, domains={self.domains} given; expected 0 or more of each.")
        if self.relaxation == "box" and (self.hidden, self.steps, self.domains) != ("box", 0, 0):
            raise EcgbenchError("relaxation=box has no lines to improve; expected hidden=box, steps=0 and domains=0.")

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
            found = margins(graph, region, by_intervals(graph, bounds), ahead)
            if self.relaxation == "lines":
                found = margins(graph, region, bounds, ahead).best(found)
            if graph.relus and (self.steps or self.domains):
                found = self._improved(graph, region, bounds, ahead, found)
        worst = (found.least - found.error).argmin(1, keepdim=True)
        least, error = (part.gather(1, worst).squeeze(1) for part in (found.least, found.error))
        return Proof(least, error, torch.zeros_like(batch.y))

    def _improved(self, graph: Graph, region: Region, bounds: Bounds, ahead: Tensor, found: Margins) -> Margins:
        """The margins after more work on each pair of row and rival that is open."""
        rows, rivals = (found.least <= found.error).nonzero(as_tuple=True)
        least, error = found.least.clone(), found.error.clone()
        for pairs in pieces(len(rows), affordable(graph, bounds)):
            row, rival = rows[pairs], rivals[pairs]
            part, box, lead = region[row], bounds[row], ahead[row, rival]
            now = Margins(least[row, rival][:, None], error[row, rival][:, None])
            better, box = optimised(graph, part, box, lead, self.hidden, max(1, self.steps))
            now = now.best(better)
            if self.domains:
                now = now.best(self._searched(graph, part, box, lead, row, now))
            least[row, rival], error[row, rival] = now.least[:, 0], now.error[:, 0]
        return Margins(least, error)

    def _searched(
        self, graph: Graph, region: Region, bounds: Bounds, ahead: Tensor, row: Tensor, found: Margins
    ) -> Margins:
        """The margins after a search of each open pair; none of a row in which one has failed."""
        least, failed = torch.full_like(found.least, -torch.inf), set[int]()
        for pair in (~found.proven).nonzero().squeeze(1).tolist():
            if int(row[pair]) not in failed:
                one = torch.tensor([pair])
                bound, _ = searched(Search(graph, region[one], bounds[one], ahead[pair]), self.domains)
                least[pair] = bound
                if bound <= 0:
                    failed.add(int(row[pair]))
        return Margins(least, torch.zeros_like(least))


def affordable(graph: Graph, bounds: Bounds) -> int:
    """How many rows' hidden bounds are improved at once, by the values that switch and what each needs in memory."""
    boxes = [bounds.boxes[graph.nodes[relu].parents[0]] for relu in graph.relus]
    switching = sum((((box.low < 0) & (box.high > 0)).flatten(1).sum(1) for box in boxes), torch.zeros(()))
    return int(GRADIENTS // (max(1, int(switching.max())) * sum(node.size for node in graph.nodes)))


def leads(y: Tensor, goal: Goal, classes: int) -> Tensor:
    """Coefficients (n, rivals, classes) on the logits: of the lead of class `y` (n,) over each that meets the goal."""
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
        "alpha-crown": LinearBounds(steps=10),
        "beta-crown": LinearBounds(steps=10, domains=1000),
    }
