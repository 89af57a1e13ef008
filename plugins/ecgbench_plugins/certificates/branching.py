"""Branch and bound on ReLUs that may switch: each half of a split is bounded apart, until all are proven.

beta-CROWN; Wang et al. 2021 (arXiv 2103.06624), section 3: what is known of the sign of a split value enters the bound
with a Lagrange multiplier, ascended together with the slopes. Which ReLU is split: of those whose lines cost the bound
most, the one whose worse half is bounded best (Bunel et al. 2020 and De Palma et al. 2021, arXiv 2104.06718).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ecgbench_plugins.certificates.graph import Graph
from ecgbench_plugins.certificates.propagation import Bounds, Box, Lines, backward, lines
from ecgbench_plugins.certificates.region import Region

BATCH, NUMBERS = 128, 1 << 22
"""Domains that are bounded at once, as far as their values are no more numbers than this."""
CANDIDATES = 4
"""Of how many ReLUs both halves are bounded before one is split."""
STEPS, RATE, DECAY = 8, 0.2, 0.9
"""Of the ascent in each domain; slopes go on from those of the domain that was split."""


@dataclass(frozen=True)
class Domains:
    """Parts of one row's region: `low` and `high` (d, m) are what is known before all ReLUs, side by side; `sign`
    (d, m) is that of what was split, 0 elsewhere. `slopes` and `multipliers` (d, m) are those found so far.
    """

    low: Tensor
    high: Tensor
    sign: Tensor
    slopes: Tensor
    multipliers: Tensor

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, rows: Tensor | slice) -> Domains:
        return Domains(self.low[rows], self.high[rows], self.sign[rows], self.slopes[rows], self.multipliers[rows])

    def joined(self, other: Domains) -> Domains:
        """Both."""
        parts = zip(vars(self).values(), vars(other).values(), strict=True)
        return Domains(*(torch.cat(pair) for pair in parts))

    def split(self, places: Tensor) -> Domains:
        """Two domains for each: all where the value at its place is at least 0, then all where it is at most 0."""
        rows = torch.arange(len(self))
        low, high, over, under = self.low.clone(), self.high.clone(), self.sign.clone(), self.sign.clone()
        low[rows, places], high[rows, places] = 0.0, 0.0
        over[rows, places], under[rows, places] = 1.0, -1.0
        return replace(self, low=low, sign=over).joined(replace(self, high=high, sign=under))


@dataclass(frozen=True)
class Search:
    """Bounds of one linear function of the logits, `ahead` (classes,), over parts of one row's region."""

    graph: Graph
    region: Region
    bounds: Bounds
    ahead: Tensor

    def root(self) -> Domains:
        """The whole region, as `bounds` know it."""
        boxes = [self.bounds.boxes[self.graph.nodes[relu].parents[0]] for relu in self.graph.relus]
        low, high = (
            torch.cat([side.flatten(1) for side in sides], 1)
            for sides in zip(*((box.low, box.high) for box in boxes), strict=True)
        )
        slopes = torch.cat([self.bounds.lines[relu].lower.flatten(1) for relu in self.graph.relus], 1)
        return Domains(low, high, torch.zeros_like(low), slopes, torch.zeros_like(low))

    def least(self, domains: Domains, seen: dict[int, Tensor] | None = None) -> Tensor:
        """Lower bounds (d,), less rounding; coefficients on the way are put into `seen`."""
        rows = torch.arange(len(domains))
        ahead = self.ahead.expand(len(domains), 1, -1)
        region = self.region[torch.zeros_like(rows)]
        least, error = backward(self.graph, region, self._bounds(domains), self.graph.last, ahead, rows, seen)
        return least - error

    def refuted(self, domains: Domains) -> bool:
        """Whether the function is not above 0 at a point of the ball where the bound of a domain is least."""
        if not len(domains):
            return False
        seen: dict[int, Tensor] = {}
        self.least(domains, seen)
        point = self.region.x + self.region[torch.zeros(len(domains), dtype=torch.int64)].lowest(seen[0])
        return bool(((self.graph.values(point)[-1].squeeze(1) * self.ahead).sum(1) <= 0).any())

    def _bounds(self, domains: Domains) -> Bounds:
        made: dict[int, Lines] = {}
        sizes = [self.graph.nodes[relu].size for relu in self.graph.relus]
        parts = zip(*(part.split(sizes, 1) for part in vars(domains).values()), strict=True)
        for relu, each in zip(self.graph.relus, parts, strict=True):
            low, high, sign, slope, multiplier = (part.view(-1, *self.graph.nodes[relu].shape) for part in each)
            line = lines(Box(low, high))
            lower = torch.where(line.upper_from > 0, slope.clamp(0, 1), line.lower)
            made[relu] = replace(line, lower=lower, multiplier=sign * multiplier.clamp(min=0))
        first = torch.zeros(len(domains), dtype=torch.int64)
        return Bounds({}, {number: error[first] for number, error in self.bounds.errors.items()}, made)

    def ascended(self, domains: Domains) -> tuple[Tensor, Domains]:
        """The largest bounds that some steps find, and the domains with the slopes and multipliers of the last."""
        slopes, multipliers = (part.clone().requires_grad_() for part in (domains.slopes, domains.multipliers))
        optimiser = torch.optim.Adam([slopes, multipliers], lr=RATE)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, DECAY)
        best = torch.full((len(domains),), -torch.inf, dtype=torch.float64)
        for step in range(STEPS):
            with torch.enable_grad():
                least = self.least(replace(domains, slopes=slopes, multipliers=multipliers))
                loss = -least.sum()
            best = torch.maximum(best, least.detach())
            if step == STEPS - 1 or bool((best > 0).all()):
                break
            optimiser.zero_grad()
            slopes.grad, multipliers.grad = torch.autograd.grad(loss, [slopes, multipliers])
            optimiser.step()
            schedule.step()
            slopes.data.clamp_(0, 1)
            multipliers.data.clamp_(min=0)
        return best, replace(domains, slopes=slopes.detach(), multipliers=multipliers.detach())

    def choice(self, domains: Domains) -> Tensor:
        """The place to split in each domain, (d,); -1 where nothing is left to split."""
        open_ = (domains.low < 0) & (domains.high > 0)
        cost = torch.where(open_, self._cost(domains), -1.0)
        costs, places = cost.topk(min(CANDIDATES, cost.shape[1]), 1)
        worse = torch.full_like(costs, -torch.inf)
        for number in range(places.shape[1]):
            worse[:, number] = torch.minimum(*self.least(domains.split(places[:, number])).chunk(2))
        worse = torch.where(costs < 0, -torch.inf, worse)
        chosen = places.gather(1, worse.argmax(1, keepdim=True)).squeeze(1)
        return torch.where(open_.any(1), chosen, -1)

    def _cost(self, domains: Domains) -> Tensor:
        """The most that the lines of each ReLU can cost the bound, (d, m): coefficients times widest gaps."""
        seen: dict[int, Tensor] = {}
        self.least(domains, seen)
        ahead = torch.cat([seen[relu].flatten(1) for relu in self.graph.relus], 1)
        chord = -domains.low * domains.high / (domains.high - domains.low).clamp_min(1e-12)
        below = torch.maximum(-domains.slopes * domains.low, (1 - domains.slopes) * domains.high)
        return torch.where(ahead < 0, -ahead * chord, ahead * below)


def searched(search: Search, limit: int) -> tuple[float, int]:
    """A lower bound of the function over the whole region, and of how many domains it was made, at most about `limit`.

    It ends when the bound is above 0, when a point is found where the function is not, or with the limit.
    """
    waiting, done, spent = search.root(), torch.inf, 0
    size = max(1, min(BATCH, NUMBERS // sum(node.size for node in search.graph.nodes)))
    least = torch.full((1,), -torch.inf, dtype=torch.float64)
    while len(waiting):
        batch, waiting, apart = waiting[:size], waiting[size:], least[size:]
        bound, batch = search.ascended(batch)
        bound = torch.maximum(bound, least[:size])
        spent += len(batch)
        done = min(done, min(bound[bound > 0].tolist(), default=torch.inf))
        left = bound <= 0
        batch, bound = batch[left], bound[left]
        places = search.choice(batch) if len(batch) else torch.zeros(0, dtype=torch.int64)
        if spent >= limit or bool((places < 0).any()) or search.refuted(batch):
            return min([done, *bound.tolist(), *apart.tolist()]), spent
        waiting = batch.split(places).joined(waiting)
        least = torch.cat([bound, bound, apart])
    return done, spent
