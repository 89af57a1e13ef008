"""APGD: a step that halves itself where it is too long, row by row, and ends at the best point seen."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Samples
from ecgbench.core.losses import cross_entropy, dlr, margin, pair_margin
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Goal, Norm, Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim
from ecgbench.testing import check_attack
from ecgbench_plugins.attacks.apgd import APGD, _checkpoints
from ecgbench_plugins.attacks.pgd import PGD
from tests.plugins.attacks.test_closed_form import assert_exact
from tests.problems import Written, linear_problem, random_mlp, thresholds, trial_of

RNG = RandomStream((0, "attack"))
LOGITS = torch.tensor([[4.0, 3.0, 1.0, -2.0], [0.0, 1.0, 5.0, 2.0]])


def aim(labels: list[int], leave: bool = True, rival: list[int] | None = None) -> Goal:
    label = torch.tensor(labels)
    return Goal(label, leave, torch.ones_like(label, dtype=torch.bool), None if rival is None else torch.tensor(rival))


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


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("classes", "loss"), [(2, "margin"), (5, "margin"), (5, "dlr")])
def test_toward_each_class_from_larger_balls_it_finds_the_exact_robust_accuracy(
    norm: Norm, classes: int, loss: Literal["margin", "dlr"]
) -> None:
    problem = linear_problem(classes, masked=True, bounds=(0.0, 1.0), on_bound=0.3, n=400, seed=classes)
    assert_exact(APGD(steps=50, loss=loss, rival="each", radii=(3.0, 2.0, 1.0)), problem, Threat(norm))


def test_toward_each_class_it_finds_a_class_that_the_margin_leads_away_from() -> None:
    """The likeliest other class is out of reach; the logit of the third is steep behind a valley."""

    def valley(x: Tensor) -> Tensor:
        at = x.flatten()
        return torch.stack([0 * at, -0.1 + 0.05 * at, -1 - 2 * at], 1)

    batch = Samples.of(torch.zeros(20, 1, 1), torch.zeros(20, dtype=torch.int64))
    found = {}
    for rival in ("none", "each"):
        seen = trial_of(Victim(Written(valley).eval()), batch, Threat("linf"), 1.0)
        APGD(steps=10, loss="margin", rival=rival, start="zero").perturb(seen, RNG)
        found[rival] = int(seen.is_adversarial.sum())
    assert found == {"none": 0, "each": 20}


def test_from_larger_balls_it_reaches_the_edge_of_a_flat_one() -> None:
    """Without any slope a start in the ball is seldom next to its edge; one in a larger ball is projected onto it."""

    def flat(x: Tensor) -> Tensor:
        edge = (x.flatten() > 0.99).float() + 0 * x.flatten()
        return torch.stack([0.5 - edge, edge - 0.5], 1)

    batch = Samples.of(torch.zeros(300, 1, 1), torch.zeros(300, dtype=torch.int64))
    shares = []
    for radii in ((1.0,), (3.0, 2.0, 1.0)):
        seen = trial_of(Victim(Written(flat).eval()), batch, Threat("linf"), 1.0)
        APGD(steps=6, radii=radii).perturb(seen, RNG)
        shares.append(float(seen.is_adversarial.float().mean()))
    assert shares[0] < 0.05 and 0.25 < shares[1] < 0.42  # a third of the larger ball lies beyond the edge


@pytest.mark.parametrize(
    ("steps", "radii", "phases"),
    [
        (50, (1.0,), [50]),
        (50, (3.0, 2.0, 1.0), [15, 15, 20]),
        (100, (3.0, 2.0, 1.0), [30, 30, 40]),
        (20, (2.0, 1.0), [9, 11]),
    ],
)
def test_three_radii_share_the_steps_as_in_the_paper(steps: int, radii: tuple[float, ...], phases: list[int]) -> None:
    attack = APGD(steps=steps, radii=radii)
    assert attack._phases() == phases and sum(phases) == steps
    seen = trial_of(thresholds([9.0])[1], thresholds([9.0])[0], Threat("linf"), 1.0)
    attack.perturb(seen, RNG)
    assert seen.memory.gradients.tolist() == [steps]


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
        asked.append(cross_entropy(logits.detach(), seen.goal))
        return logits

    seen = trial_of(Victim(Written(listening).eval()), task.test, Threat(norm), 0.05, watch="never")
    delta = APGD(steps=30).perturb(seen, RNG)
    best = torch.stack(asked).amax(0)
    assert len(asked) == 30
    assert torch.allclose(cross_entropy(victim.module(task.test.x + delta), seen.goal), best, atol=1e-6)


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 1},
        {"restarts": 0},
        {"steps": 5, "radii": (3.0, 2.0, 1.0)},
        {"radii": (1.0, 2.0)},
        {"radii": (2.0,)},
        {"radii": (2.0, 2.0, 1.0)},
        {"radii": ()},
        {"rival": "each"},
    ],
)
def test_impossible_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        APGD(**wrong)


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
def test_dlr_of_too_few_classes_is_refused(classes: int, goal: Goal) -> None:
    with pytest.raises(ValueError, match=f"needs {classes + 1} classes; got {classes}"):
        dlr(torch.zeros(1, classes), goal)
