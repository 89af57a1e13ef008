"""SPSA: probes are counted and bounded, the estimate is that of the gradient, and no row knows its neighbours."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Samples
from ecgbench.core.iteration import iterate
from ecgbench.core.losses import margin
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import CHUNK_BYTES, Victim
from ecgbench.evaluation.sweep import Sweep
from ecgbench.testing import check_attack
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.spsa import SPSA
from tests.problems import Written, linear_problem, random_mlp, reach, size_for, thresholds, trial_of

RNG = RandomStream((0, "attack"))
WEAK = [0.15, 0.35, 0.75, 5.0]


class Noted(Module):
    """Logits that move with the mean of x, of the mask and of a draw; notes the rows it was asked about."""

    takes_rng = takes_mask = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def forward(self, x: Tensor, mask: Tensor, rng: RandomStream, ids: Tensor) -> Tensor:
        self.asked.append(len(x))
        lead = x.flatten(1).mean(1) + mask.float().flatten(1).mean(1) + rng.uniform(ids, ()) - 9
        return torch.stack([torch.zeros_like(lead), lead], 1)


def noted(n: int = 5, shape: tuple[int, ...] = (1, 12)) -> tuple[Trial, Noted]:
    """Rows of different masks and ids."""
    module = Noted()
    mask = torch.arange(shape[-1]) < torch.arange(1, n + 1).view(-1, *[1] * len(shape))
    ids = torch.arange(n) + 40
    samples = Samples.of(RNG.uniform(ids, shape), torch.zeros(n, dtype=torch.int64), mask=mask, ids=ids)
    return trial_of(Victim(module), samples, Threat("linf"), 0.1, gradients=False), module


def outcomes(attack: SPSA | PGD, eps: float, norm: Norm = "linf") -> np.ndarray:
    task, victim = random_mlp(n=200)
    return Sweep(attack, victim, task, Threat(norm), (eps,), RNG).run(Checkpoint()).adversarial[0]


# the probes of a trial


def test_a_probe_is_the_loss_at_its_point() -> None:
    problem = linear_problem(3, (2, 5), n=4)
    seen = trial_of(problem.victim, problem.task.test, Threat("linf"), 0.1, gradients=False)
    delta, directions, length = torch.rand(4, 2, 5), torch.randn(6, 2, 5), torch.rand(4, 1, 1)
    values = seen.probe(delta, directions, length, margin)
    for number, direction in enumerate(directions):
        there = margin(seen.logits(delta + length * direction), seen.goal)
        torch.testing.assert_close(values[:, number], there)


def test_every_probe_of_a_row_is_counted_and_none_is_remembered() -> None:
    samples, victim = thresholds(WEAK)
    seen = trial_of(victim, samples, Threat("linf"), 1.0, gradients=False)
    point = torch.zeros(2, 1, 2)
    values = seen[torch.tensor([2, 0])].probe(point, torch.tensor([[[0.9, 0.0]]] * 7), torch.ones(2, 1, 1), margin)
    assert (values > 0).all() and not seen.is_adversarial.any()
    assert seen.memory.forwards.tolist() == [7, 0, 7, 0] and not seen.memory.gradients.any()


def test_probes_of_an_unwatched_trial_are_not_counted() -> None:
    samples, victim = thresholds(WEAK)
    seen = trial_of(victim, samples, Threat("linf"), 1.0, watch="never")
    seen.probe(torch.zeros(4, 1, 2), torch.ones(3, 1, 2), torch.ones(4, 1, 1), margin)
    assert not seen.memory.forwards.any()


def test_each_probe_meets_the_mask_of_its_row_and_draws_that_no_neighbour_changes() -> None:
    whole, _ = noted()
    delta, directions, length = torch.rand(5, 1, 12), torch.randn(9, 1, 12), torch.ones(5, 1, 1)
    values = whole.probe(delta, directions, length, margin)
    for row in (4, 0):
        alone = noted()[0][torch.tensor([row])]
        assert torch.equal(alone.probe(delta[[row]], directions, length[[row]], margin), values[[row]])


@pytest.mark.parametrize("shape", [(1, 187), (12, 5000)])
def test_the_victim_is_never_asked_about_more_than_a_chunk_or_the_probes_of_a_row(shape: tuple[int, ...]) -> None:
    seen, module = noted(n=30, shape=shape)
    bound = CHUNK_BYTES // (4 * shape[0] * shape[1])
    SPSA(pairs=4 * bound, steps=1, abs_step=1e-6).perturb(seen, RNG)
    assert sum(module.asked) == 30 * (8 * bound + 2)
    assert bound / 2 <= max(module.asked[1:-1]) <= max(bound, 30)


# the estimate


def test_the_estimate_is_the_gradient_within_its_own_spread() -> None:
    problem = linear_problem(2, (1, 24), n=1)
    seen = trial_of(problem.victim, problem.task.test, Threat("linf"), 0.1)
    _, exact = seen.gradient(torch.zeros(1, 1, 24), margin)
    estimates = [SPSA(pairs=16).estimate(seen, torch.zeros(1, 1, 24), margin, RNG.fold_in(n)) for n in range(200)]
    error = torch.stack(estimates) - exact
    spread = ((exact.square().sum() - exact.square()) / 16).sqrt()
    assert 0.9 < float((error / spread).square().mean()) < 1.1
    assert float((error / spread).mean(0).abs().amax()) < 4 / 200**0.5


def test_nothing_outside_the_mask_is_probed_or_estimated() -> None:
    samples, asked = thresholds([9.0])[0], []

    def answer(x: Tensor) -> Tensor:
        asked.append(x - samples.x)
        return torch.stack([x[:, 0, 1], x[:, 0, 0]], 1)

    seen = trial_of(Victim(Written(answer)), samples, Threat("linf"), 1.0)
    SPSA(steps=2, pairs=8).perturb(seen, RNG)
    assert not any(moved[..., 1].any() for moved in asked) and asked[1][..., 0].any()


def test_adamax_on_signs_is_that_of_torch() -> None:
    samples, victim = thresholds([9.0] * 3)
    seen = trial_of(victim, samples, Threat("linf", mask=False), 1.0)
    attack, weight = SPSA(abs_step=0.01), torch.zeros(3, 1, 2, requires_grad=True)
    theirs = torch.optim.Adamax([weight], lr=0.01)
    delta, state = torch.zeros(3, 1, 2), (torch.zeros(3, 1, 2), 0)
    for number in range(12):
        gradient = RNG.fold_in(number).normal(seen.batch.ids, (1, 2))
        grad = seen.value_and_grad(delta, margin)[1]
        delta, state = attack._step(seen.ball, delta, type(grad)(grad.value, gradient), state)
        weight.grad = -gradient.sign()
        theirs.step()
    torch.testing.assert_close(delta, weight.detach())


# the attack


def test_a_row_costs_its_probes_and_a_look_at_every_step_until_it_falls() -> None:
    samples, victim = thresholds([-9.0, 9.0])
    seen = trial_of(victim, samples, Threat("linf"), 1.0, gradients=False)
    SPSA(steps=3, pairs=5).perturb(seen, RNG)
    assert seen.memory.forwards.tolist() == [1, 3 * (2 * 5 + 1) + 1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("update", ["adamax", "plain"])
def test_it_fells_what_can_fall_and_nothing_that_cannot(norm: Norm, update: Literal["adamax", "plain"]) -> None:
    problem, threat = linear_problem(3, (1, 24), n=200, masked=True, bounds=(0.0, 1.0)), Threat(norm)
    eps = size_for(problem, threat, 0.4)
    attack = SPSA(pairs=64, update=update)
    fallen = Sweep(attack, problem.victim, problem.task, threat, (eps,), RNG).run(Checkpoint()).adversarial[0]
    assert not (fallen & (reach(problem, threat, eps) < -1e-4)).any()
    assert fallen[reach(problem, threat, 0.9 * eps) > 0].mean() > 0.97


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_as_strong_as_a_gradient_on_a_smooth_victim(norm: Norm) -> None:
    eps = 0.05 if norm == "linf" else 0.15
    black, white = outcomes(SPSA(pairs=64), eps, norm), outcomes(PGD(steps=100, loss="margin"), eps, norm)
    assert 0.2 < white.mean() < 0.6
    assert black.mean() > white.mean() - 0.02


def test_it_sees_past_a_gradient_that_is_hidden() -> None:
    problem = linear_problem(2, (1, 24), n=100)
    stairs = Stairs(problem.victim.module)
    sweep = dict(victim=Victim(stairs), task=problem.task, threat=Threat("linf"), eps=(0.2,), rng=RNG)
    black = Sweep(SPSA(pairs=64, probe=0.05), **sweep).run(Checkpoint())  # type: ignore[arg-type]
    white = Sweep(PGD(start="zero", loss="margin"), **sweep).run(Checkpoint())  # type: ignore[arg-type]
    assert not white.adversarial.any() and black.adversarial.mean() > 0.5


class Stairs(Module):
    """A linear victim behind a quantised input: its gradient is zero."""

    def __init__(self, inner: Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x * 32).round() / 32)


def test_all_samples_share_the_directions_of_a_step_and_each_step_has_its_own() -> None:
    seen: list[Tensor] = []

    class Watching(Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return torch.stack([torch.ones(len(x)), x.flatten(1).mean(1)], 1)

    samples = Samples.of(torch.zeros(3, 1, 8), torch.zeros(3, dtype=torch.int64))
    trial = trial_of(Victim(Watching()), samples, Threat("linf"), 1e-6)
    SPSA(steps=2, pairs=6).perturb(trial, RNG)
    first, second = (seen[place].view(3, 12, 8).sign() for place in (1, 3))
    assert torch.equal(first[0], first[1]) and torch.equal(first[0], first[2])
    assert torch.equal(first[:, :6], -first[:, 6:]) and not torch.equal(first, second)


def test_a_perturbation_does_not_depend_on_the_batch() -> None:
    task, victim = random_mlp(n=40)
    whole = SPSA(steps=8, pairs=16).perturb(trial_of(victim, task.test, Threat("linf"), 0.02), RNG)
    for row in (0, 17, 39):
        one = trial_of(victim, task.test[torch.tensor([row])], Threat("linf"), 0.02)
        torch.testing.assert_close(SPSA(steps=8, pairs=16).perturb(one, RNG)[0], whole[row], rtol=0, atol=1e-6)


def test_the_loop_takes_slopes_from_elsewhere() -> None:
    samples, victim = thresholds(WEAK)
    seen = trial_of(victim, samples, Threat("linf"), 1.0)

    def downhill(trial: Trial, delta: Tensor, loss: object) -> object:
        hit, grad = trial.value_and_grad(delta, margin)
        return hit, type(grad)(grad.value, -grad.gradient)

    delta = iterate(seen, torch.zeros(4, 1, 2), margin, PGD()._plain, 3, oracle=downhill)  # type: ignore[arg-type]
    assert delta[:, 0, 0].tolist() == pytest.approx([-0.3] * 4)


def test_it_keeps_its_promises() -> None:
    check_attack(SPSA(pairs=96, update="plain"), shapes=((1, 60), (4, 9)))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"pairs": 0}, {"probe": 0.0}, {"abs_step": 0.0}, {"rel_step": -1.0}])
def test_parameters_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="given; expected"):
        SPSA(**wrong)  # type: ignore[arg-type]
