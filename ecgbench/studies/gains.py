"""Did a training gain anything over its control? Paired differences in AUROC by exam, corrected together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.binary import ranking
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.uncertainty import Resamples, check, percentiles


@dataclass(frozen=True)
class Gain:
    """AUROC of a victim minus that of its control, with its 95 % interval; `p_value` is Holm's over all victims."""

    auroc: float
    control: float
    value: float
    interval: tuple[float, float]
    p_value: float


def gains(
    victims: Mapping[str, tuple[Outcomes, Outcomes]], eps: float = 0.0, draws: int = 2000, seed: int = 0
) -> dict[str, Gain]:
    """The gain of each victim over its control, both given by their outcomes, at `eps` (0: clean).

    By a paired bootstrap over groups, or over samples where there are none: two-sided p-values are twice the smaller
    share of resamples on one side of 0, counting the data themselves as one (Davison and Hinkley 1997, section 4.2),
    and are corrected together by Holm's method. Resamples of one class are left out. Raises EcgbenchError where a
    victim and its control did not meet the same samples, keep no log-odds of one class, or `eps` was not run.
    """
    from statsmodels.stats.multitest import multipletests

    found = {name: _gain(*pair, eps, draws, seed) for name, pair in victims.items()}
    if not found:
        return {}
    corrected = multipletests([p for *_, p in found.values()], method="holm")[1]
    return {
        name: Gain(auroc, control, auroc - control, interval, float(p))
        for (name, (auroc, control, interval, _)), p in zip(found.items(), corrected, strict=True)
    }


def _gain(
    victim: Outcomes, control: Outcomes, eps: float, draws: int, seed: int
) -> tuple[float, float, tuple[float, float], float]:
    for name in ("ids", "y", "weight", "group"):
        if not np.array_equal(getattr(victim, name), getattr(control, name)):
            raise EcgbenchError(f"a victim and a control of other {name} given; expected outcomes on the same samples.")
    check(victim)
    logits = [_log_odds(outcomes, eps) for outcomes in (victim, control)]
    holds = victim.y == 1
    resamples = Resamples.of(victim, [*logits, victim.y, victim.weight], draws, seed)
    whole = victim.weight.astype(np.float64)[None]
    auroc, base = (float(ranking(each, holds, whole)[0][0]) for each in logits)
    weight = resamples.times[:, resamples.unit] * whole[:, resamples.rows]
    drawn = [ranking(each[resamples.rows], holds[resamples.rows], weight)[0] for each in logits]
    difference = drawn[0] - drawn[1]
    difference = difference[np.isfinite(difference)]
    if not np.isfinite(auroc) or not len(difference):
        raise EcgbenchError("samples of one class were given; an AUROC needs some of both.")
    sides = min((difference <= 0).sum(), (difference >= 0).sum())
    p = min(1.0, 2 * (1 + int(sides)) / (1 + len(difference)))
    return auroc, base, percentiles(difference), p


def _log_odds(outcomes: Outcomes, eps: float) -> NDArray[np.float64]:
    """Of the second class at `eps`, (n,)."""
    if outcomes.logits.shape[2] != 1:
        raise EcgbenchError(f"outcomes with log-odds of {outcomes.logits.shape[2]} classes given; expected one.")
    at = np.flatnonzero(np.r_[0.0, outcomes.eps] == eps)
    if not len(at):
        known = ", ".join(f"{one:g}" for one in outcomes.eps)
        raise EcgbenchError(f"eps {eps:g} was not run; expected 0 or one of {known}.")
    return outcomes.logits[at[0], :, 0].astype(np.float64)
