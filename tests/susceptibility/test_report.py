"""Directions apart, intervals over stays, and whether two maps rank the measurements alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.susceptibility import Report, agreement, comparisons, report, split_half
from ecgbench.susceptibility.agreement import rank_correlation
from ecgbench.susceptibility.maps import susceptibility
from ecgbench.susceptibility.published import published

CLASSES = ("lives", "dies")
NAMES = ("Na", "HR", "K", "pH", "Temp")


def saved(delta: NDArray[np.float32], y: list[int], clean: list[int], attacked: list[int]) -> Perturbations:
    n = len(delta)
    labels = (np.array(each, np.int16) for each in (y, clean, attacked))
    return Perturbations(np.arange(n), np.full_like(delta, 0.5), delta, np.ones(n, np.float32), *labels)


def steep(n: int, seed: int, order: tuple[int, ...] = (0, 1, 2, 3, 4)) -> NDArray[np.float32]:
    """Perturbations that change measurement `order[0]` most, then `order[1]`, and so on."""
    rng = np.random.default_rng(seed)
    likely = np.empty(5)
    likely[list(order)] = [0.9, 0.6, 0.4, 0.2, 0.1]
    return (rng.uniform(0.1, 0.9, (n, 6, 5)) * (rng.random((n, 6, 5)) < likely)).astype(np.float32)


def test_directions_are_apart_and_of_what_was_right_and_changed_alone() -> None:
    delta = steep(6, 0)
    made = report("row", 1.0, saved(delta, [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1], [1, 0, 0, 0, 0, 1]), CLASSES, NAMES)
    dies, lives = made.directions
    assert (dies.name, dies.attacked, dies.success) == ("lives to dies", 2, 0.5)
    assert (lives.name, lives.attacked, lives.success) == ("dies to lives", 3, 2 / 3)
    assert np.array_equal(dies.delta, delta[[0]]) and np.array_equal(lives.delta, delta[[3, 4]])
    assert lives.nonzero.tolist() == [int((delta[row] != 0).sum()) for row in (3, 4)]
    np.testing.assert_allclose(lives.l1, np.abs(delta[[3, 4]]).sum((1, 2), dtype=np.float64))
    assert dies.halves is None and lives.raised == 1.0


def test_a_direction_without_success_has_no_maps() -> None:
    made = report("row", 1.0, saved(steep(2, 0), [0, 1], [0, 1], [1, 1]), CLASSES)
    assert made.measurements[0] == "measurement 1"
    assert made.directions[1].maps is None and made.directions[1].success == 0.0
    assert made.plain()["directions"][1]["s_j"] is None


def test_intervals_over_stays_hold_the_estimate_and_narrow_with_more_of_them() -> None:
    widths = []
    for n in (10, 160):
        (direction, _) = report("row", 1.0, saved(steep(n, 1), [0] * n, [0] * n, [1] * n), CLASSES, NAMES).directions
        assert direction.interval is not None and direction.maps is not None
        low, high = direction.interval
        share = direction.maps.gpp.sum(0)  # what resampling moves both ways; the largest can only fall
        assert bool((low <= high).all()) and share.shape == (5,)
        assert bool((low <= direction.maps.s.sum(0)).all())
        widths.append(float((high - low).mean()))
    assert widths[1] < widths[0] / 2


def test_a_stay_that_stands_alone_has_an_interval_of_no_width() -> None:
    (direction, _) = report("row", 1.0, saved(steep(1, 1), [0], [0], [1]), CLASSES, NAMES).directions
    assert direction.interval is not None and np.array_equal(*direction.interval)


def test_the_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        first, second = rng.integers(0, 6, (2, 9)).astype(np.float64)
        assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert np.isnan(rank_correlation(np.ones(3), np.arange(3.0)))


def test_halves_of_one_victim_agree_and_other_orders_do_not() -> None:
    same = split_half(steep(60, 0))
    assert same is not None and same.correlation > 0.95 and same.interval[0] <= same.correlation <= same.interval[1]
    assert agreement(steep(60, 0), steep(60, 1)).correlation == 1.0
    turned = agreement(steep(60, 0), steep(60, 1, (4, 3, 2, 1, 0)))
    assert turned.correlation == -1.0 and turned.interval[1] < 0
    assert split_half(steep(3, 0)) is None


def test_given_scores_are_compared_as_they_stand() -> None:
    ours = steep(40, 0)
    assert agreement(ours, susceptibility(ours)).correlation == 1.0
    assert agreement(ours, -susceptibility(ours)).correlation == -1.0


def both_ways(seed: int, n: int = 30) -> Report:
    delta = np.concatenate([steep(n, seed), steep(n, seed + 100, (4, 3, 2, 1, 0))])
    y = [0] * n + [1] * n
    return report(f"seed {seed}", 1.0, saved(delta, y, y, y[::-1]), CLASSES, NAMES)


def test_directions_rows_and_publications_are_compared() -> None:
    found = {each.words: each.agreement.correlation for each in comparisons([both_ways(0), both_ways(1)], draws=20)}
    assert found["lives to dies and dies to lives of 1"] == pytest.approx(-1.0)
    assert found["lives to dies of 1 and 2"] == pytest.approx(1.0)
    theirs = [words for words in found if "other data" in words]
    assert len(theirs) == 8 and "MIMIC-III" in theirs[0]
    strangers = replace(both_ways(1), measurements=("a", "b", "c", "d", "e"))
    assert not [each for each in comparisons([both_ways(0), strangers], draws=20) if "of 1 and 2" in each.words]


def test_published_scores_are_those_of_the_tables() -> None:
    sun, again = published()
    assert sun.toward["Na"] == 0.64 and sun.away["Creatinine"] == 1.95 and len(sun.toward) == len(sun.away) == 19
    assert again.toward["Glucose"] == 0.29 and "Mg" not in again.toward and len(again.away) == 18
    assert max(sun.away, key=lambda name: sun.away[name]) == "Creatinine"


def test_beats_are_refused() -> None:
    kept = saved(np.zeros((2, 187), np.float32), [0, 1], [0, 1], [1, 0])
    with pytest.raises(EcgbenchError, match=r"samples of shape \(187,\) given"):
        report("row", 1.0, kept, CLASSES)
