"""Optimised slopes: the lower line of every ReLU that switches is turned until the bound is largest.

alpha-CROWN; Xu et al. 2021 (arXiv 2011.13824), section 3.2: any slope in [0, 1] is sound, so the slopes are ascended by
the gradient of the bound, those of the logits and those of every value before a ReLU together.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ecgbench_plugins.certificates.graph import Graph
from ecgbench_plugins.certificates.propagation import Bounds, Hidden, Margins, backward, bounded, sloped
from ecgbench_plugins.certificates.region import Region

RATE, DECAY = 0.2, 0.95


def optimised(
    graph: Graph, region: Region, bounds: Bounds, ahead: Tensor, hidden: Hidden, steps: int
) -> tuple[Margins, Bounds]:
    """Margins (p, 1) of one linear function of the logits a row, `ahead` (p, classes), and all boxes found on the way.

    Every step's boxes hold, so the smallest are kept. A row is done when it is proven.
    """
    starts = [graph.last, *((graph.nodes[relu].parents[0]) for relu in graph.relus if hidden == "lines")]
    slopes = {
        (start, relu): line.lower.clone().requires_grad_()
        for start in starts
        for relu, line in bounds.lines.items()
        if relu < start
    }
    optimiser = torch.optim.Adam(slopes.values(), lr=RATE)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, DECAY)
    rows, best = torch.arange(len(region)), None
    for _ in range(steps):
        with torch.enable_grad():
            found = bounded(graph, region, hidden, slopes, bounds)
            least, error = backward(graph, region, sloped(found, graph.last, slopes), graph.last, ahead[:, None], rows)
            loss = -(least - error).sum()
        optimiser.zero_grad()
        gradients = torch.autograd.grad(loss, list(slopes.values()), allow_unused=True)
        now = Margins(least.detach()[:, None], error.detach()[:, None])
        best = now if best is None else best.best(now)
        bounds = replace(bounds, boxes={node: box.detach() for node, box in found.boxes.items()})
        if bool(best.proven.all()):
            break
        for slope, gradient in zip(slopes.values(), gradients, strict=True):
            slope.grad = gradient
        optimiser.step()
        schedule.step()
        for slope in slopes.values():
            slope.data.clamp_(0, 1)
    assert best is not None
    lines = bounded(graph, region, "box", None, bounds)
    return best, sloped(lines, graph.last, {key: slope.detach() for key, slope in slopes.items()})
