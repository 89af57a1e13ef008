"""CROWN-IBP trains on bounds that hold, are those of intervals where beta is 0, and pass gradients to all weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import Flatten, Linear, Module, ReLU, Sequential
from torch.nn.functional import cross_entropy

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import Victim
from ecgbench_plugins.certificates.crown import LinearBounds
from ecgbench_plugins.defenses.crown_ibp import CrownIBP
from ecgbench_plugins.defenses.ibp import IBP
from ecgbench_plugins.models.mlp import MLP
from tests.problems import MemoryCheckpoint, blobs

SHAPE = (1, 16)
TASK = blobs(n=200, shape=SHAPE)
RNG = RandomStream(("train", 0))
CLASSES = len(TASK.classes)


def net() -> Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Sequential(Flatten(), Linear(16, 12), ReLU(), Linear(12, 12), ReLU(), Linear(12, CLASSES)).eval()


@torch.no_grad()
def test_at_the_end_the_bounds_are_those_of_intervals_and_at_the_start_tighter() -> None:
    module, batch = net(), TASK.test[:20]
    intervals = IBP(eps=0.1)._worst(module, batch, 0.1, TASK, RNG)
    torch.testing.assert_close(CrownIBP(eps=0.1)._worst(module, batch, 0.1, TASK, RNG), intervals, atol=1e-3, rtol=0)
    lines = CrownIBP(eps=0.1, beta=1.0)._worst(module, batch, 0.1, TASK, RNG)
    assert float(lines.mean()) < float(intervals.mean())
    half = CrownIBP(eps=0.1, beta=0.5)._worst(module, batch, 0.1, TASK, RNG)
    torch.testing.assert_close(half, (lines + intervals) / 2, atol=1e-3, rtol=0)
    true = torch.arange(20), batch.y
    torch.testing.assert_close(lines[true], torch.zeros(20), atol=1e-3, rtol=0)


@torch.no_grad()
def test_no_point_of_the_box_is_worse() -> None:
    module, batch = net(), TASK.test[:20]
    worst = CrownIBP(eps=0.1, beta=1.0)._worst(module, batch, 0.1, TASK, RNG)
    ball = Threat("linf").ball(batch, 0.1, TASK.bounds)
    for draw in range(100):
        logits = module(batch.x + ball.project(9 * ball.sample(batch.ids, SHAPE, RNG.fold_in(draw))))
        assert bool((logits - logits.gather(1, batch.y[:, None]) <= worst + 1e-5).all())


def test_the_gradient_of_every_weight_is_that_of_the_bound() -> None:
    module, batch = net().double(), TASK.test[:10]
    batch = type(batch)(**(vars(batch) | {"x": batch.x.double()}))
    defense = CrownIBP(eps=0.05, beta=0.7)

    def loss() -> torch.Tensor:
        return cross_entropy(defense._worst(module, batch, 0.05, TASK, RNG), batch.y)

    gradients = torch.autograd.grad(loss(), list(module.parameters()))
    for weight, gradient in zip(module.parameters(), gradients, strict=True):
        place = (0,) * weight.ndim
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[place] += step
                values.append(loss().item())
                weight[place] -= step
        assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-3, abs=1e-7)


def test_a_training_proves_more_than_one_on_clean_samples_alone() -> None:
    task, threat, method = blobs(n=240, shape=(2, 32)), Threat("linf"), LinearBounds("box", "box")

    def proven(defense: CrownIBP) -> float:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = MLP(widths=(16, 8)).build(task)
        victim = Victim(defense.fit(module, task, RNG, Checkpoint()).eval(), task.outputs)
        ball, goal = threat.ball(task.test, 0.5, task.bounds), threat.goal(task.test.y, task.outputs)
        return float(method.prove(victim, task.test, ball, goal, RNG).proven.double().mean())

    few = CrownIBP(eps=0.2, epochs=8, batch=40, lr=1e-2, wait=1, warmup=4)
    assert proven(few) > proven(replace(few, wait=8)) + 0.1


def test_numbers_that_cannot_be_and_modules_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(EcgbenchError, match="beta=2"):
        CrownIBP(beta=2.0)
    with pytest.raises(EcgbenchError, match="'sigmoid'"):
        CrownIBP().fit(Sequential(net(), torch.nn.Sigmoid()), TASK, RNG, MemoryCheckpoint())
