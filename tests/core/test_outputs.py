"""What logits mean is said in one place: a task of several labels at once goes through the host like any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ecgbench.checks.audit import Audit
from ecgbench.checks.cheap import CheapChecks
from ecgbench.core.data import Task
from ecgbench.core.errors import DataError
from ecgbench.core.interfaces import Attack
from ecgbench.core.losses import cross_entropy, dlr, margin, pair_margin
from ecgbench.core.outputs import SINGLE_LABEL, Outputs, SingleLabel
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import Victim
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep
from ecgbench.storage.arrays import pack, unpack
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.strict import Strict
from tests.multi_label import LABELS, MultiLabel, multi_label_problem

RNG = RandomStream(("outputs",))
TWO, FIVE = SingleLabel(("no", "yes")), SingleLabel(tuple("NSVFQ"))
MANY = MultiLabel(LABELS, (0.0, 0.5, -0.5))
GRID = (0.02, 0.05, 0.1, 0.2)
MARGIN = PGD(steps=20, rel_step=0.25, loss="margin")
FINITE = st.floats(-50, 50, width=32)


def logits_and_labels(outputs: Outputs) -> st.SearchStrategy[tuple[Tensor, Tensor]]:
    row = st.tuples(st.lists(FINITE, min_size=len(outputs.classes), max_size=len(outputs.classes)))
    rows = st.lists(st.tuples(row, st.integers(0, outputs.codes - 1)), min_size=1, max_size=8)
    return rows.map(lambda made: (torch.tensor([r[0][0] for r in made]), torch.tensor([r[1] for r in made])))


def sweep_of(attack: Attack, task: Task, victim: Victim, threat: Threat | None = None) -> Sweep:
    return Sweep(attack, victim, task, threat or Threat("linf", bounds=False), GRID, RNG)


def leads(task: Task, victim: Victim) -> tuple[Tensor, Tensor]:
    """How far each label of the test samples lies from its threshold, and how far a step of eps 1 moves it."""
    linear = victim.module[1]  # type: ignore[index]
    assert isinstance(linear, nn.Linear)
    logits = linear(task.test.x.flatten(1)).detach()
    return task.outputs.log_odds(logits), linear.weight.detach().abs().sum(1)


def run(attack: Attack, threat: Threat | None = None) -> tuple[Task, Victim, Outcomes]:
    task, victim = multi_label_problem()
    return task, victim, sweep_of(attack, task, victim, threat).run(Checkpoint())


# laws of every kind of outputs


@pytest.mark.parametrize("outputs", [TWO, FIVE, MANY], ids=["two", "five", "many"])
@given(data=st.data())
def test_the_margin_is_above_0_exactly_where_the_goal_is_met_and_0_on_the_edge(
    outputs: Outputs, data: st.DataObject
) -> None:
    logits, y = data.draw(logits_and_labels(outputs))
    target = data.draw(st.sampled_from([None, *outputs.classes]))
    goal = Threat("linf", target=target).goal(y, outputs)
    value, met = margin(logits, goal), goal.met_by(logits, y)
    assert bool(met[value > 0].all()) and not bool(met[value < 0].any())
    assert bool(met[value == 0].all())  # what is left open counts against the victim


@pytest.mark.parametrize("outputs", [TWO, FIVE, MANY], ids=["two", "five", "many"])
@given(data=st.data())
def test_made_up_logits_have_the_margin_that_is_asked_for(outputs: Outputs, data: st.DataObject) -> None:
    logits, y = data.draw(logits_and_labels(outputs))
    value = torch.tensor(data.draw(st.lists(st.floats(-5, 5, width=32), min_size=len(y), max_size=len(y))))
    goal = Threat("linf", target=data.draw(st.sampled_from([None, *outputs.classes]))).goal(y, outputs)
    rows = goal.eligible.nonzero().squeeze(1)
    made = outputs.with_margin(value, logits, goal, y, 2.0)[rows]
    assert torch.allclose(margin(made, goal[rows]), value[rows], atol=1e-5)


@pytest.mark.parametrize("outputs", [TWO, FIVE, MANY], ids=["two", "five", "many"])
@given(data=st.data())
def test_the_margin_is_the_largest_over_the_rivals_and_the_first_has_it(outputs: Outputs, data: st.DataObject) -> None:
    logits, y = data.draw(logits_and_labels(outputs))
    goal = Threat("linf").goal(y, outputs)
    rivals = outputs.rivals(logits, goal)
    each = torch.stack([pair_margin(logits, replace(goal, rival=rival)) for rival in rivals.T], 1)
    assert torch.equal(each.amax(1), margin(logits, goal)) and torch.equal(each[:, 0], margin(logits, goal))


@pytest.mark.parametrize("outputs", [TWO, FIVE, MANY], ids=["two", "five", "many"])
def test_the_cross_entropy_rises_with_the_margin_of_every_rival(outputs: Outputs) -> None:
    logits = torch.randn(20, len(outputs.classes), generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.arange(20) % outputs.codes
    goal = Threat("linf").goal(y, outputs)
    (up,) = torch.autograd.grad(cross_entropy(logits, goal).sum(), logits)
    for rival in outputs.rivals(logits, goal).T:
        (along,) = torch.autograd.grad(pair_margin(logits, replace(goal, rival=rival)).sum(), logits)
        assert bool(((up * along).sum(1) > 0).all())


@pytest.mark.parametrize("outputs", [TWO, FIVE, MANY], ids=["two", "five", "many"])
def test_draws_that_agree_are_pooled_to_the_prediction_of_each(outputs: Outputs) -> None:
    logits = torch.randn(20, len(outputs.classes), generator=torch.Generator().manual_seed(1))
    y = torch.zeros(20, dtype=torch.int64)
    pooled = outputs.pooled([logits] * 15)
    assert torch.equal(outputs.predict(pooled, y), outputs.predict(logits, y))


def test_what_is_pooled_are_the_shares_of_the_votes() -> None:
    draws = [torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 0.0]])]
    assert TWO.pooled(draws).exp().tolist() == [pytest.approx([1.5 / 4, 2.5 / 4])]
    assert TWO.pooled([*draws, torch.tensor([[0.0, torch.nan]])]).isnan().all()


def test_of_two_classes_the_log_odds_of_the_second_are_kept_and_of_more_none() -> None:
    assert TWO.log_odds(torch.tensor([[1.0, 4.0], [0.0, -2.0]])).tolist() == [[3.0], [-2.0]]
    assert FIVE.log_odds(torch.zeros(4, 5)).shape == (4, 0)


def test_the_outputs_of_a_task_are_those_of_its_classes() -> None:
    task, _ = multi_label_problem()
    plain = replace(task, outputs=SINGLE_LABEL, train=task.train[:0], val=task.val[:0], test=task.test[:0])
    assert plain.outputs == SingleLabel(LABELS)
    assert replace(plain, classes=("a", "b")).outputs == SingleLabel(("a", "b"))
    with pytest.raises(DataError, match="outputs are of"):
        replace(task, classes=("a", "b", "c"))
    with pytest.raises(DataError, match=r"a label lies outside 0\.\.7"):
        replace(task, test=replace(task.test, y=task.test.y + 8))


# a task of several labels at once, from attack to figures


@pytest.mark.parametrize("attack", [MARGIN, Strict(budget="quick")])
def test_attacks_find_what_a_linear_victim_of_several_labels_gives_away(attack: Attack) -> None:
    task, victim, found = run(attack)
    lead, gain = leads(task, victim)
    assert 0.3 < found.correct.mean() < 1
    for eps, adversarial in zip(GRID, found.adversarial, strict=True):
        critical = (lead.abs() < eps * gain).any(1).numpy() & found.correct
        assert np.sum(critical != adversarial) <= 1
        assert 0 < critical.sum() < found.correct.sum() or eps > 0.1


def test_a_label_to_reach_is_one_of_those_that_hold() -> None:
    threat = Threat("linf", bounds=False, target="PVC")
    task, victim, found = run(MARGIN, threat)
    goal = threat.goal(task.test.y, task.outputs)
    assert torch.equal(goal.eligible, (task.test.y & 2) == 0)
    lead, gain = leads(task, victim)
    eligible = goal.eligible.numpy() & found.correct
    for eps, adversarial in zip(GRID, found.adversarial, strict=True):
        assert np.array_equal(adversarial, eligible & (lead[:, 1] + eps * gain[1] > 0).numpy())


def test_outcomes_of_several_labels_are_stored_with_the_log_odds_of_each() -> None:
    task, victim, found = run(MARGIN)
    assert found.logits.shape == (1 + len(GRID), len(task.test), len(LABELS)) and found.threshold.shape == (3,)
    assert np.allclose(found.logits[0], leads(task, victim)[0], atol=1e-2)
    assert pack(unpack(pack(found), "here")) == pack(found)


def test_checks_look_at_a_victim_of_several_labels() -> None:
    task, victim = multi_label_problem()
    sweep = sweep_of(Strict(budget="quick"), task, victim)
    outcomes = sweep.run(Checkpoint())
    checks = (*CheapChecks(sweep, outcomes, 0.05).run(), *Audit(sweep, outcomes, 0.05).run())
    assert [check.code for check in checks if check.raised] == []


def test_dlr_needs_classes_of_which_one_holds() -> None:
    task, _ = multi_label_problem()
    goal = Threat("linf").goal(task.test.y, task.outputs)
    with pytest.raises(ValueError, match="where several labels may"):
        dlr(torch.zeros(len(task.test), 3), goal)
