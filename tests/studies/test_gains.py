"""Gains over a control: what they are, when they are sure, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.studies.gains import gains
from tests.plain_outcomes import outcomes


def row(log_odds: NDArray[np.float64], y: NDArray[np.int64], attacked: NDArray[np.float64] | None = None) -> Outcomes:
    """Outcomes of log-odds (n,), when clean and at eps 1."""
    both = np.stack([log_odds, log_odds if attacked is None else attacked]).astype(np.float16)
    said = (both > 0).astype(np.int16)
    return replace(outcomes(y, said[0], said[1:]), logits=both[:, :, None], threshold=np.zeros(1))


RNG = np.random.default_rng(0)
Y = np.arange(120) % 2
NOISE = RNG.normal(size=120)
GOOD, BAD = row(2.0 * Y + NOISE, Y), row(0.5 * Y + NOISE, Y)


def auroc(log_odds: NDArray[np.float64]) -> float:
    pairs = log_odds[Y == 1][:, None] - log_odds[Y == 0]
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


def test_a_gain_is_the_difference_of_two_aurocs_by_hand() -> None:
    found = gains({"good": (GOOD, BAD)})["good"]
    assert found.auroc == pytest.approx(auroc(GOOD.logits[0, :, 0].astype(float)))
    assert found.control == pytest.approx(auroc(BAD.logits[0, :, 0].astype(float)))
    assert found.value == pytest.approx(found.auroc - found.control)
    assert found.interval[0] < found.value < found.interval[1]


def test_a_clear_gain_is_sure_and_its_reverse_as_much() -> None:
    up, down = gains({"a": (GOOD, BAD)})["a"], gains({"a": (BAD, GOOD)})["a"]
    assert up.interval[0] > 0 and up.p_value < 0.01
    assert down.value == pytest.approx(-up.value) and down.p_value == pytest.approx(up.p_value)


def test_nothing_is_gained_over_itself() -> None:
    found = gains({"same": (GOOD, GOOD)})["same"]
    assert (found.value, found.interval, found.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_the_comparison_is_paired() -> None:
    """A small shift of the same exams is seen where two independent intervals would overlap."""
    slightly = row(2.0 * Y + NOISE + 0.35 * Y, Y)
    found = gains({"a": (slightly, GOOD)})["a"]
    assert found.interval[0] > 0 and found.interval[1] - found.interval[0] < 0.05


def test_p_values_are_corrected_together() -> None:
    noise = row(1.0 * Y + NOISE + 0.3 * RNG.normal(size=120), Y)
    alone = gains({"a": (noise, GOOD)})["a"].p_value
    four = gains({name: (noise, GOOD) for name in "abcd"})
    assert four["a"].p_value == pytest.approx(min(1.0, 4 * alone)) and not gains({})


def test_a_gain_can_be_asked_for_under_attack() -> None:
    attacked = row(2.0 * Y + NOISE, Y, attacked=0.0 * NOISE)
    assert gains({"a": (attacked, GOOD)}, eps=1.0)["a"].auroc == 0.5
    assert gains({"a": (attacked, GOOD)})["a"].value == 0.0


@pytest.mark.parametrize(
    ("victim", "eps", "said"),
    [
        (replace(GOOD, ids=GOOD.ids + 1), 0.0, "other ids"),
        (GOOD, 0.5, "eps 0.5 was not run; expected 0 or one of 1."),
        (outcomes(Y, Y), 0.0, "log-odds of 0 classes"),
        (replace(GOOD, y=np.ones_like(GOOD.y)), 0.0, "other y"),
    ],
)
def test_what_cannot_be_compared_is_refused(victim: Outcomes, eps: float, said: str) -> None:
    with pytest.raises(EcgbenchError, match=said):
        gains({"a": (victim, GOOD)}, eps)


def test_samples_of_one_class_are_refused() -> None:
    one = replace(GOOD, y=np.ones_like(GOOD.y))
    with pytest.raises(EcgbenchError, match="some of both"):
        gains({"a": (one, one)})
