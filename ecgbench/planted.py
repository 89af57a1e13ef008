"""A victim whose head was changed so that an adversarial example is known to be there: does the attack find it?

After Zimmermann et al. 2022 (arXiv 2206.13991), binarization test, with the logits as features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.data import Batch
from ecgbench.effect import Aftermath, Check
from ecgbench.keyed import Keyed
from ecgbench.threat import Aim, Ball
from ecgbench.trial import Trial
from ecgbench.victim import Victim

INNER = 64  # points inside the ball that must stay on the near side of the new head
DEPTH = 0.5  # how far out they lie, in units of eps
TRIES = 4
FEW = 50  # samples that are given a plant
FOUND = 0.95  # least share that the attack must find (Zimmermann et al. 2022, section 4.2)
LEAD = 2.0  # what the logits of all other classes lie below the lower of the two that matter


def active_test(after: Aftermath) -> Check:
    """Adversarial examples that are known to be there, one a sample: the attack must find them."""
    attack, found, planted = after.sweep.attack, 0, 0
    if attack.source is not None:
        return Check("ACTIVE-TEST", False, 0.0, 1 - FOUND, "not asked: the attack works on a second victim")
    for batch in after.batches(after.first(after.attacked, FEW)):
        trial = after.trial(batch)
        heads = plant(after.sweep.victim, batch, trial.ball, after.rng.at("plant"))
        known = trial[heads.valid.nonzero().squeeze(1)]
        if len(known):
            hunt = _hunt(after, known, heads[heads.valid])
            hunt.look(after.sweep.ask(attack, hunt, after.rng.at("active")))
            found, planted = found + int(hunt.fell.sum()), planted + len(known)
    missed = 1 - found / planted if planted else 0.0
    note = f"share missed of {planted} planted adversarial examples"
    return Check("ACTIVE-TEST", missed > 1 - FOUND, missed, 1 - FOUND, note)


def _hunt(after: Aftermath, known: Trial, heads: Heads) -> Trial:
    """The trial that the attack is given: the same rows, ball and aim, another head on the victim."""
    attack, victim = after.sweep.attack, after.sweep.lent
    return Trial.begin(
        Victim(Planted(victim, known.batch, known.aim, heads)),
        known.batch,
        known.ball,
        known.aim,
        after.rng.at("hunt"),
        watch="last" if attack.minimal else "first",
        gradients_allowed=attack.access == "gradient",
        draws=attack.eot if victim.takes_rng else 1,
        rate=known.rate,
    )


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
    """`victim` read out anew: class `reach` of a sample gets the readout, class `leave` 0, the others less.

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
        made = (value.clamp(max=0.0) - LEAD)[:, None].expand_as(logits).scatter(1, self.leave[rows, None], 0.0)
        return made.scatter(1, self.reach[rows, None], value[:, None])


def plant(victim: Victim, batch: Batch, ball: Ball, rng: Keyed) -> Heads:
    """Readouts that separate one random point of the ball's surface from points inside it, for every row.

    The direction is that of a linear discriminant of Fisher, the threshold lies half way; a row for which no one
    of a few random points can be told apart, or whose logits move by no more than rounding, is not valid.
    """
    shape = tuple(batch.x.shape[1:])
    inside = _logits(victim, batch, _inner(ball, batch, shape, rng.at("inner")), rng)
    middle = inside.mean(1)
    spread = inside - middle[:, None]
    size = spread.abs().amax((1, 2))
    moves = size > 1e-5 * inside.abs().amax((1, 2))
    unit = torch.where(moves, 1 / size, 0.0)[:, None]
    spread = spread * unit[:, None]
    scatter = spread.mT @ spread / INNER + 1e-4 * torch.eye(inside.shape[2], device=inside.device)
    weight, offset = torch.zeros_like(middle), torch.zeros_like(size)
    valid = torch.zeros_like(moves)
    for number in range(TRIES):
        corner = ball.project(_surface(ball, batch.ids, shape, rng.at("corner", number)))
        outside = (_logits(victim, batch, corner[:, None], rng)[:, 0] - middle) * unit
        toward = torch.linalg.solve(scatter, outside[:, :, None]).squeeze(2)
        near, far = (spread @ toward[:, :, None]).squeeze(2).amax(1), (outside * toward).sum(1)
        new = ~valid & moves & torch.isfinite(far) & (far > near)
        half = torch.where(new, (far - near) / 2, 1.0)
        turned = toward * unit / half[:, None]
        weight = torch.where(new[:, None], turned, weight)
        offset = torch.where(new, -(near + far) / 2 / half - (middle * turned).sum(1), offset)
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
