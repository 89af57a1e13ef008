"""Linear bounds hold whatever is found in the ball, are exact for linear victims, and refuse what they cannot read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import Module, Sequential

from ecgbench.core.certificates import Proof
from ecgbench.core.data import Batch
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Goal, Threat
from ecgbench.core.victim import Victim, frozen
from ecgbench_plugins.certificates.crown import LinearBounds
from tests.plugins.certificates.networks import CLASSES, NETWORKS, SHAPE, leads, least_found, network, samples
from tests.problems import linear_problem

RNG = RandomStream(("certify", 0))
METHODS = {
    "ibp": LinearBounds("box", "box"),
    "crown": LinearBounds(),
    "crown-ibp": LinearBounds("lines", "box"),
}
UNTARGETED = Threat("linf")


def prove(method: LinearBounds, module: Module, batch: Batch, ball: Ball, goal: Goal | None = None) -> Proof:
    goal = UNTARGETED.goal(batch.y, ("a", "b", "c")) if goal is None else goal
    return method.prove(Victim(module, CLASSES), batch, ball, goal, RNG)


def predicted(module: Module, batch: Batch) -> Batch:
    return replace(batch, y=module(batch.x).argmax(1))


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    norm=st.sampled_from(["linf", "l2"]),
    masked=st.booleans(),
    bounds=st.sampled_from([None, (0.0, 1.0)]),
    unit=st.sampled_from(["native", "physical"]),
    eps=st.sampled_from([0.0, 0.003, 0.03, 0.3]),
    method=st.sampled_from(sorted(METHODS)),
)
def test_no_point_of_the_ball_violates_a_bound(
    name: str, seed: int, norm: str, masked: bool, bounds: tuple[float, float] | None, unit: str, eps: float, method: str
) -> None:
    module = network(name, seed)
    batch = predicted(module, samples(seed, masked=masked))
    ball = Threat(norm, unit=unit).ball(batch, eps, bounds)  # type: ignore[arg-type]
    proof = prove(METHODS[method], module, batch, ball)
    found = least_found(module, batch, ball, seed)
    assert bool((found >= proof.least - proof.error).all()), (found - proof.least + proof.error).min()
    assert bool((found > 0)[proof.proven].all())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_nor_does_any_of_a_hundred_thousand_random_points(name: str, norm: str) -> None:
    module = network(name, 5)
    batch = predicted(module, samples(5, n=1, masked=True))
    ball = Threat(norm).ball(batch, 0.1, (0.0, 1.0))  # type: ignore[arg-type]
    proof = prove(METHODS["crown"], module, batch, ball)
    rows = torch.zeros(10_000, dtype=torch.int64)
    many, wide = batch[rows], ball[rows]
    for draw in range(10):
        factor = 1 if draw < 5 else 30  # inside, and on the surface
        delta = wide.project(factor * wide.sample(many.ids + torch.arange(10_000), SHAPE, RNG.fold_in(draw)))
        found = leads(module, many.x + delta, many.y)
        assert float(found.min()) >= float(proof.least - proof.error)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("eps", [0.01, 0.3])
def test_a_linear_victim_is_bounded_exactly(
    method: str, norm: str, bounds: tuple[float, float] | None, masked: bool, eps: float
) -> None:
    problem = linear_problem(3, (1, 30), 40, masked=masked, bounds=bounds, on_bound=0.1)
    batch = problem.task.test
    threat = Threat(norm, bounds=bounds is not None)  # type: ignore[arg-type]
    ball = threat.ball(batch, eps, bounds)
    proof = METHODS[method].prove(problem.victim, batch, ball, threat.goal(batch.y, problem.task.classes), RNG)
    for row in range(40):
        true = int(batch.y[row])
        exact = min(
            least_of_linear(problem.weight[true] - problem.weight[k], problem.x[row], ball[row : row + 1], norm)
            + problem.bias[true]
            - problem.bias[k]
            for k in range(3)
            if k != true
        )
        assert float(proof.least[row]) == pytest.approx(exact, abs=1e-5)
        assert 0 < float(proof.error[row]) < 1e-2


def least_of_linear(
    weight: np.ndarray[tuple[int], np.dtype[np.float64]],
    x: np.ndarray[tuple[int], np.dtype[np.float64]],
    ball: Ball,
    norm: str,
) -> float:
    """min of weight . (x + d) over one ball, d = clip(-t weight) with t by bisection."""
    low, high = (side.double().expand(1, 1, len(x)).flatten().numpy() for side in (ball.low, ball.high))
    eps = float(ball.eps)
    low, high = np.maximum(low, -eps), np.minimum(high, eps)
    corner = np.where(weight > 0, low, high)
    if norm == "linf" or np.linalg.norm(corner) <= eps:
        return float(weight @ (x + corner))
    least, most = 0.0, 1e6
    for _ in range(200):
        middle = (least + most) / 2
        inside = np.linalg.norm(np.clip(-middle * weight, low, high)) <= eps
        least, most = (middle, most) if inside else (least, middle)
    return float(weight @ (x + np.clip(-least * weight, low, high)))


def test_lines_prove_more_than_boxes_and_boxes_before_relus_lie_between() -> None:
    module = network("perceptron", 1)
    batch = predicted(module, samples(1, n=40))
    ball = UNTARGETED.ball(batch, 0.02, None)
    box, middle, lines = (prove(METHODS[name], module, batch, ball).least.mean() for name in ("ibp", "crown-ibp", "crown"))
    assert box < middle < lines < leads(module, batch.x, batch.y).mean()


def test_a_network_whose_relus_do_not_switch_is_bounded_exactly() -> None:
    module = network("perceptron", 2)
    batch = predicted(module, samples(2))
    ball = UNTARGETED.ball(batch, 1e-5, None)
    x = batch.x.clone().requires_grad_()
    with torch.enable_grad():
        lead = leads(module, x, batch.y)
        (slope,) = torch.autograd.grad(lead.sum(), x)
    exact = lead.detach() - 1e-5 * slope.abs().flatten(1).sum(1)
    proof = prove(METHODS["crown"], module, batch, ball)
    torch.testing.assert_close(proof.least.float(), exact, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_error_covers_what_float32_rounds_and_little_more(name: str, scale: float) -> None:
    module = network(name, 3, scale)
    batch = predicted(module, samples(3, n=64))
    proof = prove(METHODS["crown"], module, batch, UNTARGETED.ball(batch, 0.0))
    exact = network(name, 3, scale).double()
    rounded = leads(module, batch.x, batch.y).double() - leads(exact, batch.x.double(), batch.y)
    assert bool((rounded.abs() <= proof.error).all())
    assert float(rounded.abs().max()) * 1000 > float(proof.error.max())
    assert float((proof.least - leads(exact, batch.x.double(), batch.y)).abs().max()) <= float(proof.error.max())


def test_rows_are_bounded_alike_in_any_batch_and_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    module = network("pooled", 4)
    batch = predicted(module, samples(4, n=9))
    ball = UNTARGETED.ball(batch, 0.05, (0.0, 1.0))
    whole = prove(METHODS["crown"], module, batch, ball)
    monkeypatch.setattr("ecgbench_plugins.certificates.crown.ROWS", 1)
    monkeypatch.setattr("ecgbench_plugins.certificates.propagation.NUMBERS", 1)
    apart = prove(METHODS["crown"], module, batch, ball)
    torch.testing.assert_close(whole.least, apart.least, atol=1e-12, rtol=0)
    torch.testing.assert_close(whole.error, apart.error, atol=1e-12, rtol=0)


def test_a_target_is_proven_against_alone() -> None:
    module = network("perceptron", 6)
    batch = predicted(module, samples(6, n=30))
    batch = batch[batch.y != 2]
    ball = UNTARGETED.ball(batch, 0.05, None)
    goal = Threat("linf", target="c").goal(batch.y, ("a", "b", "c"))
    target = prove(METHODS["crown"], module, batch, ball, goal)
    both = prove(METHODS["crown"], module, batch, ball)
    assert bool((target.least >= both.least - 1e-12).all())
    assert bool((target.least > both.least + 1e-6).any())
    with pytest.raises(EcgbenchError, match="expected another target"):
        prove(METHODS["crown"], module, replace(batch, y=torch.full_like(batch.y, 2)), ball, goal)


class Mixing(Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0, keepdim=True)).flatten(1)[:, :CLASSES]


class Aliasing(Module):
    """What is written into a view is seen in the whole, which the graph does not know."""

    def forward(self, x: Tensor) -> Tensor:
        y = x - 0.5
        y[:, 0].relu_()
        return y.flatten(1)[:, :CLASSES]


class Deciding(Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :CLASSES] * (2 if float(x.sum()) > 0 else 1)


class Noisy(Module):
    takes_rng = True

    def forward(self, x: Tensor, rng: RandomStream, ids: Tensor) -> Tensor:
        return x.flatten(1)[:, :CLASSES] + rng.normal(ids, (CLASSES,))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Sequential(nn.Flatten(), nn.Linear(32, 3), nn.Sigmoid()), "'sigmoid'"),
        (Sequential(nn.Flatten(), nn.GELU(), nn.Linear(32, 3)), "'gelu'"),
        (Sequential(nn.Flatten(), nn.LayerNorm(32), nn.Linear(32, 3)), "'layer_norm'"),
        (Sequential(nn.BatchNorm1d(2, track_running_stats=False), nn.Flatten(), nn.Linear(32, 3)), "batch's own mean"),
        (Mixing(), "other samples of the batch"),
        (Aliasing(), "depends on more than the functions"),
        (Deciding(), "'__float__'"),
        (Noisy(), "draws random numbers"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(module: Module, reason: str) -> None:
    batch = samples(0)
    with pytest.raises(EcgbenchError, match=reason):
        prove(METHODS["crown"], frozen(module).module, batch, UNTARGETED.ball(batch, 0.01))


def test_two_classes_of_one_logit_are_read_as_the_host_reads_them() -> None:
    module = Sequential(nn.Flatten(), nn.Linear(32, 1)).requires_grad_(False).eval()
    batch = samples(0, n=20)
    batch = replace(batch, y=(module(batch.x).squeeze(1) > 0).long())
    goal = UNTARGETED.goal(batch.y, ("a", "b"))
    proof = LinearBounds().prove(Victim(module, 2), batch, UNTARGETED.ball(batch, 0.01), goal, RNG)
    exact = module(batch.x).abs().squeeze(1) - 0.01 * module[1].weight.abs().sum()
    torch.testing.assert_close(proof.least.float(), exact, atol=1e-5, rtol=0)
