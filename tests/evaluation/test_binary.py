"""Scores that need log-odds: by hand, against scikit-learn, and their intervals."""

from __future__ import annotations

from dataclasses import astuple, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from ecgbench.core.outputs import SingleLabel
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.evaluation.binary import Binary, Estimate, binary_scores, decision, ranking
from ecgbench.evaluation.metrics import summarize
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Protocol, Sweep
from ecgbench_plugins.attacks.pgd import PGD
from tests.multi_label import LABELS, multi_label_problem
from tests.plain_outcomes import outcomes
from tests.problems import linear_problem

TWO = SingleLabel(("no", "yes"))
ROWS = st.lists(
    st.tuples(st.integers(-4, 4), st.booleans(), st.sampled_from([0.5, 1.0, 3.0])), min_size=2, max_size=30
).filter(lambda rows: len({row[1] for row in rows}) == 2)


def row(logits: Any, y: Any, threshold: float = np.nan, **facts: Any) -> Outcomes:
    """Outcomes of two classes, one eps for each row of `logits` after the first, which is clean."""
    odds = np.array(logits, np.float16)
    said = (odds > 0).astype(int)
    made = outcomes(y, said[0], said[1:], **facts)
    return replace(made, logits=odds[:, :, None], threshold=np.array([threshold]))


def scored(made: Outcomes, draws: int = 50, seed: int = 0) -> list[Binary]:
    found = binary_scores(made, TWO, draws, seed)
    assert found is not None and all(set(each) == {"yes"} for each in found)
    return [each["yes"] for each in found]


def flat(value: Any) -> list[float]:
    """Every number of figures, in their order."""
    if isinstance(value, list | tuple):
        return [number for part in value for number in flat(part)]
    return flat(astuple(value)) if is_dataclass(value) and not isinstance(value, type) else [value]


def columns(rows: list[tuple[int, bool, float]]) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.float64]]:
    logit, holds, weight = (np.array(part) for part in zip(*rows, strict=True))
    return logit.astype(np.float64), holds, weight.astype(np.float64)


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_the_ranking_is_that_of_scikit_learn_ties_and_weights_included(rows: list[tuple[int, bool, float]]) -> None:
    logit, holds, weight = columns(rows)
    (area,), (precision,) = ranking(logit, holds, weight[None])
    assert area == pytest.approx(metrics.roc_auc_score(holds, logit, sample_weight=weight))
    assert precision == pytest.approx(metrics.average_precision_score(holds, logit, sample_weight=weight))


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_decisions_are_those_of_scikit_learn(rows: list[tuple[int, bool, float]]) -> None:
    logit, holds, weight = columns(rows)
    found = [float(part[0]) for part in decision(logit > 0, holds, weight[None])]
    said, given = logit > 0, {"sample_weight": weight, "zero_division": 0}
    assert found == pytest.approx(
        [
            metrics.precision_score(holds, said, **given),
            metrics.recall_score(holds, said, **given),
            metrics.recall_score(~holds, ~said, **given),
            metrics.f1_score(holds, said, **given),
        ]
    )


@given(ROWS)
def test_a_weight_of_2_is_that_of_two_samples_and_one_of_0_of_none(rows: list[tuple[int, bool, float]]) -> None:
    logit, holds, _ = columns(rows)
    times = np.arange(len(rows)) % 3
    many = np.repeat(np.arange(len(rows)), times)
    weighted = ranking(logit, holds, times[None].astype(float))
    if len(set(holds[many].tolist())) == 2:
        assert np.allclose(weighted, ranking(logit[many], holds[many], np.ones((1, len(many)))))


def test_the_figures_of_four_samples_by_hand() -> None:
    (clean, attacked) = scored(row([[2, 1, -1, -3], [-2, 1, 1, -3]], [1, 0, 1, 0], threshold=-1.0))
    assert clean.auroc is not None and clean.average_precision is not None and clean.at_threshold is not None
    assert clean.auroc.value == 3 / 4 and clean.average_precision.value == pytest.approx((1 + 2 / 3) / 2)
    share = 1 / (1 + np.exp([-2.0, -1.0, 1.0, 3.0]))
    assert clean.brier.value == pytest.approx(np.mean((share - [1, 0, 1, 0]) ** 2))
    assert clean.prevalence == 0.5 and clean.at_half.threshold == 0.5
    half = clean.at_half
    assert (half.precision.value, half.recall.value, half.specificity.value, half.f1.value) == (0.5, 0.5, 0.5, 0.5)
    chosen = clean.at_threshold  # says yes from -1 on
    assert chosen.threshold == pytest.approx(1 / (1 + np.exp(1.0)))
    assert (chosen.precision.value, chosen.recall.value, chosen.specificity.value) == (2 / 3, 1.0, 0.5)
    assert attacked.auroc is not None and attacked.auroc.value == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert attacked.at_threshold is not None and attacked.at_threshold.recall.value == 0.5


def test_at_half_are_the_victims_own_predictions_and_not_what_is_rounded() -> None:
    made = row([[0.0, 0.0, 1.0, -1.0]], [1, 0, 1, 0])
    made = replace(made, clean=np.array([0, 1, 1, 0], np.int16), predicted=made.predicted)
    (clean,) = scored(made)
    assert (clean.at_half.recall.value, clean.at_half.specificity.value) == (0.5, 0.5)


def test_without_the_class_or_without_others_nothing_can_be_ranked() -> None:
    for y in ([0, 0, 0], [1, 1, 1]):
        (clean,) = scored(row([[1, 2, -1]], y))
        assert clean.auroc is None and clean.average_precision is None and clean.at_threshold is None
        assert 0 < clean.brier.value < 1


def test_log_odds_beyond_every_float_are_probabilities_of_0_and_1() -> None:
    (clean,) = scored(row([[65504, -65504]], [1, 0]))
    assert clean.brier.value == 0


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_percentiles_over_groups_or_samples(grouped: bool) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=300)
    logit = (rng.normal(size=300) + y).astype(np.float16)
    group = np.arange(300) // 10 if grouped else None
    (clean,) = scored(row([logit], y, threshold=0.0, group=group), draws=2000)
    assert clean.auroc is not None
    units = 30 if grouped else 300
    times = rng.multinomial(units, np.full(units, 1 / units), 2000).astype(float)
    draws = ranking(logit.astype(float), y == 1, np.repeat(times, 300 // units, axis=1))[0]
    assert clean.auroc.interval == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=5e-3)
    for each in (clean.brier, clean.at_half.f1, clean.average_precision):
        assert isinstance(each, Estimate) and each.interval[0] < each.value < each.interval[1]


def test_blocks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(2, size=40)
    made = row(rng.normal(size=(3, 40)), y, threshold=0.1)
    whole = scored(made)
    monkeypatch.setattr("ecgbench.evaluation.binary.BLOCK", 90)
    assert flat(scored(made)) == pytest.approx(flat(whole), rel=1e-12)


def test_only_outcomes_with_log_odds_have_binary_scores() -> None:
    assert binary_scores(outcomes([0, 1], [0, 1]), TWO, 10, 0) is None
    assert all(
        score.binary is None for score in summarize(outcomes([0, 1], [0, 1]), TWO, skip_unpredicted=False).scores
    )


def test_an_attack_that_goes_on_leaves_a_smaller_auroc_than_one_that_stops_at_its_first_success() -> None:
    problem = linear_problem(2, (1, 30), 300)
    task = replace(problem.task, val=problem.task.test[:100])
    eps, areas = 0.03, []
    for protocol in (Protocol(), Protocol("last", "independent", "attacked")):
        attack = PGD(steps=20, rel_step=0.05, start="zero")
        sweep = Sweep(attack, problem.victim, task, Threat("linf"), (eps,), RandomStream((0,)), protocol)
        found = sweep.run(Checkpoint())
        summary = summarize(found, task.outputs, skip_unpredicted=False, draws=20)
        binary = summary.scores[1].binary
        assert binary is not None
        area = binary["1"].auroc
        assert area is not None
        areas.append((summary.scores[1].acc, area.value))
    (first, stopped), (last, went_on) = areas
    assert first == pytest.approx(last, abs=0.02) and went_on < stopped - 0.05


def test_a_task_of_several_labels_has_figures_for_each() -> None:
    task, victim = multi_label_problem()
    sweep = Sweep(PGD(steps=5), victim, task, Threat("linf", bounds=False), (0.02, 0.1), RandomStream((0,)))
    found = sweep.run(Checkpoint())
    clean, *_, last = summarize(found, task.outputs, skip_unpredicted=False, draws=20).scores
    assert clean.acc == pytest.approx(np.mean(found.clean == found.y)) and last.acc < clean.acc
    held = [np.stack([(code >> label) & 1 for label in range(3)], 1) for code in (found.y, found.clean)]
    assert clean.f1 == pytest.approx(metrics.f1_score(*held, average="macro"))
    assert clean.prec == pytest.approx(metrics.precision_score(*held, average="macro", zero_division=0))
    assert clean.binary is not None and tuple(clean.binary) == LABELS == tuple(clean.by_class)
    for label, name in enumerate(LABELS):
        area, one = clean.binary[name].auroc, clean.by_class[name]
        assert area is not None and one is not None
        odds = found.logits[0, :, label].astype(float)
        assert area.value == pytest.approx(metrics.roc_auc_score(held[0][:, label], odds))
        assert one.recall == pytest.approx(metrics.recall_score(held[0][:, label], held[1][:, label]))
        assert clean.binary[name].at_half.recall.value == pytest.approx(one.recall)
