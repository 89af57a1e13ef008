"""SAP: the kernel is the published one, the answer is smooth, and its gradient goes through the smoothing."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d

from ecgbench.checks.probe import FinishedSweep
from ecgbench.core.data import Samples
from ecgbench.core.losses import cross_entropy
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim
from ecgbench.evaluation.sweep import Protocol, Sweep
from ecgbench.testing import check_attack
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.sap import SAP
from ecgbench_plugins.defenses.adaptive import Adaptive
from tests.problems import Written, linear_problem, random_mlp, trial_of

RNG = RandomStream((0, "attack"))
PUBLISHED = [0.185330, 0.151256, 0.106356, 0.058462, 0.031979, 0.026827, 0.013467, 0.011142, 0.004291, 0.003554]


def sweep(attack: SAP | PGD, eps: float, norm: Norm = "linf") -> float:
    """Robust accuracy on a small network."""
    task, victim = random_mlp(n=200, shape=(1, 60))
    found = Sweep(attack, victim, task, Threat(norm), (eps,), RNG).run(Checkpoint())
    return float((found.correct & ~found.adversarial[0]).mean())


def trial(n: int = 20, norm: Norm = "linf", eps: float = 0.2, shape: tuple[int, ...] = (2, 40)) -> Trial:
    """Masked rows of a linear victim; nothing falls on the way."""
    problem = linear_problem(3, shape, n=n, masked=True)
    return trial_of(problem.victim, problem.task.test, Threat(norm), eps, watch="last")


def gain(taps: Tensor, cycles: float) -> float:
    """Of a wave of `cycles` per sample."""
    place = torch.arange(len(taps)) - len(taps) // 2
    return float((taps * torch.cos(2 * torch.pi * cycles * place)).sum())


# the kernel


def test_all_kernels_are_one_of_nineteen_taps() -> None:
    taps = SAP().taps()
    assert taps.tolist() == pytest.approx(PUBLISHED[:0:-1] + PUBLISHED, abs=1e-6)


@pytest.mark.parametrize("rate", [1 / 3600, 100, 125, 300, 360, 500, 1000])
def test_taps_are_never_negative_and_sum_to_one(rate: float) -> None:
    taps = SAP(rate=rate).taps()
    assert (taps >= 0).all() and len(taps) % 2 == 1 and torch.equal(taps, taps.flip(0))
    assert float(taps.sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("hertz", "published"), [(10, 0.846), (20, 0.549), (40, 0.220)])
@pytest.mark.parametrize(("rate", "off"), [(300, 0.0015), (1000, 0.005), (600, 0.03), (125, 0.03), (360, 0.02)])
def test_a_wave_is_damped_by_its_frequency_at_any_rate(hertz: float, published: float, rate: float, off: float) -> None:
    assert gain(SAP(rate=rate).taps(), hertz / rate) == pytest.approx(published, abs=off)


def test_at_a_rate_too_low_to_smooth_it_is_plain_descent() -> None:
    assert SAP(rate=10.0).taps().tolist() == [1.0]


@pytest.mark.parametrize(
    ("given", "dataset", "taken"),
    [(None, 125.0, 125.0), (None, 360.0, 360.0), (None, None, 300.0), (125.0, 360.0, 125.0), (125.0, None, 125.0)],
)
def test_kernels_are_scaled_to_the_datasets_rate_unless_told_otherwise(
    given: float | None, dataset: float | None, taken: float
) -> None:
    assert torch.equal(SAP(rate=given).taps(dataset), SAP(rate=taken).taps())


# the answer


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_it_answers_is_smooth_where_no_border_cuts_it(norm: Norm) -> None:
    seen, rise = trial(norm=norm), 2 * SAP().taps().amax()  # the most that S moves from one sample to the next
    inside = seen.batch.mask[..., 1:] & seen.batch.mask[..., :-1]
    limit = seen.ball.eps * rise * 1.0001
    assert (SAP().perturb(seen, RNG).diff() * inside <= limit).all()
    assert (PGD().perturb(trial(norm=norm), RNG).diff() * inside > limit).any() or norm == "l2"


def test_a_step_goes_up_the_gradient_for_theta() -> None:
    seen, taps, eps = trial(), SAP().taps(), 0.2
    theta = torch.zeros_like(seen.batch.x, requires_grad=True)
    mask = seen.batch.mask.float()

    def smooth(signal: Tensor) -> Tensor:
        rows = (mask * signal).reshape(-1, 1, 40)
        return mask * conv1d(rows, taps.view(1, 1, -1), padding=9).view_as(signal)

    loss = cross_entropy(seen.victim.module(seen.batch.x + smooth(theta)), seen.goal).sum()
    (gradient,) = torch.autograd.grad(loss, theta)
    expected = smooth(0.1 * eps * gradient.sign())
    torch.testing.assert_close(SAP(rough=0, steps=1).perturb(seen, RNG), expected, rtol=0, atol=1e-6)


def test_the_rough_steps_are_those_of_pgd() -> None:
    seen, attack = trial(), SAP(rough=7)
    plain = PGD(steps=7, start="zero").perturb(trial(), RNG)
    torch.testing.assert_close(attack._roughly(seen, cross_entropy), plain)


def test_a_fall_to_a_rough_perturbation_is_none() -> None:
    samples = Samples.of(torch.zeros(3, 1, 32), torch.zeros(3, dtype=torch.int64))
    comb = 1.0 - 2 * (torch.arange(32) % 2)
    victim = Victim(Written(lambda x: torch.stack([torch.full((len(x),), 16.0), (x * comb).flatten(1).sum(1)], 1)))
    rough, smooth = (trial_of(victim, samples, Threat("linf"), 1.0) for _ in range(2))
    PGD().perturb(rough, RNG)
    SAP().perturb(smooth, RNG)
    assert rough.is_adversarial.all() and not smooth.is_adversarial.any()
    assert smooth.memory.forwards.tolist() == [61] * 3 and smooth.memory.gradients.tolist() == [60] * 3


def test_a_fall_to_a_smooth_one_ends_the_walk_of_its_row() -> None:
    samples = Samples.of(torch.zeros(2, 1, 32), torch.zeros(2, dtype=torch.int64))
    levels = torch.tensor([0.25, 9.0])
    victim = Victim(Written(lambda x: torch.stack([levels[: len(x)], x.flatten(1).mean(1)], 1)))
    seen = trial_of(victim, samples[torch.tensor([0])], Threat("linf"), 1.0)
    delta = SAP(rough=0).perturb(seen, RNG)
    assert seen.is_adversarial.all() and 0.25 < float(delta.mean()) < 0.35
    assert 3 <= int(seen.memory.gradients) <= 5


def test_an_unwatched_trial_counts_nothing() -> None:
    problem = linear_problem(2, (1, 24), n=5)
    seen = trial_of(problem.victim, problem.task.test, Threat("linf"), 5.0, watch="never")
    SAP().perturb(seen, RNG)
    assert not seen.memory.gradients.any() and not seen.is_adversarial.any()


def told(attack: SAP, rate: float | None) -> Tensor:
    """What the attack answers on a task of this rate wherever the host runs it: in a sweep, a check, a training."""
    task, victim = random_mlp(n=20, shape=(1, 60))
    heard: list[Tensor] = []

    class Heard(SAP):
        def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
            heard.append(attack.perturb(trial, rng))
            return heard[-1]

    task = replace(task, rate=rate)
    sweep = Sweep(Heard(), victim, task, Threat("linf"), (0.05,), RNG, Protocol(success="last"))
    outcomes = sweep.run(Checkpoint())
    Heard().perturb(FinishedSweep(sweep, outcomes, 0.05).trial(task.test), RNG)
    Adaptive(attack=Heard(), epochs=1).fit(deepcopy(victim.module).requires_grad_(True), task, RNG, Checkpoint())
    return torch.cat(heard)


def test_the_host_tells_an_attack_the_rate_of_its_task() -> None:
    at_1000, untold = told(SAP(), 1000.0), told(SAP(), None)
    assert torch.equal(at_1000, told(SAP(rate=1000.0), None)) and torch.equal(untold, told(SAP(), 300.0))
    assert not torch.equal(at_1000, untold)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.3)])
def test_it_hurts_but_never_more_than_what_need_not_be_smooth(norm: Norm, eps: float) -> None:
    clean, smooth, rough = (sweep(attack, eps, norm) for attack in (PGD(steps=1, rel_step=1e-6), SAP(), PGD(steps=60)))
    assert rough <= smooth < clean - 0.05


@pytest.mark.parametrize("rate", [125.0, 300.0])
def test_it_keeps_its_promises(rate: float) -> None:
    check_attack(SAP(rate=rate), expected={"strong": "a smooth perturbation is less than the ball allows"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"rough": -1},
        {"rate": 0.0},
        {"rate": -125.0},
        {"sizes": (4,)},
        {"sizes": ()},
        {"sigmas": (0.0,)},
        {"sigmas": ()},
        {"rel_step": 0.0},
    ],
)
def test_parameters_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="given; expected"):
        SAP(**wrong)  # type: ignore[arg-type]
