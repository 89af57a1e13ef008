"""By how much something else lowers a score: the measure that checks are judged by.

A check is raised by its effect on the samples an attack left standing, not by a symptom: "any zero gradient"
or "an unbounded loss" flag honest victims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgbench.data import Batch, Samples
from ecgbench.descent import State, descend
from ecgbench.keyed import Keyed
from ecgbench.outcomes import Outcomes
from ecgbench.sweep import Sweep
from ecgbench.threat import Ball
from ecgbench.trial import Loss, Slope, Trial
from ecgbench.victim import Victim, chunks

EFFECT = 0.005  # of the score: half a point, as the board rounds
EOT = 20  # draws of a randomised victim for each answer (Croce and Hein 2020, the "rand" version)
LIMIT = 512  # samples a check looks at: an effect of half a point is then 2 or 3 falls

Inquiry = Callable[[Trial, Keyed], object]
"""Something else to try on rows that stand; what it fells is read from the trial."""


@dataclass(frozen=True)
class Check:
    """One check: its code, whether it was raised, the effect found, the threshold, and what was done in words."""

    code: str
    raised: bool
    effect: float
    threshold: float
    note: str


@dataclass(frozen=True)
class Aftermath:
    """A finished sweep at the eps that decides, `headline`: who stands, and what else fells them."""

    sweep: Sweep
    outcomes: Outcomes
    headline: float

    @property
    def rng(self) -> Keyed:
        """Randomness of checks, apart from that of the attack."""
        return self.sweep.rng.at("checks")

    @property
    def place(self) -> int:
        """Position of the last eps of the grid up to the headline, else of the first."""
        return max(0, int(np.searchsorted(self.outcomes.epsilons, self.headline, side="right")) - 1)

    @property
    def eps(self) -> float:
        """The eps looked at."""
        return float(self.outcomes.epsilons[self.place])

    @property
    def attacked(self) -> NDArray[np.bool_]:
        """Samples that are right when clean and meant by the goal, (n,)."""
        aim = self.sweep.threat.aim(self.sweep.task.test.y, self.sweep.task.classes)
        return np.asarray(aim.free.numpy() & self.outcomes.correct)

    @property
    def standing(self) -> NDArray[np.bool_]:
        """Attacked samples that did not fall, (n,)."""
        return self.attacked & ~self.outcomes.fallen[self.place]

    @property
    def share(self) -> float:
        """The weighted share of all samples that stands: the most that anything can lower the score by."""
        weight = self.outcomes.weight
        return float(weight[self.standing].sum() / max(weight.sum(), 1e-12))

    def first(self, chosen: NDArray[np.bool_], limit: int = LIMIT) -> Tensor:
        """Up to `limit` rows of the chosen samples, the same ones in any order of the split."""
        rows = torch.from_numpy(np.flatnonzero(chosen))
        draw = self.rng.at("subset").uniform(self.sweep.task.test.ids[rows], ())
        return rows[draw.argsort()[:limit]]

    def batches(self, rows: Tensor) -> Iterator[Samples]:
        """The samples of `rows` in chunks, on the sweep's device."""
        for piece in chunks(rows, self.sweep.task.shape):
            yield self.sweep.task.test[piece].to(self.sweep.device)

    def trial(self, batch: Batch, victim: Victim | None = None) -> Trial:
        """A fresh trial of the sweep's victim, or of another one, in its threat at the eps looked at, all lent."""
        sweep, batch = self.sweep, batch.copy()
        ball = sweep.threat.around(batch, self.eps, sweep.task.bounds)
        aim = sweep.threat.aim(batch.y, sweep.task.classes)
        rng, rate = self.rng.at("victim"), sweep.task.rate
        return Trial.begin(victim or sweep.lent, batch, ball, aim, rng, draws=EOT, rate=rate)

    def logits(self, batch: Batch) -> Tensor:
        """What the sweep's victim answers to clean samples: (n, classes)."""
        return self.sweep.victim.logits(batch.x, batch, self.rng.at("logits"))

    def lowered(self, code: str, inquiry: Inquiry, note: str, limit: int = LIMIT) -> Check:
        """By how much `inquiry` lowers the weighted score, estimated on the first survivors.

        One fall alone raises nothing: the threshold is half a point, or the largest share of one sample.
        """
        fell = met = largest = 0.0
        for batch in self.batches(self.first(self.standing, limit)):
            trial = self.trial(batch)
            inquiry(trial, self.rng.at(code))
            fell += float(batch.weight[self.fallen(batch, trial)].sum())
            met += float(batch.weight.sum())
            largest = max(largest, float(batch.weight.max()))
        effect, one = (part / met * self.share if met else 0.0 for part in (fell, largest))
        threshold = max(EFFECT, one)
        return Check(code, effect > threshold, effect, threshold, note)

    def fallen(self, batch: Batch, trial: Trial) -> Tensor:
        """Which of the rows fell in the trial and are wrong in the host's own prediction, (n,) bool."""
        delta = trial.best(torch.zeros_like(batch.x))
        predicted = self.sweep.victim.predict(batch.x + delta, batch, self.rng.at("verdict"), trial.aim)
        return trial.aim.met(predicted) & trial.fell


def climb(trial: Trial, loss: Loss, steps: int, length: float, start: Tensor | None = None) -> Tensor:
    """Plain steepest ascent, `steps` steps of `length` eps, from the clean sample or from `start` (n, *shape).

    The yardstick of checks. Returns delta (n, *shape).
    """

    def step(ball: Ball, delta: Tensor, slope: Slope, state: State) -> tuple[Tensor, State]:
        return ball.project(delta + length * ball.eps * ball.steepest(slope.gradient)), state

    return descend(trial, torch.zeros_like(trial.batch.x) if start is None else start, loss, step, steps)
