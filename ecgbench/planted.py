"""A victim whose head was changed so that an adversarial example is known to be there: does the attack find it?

After Zimmermann et al. 2022 (arXiv 2206.13991), binarization test, with the logits as features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.data import Batch
from ecgbench.keyed import Keyed
from ecgbench.threat import Aim, Ball
from ecgbench.victim import Victim

INNER = 64  # points inside the ball that must stay on the near side of the new head
DEPTH = 0.5  # how far out they lie, in units of eps
TRIES = 4
LEAD = 2.0  # what the logits of all other classes lie below the two that matter


@dataclass(frozen=True)
class Heads:
    """One linear readout of the logits per sample: `weight` (n, classes) and `offset` (n,), above 0 at the plant.

    `valid` (n,) says where a readout was found that separates the plant from the clean sample and all points inside.
    """

    weight: Tensor
    offset: Tensor
    valid: Tensor

    def __getitem__(self, rows: Tensor) -> Heads:
        return Heads(self.weight[rows], self.offset[rows], self.valid[rows])


class Planted(Module):
    """`victim` read out anew: class `rival` of a sample gets the readout, its `label` 0, the others less.

    The readout is -1 at the nearest point inside and 1 at the plant. Rows are told apart by sample id.
    """

    takes_rng = True

    def __init__(self, victim: Victim, batch: Batch, aim: Aim, heads: Heads) -> None:
        super().__init__()
        self.victim, self.batch, self.heads = victim, batch, heads
        self.takes_mask = victim.takes_mask
        self.leave = aim.label if aim.leave else batch.y
        self.reach = (aim.label + 1) % heads.weight.shape[1] if aim.leave else aim.label

    def forward(self, x: Tensor, mask: Tensor | None = None, *, rng: Keyed, ids: Tensor) -> Tensor:
        rows = (ids[:, None] == self.batch.ids[None, :]).int().argmax(1)
        logits = self.victim.logits(x, self.batch[rows], rng)
        value = (logits * self.heads.weight[rows]).sum(1) + self.heads.offset[rows]
        made = torch.full_like(logits, -LEAD).scatter(1, self.leave[rows, None], 0.0)
        return made.scatter(1, self.reach[rows, None], value[:, None])


def plant(victim: Victim, batch: Batch, ball: Ball, rng: Keyed) -> Heads:
    """Readouts that separate one random point of the ball's surface from points inside it, for every row.

    The direction is that of a linear discriminant of Fisher, the threshold lies half way; a row for which no one
    of a few random points can be told apart is not valid.
    """
    n, shape = len(batch), tuple(batch.x.shape[1:])
    inside = _logits(victim, batch, _inner(ball, batch, shape, rng.at("inner")), rng)
    spread = inside - inside.mean(1, keepdim=True)
    scatter = spread.mT @ spread / INNER
    ridge = 1e-3 * scatter.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    scatter = scatter + ridge[:, None, None] * torch.eye(inside.shape[2], device=inside.device)
    weight, offset = torch.zeros(n, inside.shape[2], device=inside.device), torch.zeros(n, device=inside.device)
    valid = torch.zeros(n, dtype=torch.bool, device=inside.device)
    for number in range(TRIES):
        corner = ball.project(_surface(ball, batch.ids, shape, rng.at("corner", number)))
        outside = _logits(victim, batch, corner[:, None], rng)[:, 0]
        toward = torch.linalg.solve(scatter, (outside - inside.mean(1))[:, :, None]).squeeze(2)
        near, far = (inside @ toward[:, :, None]).squeeze(2).amax(1), (outside * toward).sum(1)
        gap = far - near
        new = ~valid & torch.isfinite(gap) & (gap > 1e-6 * (far.abs() + near.abs()))
        half = torch.where(new, gap / 2, 1.0)
        weight = torch.where(new[:, None], toward / half[:, None], weight)
        offset = torch.where(new, -(near + far) / 2 / half, offset)
        valid |= new
    return Heads(weight, offset, valid)


def _inner(ball: Ball, batch: Batch, shape: tuple[int, ...], rng: Keyed) -> Tensor:
    """The clean sample and random points inside: (n, INNER, *shape)."""
    draws = [DEPTH * ball.sample(batch.ids, shape, rng.at(number)) for number in range(INNER - 1)]
    return torch.stack([torch.zeros_like(batch.x), *draws], 1)


def _surface(ball: Ball, ids: Tensor, shape: tuple[int, ...], rng: Keyed) -> Tensor:
    """A random point as far out as the norm allows: a corner of the cube, or a point of the sphere."""
    return ball.eps * ball.steepest(rng.signs(ids, shape) if ball.norm == "linf" else rng.normal(ids, shape))


def _logits(victim: Victim, batch: Batch, delta: Tensor, rng: Keyed) -> Tensor:
    """Logits (n, k, classes) at `delta` (n, k, *shape), one forward for each of the k."""
    with torch.no_grad():
        each = (victim.logits(batch.x + delta[:, number], batch, rng.at(number)) for number in range(delta.shape[1]))
        return torch.stack(list(each), 1)
