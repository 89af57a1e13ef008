from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecgbench.checks.chance import OF_CLEAN
from ecgbench.checks.cheap import Check
from ecgbench.core.outputs import SingleLabel
from ecgbench.evaluation.metrics import summarize
from ecgbench.evaluation.uncertainty import Spread
from ecgbench.leaderboard.ranking import RankedVictim, at_headline, clean_flags, rank_victims, rounded, worst_case
from ecgbench.results.published import Published
from tests.made_up_rows import CLASSES, changed, made_up, raised, row


def only(*rows: Published) -> RankedVictim:
    (ranked,) = rank_victims(rows, 0.1)
    return ranked


def mean_of(spread: Spread | None) -> float:
    assert spread is not None
    return spread.mean


def test_the_worst_case_is_taken_sample_by_sample() -> None:
    one, other = made_up(["01", "012"]), made_up(["23", "2345"])
    standing = only(row(one, attack="a"), row(other, attack="b"))
    assert standing.robust[0.1].mean == 0.6  # each attack alone leaves 0.8
    assert standing.robust[0.2].mean == 0.4  # each alone: 0.7 and 0.6
    assert mean_of(standing.clean) == 1.0


def test_the_clean_prediction_is_the_worst_over_all_attacks_too() -> None:
    """A randomised victim is asked anew in every run."""
    one, other = made_up(["0", "0"], clean="0"), made_up(["1", "1"], clean="1")
    standing = only(row(one, attack="a"), row(other, attack="b"))
    assert mean_of(standing.clean) == 0.8  # 0.9 in each run alone
    assert worst_case([("a", one), ("b", other)], [0.1]).correct.tolist() == [False, False, *[True] * 8]


def test_the_interval_belongs_to_the_worst_case() -> None:
    standing = only(row(made_up(["01", "0"]), attack="a"), row(made_up(["23", "0"]), attack="b"))
    both = summarize(made_up(["0123", "0"]), SingleLabel(CLASSES), skip_unpredicted=False)
    assert standing.interval == both.scores[1].interval.acc


@given(wrong=st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=4))
def test_a_worst_case_is_right_where_every_run_is(wrong: list[list[bool]]) -> None:
    blank = made_up([""], n=12, eps=(0.1,))
    runs = [replace(blank, predicted=np.where([w], 1 - blank.y, blank.y).astype(np.int16)) for w in wrong]
    worst = worst_case([(f"attack {at}", run) for at, run in enumerate(runs)], [0.1])
    np.testing.assert_array_equal(worst.predicted[0] != worst.y, np.any(wrong, 0))
    assert all(wrong[by][at] or not np.any(wrong, 0)[at] for at, by in enumerate(worst.by[0]))
    assert worst.arrays().keys() == type(worst).from_arrays(worst.arrays()).arrays().keys()


def test_a_worst_case_joins_at_each_eps_the_runs_that_have_it() -> None:
    wide, narrow = made_up(["0", "01"], eps=(0.1, 0.2)), made_up(["9"], eps=(0.1,))
    standing = only(row(wide, attack="a"), row(narrow, attack="b"))
    assert [standing.robust[eps].mean for eps in (0.1, 0.2)] == [0.8, 0.8]


def test_the_attack_that_lowers_the_score_most_decides() -> None:
    rows = row(made_up(["01", "01"]), attack="b"), row(made_up(["2", "2"]), attack="a")
    assert only(*rows).decided_by == "b"


def test_seeds_give_a_mean_and_a_spread_and_the_widest_interval() -> None:
    outcomes = made_up(["01", "0"]), made_up(["0123", "0"])
    standing = only(*(row(one, seed=seed) for seed, one in enumerate(outcomes)))
    assert standing.deciding is not None
    assert (standing.deciding.mean, standing.deciding.sd) == pytest.approx((0.7, 0.02**0.5))
    outputs = SingleLabel(CLASSES)
    better, worse = (summarize(o, outputs, skip_unpredicted=False).scores[1].interval.acc for o in outcomes)
    assert standing.interval == (worse[0], better[1])
    assert (standing.seeds, standing.of) == (2, 2)


def test_a_seed_that_an_attack_has_not_met_does_not_count() -> None:
    strong, weak = made_up(["0123", "0"]), made_up(["0", "0"])
    standing = only(*(row(weak, seed=seed) for seed in range(3)), row(strong, attack="strict", seed=1))
    assert mean_of(standing.deciding) == 0.6 and (standing.seeds, standing.of) == (1, 3)


def test_no_seed_has_met_every_attack_so_there_is_no_score() -> None:
    standing = only(row(made_up(["0", "0"]), attack="a"), row(made_up(["1", "1"]), attack="b", seed=1))
    assert standing.robust == {} and standing.rank is None and mean_of(standing.clean) == 1.0


def test_better_rows_stand_higher_and_ties_share_a_rank() -> None:
    wrong = {"c": "01", "a": "23", "b": "4", "d": "567"}
    made = rank_victims([row(made_up([w, w]), model=name) for name, w in wrong.items()], 0.1)
    assert [(one.model, one.rank) for one in made] == [("b", 1), ("a", 2), ("c", 2), ("d", 4)]


def test_clean_accuracy_orders_equal_robust_rows() -> None:
    a, b = made_up(["01", "01"], clean="0"), made_up(["01", "01"])
    made = rank_victims([row(a, model="a"), row(b, model="b")], 0.1)
    assert [(one.model, one.rank) for one in made] == [("b", 1), ("a", 2)]


def test_a_part_of_the_split_and_a_failed_row_have_no_rank() -> None:
    best, good = made_up(["", ""]), made_up(["01", "01"])
    made = rank_victims([row(best, model="part", limit=10), row(model="broken"), row(good, model="whole")], 0.1)
    assert [(one.model, one.rank, one.status) for one in made] == [
        ("whole", 1, "ok"),
        ("part", None, "ok"),
        ("broken", None, "failed"),
    ]


def test_a_victim_of_a_broken_attack_has_no_rank() -> None:
    standing = only(row(made_up(["", ""])), row(attack="strict"))
    assert standing.rank is None and standing.failed == ("strict",) and mean_of(standing.deciding) == 1.0


def test_a_skipped_attack_is_no_failure() -> None:
    standing = only(row(made_up(["", ""])), row(attack="transfer", status="skipped", error="there is no source"))
    assert standing.rank == 1 and standing.failed == ()


def test_one_attack_free_of_flags_frees_the_victim() -> None:
    weak = row(made_up(["0", "0"]), attack="fgsm", checks=raised("LOSS"))
    assert only(weak).flags == ("LOSS",)
    assert only(weak, row(made_up(["01", "01"]))).flags == ()


def test_a_weaker_attack_free_of_flags_frees_the_victim_of_a_flagged_stronger_one() -> None:
    strong = row(made_up(["01", "01"]), attack="fgsm", checks=raised("LOSS"))
    assert only(strong).flags == ("LOSS",)
    assert only(strong, row(made_up(["0", "0"]))).flags == ()


def test_different_flags_on_all_attacks_leave_those_of_the_strongest() -> None:
    weak = row(made_up(["0", "0"]), attack="a", checks=raised("LOSS"))
    strong = row(made_up(["01", "01"]), attack="b", checks=raised("STEP"))
    assert only(weak, strong).flags == ("STEP",)


def test_every_seed_needs_an_attack_free_of_flags() -> None:
    rows = [row(made_up(["0", "0"]), seed=seed, checks=raised(*codes)) for seed, codes in enumerate([(), ("LOSS",)])]
    assert only(*rows).flags == ("LOSS",)


def test_a_flag_of_the_victim_counts_whatever_the_attack() -> None:
    flagged = row(made_up(["0", "0"]), attack="a", checks=raised("RANDOM"))
    assert only(flagged, row(made_up(["01", "01"]))).flags == ("RANDOM",)


def test_a_row_that_was_never_checked_is_flagged() -> None:
    assert only(row(made_up(["0", "0"]), checks=())).flags == ("unchecked",)


GUESSING = Check("CHANCE", True, -0.1, 0.0, "made up")
KNOWN = (Check("ONECLASS", False, 0.5, 1.0, "made up"), Check("CHANCE", False, 0.5, 0.0, "made up"))


def test_a_victim_no_better_than_chance_ranks_below_every_other_whatever_stands() -> None:
    constant = made_up(["02468", "02468"], clean="02468")
    rows = [
        row(constant, model="constant", checks=(*raised(), GUESSING)),
        row(made_up(["0123456"] * 2), model="doubted", checks=raised("LOSS", "STEP")),
        row(made_up(["012345678"] * 2), model="random", checks=(*raised("RANDOM"), *KNOWN)),
        row(made_up(["01234567"] * 2), model="part", limit=10),
        row(made_up(["0123456789"] * 2), model="honest"),
    ]
    made = rank_victims(rows, 0.1)
    assert [(one.model, one.rank) for one in made] == [
        ("honest", 1),
        ("part", None),
        ("doubted", 2),
        ("random", 3),
        ("constant", 4),
    ]
    assert mean_of(made[-1].deciding) > mean_of(made[0].deciding)


def test_a_row_older_than_the_check_is_judged_by_its_outcomes() -> None:
    old = changed(row(made_up(["02468", "02468"], clean="02468")), checks=raised())
    assert "CHANCE" not in {check.code for check in old.record.checks}
    assert only(old).flags == ("CHANCE", "ONECLASS") and clean_flags(old) == OF_CLEAN
    assert only(row(made_up(["0", "0"], clean="0"))).flags == ()
    stated = row(made_up(["", ""]), checks=(*raised(), GUESSING))
    assert only(stated).flags == ("CHANCE",)
    assert clean_flags(row()) == frozenset()


def test_a_victim_that_guesses_in_one_seed_is_flagged_though_an_attack_is_free_of_flags() -> None:
    rows = [
        row(made_up(["0", "0"]), seed=0),
        row(made_up(["0", "0"]), seed=0, attack="b", checks=(*raised(), GUESSING)),
    ]
    assert only(*rows).flags == ("CHANCE",)


CELLS = st.tuples(
    st.sets(st.integers(0, 9)), st.sampled_from(["", "LOSS", "RANDOM", "CHANCE"]), st.sampled_from([None, 5])
)


@settings(max_examples=30, deadline=None)
@given(cells=st.lists(CELLS, min_size=1, max_size=6), order=st.randoms(use_true_random=False))
@example(cells=[(set(), "LOSS", None), ({1}, "", 5), ({1}, "", None)], order=Random(0))
def test_a_flagged_row_never_stands_above_an_unflagged_one(
    cells: list[tuple[set[int], str, int | None]], order: Random
) -> None:
    rows = []
    for at, (wrong, code, limit) in enumerate(cells):
        outcomes = made_up(["".join(map(str, wrong))] * 2)
        checks = (*raised(), GUESSING) if code == "CHANCE" else raised(code)
        rows.append(row(outcomes, model=f"m{at}", checks=checks, limit=limit))
    made = rank_victims(rows, 0.1)
    level = [("CHANCE" in one.flags, bool(one.flags)) for one in made]
    assert level == sorted(level)
    ranks = [one.rank for one in made if one.rank]
    assert ranks == sorted(ranks) and ranks[:1] in ([], [1])
    order.shuffle(rows)
    assert rank_victims(rows, 0.1) == made


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0005, "0.000"), (0.0015, "0.002"), (0.8125, "0.812"), (0.81251, "0.813"), (-0.0, "0.000"), (-1e-9, "0.000")],
)
def test_figures_are_rounded_half_to_even_and_never_below_zero(value: float, shown: str) -> None:
    assert str(rounded(value)) == shown


def test_what_is_only_claimed_counts_nowhere_else_and_never_ranks() -> None:
    own, claim = row(made_up(["0", "01"])), row(made_up(["0123", "01234"]), attack="fgsm")
    other = row(made_up(["", ""]), defense="unbreakable")
    rows = [own, replace(claim, badge="claimed"), replace(other, badge="claimed")]
    by_name = {one.defense: one for one in rank_victims(rows, 0.1)}
    assert by_name["none"].deciding is not None
    assert (by_name["none"].rank, by_name["none"].deciding.mean, by_name["none"].badges) == (1, 0.9, ())
    assert (by_name["unbreakable"].rank, by_name["unbreakable"].badges) == (None, ("claimed",))
    assert [len(outcomes.y) for outcomes in at_headline(rows, by_name["none"])] == [10]
    (rescored,) = rank_victims([own, replace(claim, badge="rescored")], 0.1)
    assert rescored.deciding is not None
    assert (rescored.rank, rescored.deciding.mean, rescored.badges) == (1, 0.6, ("rescored",))
