"""The radius of a smoothed linear victim is its closed form, and the confidence bound covers what it says it covers."""

from __future__ import annotations

from dataclasses import replace
from math import erf, sqrt

import numpy as np
import pytest
import torch
from torch.nn import Flatten, Linear, Sequential

from ecgbench.core.data import Samples
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.outputs import SingleLabel
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import Victim, frozen
from ecgbench_plugins.certificates.smoothing import SmoothingRadius, certified_radius, lower_bound
from ecgbench_plugins.defenses.smoothing import Smoothed, Smoothing
from tests.problems import MemoryCheckpoint, blobs

SIGMA, PAIR = 0.2, SingleLabel(("a", "b"))
RNG = RandomStream(("certify", 0))
L2 = Threat("l2")


def phi(z: float) -> float:
    return (1 + erf(z / sqrt(2))) / 2


def smoothed_linear() -> tuple[Victim, Samples, torch.Tensor]:
    """A smoothed linear victim of two classes, samples with their own labels, and their distance to the boundary."""
    draw = torch.Generator().manual_seed(0)
    layer = Linear(6, 2)
    layer.weight.data, layer.bias.data = torch.randn(2, 6, generator=draw), torch.zeros(2)
    x = torch.randn(40, 1, 6, generator=draw) * 0.3
    victim = frozen(Smoothed(Sequential(Flatten(), layer), SIGMA), PAIR)
    gap = layer.weight[1] - layer.weight[0]
    lead = x.flatten(1) @ gap
    return victim, Samples.of(x, (lead > 0).long()), (lead.abs() / gap.norm()).double()


def test_the_radius_of_a_known_chance_is_the_closed_form() -> None:
    distance = [0.01, 0.1, 0.35]
    chance = torch.tensor([phi(each / SIGMA) for each in distance], dtype=torch.float64)
    assert certified_radius(chance, SIGMA).tolist() == pytest.approx(distance, abs=1e-9)
    assert certified_radius(torch.tensor([0.0, 0.5], dtype=torch.float64), SIGMA).tolist() == [0.0, 0.0]


def test_the_radius_of_a_linear_victim_lies_just_below_its_distance_to_the_boundary() -> None:
    victim, batch, distance = smoothed_linear()
    proof = SmoothingRadius(draws=800).prove(victim, batch, L2.ball(batch, 0.05), L2.goal(batch.y, PAIR), RNG)
    radius = proof.least + 0.05
    far = distance < 1.2 * SIGMA  # farther out few draws hit the other class
    assert int(far.sum()) > 10
    assert bool((radius <= distance).all())
    assert bool((radius >= distance - 0.08)[far].all())
    assert proof.queries.tolist() == [800] * 40
    torch.testing.assert_close(proof.proven, radius - 0.05 > 3e-5 * 0.05)


@pytest.mark.parametrize("chance", [0.5, 0.8, 0.99, 0.999])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_bound_is_above_the_chance_no_more_often_than_alpha_says(chance: float, alpha: float) -> None:
    hits = torch.from_numpy(np.random.default_rng(0).binomial(200, chance, size=20_000))
    missed = float((lower_bound(hits, 200, alpha) > chance).double().mean())
    assert missed <= alpha + 3 * sqrt(alpha / 20_000)
    assert missed >= alpha / 8 or chance > 0.98  # it is discrete, but not idle


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    hits = torch.tensor([0, 1, 10, 10])
    found = lower_bound(hits, 10, 0.05)
    assert found.tolist() == pytest.approx([0.0, 1 - 0.95**0.1, 0.05**0.1, 0.05**0.1])


def test_a_victim_without_noise_is_refused_and_so_is_another_norm() -> None:
    victim, batch, _ = smoothed_linear()
    plain = Victim(victim.module.inner, PAIR)  # type: ignore[arg-type]
    with pytest.raises(EcgbenchError, match="expected a victim of the defense smoothing"):
        SmoothingRadius().prove(plain, batch, L2.ball(batch, 0.1), L2.goal(batch.y, PAIR), RNG)
    assert "l2" in str(SmoothingRadius().unfit(blobs(n=20), Threat("linf")))
    assert SmoothingRadius().unfit(blobs(n=20), L2) is None


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"alpha": 0.0}, {"alpha": 1.0}])
def test_numbers_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(EcgbenchError, match="expected 1 draw or more"):
        SmoothingRadius(**wrong)  # type: ignore[arg-type]
    with pytest.raises(EcgbenchError, match="sigma"):
        Smoothing(sigma=0.0)


def test_physical_units_count_by_the_scale_of_each_sample() -> None:
    victim, batch, _ = smoothed_linear()
    half = replace(batch, scale=torch.full((40,), 2.0))
    method, goal = SmoothingRadius(draws=200), L2.goal(batch.y, PAIR)
    native = method.prove(victim, batch, L2.ball(batch, 0.05), goal, RNG)
    physical = method.prove(victim, half, Threat("l2", unit="physical").ball(half, 0.1), goal, RNG)
    torch.testing.assert_close(native.least, physical.least)


def test_the_defense_trains_on_noise_and_answers_with_it() -> None:
    task = blobs(n=200, shape=(1, 16))
    defense = Smoothing(sigma=0.5, epochs=2)
    module = defense.wrap(Sequential(Flatten(), Linear(16, len(task.classes))), task)
    trained = defense.fit(module, task, RandomStream(("train", 0)), MemoryCheckpoint())
    victim, batch = frozen(trained, task.outputs), task.test[:8]
    once, again, other = (victim.logits(batch.x, batch, RNG.fold_in(word)) for word in ("a", "a", "b"))
    assert torch.equal(once, again) and not torch.equal(once, other)
    noise = RNG.fold_in("a").fold_in("smoothing").normal(batch.ids, (1, 16))
    torch.testing.assert_close(once, trained.inner(batch.x + 0.5 * noise))  # type: ignore[operator]
