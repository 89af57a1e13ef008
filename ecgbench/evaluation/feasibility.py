"""Can a threat be carried out on these samples at all? Asked before anything runs.

An attack that cannot change a signal finds nothing, and would be taken for robustness.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ecgbench.core.data import Samples, Split, Task
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.threat import Ball, Threat
from ecgbench.core.victim import chunks

ROUNDING = 0.01  # of eps: by how much rounding x + delta to float32 may change the size of delta


def check_feasible(threat: Threat, task: Task, eps: Sequence[float], split: Split = "test") -> None:
    """Raises EcgbenchError where the threat does not fit the task, leaves no sample of the split to attack, or has an
    eps that float32 cannot add to the signals. `eps` ascend, in the unit of the threat.
    """
    threat.check(task.physical, task.classes)
    samples = task.samples(split)
    meant = threat.goal(samples.y, task.outputs).eligible.nonzero().squeeze(1)
    if not len(meant):
        raise EcgbenchError(_nobody(threat, len(samples), split))
    free, coarsest, worst = False, 0.0, 0
    for rows in chunks(meant, task.shape):
        batch = samples[rows]
        smallest, largest = (threat.ball(batch, size, task.bounds) for size in (eps[0], eps[-1]))
        _check_sizes(smallest, batch, eps[0])
        _check_sizes(largest, batch, eps[-1])
        free = free or bool((largest.high > largest.low).any())
        share = smallest.size(_rounding(batch.x, smallest)) / smallest.eps.flatten()
        if float(share.amax()) > coarsest:
            coarsest, worst = float(share.amax()), int(rows[share.argmax()])
    if not free:
        raise EcgbenchError("mask and bounds leave no value of any sample to change; expected a mask with some True.")
    if coarsest > ROUNDING:
        raise EcgbenchError(_too_fine(samples[worst : worst + 1], eps[0], coarsest))


def _nobody(threat: Threat, n: int, split: Split) -> str:
    if threat.target is None or not n:
        return f"the {split} split has {n} samples to attack; expected at least one."
    if threat.source_classes:
        named = " or ".join(threat.source_classes)
        return f"none of the {n} {split} samples is of class {named}; expected source classes that occur."
    return f"all {n} {split} samples are of the target class {threat.target}; expected a target that others can reach."


def _check_sizes(ball: Ball, batch: Samples, eps: float) -> None:
    size = ball.from_unit(ball.eps).flatten(1)
    bad = ~((size > 0) & torch.isfinite(size))
    if bool(bad.any()):
        row, place = bad.nonzero()[0].tolist()
        raise EcgbenchError(
            f"eps {eps:g} is {float(size[row, place]):g} in the unit of sample {int(batch.ids[row])} (scale "
            f"{float(batch.scale[row].flatten()[place]):g}); expected a finite size above 0."
        )


def _rounding(x: Tensor, ball: Ball) -> Tensor:
    """The most that float32 rounds off x plus something small, where a change is allowed: (n, *shape)."""
    size = x.abs()
    step = (torch.nextafter(size, torch.full_like(size, torch.inf)) - size) / 2
    return step if ball.mask is None else torch.where(ball.mask, step, 0.0)


def _too_fine(one: Samples, eps: float, share: float) -> str:
    least = 1.05 * eps * share / ROUNDING  # two digits of it are never too few
    return (
        f"eps {eps:g} is too small for float32: on sample {int(one.ids)}, whose values reach "
        f"{float(one.x.abs().amax()):g}, rounding changes a perturbation by {share:.0%} of it; expected eps "
        f"of {least:.2g} or more, or signals of smaller numbers."
    )
