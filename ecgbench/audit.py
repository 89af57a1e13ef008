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
from ecgbench.descent import in_turn
from ecgbench.effect import EFFECT, Aftermath, Check, climb
from ecgbench.keyed import Keyed
from ecgbench.losses import cross_entropy, margin, pair_margin
from ecgbench.outcomes import Outcomes
from ecgbench.planted import Planted, plant
from ecgbench.sweep import Sweep
from ecgbench.trial import Trial
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
    """A sample's logits alone and in company (our own)."""
    batch = next(after.batches(after.first(after.outcomes.correct, 32)), None)
    if batch is None or after.sweep.victim.takes_rng:
        return Check("BATCHDEP", False, 0.0, COUPLED, "not asked: nobody is right, or the victim is randomised")
    with torch.no_grad():
        together = after.logits(batch)
        alone = torch.cat(
            [after.logits(batch[torch.tensor([row], device=batch.x.device)]) for row in range(len(batch))]
        )
    moved = float((together - alone).abs().amax() / together.abs().amax().clamp_min(1e-12))
    return Check("BATCHDEP", moved > COUPLED, moved, COUPLED, "largest change of a logit by other samples of a batch")


def _masked(after: Aftermath) -> Check:
    """The gradient against central differences (after Athalye et al. 2018): does it tell how the margin changes?"""
    if after.sweep.victim.takes_rng:
        return Check("MASKEDGRAD", False, 0.0, 1 - AGREE, "not asked: the victim is randomised")
    parts = [_agreement(after, batch) for batch in after.batches(after.first(after.attacked, FEW))]
    cosine = float(torch.cat(parts).median()) if parts else 1.0
    note = "1 - median cosine of gradient and finite differences of the margin, along random directions"
    return Check("MASKEDGRAD", cosine < AGREE, 1 - cosine, 1 - AGREE, note)


def _agreement(after: Aftermath, batch: Batch, directions: int = 10, size: float = 0.1) -> Tensor:
    """Cosine, per sample, of told and seen changes of the margin over `size` eps: (n,); 1 where nothing moves."""
    trial = after.trial(batch)
    _, slope = trial.slope(torch.zeros_like(batch.x), margin)
    length, ids = size * trial.ball.eps, batch.ids
    draws = (after.rng.at("direction", number).normal(ids, trial.shape) for number in range(directions))
    steps = [length * trial.ball.steepest(draw) for draw in draws]
    told = torch.stack([(slope.gradient * step).flatten(1).sum(1) for step in steps], 1)
    seen = torch.stack([_change(trial, step) for step in steps], 1)
    still = (told.abs() + seen.abs()).amax(1) <= 1e-5 * slope.value.abs()
    return torch.where(still, 1.0, torch.cosine_similarity(told, seen, dim=1, eps=1e-30))


def _change(trial: Trial, step: Tensor) -> Tensor:
    """Half the change of the margin from one side to the other: (n,)."""
    up, down = (margin(trial.scores(side * step), trial.aim) for side in (1, -1))
    return (up - down) / 2


def _unbounded(after: Aftermath) -> Check:
    """With the whole range of the data to move in nobody may stand (Carlini et al. 2019, section 5; Pintor et al.)."""
    sweep, left, met = after.sweep, 0, 0
    test = sweep.task.test
    low, high = sweep.task.bounds or (float(test.x.amin()), float(test.x.amax()))
    span = (high - low) * (1.0 if sweep.threat.norm == "linf" else test.x[0].numel() ** 0.5)
    rules = replace(sweep.threat, mask=False, unit="native")
    for batch in after.batches(after.first(after.attacked, ROWS)):
        trial = replace(after.trial(batch), ball=rules.around(batch, span, (low, high)))
        _toward_all(trial, 50, 0.1)
        left += int((~trial.fell).sum())
        met += len(batch)
    share = left / met if met else 0.0
    return Check("UNBOUNDED", share > EFFECT, share, EFFECT, "share standing when eps is the range of the data")


def _saturated(trial: Trial, rng: Keyed) -> None:
    """Rows whose cross-entropy has no gradient left, or whose logits are far apart (Croce and Hein 2020, appendix)."""
    zero = torch.zeros_like(trial.batch.x)
    top = trial.scores(zero).topk(2, dim=1).values
    _, slope = trial.slope(zero, cross_entropy)
    flat = slope.gradient.flatten(1).abs().amax(1) < 1e-12
    rows = (flat | (top[:, 0] - top[:, 1] > GAP)).nonzero().squeeze(1)
    if len(rows):
        _toward_all(trial[rows], 50, 0.1)


def _targeted(trial: Trial, rng: Keyed) -> None:
    """What fells victims whose untargeted gradient misleads (Croce and Hein 2020, section 6)."""
    _toward_all(trial, 100, 0.05)


def _toward_all(trial: Trial, steps: int, length: float) -> Tensor:
    """The margin toward every other class in turn, likeliest first, on whoever still stands."""
    if not trial.aim.leave:
        return climb(trial, margin, steps, length)
    logits = trial.scores(torch.zeros_like(trial.batch.x))
    rivals = logits.scatter(1, trial.aim.label[:, None], -torch.inf).argsort(dim=1, descending=True)[:, :-1]

    def part(left: Trial, at: Tensor, rank: int) -> Tensor:
        return climb(left.toward(rivals[at, rank]), pair_margin, steps, length)

    return in_turn(trial, (partial(part, rank=rank) for rank in range(rivals.shape[1])))


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
    unwatched = replace(source, watch="never")
    trial.look(climb(unwatched, margin, 40, 0.1))
    _toward_all(source, 40, 0.1)
    trial.standing().look(source.best(torch.zeros_like(trial.batch.x))[~trial.fell])


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
        )
        hunt.look(attack.perturb(hunt, after.rng.at("active")).detach())
        found, planted = found + int(hunt.fell.sum()), planted + len(rows)
    missed = 1 - found / planted if planted else 0.0
    note = f"share missed of {planted} planted adversarial examples"
    return Check("ACTIVE-TEST", missed > 1 - FOUND, missed, 1 - FOUND, note)
