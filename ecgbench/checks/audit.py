"""Is this number believable? The costly checks, made on demand (`--audit`) or by a suite.

Like the cheap ones they are judged by effect: other losses, more steps, no gradient at all, another victim's
perturbations or no limit must not lower what the attack left robust. After Carlini et al. 2019 (arXiv 1902.06705),
Athalye et al. 2018 (arXiv 1802.00420), Tramer et al. 2020 (arXiv 2002.08347), Pintor et al. 2022 (arXiv 2106.09947)
and Zimmermann et al. 2022 (arXiv 2206.13991); what has no source is this project's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import torch
from torch import Tensor

from ecgbench.checks.binarization import binarization_test
from ecgbench.checks.cheap import differentiable, not_applicable
from ecgbench.checks.flags import (
    BATCHDEP,
    BLACKBOX,
    LOSSSAT,
    MASKEDGRAD,
    NOTCONV,
    TARGETED,
    TRANSFER,
    UNBOUNDED,
)
from ecgbench.checks.probe import EFFECT, Check, FinishedSweep, ascent
from ecgbench.core.data import Batch
from ecgbench.core.iteration import run_sequentially
from ecgbench.core.losses import cross_entropy, margin, pair_margin
from ecgbench.core.norms import NORMS
from ecgbench.core.random import RandomStream
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep

ROWS = 200  # remaining samples looked at (a few hundred, as Carlini et al. 2019 do)
FEW = 50  # samples for what costs most
GAP = 20.0  # of logits: beyond, float32 gives the other classes a softmax of next to nothing
AGREE = 0.9  # least median cosine of gradient and finite differences; honest victims have more than 0.98
DIRECTIONS = 10
STILL = 1e-5  # of the margin: what float32 cannot tell from nothing
COUPLED = 1e-4  # largest change of a logit by company, of the largest logit (Croce and Hein 2020, of two forwards)


@dataclass(frozen=True)
class Audit:
    """A finished sweep and its outcomes at the eps that decides, `headline`, tried by stronger and by other means.

    `undefended` is a victim of the same model, data and seed without a defense; None if there is none.
    """

    sweep: Sweep
    outcomes: Outcomes
    headline: float
    undefended: Victim | None = None

    def run(self) -> tuple[Check, ...]:
        """Every costly check, in a fixed order."""
        return tuple(_costly(FinishedSweep(self.sweep, self.outcomes, self.headline), self.undefended))


def _costly(finished: FinishedSweep, undefended: Victim | None) -> Iterator[Check]:
    yield _coupled(finished)
    if differentiable(finished, finished.sweep.victim):
        yield from _by_gradient(finished)
    else:
        yield from map(not_applicable, (MASKEDGRAD, UNBOUNDED, LOSSSAT, TARGETED))
    again = partial(_again, finished)
    yield finished.effect_of(NOTCONV, again, "the attack again, with twice the steps, from another start", ROWS)
    yield finished.effect_of(BLACKBOX, _black_box, "a walk by signs of score differences, on robust samples", FEW)
    if undefended is not None and differentiable(finished, undefended):
        transferred = partial(_transferred, finished, undefended)
        yield finished.effect_of(
            TRANSFER, transferred, "perturbations made on an undefended victim, on robust samples", ROWS
        )
    yield binarization_test(finished)


def _by_gradient(finished: FinishedSweep) -> Iterator[Check]:
    yield _masked(finished)
    yield _unbounded(finished)
    yield finished.effect_of(
        LOSSSAT, _saturated, f"margins, where the cross-entropy is flat or a gap over {GAP:g}", ROWS
    )
    note = "100 steps toward every other class from a random point, on robust samples"
    yield finished.effect_of(TARGETED, _targeted, note, ROWS)


def _coupled(finished: FinishedSweep) -> Check:
    """A sample's logits in a batch and in a pair (our own); draws belong to the sample and are the same in both."""
    batch = next(finished.batches(finished.first(finished.outcomes.correct, 32)), None)
    if batch is None:
        return Check(BATCHDEP.code, False, 0.0, COUPLED, "not asked: nobody is right")
    pairs = torch.arange(len(batch), device=batch.x.device).tensor_split(max(1, len(batch) // 2))
    with torch.no_grad():
        together = finished.logits(batch)
        apart = torch.cat([finished.logits(batch[pair]) for pair in pairs])
    moved = float((together - apart).abs().amax() / together.abs().amax().clamp_min(1e-12))
    return Check.by_effect(BATCHDEP, moved, COUPLED, "largest change of a logit by other samples of a batch")


def _masked(finished: FinishedSweep) -> Check:
    """The gradient against finite differences (after Athalye et al. 2018): does it tell how the margin changes?

    Remaining samples are asked, for a mask that saves nobody is none: at the sample and, in case the mask begins beside
    it, at a random point of the ball. The worse of the two decides.
    """
    cosines = [1.0]
    if finished.robust_share > EFFECT:
        batches = list(finished.batches(finished.first(finished.is_robust, FEW)))
        places = (torch.cat([_agreement(finished, batch, inside) for batch in batches]) for inside in (False, True))
        cosines += [float(cosine.median()) for cosine in places]
    note = "1 - median cosine of gradient and finite differences of the margin, in random directions, on robust samples"
    return Check.by_effect(MASKEDGRAD, 1 - min(cosines), 1 - AGREE, note)


def _agreement(finished: FinishedSweep, batch: Batch, inside: bool, lengths: tuple[float, ...] = (0.1, 0.01)) -> Tensor:
    """Cosine, per sample, of told and seen changes of the margin over the better of some lengths in eps: (n,).

    Over long ways an honest margin bends, over short ones rounding tells; a mask misleads over both. Where nothing
    moves over any length it is 1. A randomised victim has the same draws everywhere.
    """
    trial, rng = finished.trial(batch), finished.rng.fold_in("direction")
    ball, here = trial.ball, torch.zeros_like(batch.x)
    if inside:
        here = ball.sample(batch.ids, trial.shape, rng)

    def value(delta: Tensor) -> Tensor:
        return margin(finished.sweep.victim.logits(batch.x + delta, batch, rng.fold_in("victim")), trial.goal)

    with torch.enable_grad():
        now = value(here.requires_grad_())
    (gradient,) = torch.autograd.grad(now.sum(), here)
    draws = (ball.steepest(rng.fold_in(number).normal(batch.ids, trial.shape)) for number in range(DIRECTIONS))
    directions, origin, unit = list(draws), here.detach(), now.detach().abs().clamp_min(1e-37)[:, None]
    best = torch.full_like(now.detach(), -2.0)
    for length in lengths:
        told, seen = [], []
        for direction in directions:
            ahead, behind = (ball.project(origin + side * length * ball.eps * direction) for side in (1, -1))
            told.append((gradient * (ahead - behind)).flatten(1).sum(1))
            with torch.no_grad():
                seen.append(value(ahead) - value(behind))
        best = torch.maximum(best, _cosine(torch.stack(told, 1) / unit, torch.stack(seen, 1) / unit))
    return torch.where(best < -1.5, 1.0, best)


def _cosine(told: Tensor, seen: Tensor) -> Tensor:
    """Cosine of changes (n, directions) in units of the margin: (n,); -1 for NaN, -2 where nothing moves."""
    still = (told.abs() + seen.abs()).amax(1) <= STILL
    return torch.where(still, -2.0, torch.cosine_similarity(told, seen, dim=1, eps=1e-12).nan_to_num(-1.0))


def _unbounded(finished: FinishedSweep) -> Check:
    """With the whole range of the data to move in no sample may be robust (Carlini et al. 2019, section 5; Pintor et
    al.).
    """
    sweep, left, met = finished.sweep, 0.0, 0.0
    low, high = sweep.task.bounds or sweep.samples.span()
    span = (high - low) * NORMS[sweep.threat.norm].size_of_ones(prod(sweep.task.shape))
    rules = replace(sweep.threat, mask=False, unit="native")
    for batch in finished.batches(finished.first(finished.is_robust, ROWS)):
        trial = replace(finished.trial(batch), ball=rules.ball(batch, span, (low, high)))
        _toward_all(trial, torch.zeros_like(batch.x), 50, 0.1)
        left += float(batch.weight[~trial.is_adversarial].sum())
        met += float(batch.weight.sum())
    share = left / met * finished.robust_share if met else 0.0
    return Check.by_effect(UNBOUNDED, share, EFFECT, "share robust when eps is the range of the data")


def _saturated(trial: Trial, rng: RandomStream) -> None:
    """Rows whose cross-entropy has no gradient left, or whose logits are far apart (Croce and Hein 2020, appendix)."""
    zero = torch.zeros_like(trial.batch.x)
    lead = -margin(trial.logits(zero), replace(trial.goal, label=trial.batch.y, untargeted=True))
    _, grad = trial.value_and_grad(zero, cross_entropy)
    flat = grad.gradient.flatten(1).abs().amax(1) < 1e-12
    rows = (flat | (lead > GAP)).nonzero().squeeze(1)
    if len(rows):
        _toward_all(trial[rows], zero[rows], 50, 0.1)


def _targeted(trial: Trial, rng: RandomStream) -> None:
    """What is strong on victims whose untargeted gradient misleads (Croce and Hein 2020, section 6), from a random
    point.
    """
    _toward_all(trial, trial.ball.sample(trial.batch.ids, trial.shape, rng), 100, 0.05)


def _toward_all(trial: Trial, start: Tensor, steps: int, length: float) -> Tensor:
    """The margin toward every other class in turn, likeliest first, on what remains."""
    if not trial.goal.untargeted:
        return ascent(trial, margin, steps, length, start)
    rivals = trial.rivals()

    def part(left: Trial, at: Tensor, rank: int) -> Tensor:
        return ascent(left.toward(rivals[at, rank]), pair_margin, steps, length, start[at])

    return run_sequentially(trial, (partial(part, rank=rank) for rank in range(rivals.shape[1])))


def _again(finished: FinishedSweep, trial: Trial, rng: RandomStream) -> None:
    """A search that has converged gains nothing by being longer (Carlini et al. 2019; Pintor et al. 2022)."""
    attack = finished.sweep.attack.longer()
    fresh = replace(trial, surrogate=finished.sweep.lent_source, gradients_allowed=attack.access == "gradient")
    fresh.submit(finished.sweep.ask(attack, fresh, rng))


def _black_box(trial: Trial, rng: RandomStream, steps: int = 20, pairs: int = 64, probe: float = 0.5) -> None:
    """No gradient asked: Spall's estimate (Uesato et al. 2018), by probes so long that they see over small steps."""
    delta = torch.zeros_like(trial.batch.x)
    for step in range(steps):
        rows = (~trial.is_adversarial).nonzero().squeeze(1)
        if not len(rows):
            return
        here = trial[rows]
        signs = rng.fold_in(step).signs(torch.arange(pairs), trial.shape).to(delta.device)
        length, free = here.ball.from_unit(probe * here.ball.eps), here.ball.mask
        reach = length if free is None else torch.where(free, length, 0.0)
        up, down = here.probe(delta[rows], torch.cat([signs, -signs]), reach, margin).chunk(2, dim=1)
        gradient = ((up - down) @ signs.flatten(1)).view_as(here.batch.x)
        delta[rows] = here.ball.project(delta[rows] + 0.2 * here.ball.eps * here.ball.steepest(gradient))
        here.submit(delta[rows])


def _transferred(finished: FinishedSweep, undefended: Victim, trial: Trial, rng: RandomStream) -> None:
    """Gradients of a victim that hides none (Papernot et al. 2016; Tramer et al. 2020), run to their end."""
    surrogate = finished.trial(trial.batch, undefended)
    start = torch.zeros_like(trial.batch.x)
    trial.submit(ascent(replace(surrogate, watch="never"), margin, 40, 0.1))
    _toward_all(surrogate, start, 40, 0.1)
    trial.remaining().submit(surrogate.best(start)[~trial.is_adversarial])
