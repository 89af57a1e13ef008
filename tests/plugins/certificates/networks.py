"""Small networks of every kind that linear bounds know, and hard points of a ball to hold against what they prove."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import Module, Sequential
from torch.nn.functional import max_pool1d, relu

from ecgbench.core.data import Batch
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball

SHAPE, CLASSES = (2, 16), 3


class Residual(Module):
    """Batch normalisation, additions in place and shortcuts, as other libraries write them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(2, 2, 3, padding=1, bias=False), nn.BatchNorm1d(2)
        self.head = Sequential(nn.AvgPool1d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        y += x
        return self.head(torch.relu(y).contiguous())


class Pooled(Module):
    """Overlapping maxima with padding, a leaky ReLU, a mean over time, and a scaled difference."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(2, 3, 4, stride=2, padding=1), nn.Conv1d(3, 3, 3, padding=2, dilation=2)
        self.pool, self.active, self.out = nn.MaxPool1d(3, 2, padding=1), nn.LeakyReLU(0.1), nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.active(self.first(x - 0.5)))
        z = max_pool1d(self.second(y), 2, 1, ceil_mode=True)
        return -2 * self.out((1 - z).mean(2))


class Flattened(Module):
    """Signals as images of height 1, rows repeated and cut off again, as the networks of this project do it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, (1, 3), padding=(0, 1))
        self.pool, self.out = nn.MaxPool2d((1, 4)), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.arange(2 * len(x)).clamp(max=len(x) - 1)
        signal = x.index_select(0, rows).unsqueeze(2).clone(memory_format=torch.channels_last)
        signal = self.pool(relu(self.conv(signal))).squeeze(2).transpose(1, 2).flatten(1)
        return self.out(signal.narrow(0, 0, len(x)).to(self.out.weight.dtype))


def perceptron() -> Module:
    layers = [nn.Flatten(), nn.Linear(32, 12), nn.ReLU(inplace=True), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 6)]
    return Sequential(*layers, nn.Linear(6, CLASSES))


NETWORKS: dict[str, Callable[[], Module]] = {
    "perceptron": perceptron,
    "residual": Residual,
    "pooled": Pooled,
    "flattened": Flattened,
    "clamped": lambda: Sequential(nn.Flatten(), nn.Linear(32, 9), nn.ReLU6(), nn.Hardtanh(), nn.Linear(9, CLASSES)),
}


def network(name: str, seed: int, scale: float = 1.0) -> Module:
    """A network of that kind with random weights and running statistics, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = NETWORKS[name]()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean, part.running_var = torch.randn(2), torch.rand(2) + 0.5
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
        with torch.no_grad():
            for weight in module.parameters():
                weight.mul_(scale)
    return module.eval().requires_grad_(False)


def samples(seed: int, n: int = 4, masked: bool = False) -> Batch:
    """Signals in [0, 1], some places on the ends; a mask leaves all but the last places of the first two rows open."""
    draw = torch.Generator().manual_seed(seed)
    x = (torch.rand(n, *SHAPE, generator=draw) * 1.2 - 0.1).clamp(0, 1)
    mask = torch.ones(n, 1, SHAPE[1], dtype=torch.bool)
    if masked:
        mask[:2, :, 10:] = False
    scale = torch.rand(n, generator=draw) + 0.5
    return Batch(x, torch.zeros(n, dtype=torch.int64), mask, torch.arange(n), scale)


def leads(module: Module, x: Tensor, y: Tensor) -> Tensor:
    """How far the true logit leads the best other one, as float32 has it: (n,)."""
    logits = module(x)
    true = logits.gather(1, y[:, None]).squeeze(1)
    return true - logits.scatter(1, y[:, None], -torch.inf).amax(1)


def least_found(module: Module, batch: Batch, ball: Ball, seed: int, steps: int = 15, draws: int = 8) -> Tensor:
    """The smallest lead that random points and steepest descent of each lead find in the ball, in float64: (n,)."""
    rng, y, found = RandomStream(("points", seed)), batch.y, leads(module, batch.x, batch.y).double()
    for draw in range(draws):
        inside = ball.sample(batch.ids, batch.x.shape[1:], rng.fold_in(draw))
        corner = ball.project(100 * ball.sample(batch.ids, batch.x.shape[1:], rng.fold_in("corner", draw)))
        for delta in (inside, corner):
            found = torch.minimum(found, leads(module, batch.x + delta, y).double())
    for start in range(2):
        delta = ball.sample(batch.ids, batch.x.shape[1:], rng.fold_in("start", start))
        for step in range(steps):
            with torch.enable_grad():
                delta = delta.detach().requires_grad_()
                (slope,) = torch.autograd.grad(leads(module, batch.x + delta, y).sum(), delta)
            size = ball.eps * 2 / (step + 2)
            delta = ball.project(delta.detach() - size * ball.steepest(slope))
            found = torch.minimum(found, leads(module, batch.x + delta, y).double())
    return found
