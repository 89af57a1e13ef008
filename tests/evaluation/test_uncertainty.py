"""Intervals cover what they promise to cover, a comparison is paired, a spread is over seeds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import contingency_tables as tables

from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.metrics import confusion
from ecgbench.evaluation.uncertainty import Spread, compare, over_seeds
from tests.plain_outcomes import correlated, outcomes, permuted, random_row, summary

# intervals


@pytest.mark.parametrize("right", [0, 1, 37, 99, 100])
def test_the_accuracy_of_independent_samples_has_the_wilson_interval(right: int) -> None:
    y = np.zeros(100, int)
    clean = np.arange(100) >= right
    expected = stats.binomtest(right, 100).proportion_ci(method="wilson")
    assert summary(outcomes(y, clean)).scores[0].interval.acc == pytest.approx(tuple(expected), abs=1e-12)


def test_wilson_stays_inside_0_and_1() -> None:
    for n in range(1, 60):
        none, all_ = (outcomes([0] * n, [said] * n) for said in (1, 0))
        assert summary(none, draws=1).scores[0].interval.acc[0] == 0
        assert summary(all_, draws=1).scores[0].interval.acc[1] == 1


def test_unequal_weights_without_groups_are_resampled_instead() -> None:
    row = random_row(0, groups=0)
    assert summary(row).uncertainty.method == "bootstrap of samples"
    equal = dataclasses.replace(row, weight=np.full(60, 0.3, np.float32))
    assert summary(equal).uncertainty.method == (
        "Wilson (acc; precision and recall of a class), bootstrap of samples (prec, f1, auc)"
    )


@pytest.mark.parametrize("weighted", [True, False])
def test_resampling_kinds_of_samples_is_resampling_samples(weighted: bool) -> None:
    row = random_row(1, n=300, groups=0, weighted=weighted)
    alone = dataclasses.replace(row, group=np.arange(300))  # every sample a group of its own
    fast, slow = (summary(one, draws=4000).scores[2].interval for one in (row, alone))
    assert fast.prec == pytest.approx(slow.prec, abs=0.006)
    assert fast.f1 == pytest.approx(slow.f1, abs=0.006)


def test_a_group_comes_with_all_its_samples() -> None:
    row = outcomes([0] * 8, [0, 0, 0, 0, 1, 1, 1, 1], group=[0, 0, 0, 0, 1, 1, 1, 1])
    found = summary(row)
    assert found.scores[0].interval.acc == (0.0, 1.0)
    assert found.uncertainty.method == "bootstrap over 2 groups"


def covered(found: tuple[float, float]) -> bool:
    return found[0] <= 0.7 <= found[1]


def test_intervals_over_groups_cover_the_truth_as_often_as_they_say_and_those_of_samples_do_not() -> None:
    rng, hits = np.random.default_rng(0), []
    for seed in range(300):
        row = correlated(rng)
        alone = dataclasses.replace(row, group=np.full(1000, -1))
        hits.append([covered(summary(one, seed=seed).scores[0].interval.acc) for one in (row, alone)])
    grouped, independent = np.mean(hits, axis=0)
    assert 0.90 <= grouped <= 0.98
    assert independent < 0.6


@pytest.mark.parametrize("part", ["acc", "prec", "f1"])
def test_intervals_are_wider_where_groups_are_correlated(part: str) -> None:
    row = correlated(np.random.default_rng(1))
    row = dataclasses.replace(row, y=(np.arange(1000) % 2).astype(np.int16), clean=(row.clean ^ (np.arange(1000) % 2)))
    alone = dataclasses.replace(row, group=np.full(1000, -1))
    wide, narrow = (np.ptp(getattr(summary(one).scores[0].interval, part)) for one in (row, alone))
    assert wide > 2 * narrow


def test_one_group_gives_intervals_without_width_and_says_so() -> None:
    found = summary(random_row(2, groups=1))
    score = found.scores[1]
    assert score.interval.f1 == pytest.approx((score.f1, score.f1))
    assert found.uncertainty.method == "bootstrap over 1 group, whose intervals mean nothing"


def test_resamples_that_lack_a_class_are_counted_and_leave_it_out() -> None:
    row = outcomes([0, 0, 1], [0, 0, 2], group=[0, 1, 2])  # a resample has no group 2 with chance (2/3)**3
    found = summary(row, draws=2000)
    assert found.uncertainty.lacking_class == pytest.approx(2000 * 8 / 27, abs=100)
    assert found.uncertainty.draws == 2000
    assert found.scores[0].interval.f1[1] == 1.0


def test_a_class_the_split_lacks_is_not_counted_as_lacking() -> None:
    assert summary(outcomes([0, 0, 1, 1], [0, 0, 1, 1], group=[0, 1, 0, 1])).uncertainty.lacking_class == 0


def test_every_eps_has_the_same_resamples() -> None:
    row = random_row(3)
    same = dataclasses.replace(row, predicted=np.stack([row.clean] * 3))
    found = summary(same)
    assert len({score.interval for score in found.scores}) == 1
    assert found.curve.auc_interval == pytest.approx(found.scores[0].interval.acc)


def test_an_interval_surrounds_its_score() -> None:
    for score in summary(random_row(4, n=400, groups=30)).scores:
        for part in ("acc", "prec", "f1"):
            low, high = getattr(score.interval, part)
            assert 0 <= low < getattr(score, part) < high <= 1


@pytest.mark.parametrize("groups", [0, 6])
def test_a_summary_depends_on_its_seed_only(groups: int) -> None:
    row = random_row(5, groups=groups)
    before = str(np.random.get_state())
    assert summary(row) == summary(row)
    assert summary(row, seed=1) != summary(row)
    assert str(np.random.get_state()) == before


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), groups=st.sampled_from([0, 1, 6]), weighted=st.booleans())
def test_the_order_of_the_samples_changes_nothing(seed: int, groups: int, weighted: bool) -> None:
    row = random_row(seed, groups=groups, weighted=weighted)
    other = permuted(row, np.random.default_rng(seed).permutation(60))
    assert summary(other, draws=50) == summary(row, draws=50)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.25, 8.0]))
def test_only_the_ratios_of_weights_matter(seed: int, scale: float) -> None:
    row = random_row(seed)
    other = dataclasses.replace(row, weight=(row.weight * scale).astype(np.float32))
    assert summary(other, draws=50) == summary(row, draws=50)


def test_every_figure_is_a_python_value() -> None:
    def leaves(value: Any) -> Any:
        if isinstance(value, dict | tuple | list):
            return [leaf for part in (value.values() if isinstance(value, dict) else value) for leaf in leaves(part)]
        return [value]

    for groups in (0, 6):
        kinds = {type(leaf) for leaf in leaves(dataclasses.asdict(summary(random_row(6, groups=groups))))}
        assert kinds <= {float, int, str, type(None)}


# comparisons


@pytest.mark.parametrize("groups", [0, 6])
def test_a_row_compared_with_itself_differs_by_exactly_0(groups: int) -> None:
    row = random_row(7, groups=groups)
    found = compare(row, row, 0.2)
    assert (found.difference, found.interval) == (0.0, (0.0, 0.0))
    assert found.p_value == (None if groups else 1.0)


def test_a_difference_is_that_of_the_two_weighted_accuracies() -> None:
    a = random_row(8)
    b = dataclasses.replace(a, predicted=random_row(9).predicted)
    expected = summary(a).scores[1].acc - summary(b).scores[1].acc
    assert compare(a, b, 0.1).difference == pytest.approx(expected)
    assert compare(b, a, 0.1).difference == pytest.approx(-expected)


def test_swapping_two_rows_mirrors_the_interval() -> None:
    a, b = random_row(10), dataclasses.replace(random_row(10), predicted=random_row(11).predicted)
    low, high = compare(a, b, 0.5).interval
    assert compare(b, a, 0.5).interval == pytest.approx((-high, -low))


@pytest.mark.parametrize("groups", [0, 6])
def test_the_order_of_the_samples_does_not_change_a_comparison(groups: int) -> None:
    a, b = random_row(16, groups=groups), random_row(17, groups=groups)
    b = dataclasses.replace(a, predicted=b.predicted)
    order = np.random.default_rng(0).permutation(60)
    assert compare(permuted(a, order), permuted(b, order), 0.2) == compare(a, b, 0.2)


def test_mcnemar_equals_that_of_statsmodels_on_plain_correctness() -> None:
    a = random_row(12, groups=0)
    b = dataclasses.replace(a, predicted=random_row(13).predicted)
    right = [row.at(0.1) == row.y for row in (a, b)]
    table = confusion(right[0], right[1], 2, np.ones(60))
    assert compare(a, b, 0.1).p_value == pytest.approx(tables.mcnemar(table, exact=True).pvalue)


def test_mcnemar_by_hand_counts_only_samples_that_one_row_gets_right() -> None:
    a, b = outcomes([0] * 9, [0] * 6 + [1] * 3), outcomes([0] * 9, [0] * 1 + [1] * 8)
    assert compare(a, b, 0).p_value == pytest.approx(2 * 0.5**5)


def test_pairing_makes_a_constant_gain_more_certain_than_two_intervals_apart() -> None:
    a = correlated(np.random.default_rng(2))
    worse = (a.clean | (np.arange(1000) % 25 == 0)).astype(np.int16)
    found = compare(a, dataclasses.replace(a, clean=worse), 0)
    assert found.interval[0] > 0
    assert np.ptp(found.interval) < np.ptp(summary(a).scores[0].interval.acc) / 4
    assert found.method == "paired bootstrap over 40 groups"


def test_rows_on_other_samples_are_not_compared() -> None:
    row = random_row(14, groups=0)
    for name in ("ids", "y", "weight", "group"):
        other = dataclasses.replace(row, **{name: getattr(row, name) + 1})
        with pytest.raises(EcgbenchError, match=f"different {name} given; expected outcomes on the same samples"):
            compare(row, other, 0.1)


def test_an_eps_that_was_not_run_is_refused_with_those_that_were() -> None:
    with pytest.raises(EcgbenchError, match=r"eps 0.3 was not run; expected 0 or one of 0.1, 0.2, 0.5\."):
        compare(random_row(15), random_row(15), 0.3)


# seeds


def test_the_spread_over_seeds_has_the_sample_deviation() -> None:
    assert dataclasses.astuple(over_seeds([0.5, 0.7, 0.9])) == pytest.approx((0.7, 0.2, 3))


def test_one_seed_has_no_deviation() -> None:
    assert over_seeds([0.5]) == Spread(0.5, None, 1)


def test_no_seed_has_no_spread() -> None:
    with pytest.raises(EcgbenchError, match="expected the figure of at least one seed"):
        over_seeds([])
