"""Linear bounds of what a graph computes on a region: intervals forward, and CROWN's backward substitution.

Zhang et al. 2018 (arXiv 1811.00866), section 3: a linear function of a value is bounded by one of the value before it,
back to the input, where its least over the region is known. A ReLU that may switch lies between two lines.

All is computed in float64, and holds for the module in float32: a value that is rounded is off by no more than
`terms` roundings of the sum of its absolute products (Higham 2002, section 3.1), wherever that happens the linear
function multiplies it, and twice the sum of all these is subtracted. That covers what float64 rounds, too, which is
2^-29 as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ecgbench_plugins.certificates.graph import Graph
from ecgbench_plugins.certificates.region import UNIT, Region

Hidden = Literal["lines", "box"]
Slopes = Mapping[tuple[int, int], Tensor]
NUMBERS = 1 << 19
"""How many coefficients on a node are held at once: 4 MiB in float64, which caches hold."""
SMALLEST = 1e-37
"""What float32 may lose below its normal numbers."""


@dataclass(frozen=True)
class Lines:
    """What bounds a ReLU y = relu(z): lower z + lower_from <= y <= upper z + upper_from, each (n, 1, ...).

    `multiplier`, where given, is subtracted from the coefficients on z: it is that of a constraint on z.
    """

    lower: Tensor
    upper: Tensor
    upper_from: Tensor
    lower_from: Tensor | None = None
    multiplier: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> Lines:
        lower_from, multiplier = (None if part is None else part[rows] for part in (self.lower_from, self.multiplier))
        return Lines(self.lower[rows], self.upper[rows], self.upper_from[rows], lower_from, multiplier)


@dataclass(frozen=True)
class Box:
    """Between what every value of a node is: `low` and `high`, each (n, 1, ...)."""

    low: Tensor
    high: Tensor

    def __getitem__(self, rows: Tensor) -> Box:
        return Box(self.low[rows], self.high[rows])

    def within(self, other: Box) -> Box:
        """What both allow."""
        return Box(torch.maximum(self.low, other.low), torch.minimum(self.high, other.high))

    def detach(self) -> Box:
        """The same numbers without a gradient."""
        return Box(self.low.detach(), self.high.detach())

    def farthest(self) -> Tensor:
        """The largest absolute value, entry by entry."""
        return torch.maximum(-self.low, self.high)


@dataclass(frozen=True)
class Bounds:
    """Boxes of all nodes so far, what each node may be off by rounding, and the lines of the ReLUs, by number."""

    boxes: dict[int, Box]
    errors: dict[int, Tensor]
    lines: dict[int, Lines]

    def __getitem__(self, rows: Tensor) -> Bounds:
        parts = (
            {number: part[rows] for number, part in each.items()} for each in (self.boxes, self.errors, self.lines)
        )
        return Bounds(*parts)  # type: ignore[arg-type]


def bounded(
    graph: Graph, region: Region, hidden: Hidden, slopes: Slopes | None = None, known: Bounds | None = None
) -> Bounds:
    """Bounds of every node; of what goes into ReLUs by the boxes before, by "lines" from the input, too.

    `slopes` are those of the lower lines, by the node that is bounded and the ReLU; `known` are boxes found before.
    """
    bounds = Bounds({0: Box(region.x + region.low - region.slack, region.x + region.high + region.slack)}, {}, {})
    for number, node in enumerate(graph.nodes[1:], 1):
        if node.kind != "relu":
            forward(graph, number, bounds)
            if known is not None:
                bounds.boxes[number] = bounds.boxes[number].within(known.boxes[number])
            continue
        (before,) = node.parents
        if hidden == "lines":
            bounds.boxes[before] = tightened(graph, region, sloped(bounds, before, slopes or {}), before)
        box = bounds.boxes[before]
        bounds.boxes[number] = Box(box.low.clamp_min(0), box.high.clamp_min(0))
        bounds.lines[number] = lines(box)
    return bounds


def sloped(bounds: Bounds, start: int, slopes: Slopes) -> Bounds:
    """The bounds with the lower lines that `slopes` has for the node `start`; where ReLUs switch, all else is exact."""
    given = {relu: slope for (node, relu), slope in slopes.items() if node == start and relu in bounds.lines}
    if not given:
        return bounds
    changed = {relu: replace(bounds.lines[relu], lower=_sloped(bounds.lines[relu], given[relu])) for relu in given}
    return replace(bounds, lines=bounds.lines | changed)


def _sloped(line: Lines, slope: Tensor) -> Tensor:
    return torch.where(line.upper_from > 0, slope.clamp(0, 1), line.lower)


def forward(graph: Graph, number: int, bounds: Bounds) -> None:
    """Add the box and the rounding error of an affine node, from the boxes of its parents."""
    node = graph.nodes[number]
    boxes = [bounds.boxes[parent] for parent in node.parents]
    middle = torch.vmap(node.call)(*((box.low + box.high) / 2 for box in boxes))
    radius = graph.reach(number, [(box.high - box.low) / 2 for box in boxes])
    if node.terms:
        gamma = node.terms * UNIT / (1 - node.terms * UNIT)
        products = torch.vmap(node.absolute)(*(box.farthest() for box in boxes))
        bounds.errors[number] = 2 * gamma * products + SMALLEST
        radius = radius + bounds.errors[number]
    radius = radius * (1 + 1e-12) + 1e-14 * middle.abs()
    box = Box(middle - radius, middle + radius)
    if node.largest_of is not None:
        one, other = (bounds.boxes[part] for part in node.largest_of)
        box = box.within(Box(torch.maximum(one.low, other.low), torch.maximum(one.high, other.high)))
    bounds.boxes[number] = box


def lines(box: Box) -> Lines:
    """The lines round a ReLU of z in `box`: the chord above, below the one of y = 0 and y = z that leaves less area."""
    low, high = box.low, box.high
    crossing = (low < 0) & (high > 0)
    chord = high / torch.where(crossing, high - low, 1.0)
    upper = torch.where(crossing, chord, (low >= 0).to(low.dtype))
    lower = torch.where(crossing, (high >= -low).to(low.dtype), upper)
    return Lines(lower, upper, torch.where(crossing, -low * chord, 0.0))


def flat(box: Box) -> Lines:
    """The constant lines round a ReLU of z in `box`: what intervals know of it."""
    zero = torch.zeros_like(box.low)
    return Lines(zero, zero, box.high.clamp_min(0), box.low.clamp_min(0))


def tightened(graph: Graph, region: Region, bounds: Bounds, number: int) -> Box:
    """The box of a node, where it holds 0 bounded by backward substitution, too."""
    box, shape = bounds.boxes[number], graph.nodes[number].shape
    low, high = box.low.flatten(1).clone(), box.high.flatten(1).clone()
    rows, places = ((low < 0) & (high > 0)).nonzero(as_tuple=True)
    for part in pieces(len(rows), NUMBERS // (2 * graph.widest)):
        row, place = rows[part], places[part]
        one = torch.zeros(len(part), shape.numel(), dtype=low.dtype)
        one[torch.arange(len(part)), place] = 1.0
        both = torch.cat([one, -one]).view(-1, *shape)
        least, error = backward(graph, region, bounds, number, both, torch.cat([row, row]))
        below, above = (least - error).chunk(2)
        low[row, place] = torch.maximum(low[row, place], below)
        high[row, place] = torch.minimum(high[row, place], -above)
    return Box(low.view_as(box.low), high.view_as(box.high))


def backward(
    graph: Graph,
    region: Region,
    bounds: Bounds,
    number: int,
    coefficients: Tensor,
    rows: Tensor,
    seen: dict[int, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Lower bounds (b,) of linear functions of a node, and how far off rounding may be: less these they hold.

    `coefficients` (b, *shape of the node) are the functions, `rows` (b,) the row of `region` and `bounds` of each.
    The coefficients on every ReLU are put into `seen`, and those on the input as number 0.
    """
    pending = {number: coefficients}
    least, error = (torch.zeros(len(coefficients), dtype=coefficients.dtype) for _ in range(2))
    for place in range(number, 0, -1):
        ahead = pending.pop(place, None)
        if ahead is None:
            continue
        parts: tuple[Tensor, ...]
        if graph.nodes[place].kind == "relu":
            if seen is not None:
                seen[place] = ahead
            parts, constant = _through_relu(bounds.lines[place][rows], ahead)
        else:
            parts, constant = graph.transposed(place, ahead), ahead * graph.bias(place)
            if place in bounds.errors:
                error = error + (ahead.abs() * bounds.errors[place][rows]).flatten(1).sum(1)
        least = least + constant.flatten(1).sum(1)
        for parent, part in zip(graph.nodes[place].parents, parts, strict=True):
            pending[parent] = pending[parent] + part if parent in pending else part
    if seen is not None:
        seen[0] = pending[0]
    over_input, off = region[rows].least(pending[0])
    return least + over_input, error + off


def _through_relu(line: Lines, ahead: Tensor) -> tuple[tuple[Tensor], Tensor]:
    """Coefficients on y = relu(z) as coefficients on z and a constant."""
    over, under = ahead.clamp(min=0), ahead.clamp(max=0)
    before = over * line.lower + under * line.upper
    if line.multiplier is not None:
        before = before - line.multiplier
    constant = under * line.upper_from
    return (before,), constant if line.lower_from is None else constant + over * line.lower_from


@dataclass(frozen=True)
class Margins:
    """Lower bounds (n, rivals) of by how much the true logit leads each rival's; proven where above `error`."""

    least: Tensor
    error: Tensor

    @property
    def proven(self) -> Tensor:
        """Which rows keep their class against all rivals, (n,) bool."""
        return (self.least > self.error).all(1)

    def best(self, other: Margins) -> Margins:
        """Of two the one that holds by more, rival by rival."""
        better = other.least - other.error > self.least - self.error
        return Margins(torch.where(better, other.least, self.least), torch.where(better, other.error, self.error))


def margins(graph: Graph, region: Region, bounds: Bounds, ahead: Tensor) -> Margins:
    """Lower bounds of linear functions of the logits, `ahead` (n, rivals, classes)."""
    n, rivals, _ = ahead.shape
    rows = torch.arange(n).repeat_interleave(rivals)
    functions = ahead.flatten(0, 1)[:, None]
    found = [
        backward(graph, region, bounds, graph.last, functions[part], rows[part])
        for part in pieces(n * rivals, NUMBERS // graph.widest)
    ]
    least, error = (torch.cat(each).view(n, rivals) for each in zip(*found, strict=True))
    return Margins(least, error)


def pieces(n: int, length: int) -> Iterable[Tensor]:
    """0 ... n - 1 in pieces of at most `length`, none where n is 0."""
    return torch.arange(n).split(max(1, length)) if n else ()


def by_intervals(graph: Graph, bounds: Bounds) -> Bounds:
    """The same bounds with the constant lines of intervals."""
    boxes = {number: bounds.boxes[graph.nodes[number].parents[0]] for number in bounds.lines}
    return replace(bounds, lines={number: flat(box) for number, box in boxes.items()})
