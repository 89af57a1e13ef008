"""The laws of the ball, against geometry worked out elsewhere in float64."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ecgbench.core.data import Samples
from ecgbench.core.errors import EcgbenchError, UnknownNameError
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Goal, Norm, Threat
from tests.problems import Array, Bounds, summit

N = 4
INFINITE = float("inf")
RNG = RandomStream((0, "threat"))


@dataclass(frozen=True)
class World:
    """Rows, a ball round each, and points far and near; eps differs by row, some of x lies on its bounds."""

    norm: Norm
    shape: tuple[int, ...]
    masked: bool
    bounds: Bounds | None
    eps: float
    reach: float
    seed: int

    @property
    def samples(self) -> Samples:
        rng = torch.Generator().manual_seed(self.seed)
        x = torch.rand(N, *self.shape, generator=rng)
        x = torch.where(torch.rand(x.shape, generator=rng) < 0.3, x.round(), x)
        mask = torch.rand(N, *[1] * (len(self.shape) - 1), self.shape[-1], generator=rng) < 0.7
        mask[..., 0] = True
        scale = 0.5 + torch.rand(N, generator=rng)
        return Samples.of(x, torch.zeros(N, dtype=torch.int64), mask=mask, scale=scale)

    @property
    def ball(self) -> Ball:
        return Threat(self.norm, mask=self.masked, unit="physical").ball(self.samples, self.eps, self.bounds)

    def points(self, salt: int = 0) -> Tensor:
        """Up to `reach` radii away."""
        noise = RNG.fold_in(self.seed, salt).normal(torch.arange(N), self.shape)
        return self.reach * self.eps * noise

    @property
    def edges(self) -> tuple[Array, Array, Array]:
        """Lower and upper limits (n, d) and radius (n, 1) in float64, from the rules alone."""
        samples = self.samples
        x, radius = samples.x.flatten(1).double().numpy(), self.eps / samples.scale.double().numpy()[:, None]
        lower, upper = self.bounds or (-INFINITE, INFINITE)
        low, high = lower - x, upper - x
        if self.norm == "linf":
            low, high, radius = np.maximum(low, -radius), np.minimum(high, radius), np.full_like(radius, INFINITE)
        if self.masked:
            free = samples.mask.expand_as(samples.x).flatten(1).numpy()
            low, high = np.where(free, low, 0), np.where(free, high, 0)
        return low, high, radius


worlds = st.builds(
    World,
    norm=st.sampled_from(["linf", "l2"]),
    shape=st.sampled_from([(1, 187), (3, 8, 8), (48, 18)]),
    masked=st.booleans(),
    bounds=st.sampled_from([None, (0.0, 1.0), (-0.5, 2.0), (0.0, INFINITE), (-INFINITE, 1.0)]),
    eps=st.floats(1e-3, 20),
    reach=st.floats(0.01, 30),
    seed=st.integers(0, 10_000),
)
laws = settings(deadline=None, max_examples=60)


def flat(delta: Tensor) -> Array:
    return np.asarray(delta.flatten(1).double().numpy())


# size


@given(worlds, st.sampled_from([0.5, 2.0, 3.0]))
@laws
def test_a_scaled_ball_is_the_ball_of_that_size(world: World, factor: float) -> None:
    scaled, expected = world.ball.scaled(factor, world.samples.x), replace(world, eps=factor * world.eps).ball
    for part in ("eps", "low", "high"):
        torch.testing.assert_close(getattr(scaled, part), getattr(expected, part), rtol=1e-6, atol=0)
    assert (scaled.norm, scaled.bounds) == (expected.norm, expected.bounds)
    assert (scaled.mask is None) == (expected.mask is None)
    torch.testing.assert_close(scaled.length(1.0), world.ball.length(1.0))


# projection


@given(worlds)
@laws
def test_a_projected_point_keeps_every_rule(world: World) -> None:
    ball, samples = world.ball, world.samples
    delta = ball.project(world.points())
    assert ball.contains(delta).all()
    assert (ball.size(delta) <= ball.eps.flatten() * (1 + 1e-5)).all()
    if world.masked:
        assert not delta[~samples.mask.expand_as(delta)].any()
    if world.bounds is not None:
        x = samples.x + delta
        assert x.min() >= world.bounds[0] - 1e-6 and x.max() <= world.bounds[1] + 1e-6


@given(worlds)
@laws
def test_projecting_twice_is_projecting_once(world: World) -> None:
    once = world.ball.project(world.points())
    torch.testing.assert_close(world.ball.project(once), once, rtol=1e-6, atol=0)


@given(worlds)
@laws
def test_a_point_of_the_ball_stays_where_it_is(world: World) -> None:
    low, high, radius = world.edges
    point = np.clip(0.5 * world.points().flatten(1).numpy(), low, high)
    point *= 0.99 * np.minimum(1, radius / np.linalg.norm(point, axis=1, keepdims=True).clip(1e-12))
    delta = torch.tensor(point, dtype=torch.float32).view(N, *world.shape)
    assert torch.equal(world.ball.project(delta), delta)


@given(worlds)
@laws
def test_a_projected_point_is_the_nearest_one(world: World) -> None:
    """Against alternating projections (Boyle and Dykstra 1986), which know nothing of the solution's form."""
    delta = world.points()
    nearest = dykstra(flat(delta), *world.edges)
    assert np.abs(flat(world.ball.project(delta)) - nearest).max() <= 1e-5 * max(1.0, world.eps)


@given(worlds)
@laws
def test_no_point_of_the_ball_is_nearer_than_the_projected_one(world: World) -> None:
    delta = world.points()
    gap = flat(delta - world.ball.project(delta))
    others = [world.ball.project(world.points(salt)) for salt in range(1, 6)]
    others += [world.ball.sample(torch.arange(N), world.shape, RNG.fold_in(draw)) for draw in range(5)]
    for other in others:
        assert (np.linalg.norm(gap, axis=1) <= np.linalg.norm(flat(delta - other), axis=1) * (1 + 1e-5)).all()


def dykstra(point: Array, low: Array, high: Array, radius: Array) -> Array:
    """The nearest point of box and sphere, by projecting on each in turn with Dykstra's corrections."""
    now, from_box, from_sphere = point, np.zeros_like(point), np.zeros_like(point)
    for _ in range(20_000):
        boxed = np.clip(now + from_box, low, high)
        from_box = now + from_box - boxed
        length = np.linalg.norm(boxed + from_sphere, axis=1, keepdims=True).clip(1e-300)
        inside = (boxed + from_sphere) * np.minimum(1, radius / length)
        from_sphere = boxed + from_sphere - inside
        moved, now = np.abs(inside - now).max(), inside
        if moved < 1e-10 and np.abs(inside - boxed).max() < 1e-9:
            break
    return now


# steps and samples


@given(worlds)
@laws
def test_the_steepest_step_has_size_1_and_no_other_gains_more(world: World) -> None:
    ball, gradient = world.ball, world.points()
    step = ball.steepest(gradient)
    torch.testing.assert_close(ball.size(step), torch.ones(N), rtol=1e-5, atol=0)
    low, high, _ = world.edges
    slope = np.where(low < high, flat(gradient), 0)
    most = np.abs(slope).sum(1) if world.norm == "linf" else np.linalg.norm(slope, axis=1)
    np.testing.assert_allclose((slope * flat(step)).sum(1), most, rtol=1e-5)


@given(worlds)
@laws
def test_a_full_step_from_the_centre_ends_on_the_best_point_of_a_ball_without_bounds(world: World) -> None:
    world = World(world.norm, world.shape, world.masked, None, world.eps, world.reach, world.seed)
    ball, gradient = world.ball, world.points()
    best = summit(flat(gradient), *world.edges)
    found = flat(ball.project(ball.eps * ball.steepest(gradient)))
    np.testing.assert_allclose((flat(gradient) * found).sum(1), (flat(gradient) * best).sum(1), rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("tiny", [1e-30, 1e-36, 1e30, 1e37])
def test_a_vanishing_or_huge_gradient_still_gives_a_step_of_size_1(norm: Norm, tiny: float) -> None:
    ball = World(norm, (1, 187), False, None, 1.0, 1.0, 0).ball
    gradient = RNG.normal(torch.arange(N), (1, 187))
    torch.testing.assert_close(ball.steepest(tiny * gradient), ball.steepest(gradient))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_gradient_gives_no_step(norm: Norm) -> None:
    step = World(norm, (1, 187), False, None, 1.0, 1.0, 0).ball.steepest(torch.zeros(N, 1, 187))
    assert not step.any()


def test_an_l2_step_spends_nothing_where_nothing_may_change() -> None:
    world = World("l2", (3, 8, 8), True, None, 1.0, 1.0, 3)
    step = world.ball.steepest(world.points())
    assert not step[~world.samples.mask.expand_as(step)].any()


@given(worlds)
@laws
def test_a_random_point_lies_in_the_ball_and_belongs_to_its_sample(world: World) -> None:
    ids = torch.tensor([9, 4, 7, 1])
    points = world.ball.sample(ids, world.shape, RNG)
    assert world.ball.contains(points).all()
    rows = torch.tensor([2, 0])
    assert torch.equal(world.ball[rows].sample(ids[rows], world.shape, RNG), points[rows])


def test_random_points_fill_the_cube_and_every_radius() -> None:
    ids, eps = torch.arange(4000), 0.3
    samples = Samples.of(torch.zeros(4000, 1, 20), torch.zeros(4000, dtype=torch.int64))
    cube = Threat("linf").ball(samples, eps).sample(ids, (1, 20), RNG)
    assert float(cube.mean()) == pytest.approx(0, abs=5 * eps / (3 * 80_000) ** 0.5)
    assert float(cube.square().mean()) == pytest.approx(eps**2 / 3, rel=0.02)
    radii = (ball := Threat("l2").ball(samples, eps)).size(ball.sample(ids, (1, 20), RNG)) / eps
    assert torch.histc(radii, 4, 0, 1).tolist() == pytest.approx([1000] * 4, abs=150)


# the ball itself


@given(worlds)
@laws
def test_a_ball_of_size_0_holds_one_point(world: World) -> None:
    ball = Threat(world.norm, mask=world.masked).ball(world.samples, 0.0, world.bounds)
    for delta in (ball.project(world.points()), ball.sample(torch.arange(N), world.shape, RNG)):
        assert torch.equal(delta, torch.zeros_like(delta))
        assert ball.contains(delta).all()


@given(worlds)
@laws
def test_rows_of_a_ball_are_the_ball_of_the_rows(world: World) -> None:
    rows, samples = torch.tensor([3, 1]), world.samples
    threat = Threat(world.norm, mask=world.masked, unit="physical")
    part, whole = threat.ball(samples[rows], world.eps, world.bounds), world.ball[rows]
    for field in ("eps", "low", "high"):
        one, other = (getattr(ball, field).expand(2, *world.shape) for ball in (part, whole))
        assert torch.equal(one, other)
    assert torch.equal(part.project(world.points()[rows]), world.ball.project(world.points())[rows])
    assert part.bounds == whole.bounds == world.bounds


def test_eps_in_a_physical_unit_is_divided_by_each_samples_scale() -> None:
    samples = World("l2", (1, 187), False, None, 1.0, 1.0, 0).samples
    for unit in ("physical", "mV"):
        eps = Threat("l2", unit=unit).ball(samples, 0.2).eps
        torch.testing.assert_close(eps.flatten(), 0.2 / samples.scale)
    assert Threat("l2").ball(samples, 0.2).eps.flatten().tolist() == pytest.approx([0.2] * N)


def test_mask_and_bounds_bind_only_where_the_threat_says_so() -> None:
    world = World("linf", (1, 187), True, (0.0, 1.0), 0.5, 1.0, 0)
    free = Threat("linf", mask=False, bounds=False).ball(world.samples, 0.5, world.bounds)
    delta = torch.full((N, 1, 187), 0.5)
    assert torch.equal(free.project(delta), delta)
    assert free.contains(delta).all() and not world.ball.contains(delta).any()
    assert free.bounds is None and world.ball.bounds == (0.0, 1.0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bounds", [None, (-9.0, 9.0)])
def test_a_point_outside_by_a_thousandth_is_refused(norm: Norm, masked: bool, bounds: Bounds | None) -> None:
    world = World(norm, (3, 8, 8), masked, bounds, 1.0, 1.0, 0)
    ball = world.ball
    edge = ball.project(ball.eps * ball.steepest(world.points()))
    assert ball.contains(edge).all()
    assert not ball.contains(edge * 1.001).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_only_the_row_that_breaks_a_rule_is_refused(norm: Norm) -> None:
    ball = World(norm, (1, 187), True, (0.0, 1.0), 1.0, 1.0, 5).ball
    good = ball.sample(torch.arange(N), (1, 187), RNG)
    for wrong in (torch.nan, torch.inf, -torch.inf, 1.1 * float(ball.eps[2])):
        bad = good.clone()
        bad[2, 0, 0] = wrong
        assert ball.contains(bad).tolist() == [True, True, False, True]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_any_write_outside_the_mask_is_refused(norm: Norm) -> None:
    world = World(norm, (1, 187), True, None, 1.0, 1.0, 5)
    delta = torch.zeros(N, 1, 187)
    delta[1, 0, int((~world.samples.mask[1, 0]).nonzero()[0])] = 1e-9
    assert world.ball.contains(delta).tolist() == [True, False, True, True]


def test_a_point_of_the_cube_is_refused_under_l2() -> None:
    cube, sphere = (World(norm, (1, 187), False, None, 1.0, 1.0, 5).ball for norm in ("linf", "l2"))
    delta = cube.sample(torch.arange(N), (1, 187), RNG)
    assert cube.contains(delta).all() and not sphere.contains(delta).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_point_beyond_the_bounds_is_refused(norm: Norm) -> None:
    world = World(norm, (1, 187), False, (0.0, 1.0), 5.0, 1.0, 5)
    delta = torch.zeros(N, 1, 187)
    delta[0, 0, 3] = 1.001 - float(world.samples.x[0, 0, 3])
    assert world.ball.contains(delta).tolist() == [False, True, True, True]


# the rules


CLASSES = ("N", "S", "V")
Y = torch.tensor([0, 1, 2, 0])


def test_without_a_target_every_sample_is_attacked_and_falls_when_it_leaves_its_class() -> None:
    goal = Threat("linf").goal(Y, CLASSES)
    assert goal.eligible.all() and goal.untargeted
    assert goal.met(torch.tensor([0, 0, 1, 2])).tolist() == [False, True, True, True]


def test_with_a_target_the_others_are_attacked_and_fall_when_they_reach_it() -> None:
    goal = Threat("linf", target="S").goal(Y, CLASSES)
    assert goal.eligible.tolist() == [True, False, True, True]
    assert goal.met(torch.tensor([2, 1, 1, 0])).tolist() == [False, True, True, False]


def test_only_samples_of_the_source_classes_are_attacked() -> None:
    assert Threat("linf", source_classes=("V",), target="N").goal(Y, CLASSES).eligible.tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert Threat("linf", source_classes=("N", "V"), target="N").goal(Y, CLASSES).eligible.tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_no_prediction_at_all_is_no_fall() -> None:
    none = torch.full((4,), -1)
    assert not Threat("linf").goal(Y, CLASSES).met(none).any()
    assert not Threat("linf", target="N").goal(Y, CLASSES).met(none).any()


def test_rows_of_an_aim_keep_their_rivals() -> None:
    goal, rows = Goal(Y, untargeted=True, eligible=Y > 0, rival=2 - Y), torch.tensor([2, 0])
    part = goal[rows]
    assert part.label.tolist() == [2, 0] and part.eligible.tolist() == [True, False]
    assert part.rival is not None and part.rival.tolist() == [0, 2]
    assert Threat("linf").goal(Y, CLASSES)[rows].rival is None


@pytest.mark.parametrize("threat", [Threat("l2", unit="mV"), Threat("l2", unit="physical"), Threat("l2", target="V")])
def test_rules_that_fit_a_task_are_accepted(threat: Threat) -> None:
    threat.check("mV", CLASSES)


@pytest.mark.parametrize(
    ("threat", "physical", "fault"),
    [
        (Threat("l2", unit="uV"), "mV", "eps cannot be read in 'uV': this dataset knows 'native' or 'mV'."),
        (Threat("l2", unit="mV"), None, "eps cannot be read in 'mV': this dataset knows only 'native'."),
        (Threat("l2", unit="physical"), None, "eps cannot be read in a physical unit: this dataset states none."),
        (Threat("l2", source_classes=("N",)), None, "source classes were given without a target"),
        (Threat("l2", source_classes=("V",), target="V"), None, "target=V is the only source class as well"),
        (Threat("l2", target="VV"), None, "no class is named 'VV'; did you mean 'V'?"),
        (Threat("l2", source_classes=("x",), target="V"), None, "no class is named 'x'; known: N, S, V."),
    ],
)
def test_rules_that_do_not_fit_are_refused_with_a_sentence(threat: Threat, physical: str | None, fault: str) -> None:
    with pytest.raises(EcgbenchError, match=re.escape(fault)):
        threat.check(physical, CLASSES)


def test_aiming_at_a_class_nobody_knows_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="known: N, S, V"):
        Threat("linf", target="9").goal(Y, CLASSES)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_part_of_a_ball_within_a_mask_is_the_ball_of_a_threat_that_keeps_it(norm: Any) -> None:
    mask = torch.arange(6).expand(3, 1, 6) < 4
    samples = Samples.of(torch.rand(3, 1, 6), torch.zeros(3, dtype=torch.int64), mask=mask)
    whole, kept = (Threat(norm, mask=binds).ball(samples, 0.3, (0.0, 1.0)) for binds in (False, True))
    part, delta = whole.within(mask), torch.randn(3, 1, 6)
    assert torch.equal(part.project(delta), kept.project(delta))
    assert torch.equal(part.steepest(delta), kept.steepest(delta))
    assert bool(whole.contains(part.project(delta)).all())
