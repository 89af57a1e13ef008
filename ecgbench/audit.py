"""Is this number believable? The costly checks, made on demand (`--audit`) or by a suite.

Like the cheap ones they are judged by effect: other losses, more steps, no gradient at all, another victim's
perturbations or no limit must not lower what the attack left standing. After Carlini et al. 2019 (arXiv 1902.06705),
Athalye et al. 2018 (arXiv 1802.00420), Tramer et al. 2020 (arXiv 2002.08347), Pintor et al. 2022 (arXiv 2106.09947)
and Zimmermann et al. 2022 (arXiv 2206.13991); what has no source is this project's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ecgbench.data import Batch
from ecgbench.descent import State, descend, in_turn
from ecgbench.effect import EFFECT, Aftermath, Check
from ecgbench.keyed import Keyed
from ecgbench.losses import cross_entropy, margin, pair_margin
from ecgbench.outcomes import Outcomes
from ecgbench.planted import Planted, plant
from ecgbench.sweep import Sweep
from ecgbench.threat import Ball
from ecgbench.trial import Loss, Slope, Trial
from ecgbench.victim import Victim

ROWS = 200  # survivors looked at (a few hundred, as Carlini et al. 2019 do)
FEW = 50  # samples for what costs most
GAP = 20.0  # of logits: beyond, float32 gives the other classes a softmax of next to nothing
AGREE = 0.9  # least median cosine of gradient and finite differences
COUPLED = 1e-4  # largest change of a logit by company, of the largest logit (Croce and Hein 2020, of two forwards)
FOUND = 0.95  # least share of planted adversarial examples that the attack must find (Zimmermann et al. 2022)


@dataclass(frozen=True)
class Audit:
    """A finished sweep and its outcomes at the eps that decides, `headline`, tried by stronger and stranger means.

    `twin` is an undefended victim of the same model, data and seed; None if there is none.
    """

    sweep: Sweep
    outcomes: Outcomes
    headline: float
    twin: Victim | None = None

    def run(self) -> tuple[Check, ...]:
        """Every costly check, in a fixed order."""
        return tuple(_costly(Aftermath(self.sweep, self.outcomes, self.headline), self.twin))


def _costly(after: Aftermath, twin: Victim | None) -> Iterator[Check]:
    yield _coupled(after)
    yield _masked(after)
    yield _unbounded(after)
    yield after.lowered("LOSSSAT", _saturated, f"margins, where the cross-entropy is flat or a gap over {GAP:g}", ROWS)
    yield after.lowered("TARGETED", _targeted, "100 steps toward every other class, on survivors", ROWS)
    again = partial(_again, after)
    yield after.lowered("NOTCONV", again, "the attack again, with twice the steps, from another start", ROWS)
    yield after.lowered("BB>WB", _black_box, "a walk by signs of score differences, on survivors", FEW)
    if twin is not None:
        transferred = partial(_transferred, after, twin)
        yield after.lowered("TRANSFER", transferred, "perturbations of the undefended twin, on survivors", ROWS)
    yield _active(after)


def _coupled(after: Aftermath) -> Check:
    """A sample's logits alone and in company (our own); draws belong to the sample and are the same in both."""
    batch = next(after.batches(after.first(after.outcomes.correct, 32)), None)
    if batch is None:
        return Check("BATCHDEP", False, 0.0, COUPLED, "not asked: nobody is right")
    with torch.no_grad():
        together = after.logits(batch)
        alone = torch.cat(
            [after.logits(batch[torch.tensor([row], device=batch.x.device)]) for row in range(len(batch))]
        )
    moved = float((together - alone).abs().amax() / together.abs().amax().clamp_min(1e-12))
    return Check("BATCHDEP", moved > COUPLED, moved, COUPLED, "largest change of a logit by other samples of a batch")


def _masked(after: Aftermath) -> Check:
    """The gradient against finite differences (after Athalye et al. 2018): does it tell how the margin changes?

    Survivors are asked, for a mask that saves nobody is none: at the sample and, in case the mask begins beside it,
    at a random point of the ball.
    """
    cosines = [1.0]
    if _share(after) > EFFECT:
        batches = list(after.batches(after.first(after.standing, FEW)))
        places = (torch.cat([_agreement(after, batch, inside) for batch in batches]) for inside in (False, True))
        cosines += [float(cosine.median()) for cosine in places]
    note = "1 - median cosine of gradient and finite differences of the margin, along random directions, on survivors"
    return Check("MASKEDGRAD", 1 - min(cosines) > 1 - AGREE, 1 - min(cosines), 1 - AGREE, note)


def _agreement(after: Aftermath, batch: Batch, inside: bool, directions: int = 10, size: float = 0.1) -> Tensor:
    """Cosine, per sample, of told and seen changes of the margin over `size` eps: (n,); 1 where nothing moves.

    A randomised victim has the same draws everywhere.
    """
    trial, rng = after.trial(batch), after.rng.at("direction")
    ball, here = trial.ball, torch.zeros_like(batch.x)
    if inside:
        here = ball.sample(batch.ids, trial.shape, rng)

    def value(delta: Tensor) -> Tensor:
        return margin(after.sweep.victim.logits(batch.x + delta, batch, rng.at("victim")), trial.aim)

    with torch.enable_grad():
        now = value(here.requires_grad_())
    (slope,) = torch.autograd.grad(now.sum(), here)
    told, seen = [], []
    with torch.no_grad():
        for number in range(directions):
            step = size * ball.eps * ball.steepest(rng.at(number).normal(batch.ids, trial.shape))
            ahead, behind = ball.project(here + step), ball.project(here - step)
            told.append((slope * (ahead - behind)).flatten(1).sum(1))
            seen.append(value(ahead) - value(behind))
    changes = torch.stack(told, 1), torch.stack(seen, 1)
    still = (changes[0].abs() + changes[1].abs()).amax(1) <= 1e-5 * now.detach().abs()
    return torch.where(still, 1.0, torch.cosine_similarity(*changes, dim=1, eps=1e-30).nan_to_num(-1.0))


def _unbounded(after: Aftermath) -> Check:
    """With the whole range of the data to move in nobody may stand (Carlini et al. 2019, section 5; Pintor et al.)."""
    sweep, left, met = after.sweep, 0.0, 0.0
    test = sweep.task.test
    low, high = sweep.task.bounds or (float(test.x.amin()), float(test.x.amax()))
    span = (high - low) * (1.0 if sweep.threat.norm == "linf" else test.x[0].numel() ** 0.5)
    rules = replace(sweep.threat, mask=False, unit="native")
    for batch in after.batches(after.first(after.standing, ROWS)):
        trial = replace(after.trial(batch), ball=rules.around(batch, span, (low, high)))
        _toward_all(trial, torch.zeros_like(batch.x), 50, 0.1)
        left += float(batch.weight[~trial.fell].sum())
        met += float(batch.weight.sum())
    share = left / met * _share(after) if met else 0.0
    return Check("UNBOUNDED", share > EFFECT, share, EFFECT, "share standing when eps is the range of the data")


def _share(after: Aftermath) -> float:
    """The weighted share of all samples that stands: the most that anything can lower the score by."""
    weight = after.outcomes.weight
    return float(weight[after.standing].sum() / max(weight.sum(), 1e-12))


def _saturated(trial: Trial, rng: Keyed) -> None:
    """Rows whose cross-entropy has no gradient left, or whose logits are far apart (Croce and Hein 2020, appendix)."""
    zero = torch.zeros_like(trial.batch.x)
    top = trial.scores(zero).topk(2, dim=1).values
    _, slope = trial.slope(zero, cross_entropy)
    flat = slope.gradient.flatten(1).abs().amax(1) < 1e-12
    rows = (flat | (top[:, 0] - top[:, 1] > GAP)).nonzero().squeeze(1)
    if len(rows):
        _toward_all(trial[rows], zero[rows], 50, 0.1)


def _targeted(trial: Trial, rng: Keyed) -> None:
    """What fells victims whose untargeted gradient misleads (Croce and Hein 2020, section 6), from a random point."""
    _toward_all(trial, trial.ball.sample(trial.batch.ids, trial.shape, rng), 100, 0.05)


def _toward_all(trial: Trial, start: Tensor, steps: int, length: float) -> Tensor:
    """The margin toward every other class in turn, likeliest first, on whoever still stands."""
    if not trial.aim.leave:
        return _climb(trial, start, margin, steps, length)
    logits = trial.scores(torch.zeros_like(trial.batch.x))
    rivals = logits.scatter(1, trial.aim.label[:, None], -torch.inf).argsort(dim=1, descending=True)[:, :-1]

    def part(left: Trial, at: Tensor, rank: int) -> Tensor:
        return _climb(left.toward(rivals[at, rank]), start[at], pair_margin, steps, length)

    return in_turn(trial, (partial(part, rank=rank) for rank in range(rivals.shape[1])))


def _climb(trial: Trial, start: Tensor, loss: Loss, steps: int, length: float) -> Tensor:
    """Plain steepest ascent, `steps` steps of `length` eps."""

    def step(ball: Ball, delta: Tensor, slope: Slope, state: State) -> tuple[Tensor, State]:
        return ball.project(delta + length * ball.eps * ball.steepest(slope.gradient)), state

    return descend(trial, start, loss, step, steps)


def _again(after: Aftermath, trial: Trial, rng: Keyed) -> None:
    """A search that has converged gains nothing by being longer (Carlini et al. 2019; Pintor et al. 2022)."""
    attack = after.sweep.attack.longer()
    fresh = replace(trial, source=after.sweep.source, gradients_allowed=attack.access == "gradient")
    fresh.look(attack.perturb(fresh, rng).detach())


def _black_box(trial: Trial, rng: Keyed, steps: int = 40, pairs: int = 64, probe: float = 0.25) -> None:
    """No gradient asked: Spall's estimate (Uesato et al. 2018), by probes so long that they see over small steps."""
    delta = torch.zeros_like(trial.batch.x)
    for step in range(steps):
        rows = (~trial.fell).nonzero().squeeze(1)
        if not len(rows):
            return
        here = trial[rows]
        signs = rng.at(step).signs(torch.arange(pairs), trial.shape).to(delta.device)
        reach = (
            probe * torch.where(here.ball.free, here.ball.eps, 0.0)
            if here.ball.free is not None
            else probe * here.ball.eps
        )
        up, down = here.probe(delta[rows], torch.cat([signs, -signs]), reach, margin).chunk(2, dim=1)
        slope = ((up - down) @ signs.flatten(1)).view_as(here.batch.x)
        delta[rows] = here.ball.project(delta[rows] + 0.2 * here.ball.eps * here.ball.steepest(slope))
        here.look(delta[rows])


def _transferred(after: Aftermath, twin: Victim, trial: Trial, rng: Keyed) -> None:
    """Gradients of a victim that hides none (Papernot et al. 2016; Tramer et al. 2020), run to their end."""
    source = after.trial(trial.batch, twin)
    start = torch.zeros_like(trial.batch.x)
    trial.look(_climb(replace(source, watch="never"), start, margin, 40, 0.1))
    _toward_all(source, start, 40, 0.1)
    trial.standing().look(source.best(start)[~trial.fell])


def _active(after: Aftermath) -> Check:
    """Adversarial examples that are known to be there: the attack must find them."""
    attack, found, planted = after.sweep.attack, 0, 0
    if attack.source is not None:
        return Check("ACTIVE-TEST", False, 0.0, 1 - FOUND, "not asked: the attack works on a second victim")
    for batch in after.batches(after.first(after.attacked, FEW)):
        trial = after.trial(batch)
        heads = plant(after.sweep.victim, batch, trial.ball, after.rng.at("plant"))
        rows = heads.valid.nonzero().squeeze(1)
        if not len(rows):
            continue
        known = trial[rows]
        module = Planted(after.sweep.victim, known.batch, known.aim, heads[rows])
        hunt = Trial.begin(
            Victim(module),
            known.batch,
            known.ball,
            known.aim,
            after.rng.at("hunt"),
            watch="last" if attack.minimal else "first",
            draws=attack.eot,
            gradients_allowed=attack.access == "gradient",
            rate=known.rate,
        )
        hunt.look(attack.perturb(hunt, after.rng.at("active")).detach())
        found, planted = found + int(hunt.fell.sum()), planted + len(rows)
    missed = 1 - found / planted if planted else 0.0
    note = f"share missed of {planted} planted adversarial examples"
    return Check("ACTIVE-TEST", missed > 1 - FOUND, missed, 1 - FOUND, note)
