"""APGD: a step that halves itself where it is too long, row by row, and ends at the best point seen."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from problems import Written, linear_problem, random_mlp, thresholds, trial_of
from test_closed_form import assert_exact
from torch import Tensor

from ecgbench.data import Samples
from ecgbench.keyed import Keyed
from ecgbench.losses import cross_entropy, dlr, margin, pair_margin
from ecgbench.testing import check_attack
from ecgbench.threat import Aim, Norm, Threat
from ecgbench.trial import Trial
from ecgbench.victim import Victim
from ecgbench_plugins.attacks.apgd import APGD, _checkpoints
from ecgbench_plugins.attacks.pgd import PGD

RNG = Keyed((0, "attack"))
LOGITS = torch.tensor([[4.0, 3.0, 1.0, -2.0], [0.0, 1.0, 5.0, 2.0]])


def aim(labels: list[int], leave: bool = True, rival: list[int] | None = None) -> Aim:
    label = torch.tensor(labels)
    return Aim(label, leave, torch.ones_like(label, dtype=torch.bool), None if rival is None else torch.tensor(rival))


# the attack


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_it_keeps_its_promises(loss: Literal["ce", "margin", "dlr"]) -> None:
    check_attack(APGD(steps=50, loss=loss))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("hemmed", [False, True])
def test_on_the_margin_it_finds_the_exact_robust_accuracy(norm: Norm, classes: int, hemmed: bool) -> None:
    problem = linear_problem(
        classes, masked=hemmed, bounds=(0.0, 1.0) if hemmed else None, on_bound=0.3, n=1000, seed=classes
    )
    assert_exact(APGD(loss="margin"), problem, Threat(norm))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_finds_the_exact_share_that_reaches_a_target(norm: Norm) -> None:
    problem = linear_problem(2, masked=True, bounds=(0.0, 1.0), on_bound=0.3, n=1000, seed=9)
    assert_exact(APGD(), problem, Threat(norm, target="1"))


def hills(tops: Tensor) -> Trial:
    """Rows (1, 1) of class 0 whose logits come nearest to a fall where delta is `tops`."""
    batch = Samples.of(torch.zeros(len(tops), 1, 1), torch.zeros(len(tops), dtype=torch.int64))

    def module(x: Tensor) -> Tensor:
        low = (x.flatten() - tops).square()
        return torch.stack([1 + low, -1 - low], 1)

    return trial_of(Victim(Written(module).eval()), batch, Threat("linf"), 1.0, watch="never")


def test_its_step_shrinks_until_the_top_is_found() -> None:
    tops = torch.tensor([-0.73, -0.2, 0.11, 0.456, 0.9, 2.0])
    miss = [(attack.perturb(hills(tops), RNG).flatten() - tops.clamp(-1, 1)).abs() for attack in (APGD(), PGD(100))]
    assert float(miss[0].max()) < 0.005 and float(miss[1].max()) > 0.03


def test_rows_halve_their_steps_one_by_one() -> None:
    """A row at the rim of the ball, and one astray inside: the answer of each is that of a row alone."""
    tops = torch.tensor([0.456, 2.0])
    both, first = (APGD(steps=40).perturb(hills(part), RNG) for part in (tops, tops[:1]))
    assert torch.equal(both[:1], first) and float(both[1]) == 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_its_answer_is_the_best_point_it_has_asked_about(norm: Norm) -> None:
    task, victim = random_mlp(60)
    asked: list[Tensor] = []

    def listening(x: Tensor) -> Tensor:
        logits: Tensor = victim.module(x)
        asked.append(cross_entropy(logits.detach(), seen.aim))
        return logits

    seen = trial_of(Victim(Written(listening).eval()), task.test, Threat(norm), 0.05, watch="never")
    delta = APGD(steps=30).perturb(seen, RNG)
    best = torch.stack(asked).amax(0)
    assert len(asked) == 30
    assert torch.allclose(cross_entropy(victim.module(task.test.x + delta), seen.aim), best, atol=1e-6)


def test_restarts_begin_elsewhere_and_are_spent_on_survivors() -> None:
    samples, victim = thresholds([-1.5, 9.0])
    seen = trial_of(victim, samples, Threat("linf"), 1.0)
    APGD(steps=5, restarts=3).perturb(seen, RNG)
    assert seen.memory.gradients.tolist() == [1, 15]
    one, two = (APGD(steps=2, restarts=n).perturb(hills(torch.zeros(4)), RNG) for n in (1, 2))
    assert not torch.equal(one, two)


def test_the_checks_of_100_steps_are_those_of_the_paper() -> None:
    assert _checkpoints(100) == {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    assert list(_checkpoints(3)) == [1, 2, 3]


def test_dlr_is_refused_in_one_sentence_where_there_are_too_few_classes() -> None:
    two, three = linear_problem(2, n=4).task, linear_problem(3, n=4).task
    attack, anywhere, to_a_target = APGD(loss="dlr"), Threat("linf"), Threat("linf", target="1")
    assert attack.unfit(three, anywhere) is None and APGD().unfit(two, anywhere) is None
    assert attack.unfit(two, anywhere) == "loss=dlr needs 3 classes; problem has 2: use loss=margin."
    assert "needs 4 classes to reach one of them; problem has 3" in str(attack.unfit(three, to_a_target))


@pytest.mark.parametrize("wrong", [{"steps": 1}, {"restarts": 0}])
def test_impossible_parameters_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        APGD(**wrong)  # type: ignore[arg-type]


# its loss


def test_dlr_by_hand() -> None:
    assert dlr(LOGITS, aim([0, 0])).tolist() == pytest.approx([-1 / 3, 5 / 4])
    assert dlr(LOGITS, aim([0, 2], rival=[2, 3])).tolist() == pytest.approx([-3 / 4.5, -3 / 4.5])
    assert dlr(LOGITS, aim([1, 3], leave=False)).tolist() == pytest.approx([-1 / 4.5, -3 / 4.5])


def test_dlr_has_the_sign_of_the_margin_and_no_scale_or_shift() -> None:
    for goal in (aim([0, 0]), aim([1, 2], leave=False), aim([0, 2], rival=[1, 1])):
        value = dlr(LOGITS, goal)
        assert torch.equal(value > 0, (margin if goal.rival is None else pair_margin)(LOGITS, goal) > 0)
        assert torch.allclose(value, dlr(30 * LOGITS - 100, goal), atol=1e-5)


@pytest.mark.parametrize(("classes", "goal"), [(2, aim([0])), (3, aim([0], leave=False)), (3, aim([0], rival=[1]))])
def test_dlr_of_too_few_classes_is_refused(classes: int, goal: Aim) -> None:
    with pytest.raises(ValueError, match=f"needs {classes + 1} classes; got {classes}"):
        dlr(torch.zeros(1, classes), goal)
