"""Is this number believable? Cheap checks made on every row.

Raised when something else lowers the score by more than half a point, or when the victim is not the fixed
function it is scored as. After Carlini et al. 2019 (arXiv 1902.06705), Croce and Hein 2020 (arXiv 2003.01690),
appendix, and Pintor et al. 2022 (arXiv 2106.09947).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ecgbench.checks.chance import verdict
from ecgbench.checks.flags import DYNAMIC, GRAD, LOSS, NOISE, NOOP, PROB, RANDOM, STATE, STEP, Flag
from ecgbench.checks.probe import EFFECT, EOT, Check, FinishedSweep, ascent
from ecgbench.core.data import Batch
from ecgbench.core.fingerprint import fingerprint
from ecgbench.core.losses import cross_entropy, margin
from ecgbench.core.random import RandomStream
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep

__all__ = ["CheapChecks", "Check", "differentiable", "not_applicable"]

STEPS, LENGTH = 20, 0.25  # of eps
DRAWS = 20
SAME = 1e-4  # of the largest logit (Croce and Hein 2020, appendix)


@dataclass(frozen=True)
class CheapChecks:
    """A finished sweep and its outcomes, looked at once more at the eps that decides, `headline`."""

    sweep: Sweep
    outcomes: Outcomes
    headline: float

    def run(self) -> tuple[Check, ...]:
        """Every cheap check, in a fixed order."""
        return tuple(_cheap(FinishedSweep(self.sweep, self.outcomes, self.headline)))


def _cheap(finished: FinishedSweep) -> Iterator[Check]:
    yield from verdict(finished.outcomes)
    yield from _function(finished)
    smooth = differentiable(finished, finished.sweep.victim)
    yield _gradients(finished) if smooth else Check(GRAD.code, True, 1.0, 0.0, "the victim gives no gradient at all")
    yield _noop(finished)
    yield finished.effect_of(NOISE, _random_points, f"best of {DRAWS} random points of the ball, on robust samples")
    if not smooth:
        yield from map(not_applicable, (LOSS, STEP))
        return
    note = f"{STEPS} steps on the margin from the clean sample, on robust samples"
    yield finished.effect_of(LOSS, lambda trial, _: ascent(trial, margin, STEPS, LENGTH), note)
    yield _steps(finished)


def differentiable(finished: FinishedSweep, victim: Victim) -> bool:
    """Whether any gradient of the victim's logits reaches the signal."""
    batch = next(finished.batches(finished.first(finished.outcomes.correct, 2)), None)
    if batch is None:
        return True
    x = batch.x.clone().requires_grad_()
    with torch.enable_grad():
        logits = victim.logits(x, batch, finished.rng.fold_in("logits"))
    return logits.requires_grad and torch.autograd.grad(logits.sum(), x, allow_unused=True)[0] is not None


def not_applicable(flag: Flag) -> Check:
    """A check that needs a gradient where there is none."""
    return Check(flag.code, False, 0.0, EFFECT, "not asked: the victim gives no gradient")


def _function(finished: FinishedSweep) -> Iterator[Check]:
    """The victim is one fixed function, and shows logits."""
    victim = finished.sweep.victim
    batch = next(finished.batches(finished.first(finished.outcomes.correct)), None)
    if batch is None:
        batch = finished.sweep.samples[:0].to(finished.sweep.device)
    before = fingerprint(victim.module)
    with torch.no_grad():
        once, again = (finished.logits(batch) for _ in range(2))
    yield _random(finished, batch, once, again)
    with torch.enable_grad():
        watched = victim.logits(batch.x.clone().requires_grad_(), batch, finished.rng.fold_in("logits")).detach()
    moved, same = _agree(batch, victim, once, watched)
    yield Check(DYNAMIC.code, not same, moved, SAME, "largest change of a logit when a gradient can be asked for")
    changed = fingerprint(victim.module) != before
    yield Check(STATE.code, changed, float(changed), 0.0, "a forward changes weights or buffers")
    shown = len(batch) > 0 and victim.outputs.are_probabilities(once)
    yield Check(PROB.code, shown, float(shown), 0.0, "outputs are probabilities, not logits")


def _random(finished: FinishedSweep, batch: Batch, once: Tensor, again: Tensor) -> Check:
    """A victim that says it is randomised must be the same at the same draws, and be asked often enough."""
    moved, same = _agree(batch, finished.sweep.victim, once, again)
    if finished.sweep.victim.takes_rng and finished.sweep.attack.eot < EOT:
        note = f"the victim is randomised; the attack averages {finished.sweep.attack.eot} draws a step, not {EOT}"
        return Check(RANDOM.code, True, moved, SAME, note)
    return Check(RANDOM.code, not same, moved, SAME, "largest change of a logit between two forwards")


def _agree(batch: Batch, victim: Victim, once: Tensor, again: Tensor) -> tuple[float, bool]:
    """The largest change of a logit, and whether it is one of rounding and no prediction changes."""
    moved, largest = (float(part.abs().amax()) if len(once) else 0.0 for part in (once - again, once))
    predicted = [victim.outputs.predict(part, batch.y) for part in (once, again)]
    return moved, torch.equal(*predicted) and moved <= SAME * max(1.0, largest)


def _gradients(finished: FinishedSweep) -> Check:
    """Finite gradients at the clean samples."""
    bad = total = 0
    for batch in finished.batches(finished.first(finished.outcomes.correct)):
        trial = finished.trial(batch)
        trial.gradient(torch.zeros_like(batch.x), margin)
        bad += int(trial.memory.rough.sum())
        total += len(batch)
    share = bad / total if total else 0.0
    return Check(GRAD.code, bad > 0, share, 0.0, "share of samples whose gradient is not finite")


def _noop(finished: FinishedSweep) -> Check:
    moved = bool(finished.outcomes.size[finished.position][finished.attacked].any())
    still = bool(finished.is_robust.any()) and not moved
    return Check(NOOP.code, still, float(still), 0.0, "every returned perturbation is 0")


def _steps(finished: FinishedSweep) -> Check:
    """Steps that cannot cross the ball, where full steps on the same loss find more."""
    reach = finished.sweep.attack.reach(finished.eps)
    if reach is None or reach >= 2 * finished.eps:
        return Check(STEP.code, False, 0.0, EFFECT, "steps long enough")
    note = f"steps reach {reach:.3g} of 2 eps; {STEPS} full steps on robust samples"
    return finished.effect_of(STEP, lambda trial, _: ascent(trial, cross_entropy, STEPS, LENGTH), note)


def _random_points(trial: Trial, rng: RandomStream) -> None:
    for draw in range(DRAWS):
        left = trial.remaining()
        if len(left):
            left.submit(left.ball.sample(left.batch.ids, left.shape, rng.fold_in(draw)))
