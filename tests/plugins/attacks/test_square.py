"""Square: every proposal rewrites one window of free times, and the margin never falls."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Samples
from ecgbench.core.losses import margin
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.trial import Trial, Watch
from ecgbench.core.victim import Victim
from ecgbench.testing import check_attack
from ecgbench_plugins.attacks.square import Square, _proposal, _start, _Time
from tests.plugins.attacks.test_closed_form import ROUNDING, sweep_of
from tests.problems import Written, linear_problem, random_mlp, reach, size_for, thresholds, trial_of

RNG = RandomStream((0, "attack"))
norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def test_it_keeps_its_promises() -> None:
    check_attack(Square(queries=150), shapes=((2, 10),))


def test_so_it_does_on_beats_if_it_has_the_queries() -> None:
    check_attack(Square(queries=120), shapes=((1, 187),), expected={"strong": "120 queries are few for 187 numbers"})


@norms
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("hemmed", [False, True])
def test_it_comes_near_the_exact_robust_accuracy_and_never_below(norm: Norm, classes: int, hemmed: bool) -> None:
    bounds = (0.0, 1.0) if hemmed else None
    problem = linear_problem(classes, (1, 24), 300, masked=hemmed, bounds=bounds, on_bound=0.3, seed=classes)
    threat = Threat(norm)
    eps = size_for(problem, threat, 0.5)
    fallen = sweep_of(Square(queries=400), problem, threat, (eps,)).run(Checkpoint()).adversarial[0]
    lead = reach(problem, threat, eps)
    assert not (fallen & (lead < -ROUNDING)).any()
    slack = 0.03 if norm == "linf" else 0.08
    assert (lead <= 0).mean() <= (~fallen).mean() <= (lead <= 0).mean() + slack


def a_trial(norm: Norm, shape: tuple[int, ...] = (2, 40), watch: Watch = "never") -> tuple[Trial, Tensor]:
    """Twenty rows whose mask has holes, and that mask."""
    task, victim = random_mlp(20, shape)
    mask = torch.rand(20, *[1] * (len(shape) - 1), shape[-1], generator=torch.Generator().manual_seed(1)) < 0.7
    samples = Samples.of(task.test.x, task.test.y, mask=mask)
    return trial_of(victim, samples, Threat(norm), 0.3, watch=watch), mask


@norms
@pytest.mark.parametrize("share", [0.5, 0.2, 0.01])
def test_a_proposal_rewrites_one_run_of_free_times_or_two_in_l2(norm: Norm, share: float) -> None:
    trial, mask = a_trial(norm)
    delta = _start(trial, _Time.of(trial), RNG)
    for query in range(5):
        changed = (_proposal(trial, _Time.of(trial), delta, share, RNG.fold_in(query)) != delta).any(1)
        assert not (changed & ~mask[:, 0]).any()
        for row, free in zip(changed, mask[:, 0], strict=True):
            places, room = row[free].nonzero().squeeze(1), int(free.sum())
            longest = max(round(share * room), 1 if norm == "linf" else 3) + (norm == "l2")
            assert len(places) >= 1
            assert len(places) <= longest * (1 if norm == "linf" else 2)
            assert norm == "l2" or int(places[-1] - places[0]) < longest


@norms
def test_a_proposal_writes_all_channels_or_one(norm: Norm) -> None:
    trial, _ = a_trial(norm, (5, 40))
    delta = _start(trial, _Time.of(trial), RNG)
    counts = torch.cat(
        [
            (_proposal(trial, _Time.of(trial), delta, 0.5, RNG.fold_in(query)) != delta).any(2).sum(1)
            for query in range(20)
        ]
    )
    assert set(counts.tolist()) == {1, 5}
    assert 0.4 < float((counts == 5).float().mean()) < 0.6


def test_in_linf_every_free_place_is_at_the_rim() -> None:
    trial, mask = a_trial("linf")
    delta = Square(queries=30).perturb(trial, RNG)
    assert torch.equal(delta.abs(), torch.where(mask, 0.3, 0.0).expand_as(delta))


def test_in_l2_the_whole_ball_is_spent() -> None:
    trial, _ = a_trial("l2")
    delta = Square(queries=30).perturb(trial, RNG)
    assert torch.allclose(trial.ball.size(delta), torch.full((20,), 0.3), rtol=1e-3)


@norms
def test_its_answer_is_the_best_point_it_has_asked_about(norm: Norm) -> None:
    trial, _ = a_trial(norm)
    asked: list[Tensor] = []

    def listening(x: Tensor) -> Tensor:
        logits: Tensor = trial.victim.module(x)
        asked.append(margin(logits, trial.goal))
        return logits

    seen = replace(trial, victim=Victim(Written(listening).eval()))
    delta = Square(queries=100).perturb(seen, RNG)
    assert len(asked) == 99  # unwatched, an answer is not looked at
    assert torch.equal(margin(trial.logits(delta), trial.goal), torch.stack(asked).amax(0))
    assert bool((torch.stack(asked).amax(0) > asked[0]).all())


def test_a_survivor_costs_its_queries_and_no_gradient() -> None:
    samples, victim = thresholds([-2.0, 9.0])
    seen = trial_of(victim, samples, Threat("linf"), 1.0, gradients=False)
    Square(queries=20).perturb(seen, RNG)
    assert seen.memory.forwards.tolist() == [1, 20]


@pytest.mark.parametrize("watch", ["first", "last"])
def test_what_falls_is_found_however_it_is_watched(watch: Watch) -> None:
    samples, victim = thresholds([0.9, 9.0])
    seen = trial_of(victim, samples, Threat("linf"), 1.0, watch=watch)
    delta = Square(queries=20).perturb(seen, RNG)
    assert seen.is_adversarial.tolist() == [True, False] and float(delta[0, 0, 0]) == 1


def test_the_window_halves_on_the_papers_schedule_at_any_length() -> None:
    shares = [Square(queries=10_000)._share(query) for query in (10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)]
    assert shares == [0.8 / 2**halvings for halvings in range(10)]
    assert [Square(queries=1000)._share(query) for query in (1, 2, 6, 801)] == [0.8, 0.4, 0.2, 0.8 / 2**9]


def test_a_sample_that_may_not_change_is_left_alone() -> None:
    task, victim = random_mlp(4)
    samples = Samples.of(task.test.x, task.test.y, mask=torch.zeros(4, 1, 24, dtype=torch.bool))
    for norm in ("linf", "l2"):
        seen = trial_of(victim, samples, Threat(norm), 0.3, watch="never")
        assert not Square(queries=20).perturb(seen, RNG).any()


@pytest.mark.parametrize("wrong", [{"queries": 1}, {"p_init": 0.0}, {"p_init": 1.5}])
def test_impossible_parameters_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Square(**wrong)  # type: ignore[arg-type]
