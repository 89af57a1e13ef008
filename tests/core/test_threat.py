"""The laws of the ball, against geometry worked out elsewhere in float64."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ecgbench.core.data import Samples
from ecgbench.core.errors import EcgbenchError, UnknownNameError
from ecgbench.core.norms import NORMS, Norm
from ecgbench.core.outputs import SingleLabel
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Goal, Threat
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
@example(World("l2", (3, 8, 8), True, (-0.5, 2.0), 13.549599836661171, 22.14087527428593, 1782))
@laws
def test_a_projected_point_is_the_nearest_one(world: World) -> None:
    """Nearest in float64 first, shown by its certificate; float32 knows the radius to a few parts in 1e7."""
    delta, (low, high, radius) = flat(world.points()), world.edges
    found = np.abs(flat(world.ball.project(world.points())))
    least, most = (np.abs(nearest(delta, low, high, radius * (1 + part))) for part in (-1e-6, 1e-6))
    assert (found >= least - 1e-6 * max(1.0, world.eps)).all()
    assert (found <= most + 1e-6 * max(1.0, world.eps)).all()


@given(worlds)
@laws
def test_the_reference_is_the_nearest_point(world: World) -> None:
    """p is nearest to d in a convex set if no point q of it has <d - p, q - p> above 0."""
    delta, edges = flat(world.points()), world.edges
    point = nearest(delta, *edges)
    away = ((point != delta) & (edges[0] < edges[1])).any(1)
    if not away.any():
        return
    delta, point, edges = delta[away], point[away], tuple(edge[away] for edge in edges)
    gap, furthest = delta - point, summit(delta - point, *edges)
    ahead = (gap * (furthest - point)).sum(1)
    assert (ahead <= 1e-7 * np.linalg.norm(gap, axis=1) * np.linalg.norm(furthest, axis=1)).all()


@given(worlds)
@laws
def test_no_point_of_the_ball_is_nearer_than_the_projected_one(world: World) -> None:
    delta = world.points()
    gap = flat(delta - world.ball.project(delta))
    others = [world.ball.project(world.points(salt)) for salt in range(1, 6)]
    others += [world.ball.sample(torch.arange(N), world.shape, RNG.fold_in(draw)) for draw in range(5)]
    for other in others:
        assert (np.linalg.norm(gap, axis=1) <= np.linalg.norm(flat(delta - other), axis=1) * (1 + 1e-5)).all()


def nearest(point: Array, low: Array, high: Array, radius: Array) -> Array:
    """The nearest point of box and sphere, `clip(t * point)`, t by halving."""
    short, long = np.zeros((len(point), 1)), np.ones((len(point), 1))
    fits = np.linalg.norm(np.clip(point, low, high), axis=1, keepdims=True) <= radius
    for _ in range(100):
        middle = (short + long) / 2
        outside = np.linalg.norm(np.clip(middle * point, low, high), axis=1, keepdims=True) > radius
        short, long = np.where(outside, short, middle), np.where(outside, middle, long)
    return np.clip(np.where(fits, 1.0, short) * point, low, high)


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


# features with units of their own


@dataclass(frozen=True)
class Features:
    """Rows of 3 hours x 4 features, each feature with a unit of its own."""

    norm: Norm
    masked: bool
    bounds: Bounds | None
    eps: float
    seed: int

    @property
    def samples(self) -> Samples:
        rng = torch.Generator().manual_seed(self.seed)
        mask = torch.rand(N, 3, 4, generator=rng) < 0.7
        mask[:, 0, 0] = True
        scale = torch.tensor([0.1, 1.0, 7.0, 40.0]) * (0.5 + torch.rand(N, 1, 1, generator=rng))
        return Samples.of(torch.rand(N, 3, 4, generator=rng), torch.zeros(N, dtype=torch.int64), mask=mask, scale=scale)

    @property
    def ball(self) -> Ball:
        return Threat(self.norm, mask=self.masked, unit="physical").ball(self.samples, self.eps, self.bounds)

    @property
    def same(self) -> tuple[Ball, Tensor]:
        """The same ball over x * scale, whose features have one unit, and the scale."""
        samples = self.samples
        scale = samples.scale.expand_as(samples.x)
        radius = torch.full((N, 1, 1), self.eps)
        mask = samples.mask if self.masked else None
        ball = Ball.around(NORMS[self.norm], samples.x * scale, radius, mask=mask)
        if self.bounds is not None:
            low, high = ((edge - samples.x) * scale for edge in self.bounds)
            low, high = torch.maximum(ball.low, low), torch.minimum(ball.high, high)
            if mask is not None:
                low, high = (torch.where(mask, wall, 0.0) for wall in (low, high))
            ball = replace(ball, low=low, high=high)
        return ball, scale


features = st.builds(
    Features,
    norm=st.sampled_from(["linf", "l2"]),
    masked=st.booleans(),
    bounds=st.sampled_from([None, (0.0, 1.0)]),
    eps=st.floats(0.01, 50),
    seed=st.integers(0, 10_000),
)


@given(features, st.floats(0.1, 10))
@laws
def test_a_ball_with_a_scale_for_each_feature_is_the_ball_of_the_scaled_signal(world: Features, far: float) -> None:
    ball, (plain, scale) = world.ball, world.same
    delta = far * world.eps * RNG.fold_in(world.seed).normal(torch.arange(N), (3, 4))
    close = partial(torch.testing.assert_close, rtol=2e-5, atol=1e-6 * world.eps)
    close(ball.size(delta / scale), plain.size(delta))
    close(ball.project(delta / scale) * scale, plain.project(delta))
    close(ball.steepest(delta * scale) * scale, plain.steepest(delta))
    close(ball.sample(torch.arange(N), (3, 4), RNG) * scale, plain.sample(torch.arange(N), (3, 4), RNG))
    close(ball.scaled(0.5, world.samples.x).eps, 0.5 * plain.eps)
    close(ball.length(0.3), plain.length(0.3))
    for point in (ball.project(delta / scale), ball.sample(torch.arange(N), (3, 4), RNG)):
        assert ball.contains(point).all()
    rows = torch.tensor([2, 0])
    assert torch.equal(ball[rows].project((delta / scale)[rows]), ball.project(delta / scale)[rows])


def test_each_feature_may_move_by_eps_in_its_own_unit() -> None:
    world = Features("linf", False, None, 2.0, 3)
    ball, scale = world.ball, world.samples.scale
    corner = ball.eps * ball.steepest(torch.ones(N, 3, 4))
    torch.testing.assert_close(corner, (2.0 / scale).expand(N, 3, 4))
    assert ball.contains(corner).all() and torch.equal(ball.project(9 * corner), ball.high.expand_as(corner))
    for feature in range(4):
        beyond = torch.zeros(N, 3, 4)
        beyond[..., feature] = 1.001 * corner[..., feature]
        assert not ball.contains(beyond).any()


def test_l2_with_a_scale_for_each_feature_is_the_length_of_what_is_added_in_those_units() -> None:
    world = Features("l2", False, None, 2.0, 3)
    ball, scale = world.ball, world.samples.scale
    delta = torch.zeros(N, 3, 4)
    delta[:, 0, 1], delta[:, 2, 3] = 1.2 / scale[:, 0, 1], 1.6 / scale[:, 0, 3]
    torch.testing.assert_close(ball.size(delta), torch.full((N,), 2.0))
    assert ball.contains(delta).all() and not ball.contains(1.001 * delta).any()
    torch.testing.assert_close(ball.project(3 * delta), delta)


def test_a_scale_of_one_number_a_sample_is_the_same_in_either_shape() -> None:
    samples = World("l2", (3, 8, 8), True, None, 1.0, 1.0, 0).samples
    wide = replace(samples, scale=samples.scale.view(N, 1, 1, 1))
    one, other = (Threat("l2", unit="physical").ball(rows, 0.2, (0.0, 1.0)) for rows in (samples, wide))
    assert one.sides is None and other.sides is None
    assert torch.equal(one.eps, other.eps) and torch.equal(one.high, other.high)


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
    goal = Threat("linf").goal(Y, SingleLabel(CLASSES))
    assert goal.eligible.all() and goal.untargeted
    assert goal.met(torch.tensor([0, 0, 1, 2])).tolist() == [False, True, True, True]


def test_with_a_target_the_others_are_attacked_and_fall_when_they_reach_it() -> None:
    goal = Threat("linf", target="S").goal(Y, SingleLabel(CLASSES))
    assert goal.eligible.tolist() == [True, False, True, True]
    assert goal.met(torch.tensor([2, 1, 1, 0])).tolist() == [False, True, True, False]


def test_only_samples_of_the_source_classes_are_attacked() -> None:
    assert Threat("linf", source_classes=("V",), target="N").goal(Y, SingleLabel(CLASSES)).eligible.tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert Threat("linf", source_classes=("N", "V"), target="N").goal(Y, SingleLabel(CLASSES)).eligible.tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_no_prediction_at_all_is_no_fall() -> None:
    none = torch.full((4,), -1)
    assert not Threat("linf").goal(Y, SingleLabel(CLASSES)).met(none).any()
    assert not Threat("linf", target="N").goal(Y, SingleLabel(CLASSES)).met(none).any()


def test_rows_of_an_aim_keep_their_rivals() -> None:
    goal, rows = Goal(Y, untargeted=True, eligible=Y > 0, rival=2 - Y), torch.tensor([2, 0])
    part = goal[rows]
    assert part.label.tolist() == [2, 0] and part.eligible.tolist() == [True, False]
    assert part.rival is not None and part.rival.tolist() == [0, 2]
    assert Threat("linf").goal(Y, SingleLabel(CLASSES))[rows].rival is None


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
        Threat("linf", target="9").goal(Y, SingleLabel(CLASSES))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_part_of_a_ball_within_a_mask_is_the_ball_of_a_threat_that_keeps_it(norm: Any) -> None:
    mask = torch.arange(6).expand(3, 1, 6) < 4
    samples = Samples.of(torch.rand(3, 1, 6), torch.zeros(3, dtype=torch.int64), mask=mask)
    whole, kept = (Threat(norm, mask=binds).ball(samples, 0.3, (0.0, 1.0)) for binds in (False, True))
    part, delta = whole.within(mask), torch.randn(3, 1, 6)
    assert torch.equal(part.project(delta), kept.project(delta))
    assert torch.equal(part.steepest(delta), kept.steepest(delta))
    assert bool(whole.contains(part.project(delta)).all())
