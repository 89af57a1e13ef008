"""How another library sees the rows of a trial: signals u in [0, 1], and a victim that answers for them.

u is an affine picture of the perturbation, delta = width * (u - origin), so that a library's own clip to [0, 1]
and its one radius for all rows mean what the ball means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite, prod

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from ecgbench import ContractError, Trial

ROUNDING = 1e-6  # of the width: how far float32 coordinates may miss a wall


@dataclass(frozen=True)
class View:
    """Rows of a trial in the library's coordinates: `origin` (n, *shape) is the clean signal there, `width`,
    broadcastable to it, what one unit of u is in the unit of x, `eps` the radius of every row's ball in u.
    """

    trial: Trial
    origin: Tensor
    width: Tensor
    eps: float

    def delta(self, u: Tensor) -> Tensor:
        """The perturbation of each row of `u` (n, *shape), or of any number of variants where there is one row."""
        delta = self.width * (u - self.origin)
        return delta if self.trial.ball.mask is None else delta * self.trial.ball.mask

    def length(self, given: float) -> float:
        """A length given in the unit of the threat, in u; that of the first row."""
        ball = self.trial.ball
        return float(ball.length(given).flatten()[0] / ball.in_unit(self.width).flatten()[0])

    def rounded(self, u: Tensor) -> Tensor:
        """The same, put back on walls that only rounding made it miss."""
        delta = self.delta(u)
        with torch.no_grad():
            miss = delta.clamp(self.trial.ball.low, self.trial.ball.high) - delta
            miss = torch.where(miss.abs() <= ROUNDING * self.width, miss, 0.0)
        return delta + miss


def ball_view(trial: Trial) -> View:
    """The ball itself as the cube [0, 1], the clean signal in its middle: no step is lost to the range of the
    signal, and rows of different eps look alike. Only where no bounds bind.
    """
    return View(trial, torch.full_like(trial.batch.x, 0.5), trial.ball.from_unit(2 * trial.ball.eps), 0.5)


def signal_view(trial: Trial, inner: bool = False) -> View:
    """The signals as they are, their range scaled to [0, 1], for rows of one eps.

    The range ends at the task's bounds where they bind, else where these rows plus eps do. `inner` keeps the
    signals in [0.05, 0.95], for attacks that cannot leave the edge.
    """
    x, eps = trial.batch.x, float(trial.ball.eps.flatten()[0])
    bounds, own = trial.ball.bounds or (-inf, inf), (float(x.amin()) - eps, float(x.amax()) + eps)
    low, high = (end if isfinite(end) else near for end, near in zip(bounds, own, strict=True))
    if inner:
        low, high = low - (high - low) / 18, high + (high - low) / 18
    width = high - low
    return View(trial, ((x - low) / width).clamp(0, 1), torch.full_like(trial.ball.eps, width), eps / width)


def groups(trial: Trial, *, single: bool, together: bool) -> Iterator[Tensor]:
    """Places of rows that one call of the library may have: each row alone, or all rows of one eps, by rising id.

    `together` puts rows of different eps into one call. Rows of eps 0 have nothing to be attacked with.
    """
    eps = trial.ball.eps.flatten()
    rows = trial.batch.ids.argsort(stable=True)
    rows = rows[eps[rows] > 0]
    if single:
        yield from rows.split(1) if len(rows) else ()
    elif together:
        yield from (rows,) if len(rows) else ()
    else:
        yield from (rows[eps[rows] == value] for value in eps[rows].unique())


class VictimModule(Module):
    """The victim as a library meets it: u in, logits out.

    It takes u as (n, *shape) or as the image that `picture` makes of it, in any float type. The victim is no
    part of it, so a library that sets modes, freezes weights or clears gradients does so to nothing.
    `positive` adds to each row of logits what makes its smallest 0, which no softmax can see.
    """

    def __init__(self, view: View, *, positive: bool = False) -> None:
        super().__init__()
        self.view = view
        self.positive = positive
        self.anchor = Parameter(torch.zeros((), device=view.origin.device), requires_grad=False)  # tells the device
        self.eval()

    def forward(self, u: Tensor) -> Tensor:
        trial = self.view.trial
        u = u.to(trial.batch.x).reshape(-1, *trial.shape)
        if len(u) != len(trial) != 1:
            raise ContractError("an attack of another library", f"batches of {len(trial)} rows", f"{len(u)}")
        logits = trial.differentiable_logits(self.view.rounded(u))
        return logits - logits.detach().amin(1, keepdim=True) if self.positive else logits


def picture(u: Tensor) -> Tensor:
    """Signals as images (n, channels, height, width): a lead is a channel of height 1."""
    shape = tuple(u.shape[1:])
    if len(shape) == 3:
        return u
    if len(shape) > 3:
        return u.reshape(len(u), prod(shape[:-2]), *shape[-2:])
    return u.reshape(len(u), prod(shape[:-1]), 1, shape[-1])
