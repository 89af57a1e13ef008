"""Scores by hand, against reference implementations, and intervals that cover what they promise to cover."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecgbench.errors import EcgbenchError
from ecgbench.metrics import Spread, Summary, compare, confusion, means, over_seeds, summarize
from ecgbench.outcomes import Outcomes

NAMES = ("N", "S", "V")


def outcomes(
    y: Any, clean: Any, predicted: Any = None, eps: Any = None, *, group: Any = None, weight: Any = None
) -> Outcomes:
    """Outcomes of which metrics read only the given parts; one eps at which all is as when clean, by default."""
    rows = np.array([clean] if predicted is None else predicted, np.int16)
    n, e = len(y), len(rows)
    return Outcomes(
        epsilons=np.array(np.arange(1, e + 1) if eps is None else eps, np.float64),
        ids=np.arange(n),
        y=np.array(y, np.int16),
        group=np.full(n, -1) if group is None else np.array(group),
        weight=np.ones(n, np.float32) if weight is None else np.array(weight, np.float32),
        clean=np.array(clean, np.int16),
        predicted=rows,
        fallen=rows != np.array(y),
        size=np.zeros((e, n), np.float32),
        by=np.zeros((e, n), np.int8),
        forwards=np.zeros((e, n), np.int32),
        gradients=np.zeros((e, n), np.int32),
        components=np.array([""]),
    )


def summary(row: Outcomes, draws: int = 200, seed: int = 0, skip: bool = False) -> Summary:
    return summarize(row, NAMES, skip_unpredicted=skip, draws=draws, seed=seed)


def random_row(seed: int, n: int = 60, groups: int = 6, weighted: bool = True, right: float = 0.6) -> Outcomes:
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, 2, rng.integers(3, size=n - 3)]
    predicted = np.where(rng.random((4, n)) < right, y, rng.integers(3, size=(4, n)))
    group = rng.integers(groups, size=n) if groups else None
    weight = rng.random(n) + 0.1 if weighted else None
    return outcomes(y, predicted[0], predicted[1:], (0.1, 0.2, 0.5), group=group, weight=weight)


def permuted(row: Outcomes, order: NDArray[np.int64]) -> Outcomes:
    held = row.arrays()
    fixed = ("epsilons", "components")
    return Outcomes(**{name: held[name] if name in fixed else held[name][..., order] for name in held})  # type: ignore[arg-type]


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
    metrics = pytest.importorskip("sklearn.metrics")
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


def test_recall_is_by_class_and_none_for_a_class_the_split_lacks() -> None:
    assert summary(outcomes([0, 0, 1], [0, 2, 1])).scores[0].recall == {"N": 0.5, "S": 1.0, "V": None}


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


# uncertainty


@pytest.mark.parametrize("right", [0, 1, 37, 99, 100])
def test_the_accuracy_of_independent_samples_has_the_wilson_interval(right: int) -> None:
    stats = pytest.importorskip("scipy.stats")
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
    assert summary(equal).uncertainty.method == "Wilson (acc), bootstrap of samples (prec, f1, auc)"


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


def correlated(rng: np.random.Generator, groups: int = 40, each: int = 25) -> Outcomes:
    """Accuracy 0.7 in expectation, but each group has its own."""
    level = np.repeat(rng.beta(7 * 0.4, 3 * 0.4, size=groups), each)
    wrong = rng.random(groups * each) > level
    return outcomes(np.zeros(groups * each, int), wrong, group=np.repeat(np.arange(groups), each))


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
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
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
