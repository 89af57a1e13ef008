"""The training loop against its bare parts at batch 128, and beside them the loop people write with a DataLoader.

python benchmarks/speed/training_step.py [--samples 12800]
"""

from __future__ import annotations

import argparse

import torch
from pairs import machine, pairs
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy
from torch.optim import Adamax
from torch.utils.data import DataLoader, TensorDataset

from ecgbench.core.data import Samples, Task
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench_plugins.defenses.adaptive import Adaptive
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.mlp import MLP

BATCH, STEPS = 128, 10


def problem(n: int) -> Task:
    """Random signals with random labels: speed does not depend on what is learnt."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 1, 187, generator=generator)
    samples = Samples.of(x, torch.randint(0, 5, (n,), generator=generator))
    return Task("speed", tuple("NSVFQ"), samples, samples[:100], samples[:100], bounds=(0.0, 1.0))


def update(module: Module, optimizer: Adamax, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def bare(module: Module, x: Tensor, y: Tensor, batches: int) -> None:
    """Forward, backward and step on one batch, over and over."""
    optimizer = Adamax(module.parameters(), 1e-3)
    for _ in range(batches):
        update(module, optimizer, cross_entropy(module(x), y))


def bare_adversarial(module: Module, x: Tensor, y: Tensor, batches: int) -> None:
    """The forwards and gradients of a 10-step attack, then the update on clean and attacked samples."""
    optimizer = Adamax(module.parameters(), 1e-3)
    for _ in range(batches):
        for _ in range(STEPS):
            delta = torch.zeros_like(x).requires_grad_()
            torch.autograd.grad(cross_entropy(module(x + delta), y, reduction="sum"), delta)
        update(module, optimizer, 0.5 * cross_entropy(module(x), y) + 0.5 * cross_entropy(module(x + delta), y))


def with_loader(module: Module, task: Task) -> None:
    """One epoch as people write it."""
    optimizer = Adamax(module.parameters(), 1e-3)
    for x, y in DataLoader(TensorDataset(task.train.x, task.train.y), batch_size=BATCH, shuffle=True):
        update(module, optimizer, cross_entropy(module(x), y))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=12_800)
    task = problem(parser.parse_args().samples)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = MLP().build(task)
    x, y = task.train.x[:BATCH], task.train.y[:BATCH]
    standard = Standard(epochs=1)
    adaptive = Adaptive(epochs=1)
    batches = -(-5 * int(task.train.y.bincount().max()) // BATCH)
    print(f"{batches} batches of {BATCH}; {machine()}")
    print(f"{'step':<22}{'ours s':>8}{'bare s':>8}{'ratio':>7}{'limit':>7}")
    rng, quiet = RandomStream(("speed",)), Checkpoint()
    for name, ours, parts, limit in (
        ("clean", lambda: standard.fit(module, task, rng, quiet), lambda: bare(module, x, y, batches), 1.25),
        (
            "adversarial",
            lambda: adaptive.fit(module, task, rng, quiet),
            lambda: bare_adversarial(module, x, y, batches),
            1.25,
        ),
        (
            "DataLoader (clean)",
            lambda: with_loader(module, task),
            lambda: bare(module, x, y, len(task.train) // BATCH),
            0.0,
        ),
    ):
        taken, theirs, ratio = pairs(ours, parts, runs=5)
        print(f"{name:<22}{taken:>8.3f}{theirs:>8.3f}{ratio:>7.2f}{limit or '-':>7}", flush=True)


if __name__ == "__main__":
    main()
