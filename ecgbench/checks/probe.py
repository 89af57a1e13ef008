"""By how much something else lowers a score: the measure that checks are judged by.

A check is raised by its effect on the samples an attack left robust, not by a symptom: "any zero gradient"
or "an unbounded loss" flag honest victims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgbench.checks.flags import Flag
from ecgbench.core.data import Batch, Samples
from ecgbench.core.iteration import StepState, iterate
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball
from ecgbench.core.trial import Loss, Trial, ValueAndGrad
from ecgbench.core.victim import Victim, chunks
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep

EFFECT = 0.005  # of the score: half a point, as the board rounds
EOT = 20  # draws of a randomised victim for each answer (Croce and Hein 2020, the "rand" version)
LIMIT = 512  # samples a check looks at: an effect of half a point is then 2 or 3 samples

Probe = Callable[[Trial, RandomStream], object]
"""Something else to try on robust rows; what it makes adversarial is read from the trial."""


@dataclass(frozen=True)
class Check:
    """One check: its code, whether it was raised, the effect found, the threshold, and what was done in words."""

    code: str
    raised: bool
    effect: float
    threshold: float
    note: str

    @classmethod
    def by_effect(cls, flag: Flag, effect: float, threshold: float, note: str) -> Check:
        """A check that is raised where its effect is above the threshold."""
        return cls(flag.code, effect > threshold, effect, threshold, note)


@dataclass(frozen=True)
class FinishedSweep:
    """A finished sweep at the eps that decides, `headline`: what is robust, and what else makes it adversarial."""

    sweep: Sweep
    outcomes: Outcomes
    headline: float

    @property
    def rng(self) -> RandomStream:
        """Randomness of checks, apart from that of the attack."""
        return self.sweep.rng.fold_in("checks")

    @property
    def position(self) -> int:
        """Position of the last eps of the grid up to the headline, else of the first."""
        return max(0, int(np.searchsorted(self.outcomes.eps, self.headline, side="right")) - 1)

    @property
    def eps(self) -> float:
        """The eps looked at."""
        return float(self.outcomes.eps[self.position])

    @property
    def attacked(self) -> NDArray[np.bool_]:
        """Samples that are right when clean and meant by the goal, (n,)."""
        goal = self.sweep.threat.goal(self.sweep.samples.y, self.sweep.task.outputs)
        return np.asarray(goal.eligible.numpy() & self.outcomes.correct)

    @property
    def is_robust(self) -> NDArray[np.bool_]:
        """Attacked samples that are robust, (n,)."""
        return self.attacked & ~self.outcomes.adversarial[self.position]

    @property
    def robust_share(self) -> float:
        """The weighted share of all samples that is robust: the most that anything can lower the score by."""
        weight = self.outcomes.weight
        return float(weight[self.is_robust].sum() / max(weight.sum(), 1e-12))

    def first(self, chosen: NDArray[np.bool_], limit: int = LIMIT) -> Tensor:
        """Up to `limit` rows of the chosen samples, the same ones in any order of the split."""
        rows = torch.from_numpy(np.flatnonzero(chosen))
        draw = self.rng.fold_in("subset").uniform(self.sweep.samples.ids[rows], ())
        return rows[draw.argsort()[:limit]]

    def batches(self, rows: Tensor) -> Iterator[Samples]:
        """The samples of `rows` in chunks, on the sweep's device."""
        for piece in chunks(rows, self.sweep.task.shape):
            yield self.sweep.samples[piece].to(self.sweep.device)

    def trial(self, batch: Batch, victim: Victim | None = None) -> Trial:
        """A fresh trial of the sweep's victim, or of another one, in its threat at the eps looked at, all lent."""
        sweep, batch = self.sweep, batch.copy()
        ball = sweep.threat.ball(batch, self.eps, sweep.task.bounds)
        goal = sweep.threat.goal(batch.y, sweep.task.outputs)
        rng, rate = self.rng.fold_in("victim"), sweep.task.rate
        return Trial.begin(victim or sweep.lent, batch, ball, goal, rng, draws=EOT, rate=rate)

    def logits(self, batch: Batch) -> Tensor:
        """What the sweep's victim answers to clean samples: (n, classes)."""
        return self.sweep.victim.logits(batch.x, batch, self.rng.fold_in("logits"))

    def effect_of(self, flag: Flag, probe: Probe, note: str, limit: int = LIMIT) -> Check:
        """By how much `probe` lowers the weighted score, estimated on the first remaining samples.

        One sample alone raises nothing: the threshold is half a point, or the largest share of one sample.
        """
        adversarial = met = largest = 0.0
        for batch in self.batches(self.first(self.is_robust, limit)):
            trial = self.trial(batch)
            probe(trial, self.rng.fold_in(flag.code))
            adversarial += float(batch.weight[self.became_adversarial(batch, trial)].sum())
            met += float(batch.weight.sum())
            largest = max(largest, float(batch.weight.max()))
        effect, one = (part / met * self.robust_share if met else 0.0 for part in (adversarial, largest))
        return Check.by_effect(flag, effect, max(EFFECT, one), note)

    def became_adversarial(self, batch: Batch, trial: Trial) -> Tensor:
        """Which of the rows are adversarial in the trial and are wrong in the host's own prediction, (n,) bool."""
        delta = trial.best(torch.zeros_like(batch.x))
        predicted = self.sweep.victim.predict(batch.x + delta, batch, self.rng.fold_in("verdict"), trial.goal)
        return trial.goal.met(predicted) & trial.is_adversarial


def ascent(trial: Trial, loss: Loss, steps: int, length: float, start: Tensor | None = None) -> Tensor:
    """Plain steepest ascent, `steps` steps of `length` eps, from the clean sample or from `start` (n, *shape).

    The yardstick of checks. Returns delta (n, *shape).
    """

    def step(ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState) -> tuple[Tensor, StepState]:
        return ball.project(delta + length * ball.eps * ball.steepest(grad.gradient)), state

    return iterate(trial, torch.zeros_like(trial.batch.x) if start is None else start, loss, step, steps)
