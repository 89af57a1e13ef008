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
from ecgbench.core.outputs import SingleLabel
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Goal, Threat
from ecgbench.core.victim import Victim, frozen
from ecgbench_plugins.certificates.crown import LinearBounds
from ecgbench_plugins.certificates.propagation import bounded
from ecgbench_plugins.certificates.region import Region
from ecgbench_plugins.certificates.tracing import trace
from tests.plugins.certificates.networks import CLASSES, NETWORKS, SHAPE, leads, least_found, network, samples
from tests.problems import linear_problem

RNG = RandomStream(("certify", 0))
METHODS = {
    "ibp": LinearBounds("box", "box"),
    "crown": LinearBounds(),
    "crown-ibp": LinearBounds("lines", "box"),
    "alpha-crown": LinearBounds(steps=4),
    "beta-crown": LinearBounds(steps=2, domains=20),
    "beta-crown-ibp": LinearBounds("lines", "box", steps=1, domains=20),
}
OUTPUTS = SingleLabel(("a", "b", "c"))
PAIR = SingleLabel(("a", "b"))
UNTARGETED = Threat("linf")


def prove(method: LinearBounds, module: Module, batch: Batch, ball: Ball, goal: Goal | None = None) -> Proof:
    goal = UNTARGETED.goal(batch.y, OUTPUTS) if goal is None else goal
    return method.prove(Victim(module, OUTPUTS), batch, ball, goal, RNG)


def predicted(module: Module, batch: Batch) -> Batch:
    return replace(batch, y=module(batch.x).argmax(1))


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=8, deadline=None)
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
    name: str,
    seed: int,
    norm: str,
    masked: bool,
    bounds: tuple[float, float] | None,
    unit: str,
    eps: float,
    method: str,
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


@pytest.mark.parametrize("method", ["ibp", "crown", "beta-crown"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("eps", [0.01, 0.3])
def test_a_linear_victim_is_bounded_exactly(
    method: str, norm: str, bounds: tuple[float, float] | None, masked: bool, eps: float
) -> None:
    problem = linear_problem(3, (1, 30), 15, masked=masked, bounds=bounds, on_bound=0.1)
    batch = problem.task.test
    threat = Threat(norm, bounds=bounds is not None)  # type: ignore[arg-type]
    ball = threat.ball(batch, eps, bounds)
    proof = METHODS[method].prove(problem.victim, batch, ball, threat.goal(batch.y, problem.task.outputs), RNG)
    for row in range(15):
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


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_error_covers_what_a_ball_counts_as_inside_beside_eps(norm: str) -> None:
    problem = linear_problem(2, (1, 30), 40)
    batch, eps = problem.task.test, 10.0
    threat = Threat(norm)  # type: ignore[arg-type]
    proof = LinearBounds().prove(problem.victim, batch, threat.ball(batch, eps), threat.goal(batch.y, PAIR), RNG)
    for row in range(40):
        true = int(batch.y[row])
        weight = problem.weight[true] - problem.weight[1 - true]
        wider = threat.ball(batch[row : row + 1], eps * (1 + 1e-5))
        exact = least_of_linear(weight, problem.x[row], wider, norm) + problem.bias[true] - problem.bias[1 - true]
        assert exact >= float(proof.least[row] - proof.error[row])


def test_boxes_hold_what_float32_makes_of_a_sample() -> None:
    module = network("perceptron", 8, 30.0)
    batch, seen = samples(8, n=50), list[Tensor]()
    graph = trace(Victim(module, OUTPUTS), batch)
    bounds = bounded(graph, Region.of(batch.x, UNTARGETED.ball(batch, 0.0)), "lines")
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda _, __, out: seen.append(out.clone()))
    module(batch.x)
    boxes = [bounds.boxes[number] for number, node in enumerate(graph.nodes) if node.name == "linear"]
    exact = graph.values(batch.x.double().unsqueeze(1))
    numbers = [number for number, node in enumerate(graph.nodes) if node.name == "linear"]
    assert len(boxes) == len(seen) == 4
    for box, value, number in zip(boxes, seen, numbers, strict=True):
        rounded = value.double().unsqueeze(1)
        assert bool(((box.low <= rounded) & (rounded <= box.high)).all())
        assert bool(((box.high - box.low) / 2 >= (rounded - exact[number]).abs()).all())


def test_the_lower_line_is_the_one_that_leaves_less_area() -> None:
    module = Sequential(nn.Flatten(), Shared()).requires_grad_(False).eval()
    one, no = torch.ones(1, 1), torch.zeros(1, dtype=torch.int64)
    batch = Batch(one, no, torch.ones(1, 1, dtype=torch.bool), no, one[0])
    goal = UNTARGETED.goal(no, PAIR)
    proof = LinearBounds().prove(Victim(module, PAIR), batch, UNTARGETED.ball(batch, 2.0), goal, RNG)
    assert float(proof.least) == pytest.approx(1 - 0.1)  # x in [-1, 3], relu(x) >= x; the other line gives 1 - 2.7


class Shared(Module):
    """Logits 1 + relu(x) - 0.9 x and 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([1 + torch.relu(x) - 0.9 * x, 0.0 * x], 1)


def test_splits_decide_what_lines_leave_open() -> None:
    """With 24 ReLUs nearly all rows end proven or with a counterexample, of which the lines prove a small part."""
    module = network("perceptron", 9, 2.0)
    batch = predicted(module, samples(9, n=12))
    ball = UNTARGETED.ball(batch, 0.3, None)
    found = least_found(module, batch, ball, 9, steps=60)
    counts = [
        int(prove(method, module, batch, ball).proven.sum())
        for method in (METHODS["crown"], LinearBounds(steps=8), LinearBounds(steps=8, domains=1000))
    ]
    attacked = int((found > 0).sum())
    assert counts[0] < counts[1] < counts[2] <= attacked
    assert counts[2] >= 0.8 * attacked


def test_lines_prove_more_than_boxes_and_boxes_before_relus_lie_between() -> None:
    module = network("perceptron", 1)
    batch = predicted(module, samples(1, n=40))
    ball = UNTARGETED.ball(batch, 0.02, None)
    box, middle, lines = (
        prove(METHODS[name], module, batch, ball).least.mean() for name in ("ibp", "crown-ibp", "crown")
    )
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
    goal = Threat("linf", target="c").goal(batch.y, OUTPUTS)
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
    linear = nn.Linear(32, 1)
    module = Sequential(nn.Flatten(), linear).requires_grad_(False).eval()
    batch = samples(0, n=20)
    batch = replace(batch, y=(module(batch.x).squeeze(1) > 0).long())
    goal = UNTARGETED.goal(batch.y, PAIR)
    proof = LinearBounds().prove(Victim(module, PAIR), batch, UNTARGETED.ball(batch, 0.01), goal, RNG)
    exact = module(batch.x).abs().squeeze(1) - 0.01 * linear.weight.abs().sum()
    torch.testing.assert_close(proof.least.float(), exact, atol=1e-5, rtol=0)
