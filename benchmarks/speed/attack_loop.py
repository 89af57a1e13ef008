"""The attack loop against a bare loop of the same forwards and gradients, no sample falling.

python benchmarks/speed/attack_loop.py [--rows 2048] [--steps 100]
"""

from __future__ import annotations

import argparse

import torch
from pairs import machine, pairs
from torch.nn.functional import cross_entropy

from ecgbench.core.data import Samples, Task
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import frozen
from ecgbench.evaluation.sweep import Sweep
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.models.mlp import MLP

EPS = 0.05
BOUNDS = (0.0, 1.0)


def sturdy_problem(rows: int) -> tuple[torch.nn.Module, Task]:
    """An MLP so sure of one class that nothing falls, with gradients that are not zero."""
    x = torch.rand(rows, 1, 187, generator=torch.Generator().manual_seed(0))
    samples = Samples.of(x, torch.zeros(rows, dtype=torch.int64))
    task = Task("speed", tuple("NSVFQ"), samples[:0], samples[:0], samples, bounds=BOUNDS)
    module = MLP().build(task)
    with torch.no_grad():
        module[-1].bias[0] += 8.0
    return module, task


def bare(module: torch.nn.Module, task: Task, steps: int) -> None:
    """What any attack must do: forwards and gradients of all rows, in one batch."""
    x, y = task.test.x, task.test.y
    for _ in range(steps):
        delta = torch.zeros_like(x).requires_grad_()
        torch.autograd.grad(cross_entropy(module(x + delta), y, reduction="sum"), delta)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=100)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, task = sturdy_problem(chosen.rows)
    victim = frozen(module)
    print(f"{chosen.rows} rows, {chosen.steps} steps; {machine()}")
    print(f"{'attack':<22}{'ours s':>8}{'bare s':>8}{'ratio':>7}{'limit':>7}")
    for name, attack, threat, limit in (
        ("linf", PGD(steps=chosen.steps), Threat("linf"), 1.15),
        ("linf adamax", PGD(steps=chosen.steps, update="adamax"), Threat("linf"), 1.40),
        ("l2 in bounds", PGD(steps=chosen.steps), Threat("l2"), 1.60),
        ("l2 without bounds", PGD(steps=chosen.steps), Threat("l2", bounds=False), 1.60),
    ):
        sweep = Sweep(attack, victim, task, threat, (EPS,), RandomStream(("speed",)))
        outcomes = sweep.run(Checkpoint())
        assert not outcomes.adversarial.any()
        assert outcomes.gradients.sum() == chosen.rows * chosen.steps
        ours, theirs, ratio = pairs(lambda s=sweep: s.run(Checkpoint()), lambda: bare(module, task, chosen.steps))
        print(f"{name:<22}{ours:>8.3f}{theirs:>8.3f}{ratio:>7.2f}{limit:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
