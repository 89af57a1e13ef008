"""Hourly values as a task: gaps, percentiles of the training stays alone, scales, what an attack may change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecgbench.core.errors import DataError
from ecgbench_plugins.datasets.icu_features import HEART_RATE, OPEN_DATA, PH, SATURATION, TEMPERATURE, Feature, valid
from ecgbench_plugins.datasets.icu_hours import Recipe, Scaling, Stays, bridged

TWO = (PH, HEART_RATE)
CELLS = arrays(np.float32, (2, 6, 2), elements=st.one_of(st.just(float("nan")), st.integers(0, 64).map(float)))


def stays(values: np.ndarray, first: int = 0) -> Stays:
    n = len(values)
    return Stays(bridged(values.astype(np.float32)), ~np.isnan(values), np.arange(n) % 2, np.arange(first, first + n))


def drawn(n: int, seed: int = 0, share: float = 0.5) -> Stays:
    rng = np.random.default_rng(seed)
    values = rng.normal((7.4, 85), (0.1, 15), (n, 48, 2))
    return stays(np.where(rng.random(values.shape) < share, values, np.nan))


# gaps


def test_a_gap_is_a_straight_line_and_the_ends_are_the_nearest_value() -> None:
    nan = np.nan
    hours = [nan, 10, nan, nan, nan, 18, nan, 17, nan]
    made = bridged(np.array(hours, np.float32)[None, :, None])
    assert made[0, :, 0].tolist() == [10, 10, 12, 14, 16, 18, 17.5, 17, 17]


@given(CELLS)
def test_bridging_is_what_numpy_interpolates_and_leaves_what_is_never_there(values: np.ndarray) -> None:
    made = bridged(values)
    for stay, feature in np.ndindex(2, 2):
        column = values[stay, :, feature]
        seen = np.flatnonzero(~np.isnan(column))
        wanted = np.interp(np.arange(6), seen, column[seen]) if len(seen) else np.full(6, np.nan)
        np.testing.assert_allclose(made[stay, :, feature], wanted, rtol=1e-6)


def test_a_feature_that_a_stay_never_has_is_the_median_of_the_training_stays() -> None:
    test = drawn(3, 2)
    test.values[1, :, 0], test.observed[1, :, 0] = np.nan, False
    train = drawn(40)
    x = Recipe("toy", TWO).task(train, drawn(5, 1), test).test.x[1, :, 0]
    low, middle, high = np.percentile(train.values[..., 0][train.observed[..., 0]], (5, 50, 95))
    assert x.unique().tolist() == pytest.approx([(middle - low) / (high - low)], abs=1e-5)


# scaling


def test_percentiles_are_those_of_observed_training_hours() -> None:
    train = drawn(30)
    scaling = Scaling.of("toy", train, TWO)
    for place in range(2):
        seen = train.values[..., place][train.observed[..., place]]
        wanted = np.percentile(seen, (5, 50, 95)).astype(np.float32)
        assert [scaling.low[place], scaling.median[place], scaling.high[place]] == wanted.tolist()


def test_no_value_of_validation_or_test_moves_the_scale() -> None:
    train, val = drawn(30), drawn(5, 1)
    tests = [drawn(5, 2), stays(1000 * drawn(5, 3).values)]
    one, other = (Recipe("toy", TWO).task(train, val, test) for test in tests)
    assert one.train.x.equal(other.train.x) and one.val.x.equal(other.val.x)
    assert one.train.scale.equal(other.train.scale)


def test_values_are_clipped_to_the_5th_and_95th_percentile_and_stretched() -> None:
    train = drawn(40, share=1.0)
    scaling = Scaling.of("toy", train, TWO)
    x = scaling.scaled(train.values)
    assert x.min() == 0 and x.max() == 1
    assert np.mean(x == 0) == pytest.approx(0.05, abs=0.003) and np.mean(x == 1) == pytest.approx(0.05, abs=0.003)
    inside = (x > 0) & (x < 1)
    again = x * (scaling.high - scaling.low) + scaling.low
    np.testing.assert_allclose(again[inside], train.values[inside], rtol=1e-5)


@pytest.mark.parametrize("column", [np.full((20, 48), np.nan), np.full((20, 48), 7.4)], ids=["never", "constant"])
def test_a_feature_without_spread_in_training_is_one_sentence(column: np.ndarray) -> None:
    train = drawn(20)
    train.values[..., 0], train.observed[..., 0] = column, ~np.isnan(column)
    with pytest.raises(DataError, match=r"^toy: pH has \d+ observed hours in the 20 training stays, .*more stays\.$"):
        Recipe("toy", TWO).task(train, drawn(5), drawn(5))


# samples


def test_a_difference_of_x_times_scale_is_in_the_features_unit() -> None:
    train = drawn(40, share=1.0)
    task = Recipe("toy", TWO).task(train, drawn(5, 1), drawn(5, 2))
    x, scale = task.train.x, task.train.scale.expand(-1, 48, -1)
    inside = (x[:, 1:] > 0) & (x[:, 1:] < 1) & (x[:, :-1] > 0) & (x[:, :-1] < 1)
    native = torch.from_numpy(np.diff(train.values, axis=1))
    torch.testing.assert_close((x.diff(dim=1) * scale[:, 1:])[inside], native[inside], rtol=1e-3, atol=1e-3)


def test_the_mask_of_observed_cells_binds_attacks_where_asked() -> None:
    test = drawn(6, 2)
    free, bound = (
        Recipe("toy", TWO, attackable=which).task(drawn(40), drawn(5, 1), test).test for which in ("all", "observed")
    )
    assert bool(free.mask.all()) and free.x.equal(bound.x)
    assert np.array_equal(bound.mask.numpy(), test.observed)


@pytest.mark.parametrize("attackable", ["all", "observed"])
def test_what_was_observed_stands_beside_the_values_where_no_attack_reaches_it(attackable: str) -> None:
    parts = drawn(40), drawn(5, 1), drawn(6, 2)
    plain = Recipe("toy", TWO).task(*parts)
    both = Recipe("toy", TWO, "values-observed", attackable).task(*parts)  # type: ignore[arg-type]
    seen = torch.from_numpy(parts[2].observed)
    assert both.features == ("pH", "HR", "pH observed", "HR observed") and plain.features == ("pH", "HR")
    assert both.test.x[..., :2].equal(plain.test.x) and both.test.x[..., 2:].equal(seen.float())
    mask = both.test.mask.expand(-1, 48, -1)
    assert not mask[..., 2:].any() and mask[..., :2].equal(seen if attackable == "observed" else torch.ones_like(seen))


# features


def test_the_18_features_have_names_of_their_own() -> None:
    assert len({feature.name for feature in OPEN_DATA}) == 18


@pytest.mark.parametrize(
    ("feature", "good", "bad"),
    [
        (HEART_RATE, (1, 299), (0, 300, -1)),
        (PH, (6.01, 8), (6, 8.01, 735)),
        (SATURATION, (1, 100), (0, 101)),
        (TEMPERATURE, (10.1, 49.9), (10, 50, -17.8)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_values_that_cannot_be_are_told_from_others(
    feature: Feature, good: tuple[float, ...], bad: tuple[float, ...]
) -> None:
    place = np.zeros(len(good) + len(bad), np.int64)
    assert valid([feature], place, np.array([*good, *bad])).tolist() == [True] * len(good) + [False] * len(bad)


def test_every_value_is_judged_by_its_own_feature() -> None:
    assert valid(TWO, np.array([0, 1, 0, 1]), np.array([7.4, 7.4, 80, 80])).tolist() == [True, True, False, True]
