"""Band-limited attacks: of their band, in their ball, and near the best wave that a linear programme finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.norms import Norm
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench_plugins.attacks.band_limited import BandLimited
from ecgbench_plugins.attacks.pgd import PGD
from tests.problems import Array, Linear, linear_problem, random_mlp, trial_of

RNG = RandomStream((0, "attack"))
RATE, LENGTH, EPS = 125.0, 187, 0.2
WAVES = BandLimited(rate=RATE, loss="margin")


def outside(delta: Tensor, low: float = 0.0, high: float = 15.0) -> Array:
    """The share of each perturbation's energy that lies out of the band: (n,), by NumPy."""
    power = np.abs(np.fft.rfft(delta.numpy().astype(float), axis=-1)) ** 2
    hertz = np.fft.rfftfreq(delta.shape[-1], 1 / RATE)
    far = power[..., (hertz < low - 1e-9) | (hertz > high + 1e-9)]
    return np.asarray(far.reshape(len(delta), -1).sum(1) / power.reshape(len(delta), -1).sum(1))


def waves(low: float, high: float) -> Array:
    """Sines and cosines of the band, one a column: (time, k)."""
    place, hertz = np.arange(LENGTH), np.arange(LENGTH // 2 + 1) * RATE / LENGTH
    angles = [2 * np.pi * k * place / LENGTH for k in np.flatnonzero((hertz >= low) & (hertz <= high))]
    return np.stack([of(angle) for angle in angles for of in (np.cos, np.sin)], 1)


def optimum(slope: Array, norm: Norm, low: float, high: float, seen: Array | None = None) -> float:
    """The most that a wave of the band and of size EPS gains along `slope`, seen where `seen` is 1."""
    basis = waves(low, high)
    gain = basis.T @ (slope if seen is None else slope * seen)
    if norm == "l2":
        columns = np.linalg.svd(basis, full_matrices=False)
        return float(EPS * np.linalg.norm((columns.U[:, columns.S > 1e-6]).T @ slope))
    found = linprog(-gain, np.concatenate([basis, -basis]), np.ones(2 * LENGTH), bounds=(None, None))
    assert found.fun is not None
    return float(-EPS * found.fun)


def gains(problem: Linear, delta: Tensor) -> tuple[Array, Array]:
    """How far each perturbation moves the margin between two classes, and along which slopes (n, time)."""
    y = problem.task.test.y.numpy()
    slope = problem.weight[1 - y] - problem.weight[y]
    return (slope * delta.flatten(1).numpy()).sum(1), slope


@pytest.mark.parametrize(("low", "high"), [(0.0, 15.0), (1.0, 10.0), (0.0, 1.0)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("seed", [0, 1])
def test_on_a_linear_victim_it_comes_near_the_best_wave_and_never_passes_it(
    low: float, high: float, norm: Norm, seed: int
) -> None:
    problem = linear_problem(n=4, seed=seed)
    seen = trial_of(problem.victim, problem.task.test, Threat(norm), EPS, watch="last")
    delta = replace(WAVES, low=low, high=high).perturb(seen, RNG)
    gain, slope = gains(problem, delta)
    best = optimum(slope[0], norm, low, high)
    assert (np.abs(slope) == np.abs(slope[0])).all()  # so that one optimum holds for all rows
    assert (gain <= best * (1 + 1e-5)).all()
    assert (gain >= best * (0.95 if norm == "linf" else 0.9999)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 15.0), (1.0, 10.0), (5.0, 5.4)])
def test_without_mask_and_bounds_it_holds_no_other_frequency(norm: Norm, low: float, high: float) -> None:
    task, victim = random_mlp(n=20, shape=(2, LENGTH))
    seen = trial_of(victim, task.test, Threat(norm), EPS)
    delta = BandLimited(low, high, rate=RATE).perturb(seen, RNG)
    assert outside(delta, low, high).max() < 1e-10
    assert seen.ball.contains(delta).all() and seen.ball.size(delta).min() > 0.1 * EPS
    assert outside(PGD().perturb(trial_of(victim, task.test, Threat(norm), EPS), RNG), low, high).min() > 0.1


def test_what_a_mask_leaves_is_a_wave_of_the_band_inside_the_ball_and_near_the_best_one() -> None:
    problem = linear_problem(n=3, masked=True)
    seen = trial_of(problem.victim, problem.task.test, Threat("linf"), EPS, watch="last")
    delta = WAVES.perturb(seen, RNG)
    gain, slope = gains(problem, delta)
    assert seen.ball.contains(delta).all() and (delta.flatten(1).numpy()[~problem.mask] == 0).all()
    for row in range(3):
        free = problem.mask[row].astype(float)
        best = optimum(slope[row], "linf", 0.0, 15.0, free)
        assert 0.95 * best <= gain[row] <= best * (1 + 1e-5)
        part, *_ = np.linalg.lstsq(waves(0, 15)[problem.mask[row]], delta[row, 0].numpy()[problem.mask[row]])
        assert np.allclose(waves(0, 15)[problem.mask[row]] @ part, delta[row, 0].numpy()[problem.mask[row]], atol=1e-5)


def test_bounds_cut_it_and_the_rest_is_a_wave() -> None:
    problem = linear_problem(n=4, on_bound=0.3, bounds=(0.0, 1.0))
    ball = Threat("linf").ball(problem.task.test, EPS, (0.0, 1.0))
    free, cut = (trial_of(problem.victim, problem.task.test, Threat("linf"), EPS, watch="last") for _ in range(2))
    wave, delta = WAVES.perturb(free, RNG), WAVES.perturb(replace(cut, ball=ball), RNG)
    assert ball.contains(delta).all() and not ball.contains(wave).any()
    torch.testing.assert_close(delta, ball.project(wave))  # a linear victim's gradient does not move with the cut


def test_size_is_in_the_unit_of_the_threat() -> None:
    scale = torch.tensor([0.5, 1.0, 2.0])
    problem = linear_problem(n=3, scale=scale)
    seen = trial_of(problem.victim, problem.task.test, Threat("linf", unit="mV"), EPS, watch="last")
    delta = WAVES.perturb(seen, RNG)
    torch.testing.assert_close(delta.flatten(1).abs().amax(1) * scale, torch.full((3,), EPS))


def test_a_row_alone_gets_what_it_gets_in_a_batch() -> None:
    task, victim = random_mlp(n=8, shape=(1, LENGTH))
    whole = WAVES.perturb(trial_of(victim, task.test, Threat("linf"), 0.05), RNG)
    for row in range(8):
        alone = WAVES.perturb(trial_of(victim, task.test[torch.tensor([row])], Threat("linf"), 0.05), RNG)
        torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=1e-6)


def test_the_margin_toward_every_class_finds_what_the_likeliest_hides() -> None:
    task, victim = random_mlp(n=200, shape=(1, LENGTH), classes=5)
    fallen = {}
    for loss in ("margin", "targeted-margin"):
        seen = trial_of(victim, task.test, Threat("linf"), 0.05)
        delta = BandLimited(rate=RATE, loss=loss).perturb(seen, RNG)
        assert seen.ball.contains(delta).all()
        fallen[loss] = int(seen.is_adversarial.sum())
    assert fallen["targeted-margin"] > fallen["margin"] > 0


def test_more_steps_and_a_wider_band_find_no_less() -> None:
    task, victim = random_mlp(n=200, shape=(1, LENGTH))

    def robust(attack: BandLimited | PGD) -> int:
        seen = trial_of(victim, task.test, Threat("linf"), 0.03)
        attack.perturb(seen, RNG)
        return int((~seen.is_adversarial).sum())

    baseline, band, pgd = robust(BandLimited(high=1.0, rate=RATE)), robust(BandLimited(rate=RATE)), robust(PGD())
    assert pgd < band < baseline
    assert BandLimited().longer() == BandLimited(steps=80) and BandLimited().reach(0.5) == 40 * 0.25 * 0.5


def test_the_rate_is_the_tasks_unless_told_otherwise() -> None:
    task, victim = random_mlp(n=5, shape=(1, LENGTH))
    seen = trial_of(victim, task.test, Threat("linf"), 0.05)
    untold = BandLimited().perturb(replace(seen, rate=RATE), RNG)
    assert torch.equal(untold, BandLimited(rate=RATE).perturb(trial_of(victim, task.test, Threat("linf"), 0.05), RNG))
    with pytest.raises(EcgbenchError, match="states no sampling rate; expected rate=<Hz>"):
        BandLimited().perturb(seen, RNG)


@pytest.mark.parametrize(
    ("attack", "changes", "why"),
    [
        (BandLimited(), {}, "problem states no sampling rate: give rate=<Hz>"),
        (BandLimited(), {"rate": 30.0}, "leaves out nothing at a rate of 30 Hz; expected less than half of it"),
        (BandLimited(rate=25.0), {"rate": 125.0}, "leaves out nothing at a rate of 25 Hz"),
        (BandLimited(), {"rate": 125.0, "features": ("",) * LENGTH}, "that of problem holds its features"),
        (BandLimited(5.5, 5.9), {"rate": 125.0}, "0.668 Hz apart: none lies between low=5.5 and high=5.9 Hz"),
    ],
)
def test_what_it_is_unfit_for(attack: BandLimited, changes: dict[str, float], why: str) -> None:
    task, _ = random_mlp(n=5, shape=(1, LENGTH))
    said = attack.unfit(replace(task, **changes), Threat("linf"))  # type: ignore[arg-type]
    assert said is not None and why in said
    assert BandLimited().unfit(replace(task, rate=RATE), Threat("linf")) is None
    assert BandLimited(rate=RATE).unfit(task, Threat("l2")) is None


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"rel_step": 0.0}, {"low": -1.0}, {"low": 16.0}, {"high": -1.0}, {"rate": 0.0}]
)
def test_parameters_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="given; expected"):
        BandLimited(**wrong)  # type: ignore[arg-type]
