"""Scores by hand and against reference implementations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.metrics import precision_recall_fscore_support

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.outputs import SingleLabel
from ecgbench.evaluation.metrics import confusion, means, summarize
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.uncertainty import wilson
from tests.plain_outcomes import NAMES, outcomes, summary

# scores


def test_a_confusion_matrix_adds_weights_by_true_row_and_predicted_column() -> None:
    found = confusion(np.array([0, 0, 1]), np.array([0, 2, 1]), 3, np.array([1, 2.5, 4]))
    assert found.tolist() == [[1, 0, 2.5], [0, 4, 0], [0, 0, 0]]


def test_means_are_those_computed_by_hand() -> None:
    acc, prec, f1 = means(np.array([[3.0, 1], [2, 4]]), skip_unpredicted=False)
    assert acc == 7 / 10
    assert prec == pytest.approx((3 / 5 + 4 / 5) / 2)
    assert f1 == pytest.approx((6 / 9 + 8 / 11) / 2)


NEVER = np.array([[4.0, 0, 0], [1, 0, 3], [0, 0, 2]])  # nobody predicts the second class


def test_a_class_nobody_predicts_has_precision_0() -> None:
    assert means(NEVER, skip_unpredicted=False)[1] == pytest.approx((4 / 5 + 0 + 2 / 5) / 3)


def test_a_class_nobody_predicts_is_left_out_of_precision_where_the_split_says_so() -> None:
    assert means(NEVER, skip_unpredicted=True)[1] == pytest.approx((4 / 5 + 2 / 5) / 2)


def test_the_f1_of_a_class_nobody_predicts_counts_as_0_either_way() -> None:
    expected = (8 / 9 + 0 + 4 / 7) / 3
    assert [means(NEVER, skip_unpredicted=skip)[2] for skip in (True, False)] == pytest.approx([expected] * 2)


def test_a_class_without_true_samples_is_left_out_even_if_predicted() -> None:
    absent = np.array([[3.0, 0, 1], [0, 2, 0], [0, 0, 0]])
    acc, prec, f1 = means(absent, skip_unpredicted=False)
    assert (acc, prec, f1) == pytest.approx((5 / 6, 1, (6 / 7 + 1) / 2))


def test_precision_is_0_where_no_class_with_true_samples_is_predicted() -> None:
    assert means(np.array([[0.0, 5], [0, 0]]), skip_unpredicted=True).tolist() == [0, 0, 0]


def test_means_of_many_matrices_are_the_means_of_each() -> None:
    many = np.random.default_rng(0).integers(1, 9, size=(2, 4, 3, 3)).astype(float)
    found = means(many, skip_unpredicted=False)
    for place in np.ndindex(2, 4):
        assert found[:, *place] == pytest.approx(means(many[place], skip_unpredicted=False))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 30), skip=st.booleans())
def test_means_equal_those_of_scikit_learn(seed: int, n: int, skip: bool) -> None:
    rng = np.random.default_rng(seed)
    y, predicted = rng.integers(4, size=(2, n))
    weight = rng.integers(1, 5, size=n)
    told = {"labels": np.unique(y), "average": "macro", "sample_weight": weight}
    blank = np.nan if skip and np.isin(y, predicted).any() else 0
    acc, prec, f1 = means(confusion(y, predicted, 4, weight), skip_unpredicted=skip)
    assert acc == pytest.approx(metrics.accuracy_score(y, predicted, sample_weight=weight))
    assert prec == pytest.approx(metrics.precision_score(y, predicted, zero_division=blank, **told))
    assert f1 == pytest.approx(metrics.f1_score(y, predicted, zero_division=0, **told))


def test_a_score_is_weighted_as_the_split_states_and_plain_and_balanced_beside_it() -> None:
    clean = summary(outcomes([0, 0, 0, 1], [0, 0, 1, 1], weight=[1, 1, 1, 5])).scores[0]
    assert (clean.acc, clean.plain.acc) == (7 / 8, 3 / 4)
    assert clean.balanced.acc == pytest.approx((2 / 3 + 1) / 2)
    assert (clean.prec, clean.plain.prec) == pytest.approx(((1 + 5 / 6) / 2, (1 + 1 / 2) / 2))
    assert clean.balanced.prec == pytest.approx((1 + 1 / (1 + 1 / 3)) / 2)


def test_figures_are_by_class_and_none_for_a_class_the_split_lacks() -> None:
    by_class = summary(outcomes([0, 0, 1], [0, 2, 1])).scores[0].by_class
    n, s = by_class["N"], by_class["S"]
    assert n is not None and s is not None and by_class["V"] is None
    assert (n.precision, n.recall, n.f1) == pytest.approx((1.0, 1 / 2, 2 / 3))
    assert n.recall_interval == pytest.approx(wilson(1, 2)) and n.precision_interval == pytest.approx(wilson(1, 1))
    assert n.f1_interval[0] < n.f1 < n.f1_interval[1]


def test_nobody_right_of_47_is_no_proof_of_a_recall_of_0() -> None:
    rows = [0] * 47 + [1] * 53
    independent, grouped = (summary(outcomes(rows, [1] * 100, group=group)) for group in (None, list(range(100))))
    one, other = independent.scores[0].by_class["N"], grouped.scores[0].by_class["N"]
    assert one is not None and one.recall == 0 and one.recall_interval[0] == 0
    assert one.recall_interval[1] == pytest.approx(0.0756, abs=1e-3)
    assert other is not None and other.recall_interval == (0.0, 0.0)


def test_sklearn_agrees_on_precision_recall_and_f1_of_each_class() -> None:
    rng = np.random.default_rng(0)
    y, clean = rng.integers(0, 3, (2, 200))
    found = summary(outcomes(y.tolist(), clean.tolist())).scores[0].by_class
    expected = precision_recall_fscore_support(y, clean, labels=[0, 1, 2])
    for at, name in enumerate("NSV"):
        one = found[name]
        assert one is not None
        assert (one.precision, one.recall, one.f1) == pytest.approx([float(part[at]) for part in expected[:3]])


def test_the_challenge_is_the_mean_f1_of_its_classes_alone() -> None:
    rows = outcomes([0, 0, 1, 2], [0, 2, 1, 2])
    (clean, *_) = summarize(rows, SingleLabel(NAMES), skip_unpredicted=False, challenge=("N", "V")).scores
    assert clean.challenge is not None and clean.challenge.f1 == pytest.approx((2 / 3 + 2 / 3) / 2)
    low, high = clean.challenge.interval
    assert low <= clean.challenge.f1 <= high
    assert summary(rows).scores[0].challenge is None


def test_weights_that_balance_the_classes_give_the_balanced_means() -> None:
    y, clean = [0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 1, 0, 1, 2, 2, 0]
    score = summary(outcomes(y, clean, weight=[1, 1, 1, 1, 2, 2, 2, 2])).scores[0]
    weighted = (score.acc, score.prec, score.f1)
    assert weighted == pytest.approx((score.balanced.acc, score.balanced.prec, score.balanced.f1))
    assert score.acc != score.plain.acc


def test_the_clean_score_comes_first_and_each_eps_has_its_own() -> None:
    row = outcomes([0, 1], [0, 1], [[0, 0], [1, 0]], (0.1, 0.3))
    assert [(score.eps, score.acc) for score in summary(row).scores] == [(0.0, 1.0), (0.1, 0.5), (0.3, 0.0)]


def test_skipping_unpredicted_classes_changes_precision_only() -> None:
    row = outcomes([0, 1, 2], [0, 2, 2])
    kept, skipped = (summary(row, skip=skip).scores[0] for skip in (False, True))
    assert (kept.prec, skipped.prec) == pytest.approx((0.5, 0.75))
    assert (kept.acc, kept.f1) == (skipped.acc, skipped.f1)


# curves


def test_the_area_under_the_curve_is_that_of_its_trapezoids() -> None:
    row = outcomes([0, 1], [0, 1], [[0, 0], [1, 0]], (0.1, 0.3))  # accuracy 1, 0.5, 0 at 0, 0.1, 0.3
    assert summary(row).curve.auc == pytest.approx((0.75 * 0.1 + 0.25 * 0.2) / 0.3)


def test_a_row_that_never_falls_has_area_1_for_certain() -> None:
    curve = summary(outcomes([0, 1, 2], [0, 1, 2], [[0, 1, 2]] * 3, (0.1, 0.2, 0.7))).curve
    assert (curve.auc, *curve.auc_interval) == pytest.approx((1, 1, 1))


def test_the_quartiles_of_smallest_eps_are_reached_by_at_least_that_share() -> None:
    falls = np.arange(20) < np.arange(1, 21)[:, None]  # sample i falls at eps i + 1
    found = summary(outcomes([0] * 20, [0] * 20, falls)).curve.smallest_eps
    assert found == {"q25": 5.0, "median": 10.0, "q75": 15.0}


def test_smallest_eps_has_quartiles_with_0_for_wrong_when_clean_and_none_beyond_the_grid() -> None:
    row = outcomes([0, 0, 0, 0], [1, 0, 0, 0], [[1, 1, 0, 0], [1, 1, 1, 0]], (0.1, 0.3))
    assert summary(row).curve.smallest_eps == {"q25": 0.0, "median": 0.1, "q75": 0.3}
    assert summary(dataclasses.replace(row, weight=np.array([1, 1, 1, 9], np.float32))).curve.smallest_eps == {
        "q25": 0.3,
        "median": None,
        "q75": None,
    }


# what cannot be scored


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (outcomes([], []), "outcomes of 0 samples at 1 eps given; expected some of both."),
        (outcomes([0, 1], [0, 3]), "outcomes hold classes 0 to 3; expected 0 to 2."),
        (outcomes([0, 1], [0, 1], group=[4, -1]), "some samples have a group and some have none; expected all"),
        (outcomes([0, 1], [0, 1], weight=[1, 0]), "a sample has a weight that is not above 0; expected finite"),
        (outcomes([0, 1], [0, 1], weight=[1, np.nan]), "a sample has a weight that is not above 0; expected finite"),
    ],
    ids=["none", "class", "group", "weightless", "nan"],
)
def test_what_cannot_be_scored_is_refused_in_one_sentence(row: Outcomes, said: str) -> None:
    with pytest.raises(EcgbenchError) as error:
        summary(row)
    assert str(error.value).startswith(said)
