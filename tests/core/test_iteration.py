"""The loop of iterative attacks: a row leaves at its first adversarial iterate, with all that belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from ecgbench.core.iteration import StepState, iterate, run_sequentially
from ecgbench.core.losses import margin
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Threat
from ecgbench.core.trial import Trial, ValueAndGrad, Watch
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.attacks.identity import Identity
from ecgbench_plugins.attacks.noise import Noise
from ecgbench_plugins.attacks.pgd import PGD
from tests.problems import thresholds, trial_of

LEVELS = [-0.5, 0.05, 0.15, 0.35, 0.95, 9.0]
FALLS_AT = [0, 1, 2, 4, 10, None]  # steps of 0.1 from 0 until the level is passed
RNG = RandomStream((0, "attack"))


def trial(watch: Watch = "first", levels: list[float] = LEVELS) -> Trial:
    samples, victim = thresholds(levels)
    return trial_of(victim, samples, Threat("linf"), 1.0, watch=watch)


def step(ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState) -> tuple[Tensor, StepState]:
    return ball.project(delta + 0.1 * ball.eps * ball.steepest(grad.gradient)), state


def walk(seen: Trial, steps: int) -> Tensor:
    return iterate(seen, torch.zeros_like(seen.batch.x), margin, step, steps)


@pytest.mark.parametrize("steps", [1, 4, 10, 12])
def test_a_row_costs_what_it_takes_to_fall_and_not_one_sample_more(steps: int) -> None:
    seen = trial()
    walk(seen, steps)
    until = [steps + 1 if at is None else min(at, steps) + 1 for at in FALLS_AT]
    assert seen.memory.gradients.tolist() == [min(count, steps) for count in until]
    assert seen.memory.forwards.tolist() == [min(count, steps + 1) for count in until]


@pytest.mark.parametrize("steps", [1, 4, 10, 12])
def test_a_fallen_row_keeps_its_first_adversarial_iterate_and_others_their_last(steps: int) -> None:
    seen = trial()
    delta = walk(seen, steps)
    at = [steps if adversarial is None else min(adversarial, steps) for adversarial in FALLS_AT]
    assert delta[:, 0, 0].tolist() == pytest.approx([min(0.1 * count, 1.0) for count in at])
    assert seen.is_adversarial.tolist() == [
        adversarial is not None and adversarial <= steps for adversarial in FALLS_AT
    ]
    assert torch.equal(seen.best(delta), delta)


@pytest.mark.parametrize("watch", ["last", "never"])
def test_nothing_leaves_a_trial_that_does_not_watch_the_way(watch: Watch) -> None:
    seen = trial(watch)
    delta = walk(seen, 12)
    assert seen.memory.gradients.tolist() == [12 if watch == "last" else 0] * 6
    assert seen.memory.forwards.tolist() == [13 if watch == "last" else 0] * 6
    assert delta[:, 0, 0].tolist() == pytest.approx([1.0] * 6)
    assert seen.is_adversarial.tolist() == [watch == "last" and adversarial is not None for adversarial in FALLS_AT]


def test_the_state_of_a_rule_leaves_with_its_row() -> None:
    seen, widths = trial(), []

    def careful(ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState) -> tuple[Tensor, StepState]:
        level, count = state
        widths.append(len(level))
        assert len(level) == len(ball.eps) == len(ball.low) == len(grad.value)
        assert (delta[:, 0, 0] < level).all() and count == len(widths) - 1
        return step(ball, delta, grad, ())[0], (level, count + 1)

    iterate(seen, torch.zeros_like(seen.batch.x), margin, careful, 12, (torch.tensor(LEVELS), 0))
    assert widths == [5, 4, 3, 3, 2, 2, 2, 2, 2, 2, 1, 1]


def test_an_iterate_outside_the_ball_ends_nothing() -> None:
    seen = trial()

    def leap(ball: Ball, delta: Tensor, grad: ValueAndGrad, state: StepState) -> tuple[Tensor, StepState]:
        return delta + 3 * torch.tensor([1.0, 0.0]), state

    iterate(seen, torch.zeros_like(seen.batch.x), margin, leap, 2)
    assert seen.is_adversarial.tolist() == [True] + [False] * 5


def test_steps_in_a_larger_ball_find_what_lies_in_the_own_one() -> None:
    seen = trial(levels=[0.95, 1.05, 9.0])
    ball = seen.ball.scaled(3.0, seen.batch.x)
    assert ball.mask is not None
    delta = iterate(seen, torch.zeros_like(seen.batch.x), margin, step, 40, ball=ball)
    assert seen.is_adversarial.tolist() == [
        False,
        False,
        False,
    ]  # 0.9, then 1.2: each step is a tenth of the larger ball
    assert delta[:, 0, 0].tolist() == pytest.approx([3.0, 3.0, 3.0])
    start = torch.full_like(seen.batch.x, 0.04) * ball.mask
    iterate(seen, start, margin, step, 40, ball=ball)
    assert seen.is_adversarial.tolist() == [False, False, False]
    iterate(seen, 2 * start, margin, step, 40, ball=ball)
    assert seen.is_adversarial.tolist() == [True, False, False]


def test_a_row_leaves_with_all_its_copies() -> None:
    seen = trial(levels=[0.35, 9.0])
    copies = seen[torch.tensor([0, 0, 1])]
    start = torch.zeros_like(copies.batch.x)
    start[1, 0, 0] = 0.2
    delta = iterate(copies, start, margin, step, 6)
    assert seen.memory.gradients.tolist() == [2 * 3, 6]
    assert delta[:, 0, 0].tolist() == pytest.approx([0.2, 0.4, 0.6])


def test_the_start_is_left_as_it_was() -> None:
    start = torch.zeros(6, 1, 2)
    iterate(trial(), start, margin, step, 3)
    assert not start.any()


def test_unwatched_each_row_keeps_the_worst_of_all_parts() -> None:
    seen = replace(trial(), watch="never")
    rows = torch.arange(len(seen))
    hard, easy = seen.batch.x * 0 + 0.9 * seen.ball.eps, seen.batch.x * 0
    leads = [margin(seen.logits(delta), seen.goal) for delta in (hard, easy)]
    assert not leads[0].equal(leads[1])
    for parts in ((hard, easy), (easy, hard)):
        delta = run_sequentially(seen, [lambda _, at, given=given: given[at] for given in parts])  # type: ignore[misc]
        torch.testing.assert_close(margin(seen.logits(delta), seen.goal), torch.maximum(*leads)[rows])


def test_parts_run_in_turn_on_what_still_stands() -> None:
    seen, met = trial(), []

    def push(amount: float) -> object:
        def part(left: Trial, at: Tensor) -> Tensor:
            met.append(at.tolist())
            delta = torch.tensor([amount, 0.0]).expand(left.batch.x.shape).clone()
            left.submit(delta)
            return delta

        return part

    delta = run_sequentially(seen, (push(amount) for amount in (0.0, 0.2, 0.99, 1.0)))  # type: ignore[misc]
    assert met == [[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [3, 4, 5], [5]]
    assert delta[:, 0, 0].tolist() == pytest.approx([0.0, 0.2, 0.2, 0.99, 0.99, 1.0])


def test_a_fallen_row_keeps_what_felled_it_whatever_its_part_returns() -> None:
    def forgetful(left: Trial, at: Tensor) -> Tensor:
        left.submit(torch.tensor([0.2, 0.0]).expand(left.batch.x.shape).clone())
        return torch.zeros_like(left.batch.x)

    delta = run_sequentially(trial(), [forgetful])
    assert delta[:, 0, 0].tolist() == pytest.approx([0.2, 0.2, 0.2, 0, 0, 0])


def test_no_part_begins_once_everyone_has_fallen() -> None:
    seen, begun = trial(levels=[-1.0, 0.05]), []

    def parts() -> Iterator[object]:
        for number in range(5):
            begun.append(number)
            yield lambda left, at: walk(left, 2)

    run_sequentially(seen, parts())  # type: ignore[arg-type]
    assert len(begun) <= 2


def test_restarts_are_spent_on_survivors_only() -> None:
    seen = trial()
    PGD(steps=3, loss="margin", start="zero", restarts=4).perturb(seen, RNG)
    assert seen.memory.gradients[:3].tolist() == [1, 2, 3]
    assert 3 <= int(seen.memory.gradients[4]) <= 12
    assert int(seen.memory.gradients[5]) == 12 and int(seen.memory.forwards[5]) == 16


@pytest.mark.parametrize("start", ["random", "zero"])
def test_each_restart_begins_elsewhere(start: Literal["random", "zero"]) -> None:
    samples, victim = thresholds([9.0] * 3)
    answers = []
    for restarts in (1, 2, 3):
        seen = trial_of(victim, samples, Threat("linf"), 1.0)
        answers.append(PGD(steps=1, rel_step=1e-6, start=start, restarts=restarts).perturb(seen, RNG))
    assert len({tuple(answer[:, 0, 0].tolist()) for answer in answers}) == 3


# the built-in attacks that need no victim to be understood


def test_identity_changes_and_asks_nothing() -> None:
    seen = trial()
    assert not Identity().perturb(seen, RNG).any()
    assert not seen.memory.forwards.any()


def test_fgsm_is_one_full_step_for_one_gradient() -> None:
    seen = trial()
    delta = FGSM().perturb(seen, RNG)
    assert delta[:, 0, 0].tolist() == [1.0] * 6 and not delta[:, 0, 1].any()
    assert seen.memory.gradients.tolist() == [1] * 6


def test_noise_draws_until_a_row_falls() -> None:
    samples, victim = thresholds([0.0] * 400 + [9.0])
    seen = trial_of(victim, samples, Threat("linf"), 1.0)
    Noise(draws=4).perturb(seen, RNG)
    counts = seen.memory.forwards[:400].bincount(minlength=5)
    assert counts.tolist() == pytest.approx([0, 200, 100, 50, 50], abs=35)
    assert int(seen.memory.forwards[400]) == 4 and not seen.memory.gradients.any()


def test_adamax_on_the_sign_moves_a_full_step_while_the_sign_holds() -> None:
    seen = trial(levels=[9.0])
    for steps in (1, 2, 5):
        delta = PGD(steps=steps, rel_step=0.1, loss="margin", start="zero", update="adamax").perturb(seen, RNG)
        assert float(delta[0, 0, 0]) == pytest.approx(0.1 * steps, rel=1e-5)


def test_an_absolute_step_is_one_of_the_unit_of_eps() -> None:
    samples, victim = thresholds([9.0, 9.0])
    scaled = replace(samples, scale=torch.tensor([0.5, 2.0]))
    for unit, moved in (("native", [0.06, 0.06]), ("mV", [0.12, 0.03])):
        seen = trial_of(victim, scaled, Threat("linf", unit=unit), 1.0)
        delta = PGD(steps=3, abs_step=0.02, loss="margin", start="zero").perturb(seen, RNG)
        assert delta[:, 0, 0].tolist() == pytest.approx(moved)
