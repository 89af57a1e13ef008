"""Iterative shrinkage-thresholding: a sparse perturbation, by proximal gradient steps on a hinge and an L1 norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import cos, pi
from typing import Literal

import torch
from torch import Tensor

from ecgbench import Attack, Ball, RandomStream, Task, Threat, Trial, ValueAndGrad, hookimpl, margin

SLACK = 1e-5  # of the lead when clean: by how much a success is one beyond rounding
CLIMBING = 0.35  # of the steps, under the weight that is aimed at
ADAM, RMSPROP, TINY = (0.9, 0.999), 0.99, 1e-8  # decays of the moments, and what keeps a divisor from 0


@dataclass(frozen=True)
class ISTA(Attack):
    """Minimises max(lead of the true class, -kappa) + weight ||delta||_1 in the ball, from 0, every sample for itself.

    Sun et al. 2018 (arXiv 1802.04822), by the ISTA of Beck and Teboulle 2009 (eq. 1.4). A step is a gradient step on
    the hinge, soft-thresholding by its length times `weight`, and projection into the ball. The hinge has gradient 0
    where the lead is below -kappa, so that a successful perturbation shrinks. Of the adversarial iterates the one of
    lowest L1 norm is the answer, less as many of its smallest entries as success can spare (`trim`, by bisection), or
    the first one (`stop_at_first`); without any, the last iterate.

    The length of a step falls along half a cosine (`decay`): on a piecewise linear loss a constant one goes round the
    optimum. `scale=sample` makes the attack indifferent to the scale of the logits: `weight` is a share of the largest
    entry of the sample's first gradient, and a first step of 1 carries this entry as far as would close the lead by
    itself, or to the end of the ball. `scale=logits` takes both as they are. `revisions` times, evenly over the steps,
    the weight of each sample is set anew, at most doubled or halved, so that about a third of its steps climb: above a
    critical weight all of them do, without success, and far below it nearly none, so that small entries fade slowly.

    The rest replays two public re-implementations as they are coded. `update` feeds the gradient to Adam or RMSprop,
    `threshold=unscaled` thresholds by `weight` whatever the length, `penalty` adds `weight` times the gradient of the
    Frobenius norm, or of the largest column sum, to the hinge's. `batch` > 0 takes so many samples at a time and the
    mean of their losses; `carry` begins each such batch with the optimizer's moments of the one before, if that had as
    many samples.
    """

    steps: int = 100
    step: float = 0.5
    weight: float = 0.05
    kappa: float = 0.0
    scale: Literal["sample", "logits"] = "sample"
    decay: Literal["cosine", "constant"] = "cosine"
    revisions: int = 19
    trim: bool = True
    stop_at_first: bool = False
    update: Literal["plain", "adam", "rmsprop"] = "plain"
    threshold: Literal["scaled", "unscaled"] = "scaled"
    penalty: Literal["none", "frobenius", "column"] = "none"
    batch: int = 0
    carry: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.step <= 0 or min(self.weight, self.kappa, self.revisions, self.batch) < 0:
            raise ValueError(
                f"steps={self.steps}, step={self.step}, weight={self.weight}, kappa={self.kappa}, "
                f"revisions={self.revisions}, batch={self.batch} given; "
                "expected steps of 1 or more, a step above 0, and the others of 0 or more"
            )
        if self.scale == "sample" and (self.update, self.threshold, self.penalty) != ("plain", "scaled", "none"):
            raise ValueError(
                f"scale=sample with update={self.update}, threshold={self.threshold}, penalty={self.penalty} given; "
                "expected scale=logits beside them"
            )
        if self.carry and not self.batch:
            raise ValueError("carry=true with batch=0 given; expected the batch whose moments are carried on")

    @property
    def stops_at_success(self) -> bool:
        """Its answer lies where the class changes, however much further it could go."""
        return True

    @property
    def determinism(self) -> Literal["sample", "chunk"]:
        return "chunk" if self.carry else "sample"

    def unfit(self, task: Task, threat: Threat) -> str | None:
        if self.penalty == "column" and len(task.shape) != 2:
            return f"penalty=column sums the columns of (time, features); {task.name} has samples of {task.shape}."
        return None

    def longer(self) -> Attack:
        return replace(self, steps=2 * self.steps)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        quiet = trial if trial.watch == "never" else replace(trial, watch="last")
        best = self.search(quiet).best
        quiet.submit(best)
        return best

    def search(self, trial: Trial) -> Found:
        """What is found for every row of a trial that watches "last" or "never"; nothing is submitted to it."""
        whole = torch.arange(len(trial), device=trial.batch.x.device)
        found, moments = [], None
        for rows in whole.split(self.batch or max(1, len(whole))):
            if moments is None or not self.carry or len(moments.mean) != len(rows):
                moments = Moments.fresh(trial.batch.x[rows])
            one, moments = self._descend(trial[rows], moments)
            found.append(one)
        return Found.joined(found)

    def _descend(self, trial: Trial, moments: Moments) -> tuple[Found, Moments]:
        """All steps for these rows, from 0; rows leave at their first success where that is enough."""
        found, rows = Found.nothing(trial.batch.x), torch.arange(len(trial), device=trial.batch.x.device)
        at = trial.value_and_grad(torch.zeros_like(trial.batch.x), margin)[1]
        lead = at.value.neg().clamp_min(0)
        least = SLACK * lead if self.scale == "sample" else torch.zeros_like(lead)
        walk, span = self._begin(trial.ball, at, moments), max(1, self.steps // (self.revisions + 1))
        for k in range(self.steps):
            if k:
                at = trial.value_and_grad(walk.delta, margin)[1]
            found.note(k, rows, walk.delta, at.value > least[rows])
            if self.stop_at_first and bool((found.first_at >= 0).all()):
                return found, walk.moments
            if self.stop_at_first and not self.carry:
                stay = (found.first_at[rows] < 0).nonzero().squeeze(1)
                trial, rows, walk, at = trial[stay], rows[stay], walk[stay], at[stay]
            if self.revisions and k and k % span == 0:
                walk = walk.reweighted(span)
            walk = self._step(k, trial.ball, walk, at)
        found.note(self.steps, rows, walk.delta, margin(trial.logits(walk.delta), trial.goal) > least[rows])
        if self.trim and not self.stop_at_first:
            self._trim(trial, found, least)
        return found, walk.moments

    def _begin(self, ball: Ball, at: ValueAndGrad, moments: Moments) -> Walk:
        """Delta 0, with the lengths and weights of the first step, by loss and gradient there."""
        length, weight = torch.full_like(ball.eps, self.step), torch.full_like(ball.eps, self.weight)
        if self.scale == "sample":
            peak = _largest(at.gradient).clamp_min(1e-30)
            far = torch.minimum(_largest(torch.maximum(ball.high, -ball.low)), _largest(ball.from_unit(ball.eps)))
            length = length * torch.minimum(far, at.value.neg().clamp_min(0).view_as(peak) / peak) / peak
            weight = weight * peak
        return Walk(torch.zeros_like(at.gradient), length, weight, torch.zeros_like(weight), moments)

    def _step(self, k: int, ball: Ball, walk: Walk, at: ValueAndGrad) -> Walk:
        """A gradient step on hinge and penalty, the soft threshold, and back into the ball."""
        delta, moments = walk.delta, walk.moments
        past = (at.value > self.kappa).view_as(ball.eps)
        uphill = torch.where(past, 0.0, at.gradient) - walk.weight * self._penalty_gradient(delta)
        if self.batch:
            uphill = uphill / len(delta)
        if self.update != "plain":
            uphill, moments = moments.step(uphill, self.update)
        length = walk.length * ((1 + cos(pi * k / self.steps)) / 2 if self.decay == "cosine" else 1)
        shrinkage = walk.weight * length if self.threshold == "scaled" else walk.weight
        ahead = delta + length * uphill
        ahead = ahead - ahead.clamp(-shrinkage, shrinkage)
        return replace(walk, delta=ball.project(ahead), climbs=walk.climbs + ~past, moments=moments)

    def _trim(self, trial: Trial, found: Found, least: Tensor) -> None:
        """Leave the smallest entries of each success out, as many as bisection finds that it can spare."""
        rows = (found.first_at >= 0).nonzero().squeeze(1)
        trial, least, whole = trial[rows], least[rows], found.best[rows]
        rank = whole.flatten(1).abs().argsort(dim=1, stable=True).argsort(1).view_as(whole)
        spared, needed = torch.zeros_like(rows), torch.full_like(rows, whole[:1].numel())
        for _ in range(int(needed.max()).bit_length() if len(rows) else 0):
            middle = (spared + needed) // 2
            fewer = torch.where(rank < middle.view(-1, *[1] * (whole.ndim - 1)), 0.0, whole)
            enough = margin(trial.logits(fewer), trial.goal) > least
            spared, needed = torch.where(enough, middle, spared), torch.where(enough, needed, middle)
        best = torch.where(rank < spared.view(-1, *[1] * (whole.ndim - 1)), 0.0, whole)
        found.best[rows], found.l1[rows] = best, best.abs().flatten(1).sum(1)

    def _penalty_gradient(self, delta: Tensor) -> Tensor | float:
        """Of the norm that is named, for each row; 0 at delta = 0."""
        if self.penalty == "frobenius":
            size = delta.flatten(1).norm(dim=1).clamp_min(1e-38)
            return delta / size.view(-1, *[1] * (delta.ndim - 1))
        if self.penalty == "column":
            columns = delta.abs().sum(1, keepdim=True)
            return delta.sign() * (columns == columns.amax(2, keepdim=True))
        return 0.0


def _largest(values: Tensor) -> Tensor:
    """The largest magnitude of each row: (n, *shape) -> (n, 1, ..., 1)."""
    return values.abs().flatten(1).amax(1).view(-1, *[1] * (values.ndim - 1))


@dataclass(frozen=True)
class Walk:
    """Where n rows stand: `delta` (n, *shape), the `length` of a first step, the `weight` and, since the last revision
    of it, how many steps have been `climbs`; (n, 1, ..., 1) each.
    """

    delta: Tensor
    length: Tensor
    weight: Tensor
    climbs: Tensor
    moments: Moments

    def __getitem__(self, rows: Tensor) -> Walk:
        length, weight, climbs = (part[rows] for part in (self.length, self.weight, self.climbs))
        return Walk(self.delta[rows], length, weight, climbs, self.moments[rows])

    def reweighted(self, steps: int) -> Walk:
        """The same with weights by which `CLIMBING` of the steps would climb, judged by the last `steps`.

        On the boundary an entry that neither grows nor fades gains its gradient by climbing and loses the weight at
        every step, so that the share of climbs is weight / gradient.
        """
        change = (CLIMBING * steps / self.climbs).clamp(0.5, 2)
        return replace(self, weight=self.weight * change, climbs=torch.zeros_like(self.climbs))


@dataclass(frozen=True)
class Moments:
    """What Adam (Kingma and Ba 2015, algorithm 1) and RMSprop keep of the gradients of each row, as in torch."""

    mean: Tensor
    square: Tensor
    steps: int

    @classmethod
    def fresh(cls, like: Tensor) -> Moments:
        """Nothing seen yet, for rows such as `like` (n, *shape)."""
        return cls(torch.zeros_like(like), torch.zeros_like(like), 0)

    def __getitem__(self, rows: Tensor) -> Moments:
        return Moments(self.mean[rows], self.square[rows], self.steps)

    def step(self, gradient: Tensor, update: Literal["adam", "rmsprop"]) -> tuple[Tensor, Moments]:
        """The direction of the next step, for a length of 1, and the moments after it."""
        steps = self.steps + 1
        if update == "rmsprop":
            square = torch.lerp(gradient.square(), self.square, RMSPROP)
            return gradient / (square.sqrt() + TINY), Moments(self.mean, square, steps)
        mean = torch.lerp(gradient, self.mean, ADAM[0])
        square = torch.lerp(gradient.square(), self.square, ADAM[1])
        spread = (square / (1 - ADAM[1] ** steps)).sqrt() + TINY
        return mean / (1 - ADAM[0] ** steps) / spread, Moments(mean, square, steps)


@dataclass(frozen=True)
class Found:
    """Of n rows the `first` adversarial iterate and the `best` one, of the lowest L1 norm `l1`: (n, *shape), (n,).

    `first_at` and `best_at` (n,) are the steps after which they stood. A row without any has -1 there, its last iterate
    in both, and an `l1` of infinity.
    """

    first: Tensor
    best: Tensor
    first_at: Tensor
    best_at: Tensor
    l1: Tensor

    @classmethod
    def nothing(cls, x: Tensor) -> Found:
        """No success yet, for rows such as `x` (n, *shape)."""
        never = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
        norm = torch.full((len(x),), torch.inf, device=x.device)
        return cls(torch.zeros_like(x), torch.zeros_like(x), never, never.clone(), norm)

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        """The rows of all parts, in order."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def note(self, k: int, rows: Tensor, delta: Tensor, hit: Tensor) -> None:
        """Take in the iterates `delta` of `rows` after `k` steps, of which `hit` are adversarial."""
        norm = delta.abs().flatten(1).sum(1)
        hopeful = self.first_at[rows] < 0
        better = hit & (norm < self.l1[rows])
        self.first[rows[hopeful]] = delta[hopeful]
        self.best[rows[better | (hopeful & ~hit)]] = delta[better | (hopeful & ~hit)]
        self.first_at[rows[hopeful & hit]] = k
        self.best_at[rows[better]] = k
        self.l1[rows[better]] = norm[better]


@hookimpl
def attacks() -> Mapping[str, Attack]:
    ehr = ISTA(
        steps=100,
        step=0.1,
        scale="logits",
        revisions=0,
        weight=0.15,
        decay="constant",
        stop_at_first=True,
        update="adam",
        threshold="unscaled",
        penalty="frobenius",
        batch=1,
        carry=True,
    )
    aa = ISTA(
        steps=1000,
        step=0.139,
        scale="logits",
        revisions=0,
        trim=False,
        weight=0.162,
        kappa=0.336,
        decay="constant",
        threshold="unscaled",
        penalty="column",
        batch=16,
        carry=True,
    )
    return {"ista": ISTA(), "ista-first": ISTA(stop_at_first=True), "ista-ehr": ehr, "ista-aa": aa}
