"""The Square attack, for signals: random search over windows of time, without a gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ecgbench import Attack, Ball, RandomStream, Trial, hookimpl, margin

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: where the window halves
TILES = 5
SKIN = 1 - 1e-6  # L2 points are made just inside the sphere, where no projection has to move them again


@dataclass(frozen=True)
class Square(Attack):
    """Square attack of Andriushchenko et al. 2020 (arXiv 1912.00049), its squares turned into windows of time.

    The last axis is time, the others are channels. A window is a run of the times that mask and bounds leave
    free: a share `p_init` of them at first, halved on the paper's schedule, which is stretched to `queries`. A
    proposal rewrites it in all channels or in one, by a coin that says "all" less often once the share is below
    one time, and is kept if it raises the margin. L-inf: the window becomes +-eps, one sign a channel, never what
    it was. L2: it gets the norm of a second window, which becomes 0, and what the ball has left, as one peak or
    as two of opposite sign (the paper turns its two by a coin; along time, turned ones are one).
    """

    access: ClassVar[Literal["gradient", "score"]] = "score"
    queries: int = 1000
    p_init: float = 0.8

    def __post_init__(self) -> None:
        if self.queries < 2 or not 0 < self.p_init <= 1:
            raise ValueError(
                f"queries={self.queries}, p_init={self.p_init} given; expected 2 or more, a share above 0 and up to 1"
            )

    def longer(self) -> Attack:
        return replace(self, queries=2 * self.queries)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        """The first query is the start, the last one presents the answer."""
        whole, answer = trial, torch.zeros_like(trial.batch.x)
        rows, time = torch.arange(len(trial), device=answer.device), _Time.of(trial)
        delta = _start(trial, time, rng.fold_in("start"))
        value = margin(trial.logits(delta), trial.goal)
        for query in range(1, self.queries - 1):
            adversarial = trial.is_adversarial
            if bool(adversarial.any()):
                stay = (~adversarial).nonzero().squeeze(1)
                rows, time, delta, value, trial = rows[stay], time[stay], delta[stay], value[stay], trial[stay]
            if not len(rows):
                return whole.best(answer)
            proposal = _proposal(trial, time, delta, self._share(query), rng.fold_in(query))
            seen = margin(trial.logits(proposal), trial.goal)
            better = seen > value
            value = torch.where(better, seen, value)
            delta = torch.where(better.view_as(trial.ball.eps), proposal, delta)
        trial.submit(delta)
        answer[rows] = delta
        return whole.best(answer)

    def _share(self, query: int) -> float:
        """The share of time that a window holds at this query."""
        return self.p_init / 2 ** sum(query * 10_000 > at * self.queries for at in HALVINGS)


@dataclass(frozen=True, slots=True)
class _Time:
    """The free times of each row: `rank` (n, 1, time) counts them, -1 where nothing may change; `room` (n, 1, 1)."""

    rank: Tensor
    room: Tensor

    @classmethod
    def of(cls, trial: Trial) -> _Time:
        free = _channels((trial.ball.low < trial.ball.high).expand_as(trial.batch.x)).any(1, keepdim=True)
        count = free.cumsum(2)
        return cls(torch.where(free, count - 1, -1), count[:, :, -1:])

    def __getitem__(self, rows: Tensor) -> _Time:
        return _Time(self.rank[rows], self.room[rows])

    def window(self, length: Tensor, draw: Tensor) -> Tensor:
        """A run of `length` free times at random: its own ranks 0, 1, ..., -1 outside; (n, 1, time)."""
        first = (draw.view(-1, 1, 1) * (self.room - length + 1)).long()
        rank = self.rank - first
        return torch.where((rank >= 0) & (rank < length), rank, -1)


def _start(trial: Trial, time: _Time, rng: RandomStream) -> Tensor:
    """L-inf: a sign of its own for every time and channel. L2: five peaks along time in every channel."""
    ball, ids = trial.ball, trial.batch.ids
    if ball.norm.name == "linf":
        return ball.project(ball.from_unit(ball.eps * rng.signs(ids, trial.shape)))
    channels = prod(trial.shape[:-1])
    tile = (time.rank * TILES // time.room.clamp_min(1)).clamp_min(0)
    first, behind = (-(-(tile + more) * time.room // TILES) for more in (0, 1))
    peaks = torch.where(time.rank >= 0, _peak(time.rank - first, behind - first), 0.0)
    signs = rng.signs(ids, (channels, TILES)).gather(2, tile.expand(-1, channels, -1))
    return ball.project(SKIN * ball.eps * ball.steepest((signs * peaks).view_as(trial.batch.x)))


def _proposal(trial: Trial, time: _Time, delta: Tensor, share: float, rng: RandomStream) -> Tensor:
    """`delta` with one window rewritten."""
    ball, now = trial.ball, _channels(delta)
    channels = now.shape[1]
    where, other, channel, coin, turn, *_ = (draws := rng.uniform(trial.batch.ids, (5 + channels,))).unbind(1)
    signs = (draws[:, 5:, None] - 0.5).sign()
    one = (channel * channels).long()[:, None] == torch.arange(channels, device=delta.device)
    every = coin < 0.5 * (share * time.room.flatten()).clamp(max=1.0)
    chosen = (one | every[:, None])[:, :, None]
    length = (share * time.room).round().long()
    if ball.norm.name == "l2":
        length = torch.minimum(length.clamp_min(3) // 2 * 2 + 1, time.room)
        to, source = (torch.where(chosen, time.window(length, draw), -1) for draw in (where, other))
        first = torch.where(turn < 0.5, 0, length.flatten() // 2).view_as(length)
        moved = _moved(ball, _channels(ball.in_unit(delta)), to, source, signs * _peaks(to, first, length))
        return ball.project(ball.from_unit(moved.view_as(delta)))
    inside = chosen & (time.window(length.clamp_min(1), where) >= 0)
    edge = _channels(ball.from_unit(ball.eps.expand_as(delta)))
    there, back = (ball.project(torch.where(inside, side * edge, now).view_as(delta)) for side in (signs, -signs))
    unchanged = (there == delta).flatten(1).all(1).view_as(ball.eps)
    return torch.where(unchanged, back, there)


def _moved(ball: Ball, now: Tensor, to: Tensor, source: Tensor, peaks: Tensor) -> Tensor:
    """Algorithm 3: the window `to` gets `peaks` on its old values, with the norm of both windows; `source` gets 0.

    All in the unit of the ball's eps.
    """
    to, source = to >= 0, source >= 0
    unused = ((SKIN * ball.eps).view(-1, 1, 1).square() - now.square().sum((1, 2), keepdim=True)).clamp_min(0)
    share = unused / to.any(2, keepdim=True).sum(1, keepdim=True).clamp_min(1)
    norm = ((now * (to | source)).square().sum(2, keepdim=True) + share).sqrt()
    fresh = _unit(_unit(peaks * to) + _unit(now * to))
    return torch.where(to, fresh * norm, torch.where(source, 0.0, now))


def _peaks(window: Tensor, first: Tensor, length: Tensor) -> Tensor:
    """A peak on the `first` places of the window, one of opposite sign on the others; with `first` 0, one alone."""
    return torch.where(window < first, _peak(window, first), -_peak(window - first, length - first))


def _unit(values: Tensor) -> Tensor:
    """Every channel of (n, channels, time) at norm 1, or 0."""
    return values / values.norm(dim=2, keepdim=True).clamp_min(1e-12)


def _peak(place: Tensor, length: Tensor) -> Tensor:
    """The paper's pyramid along one axis: at place 0, 1, ..., length - 1 the sum of 1 / j**2 for j from
    |place - middle| + 1 to middle + 1, where middle = length // 2; anything elsewhere.
    """
    middle = length // 2
    sums = torch.arange(1, int(middle.max()) + 2, device=place.device).double().reciprocal().square().cumsum(0)
    sums = torch.cat([sums.new_zeros(1), sums]).float()
    away = torch.minimum((place - middle).abs(), middle + 1)
    return sums[middle + 1] - sums[away]


def _channels(values: Tensor) -> Tensor:
    """(n, *shape) -> (n, channels, time)."""
    return values.reshape(len(values), -1, values.shape[-1])


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"square": Square()}
