"""A victim that answers one class, or guesses, is told from one that looks at its samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgbench.checks.chance import verdict
from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.outcomes import Outcomes
from tests.plain_outcomes import outcomes, permuted


def flags(row: Outcomes) -> list[str]:
    return [check.code for check in verdict(row) if check.raised]


def gain(row: Outcomes) -> float:
    return verdict(row)[1].effect


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 3), st.booleans(), st.booleans())
def test_a_constant_answer_is_always_flagged(y: list[int], answer: int, weighted: bool, grouped: bool) -> None:
    weight = np.arange(1, len(y) + 1) if weighted else None
    row = outcomes(y, [answer] * len(y), weight=weight, group=np.arange(len(y)) % 3 if grouped else None)
    assert flags(row) == ["ONECLASS", "CHANCE"]
    assert verdict(row)[0].effect == 1.0 and gain(row) <= 0


@pytest.mark.parametrize("shares", [(1, 1, 1), (1, 1, 8), (1, 1, 30)])
@pytest.mark.parametrize("said", [(1, 1, 1), (1, 1, 8), (0, 1, 1)])
def test_guesses_are_flagged_whatever_the_shares_of_classes_and_guesses(shares: Any, said: Any) -> None:
    caught = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = np.r_[0, 1, 2, rng.choice(3, 297, p=np.divide(shares, sum(shares)))]
        caught += "CHANCE" in flags(outcomes(y, rng.choice(3, 300, p=np.divide(said, sum(said)))))
    assert caught >= 36  # one tail of 2.5 % and few samples of the rare class


@pytest.mark.parametrize("shares", [(1, 1, 1), (1, 1, 30)])
def test_better_than_chance_is_not_flagged_though_a_constant_answer_is_right_more_often(shares: Any) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y = np.repeat([0, 1, 2], np.multiply(shares, 30))
        clean = np.where(rng.random(len(y)) < 0.7, y, rng.integers(3, size=len(y)))
        row = outcomes(y, clean)
        assert flags(row) == []
        if shares[2] == 30:
            assert (clean == y).mean() < np.bincount(y).max() / len(y)


def test_the_gain_is_over_a_constant_answer() -> None:
    assert gain(outcomes([0, 1] * 50, [0, 1] * 50)) == 0.5  # every resample is right
    assert gain(outcomes([0, 1, 2] * 50, [0, 1, 2] * 50)) == pytest.approx(2 / 3)
    assert gain(outcomes([0, 1] * 50, [1, 0] * 50)) == -0.5


def test_few_samples_are_no_proof() -> None:
    assert flags(outcomes([0, 1] * 3, [0, 1, 0, 1, 1, 0])) == ["CHANCE"]  # 4 of 6
    assert flags(outcomes([0, 1] * 30, [0, 1, 0, 1, 1, 0] * 10)) == []  # 40 of 60


def test_patients_count_and_not_their_beats() -> None:
    """One patient of four is read well, in many beats."""
    y = np.tile([0, 1], 400)
    clean = np.where(np.repeat([True, False, False, False], 200), y, np.tile([0, 0, 1, 1], 200))
    assert flags(outcomes(y, clean)) == []
    assert flags(outcomes(y, clean, group=np.repeat([7, 8, 9, 10], 200))) == ["CHANCE"]


def test_one_patient_alone_is_resampled_by_beats() -> None:
    y, clean = [0, 1] * 3, [0, 1, 0, 1, 1, 0]
    assert verdict(outcomes(y, clean, group=[5] * 6)) == verdict(outcomes(y, clean))


def test_weights_count_within_a_class() -> None:
    y, clean = [0, 0, 1, 1] * 25, [0, 1, 1, 0] * 25
    assert flags(outcomes(y, clean)) == ["CHANCE"]
    assert flags(outcomes(y, clean, weight=[9, 1, 9, 1] * 25)) == []
    assert verdict(outcomes([0, 0], [0, 1], weight=[3, 1]))[0].effect == 0.75


def test_the_order_of_samples_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    row = outcomes(rng.integers(3, size=80), rng.integers(3, size=80))
    assert verdict(permuted(row, rng.permutation(80))) == verdict(row)


def test_a_class_that_has_no_sample_may_be_answered() -> None:
    assert flags(outcomes([0, 1] * 20, [0, 1] * 19 + [2, 2])) == []


def test_nothing_to_look_at_is_refused() -> None:
    with pytest.raises(EcgbenchError, match="expected some of both"):
        verdict(outcomes([], []))
