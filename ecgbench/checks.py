"""Is this number believable? Cheap checks made on every row.

A check is judged by effect, not by symptom: it is raised when something else lowers the score by more than
half a point, or when the victim is not the fixed function it is scored as. After Carlini et al. 2019
(arXiv 1902.06705), Croce and Hein 2020 (arXiv 2003.01690), appendix, and Pintor et al. 2022 (arXiv 2106.09947).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ecgbench.data import Batch, Samples
from ecgbench.descent import State, descend
from ecgbench.keyed import Keyed
from ecgbench.losses import cross_entropy, margin
from ecgbench.outcomes import Outcomes
from ecgbench.sweep import Sweep
from ecgbench.threat import Ball
from ecgbench.trial import Loss, Slope, Trial
from ecgbench.victim import chunks

EFFECT = 0.005  # of the score: half a point, as the board rounds
LIMIT = 512  # samples a check looks at: an effect of half a point is then 2 or 3 falls
STEPS, STEP = 20, 0.25
DRAWS = 20


@dataclass(frozen=True)
class Check:
    """One check: its code, whether it was raised, the effect found, the threshold, and what was done in words."""

    code: str
    raised: bool
    effect: float
    threshold: float
    note: str


@dataclass(frozen=True)
class Examination:
    """A finished sweep and its outcomes, looked at once more at the eps that decides, `headline`."""

    sweep: Sweep
    outcomes: Outcomes
    headline: float

    def run(self) -> tuple[Check, ...]:
        """Every cheap check, in a fixed order."""
        return tuple(self._checks())

    def _checks(self) -> Iterator[Check]:
        yield from self._function()
        yield self._gradients()
        yield self._noop()
        yield self._by_effect("NOISE", _random_points, f"best of {DRAWS} random points of the ball, on survivors")
        words = f"{STEPS} steps on the margin from the clean sample, on survivors"
        yield self._by_effect("LOSS", partial(_descent, margin), words)
        reach = self.sweep.attack.reach(self._eps)
        if reach is not None and reach < 2 * self._eps:
            words = f"steps reach {reach:.3g} of 2 eps; {STEPS} full steps on survivors"
            yield self._by_effect("STEP", partial(_descent, cross_entropy), words)
        else:
            yield Check("STEP", False, 0.0, EFFECT, "steps long enough")

    def _function(self) -> Iterator[Check]:
        """The victim is one fixed function, and shows logits."""
        batch = self._batch(self._first(self.outcomes.correct))
        victim, rng = self.sweep.victim, self.sweep.rng.at("checks")
        before = _fingerprint(victim.module)
        with torch.no_grad():
            once, again = (victim.logits(batch.x, batch, rng.at(draw)) for draw in range(2))
        moved, largest = (float(part.abs().amax()) if len(batch) else 0.0 for part in (once - again, once))
        agree = bool((once.argmax(1) == again.argmax(1)).all()) and moved <= 1e-4 * max(1.0, largest)
        yield Check("RANDOM", not agree, moved, 1e-4, "largest change of a logit between two forwards")
        changed = _fingerprint(victim.module) != before
        yield Check("STATE", changed, float(changed), 0.0, "a forward changes weights or buffers")
        sums = once.sum(1)
        inside = bool((once >= 0).all()) and bool((once <= 1).all()) and bool(((sums - 1).abs() <= 1e-5).all())
        yield Check("PROB", len(batch) > 0 and inside, float(inside), 0.0, "outputs are probabilities, not logits")

    def _gradients(self) -> Check:
        """Finite gradients at the clean samples."""
        bad = total = 0
        for batch in self._batches(self._first(self.outcomes.correct)):
            grad = self._trial(batch).gradient(torch.zeros_like(batch.x), margin)[1]
            bad += int((~torch.isfinite(grad)).flatten(1).any(1).sum())
            total += len(batch)
        share = bad / total if total else 0.0
        return Check("GRAD", bad > 0, share, 0.0, "share of samples whose gradient is not finite")

    def _noop(self) -> Check:
        standing = self._standing
        still = bool(standing.any()) and not bool(self.outcomes.size[self._place][self._attacked].any())
        return Check("NOOP", still, float(still), 0.0, "every returned perturbation is 0")

    def _by_effect(self, code: str, attack: Callable[[Trial, Keyed], None], note: str) -> Check:
        """By how much `attack` lowers the weighted score at the headline eps, estimated on the first survivors.

        One fall alone raises nothing: the threshold is half a point, or the largest share of one sample.
        """
        fell = met = largest = 0.0
        for batch in self._batches(self._first(self._standing)):
            trial = self._trial(batch)
            attack(trial, self.sweep.rng.at("checks", code))
            fell += float(batch.weight[self._still_wrong(batch, trial)].sum())
            met += float(batch.weight.sum())
            largest = max(largest, float(batch.weight.max()))
        share = float(self.outcomes.weight[self._standing].sum() / max(self.outcomes.weight.sum(), 1e-12))
        effect, one = (part / met * share if met else 0.0 for part in (fell, largest))
        threshold = max(EFFECT, one)
        return Check(code, effect > threshold, effect, threshold, note)

    def _still_wrong(self, batch: Batch, trial: Trial) -> Tensor:
        """Which of the rows fell in the trial and are wrong in the host's own prediction, (n,) bool."""
        delta = trial.best(torch.zeros_like(batch.x))
        predicted = self.sweep.victim.predict(batch.x + delta, batch, self.sweep.rng.at("checks", "verdict"))
        return trial.aim.met(predicted) & trial.fell

    @property
    def _place(self) -> int:
        """The last eps of the grid up to the headline, else the first."""
        return max(0, int(np.searchsorted(self.outcomes.epsilons, self.headline, side="right")) - 1)

    @property
    def _eps(self) -> float:
        return float(self.outcomes.epsilons[self._place])

    @property
    def _attacked(self) -> np.ndarray:
        aim = self.sweep.threat.aim(self.sweep.task.test.y, self.sweep.task.classes)
        return np.asarray(aim.free.numpy() & self.outcomes.correct)

    @property
    def _standing(self) -> np.ndarray:
        return self._attacked & ~self.outcomes.fallen[self._place]

    def _first(self, chosen: np.ndarray) -> Tensor:
        """Up to LIMIT of the chosen samples, the same ones in any order of the split."""
        rows = torch.from_numpy(np.flatnonzero(chosen))
        test = self.sweep.task.test
        draw = self.sweep.rng.at("checks", "subset").uniform(test.ids[rows], ())
        return rows[draw.argsort()[:LIMIT]]

    def _batch(self, rows: Tensor) -> Batch:
        return self.sweep.task.test[rows[: len(chunks(rows, self.sweep.task.shape)[0]) if len(rows) else 0]].to(
            self.sweep.device
        )

    def _batches(self, rows: Tensor) -> Iterator[Samples]:
        for piece in chunks(rows, self.sweep.task.shape):
            yield self.sweep.task.test[piece].to(self.sweep.device)

    def _trial(self, batch: Batch) -> Trial:
        sweep = self.sweep
        ball = sweep.threat.around(batch, self._eps, sweep.task.bounds)
        aim = sweep.threat.aim(batch.y, sweep.task.classes)
        return Trial.begin(sweep.victim, batch, ball, aim, sweep.rng.at("checks", "victim"))


def _random_points(trial: Trial, rng: Keyed) -> None:
    for draw in range(DRAWS):
        left = trial.standing()
        if len(left):
            left.look(left.ball.sample(left.batch.ids, left.shape, rng.at(draw)))


def _descent(loss: Loss, trial: Trial, rng: Keyed) -> None:
    descend(trial, torch.zeros_like(trial.batch.x), loss, _step, STEPS)


def _step(ball: Ball, delta: Tensor, slope: Slope, state: State) -> tuple[Tensor, State]:
    return ball.project(delta + STEP * ball.eps * ball.steepest(slope.gradient)), state


def _fingerprint(module: torch.nn.Module) -> list[float]:
    """Exact sums over every weight and buffer."""
    return [float(value.double().sum()) for value in module.state_dict().values()]
