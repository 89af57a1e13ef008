"""A victim whose head was changed so that an adversarial example is known to be there: does the attack find it?

After Zimmermann et al. 2022 (arXiv 2206.13991), binarization test, with the logits as features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.checks.flags import ACTIVE_TEST
from ecgbench.checks.probe import Check, FinishedSweep
from ecgbench.core.data import Batch
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Goal
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim

INNER = 64  # points inside the ball that must stay on the near side of the new head
DEPTH = 0.5  # how far out they lie, in units of eps
TRIES = 4
FEW = 50  # samples that are given a known adversarial example
FOUND = 0.95  # least share that the attack must find (Zimmermann et al. 2022, section 4.2)
LEAD = 2.0  # what the logits of all other classes lie below the lower of the two that matter


def binarization_test(finished: FinishedSweep) -> Check:
    """Adversarial examples that are known to be there, one a sample: the attack must find them."""
    attack, found, known = finished.sweep.attack, 0, 0
    if attack.surrogate is not None:
        return Check(ACTIVE_TEST.code, False, 0.0, 1 - FOUND, "not asked: the attack works on a second victim")
    for batch in finished.batches(finished.first(finished.attacked, FEW)):
        trial = finished.trial(batch)
        readouts = fit_readouts(finished.sweep.victim, batch, trial.ball, finished.rng.fold_in("plant"))
        valid = trial[readouts.valid.nonzero().squeeze(1)]
        if len(valid):
            binarized = _binarized_trial(finished, valid, readouts[readouts.valid])
            binarized.submit(finished.sweep.ask(attack, binarized, finished.rng.fold_in("active")))
            found, known = found + int(binarized.is_adversarial.sum()), known + len(valid)
    missed = 1 - found / known if known else 0.0
    note = f"share missed of {known} known adversarial examples"
    return Check.by_effect(ACTIVE_TEST, missed, 1 - FOUND, note)


def _binarized_trial(finished: FinishedSweep, known: Trial, readouts: Readouts) -> Trial:
    """The trial that the attack is given: the same rows, ball and goal, another head on the victim."""
    attack, victim = finished.sweep.attack, finished.sweep.lent
    return Trial.begin(
        Victim(BinarizedVictim(victim, known.batch, known.goal, readouts), victim.outputs),
        known.batch,
        known.ball,
        known.goal,
        finished.rng.fold_in("hunt"),
        watch="last" if attack.minimal else "first",
        gradients_allowed=attack.access == "gradient",
        draws=attack.eot if victim.takes_rng else 1,
        rate=known.rate,
    )


@dataclass(frozen=True)
class Readouts:
    """A linear readout of the logits a sample: `weight` (n, classes) and `offset` (n,), positive at the known example.

    `valid` (n,) says where a readout was found that separates the example from the clean sample and all points inside.
    """

    weight: Tensor
    offset: Tensor
    valid: Tensor

    def __getitem__(self, rows: Tensor) -> Readouts:
        return Readouts(self.weight[rows], self.offset[rows], self.valid[rows])


class BinarizedVictim(Module):
    """`victim` read out anew: the margin of a sample is its readout.

    The readout is -1 at the nearest point inside and 1 at the known example. Rows are told apart by sample id.
    """

    takes_rng = True

    def __init__(self, victim: Victim, batch: Batch, goal: Goal, readouts: Readouts) -> None:
        super().__init__()
        self.victim, self.batch, self.readouts = victim, batch, readouts
        self.takes_mask = victim.takes_mask
        self.goal = goal

    def forward(self, x: Tensor, mask: Tensor | None = None, *, rng: RandomStream, ids: Tensor) -> Tensor:
        rows = (ids[:, None] == self.batch.ids[None, :]).int().argmax(1)
        logits = self.victim.logits(x, self.batch[rows], rng)
        value = (logits * self.readouts.weight[rows]).sum(1) + self.readouts.offset[rows]
        return self.goal.outputs.with_margin(value, logits, self.goal[rows], self.batch.y[rows], LEAD)


def fit_readouts(victim: Victim, batch: Batch, ball: Ball, rng: RandomStream) -> Readouts:
    """Readouts that separate one random point of the ball's surface from points inside it, for every row.

    The direction is that of a linear discriminant of Fisher, the threshold lies half way; a row for which no one
    of a few random points can be told apart, or whose logits move by no more than rounding, is not valid.
    """
    shape = tuple(batch.x.shape[1:])
    inside = _logits(victim, batch, _inner(ball, batch, shape, rng.fold_in("inner")), rng)
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
        corner = ball.project(ball.surface(batch.ids, shape, rng.fold_in("corner", number)))
        outside = (_logits(victim, batch, corner[:, None], rng)[:, 0] - middle) * unit
        toward = torch.linalg.solve(scatter, outside[:, :, None]).squeeze(2)
        near, far = (spread @ toward[:, :, None]).squeeze(2).amax(1), (outside * toward).sum(1)
        new = ~valid & moves & torch.isfinite(far) & (far > near)
        half = torch.where(new, (far - near) / 2, 1.0)
        turned = toward * unit / half[:, None]
        weight = torch.where(new[:, None], turned, weight)
        offset = torch.where(new, -(near + far) / 2 / half - (middle * turned).sum(1), offset)
        valid |= new
    return Readouts(weight, offset, valid)


def _inner(ball: Ball, batch: Batch, shape: tuple[int, ...], rng: RandomStream) -> Tensor:
    """The clean sample and random points inside: (n, INNER, *shape)."""
    draws = [DEPTH * ball.sample(batch.ids, shape, rng.fold_in(number)) for number in range(INNER - 1)]
    return torch.stack([torch.zeros_like(batch.x), *draws], 1)


def _logits(victim: Victim, batch: Batch, delta: Tensor, rng: RandomStream) -> Tensor:
    """Logits (n, k, classes) at `delta` (n, k, *shape), one forward for each of the k."""
    with torch.no_grad():
        each = (
            victim.logits(batch.x + delta[:, number], batch, rng.fold_in(number)) for number in range(delta.shape[1])
        )
        return torch.stack(list(each), 1)
