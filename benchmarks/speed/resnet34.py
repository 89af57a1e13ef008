"""resnet34 against the same weights written with Conv1d and torch's dropout: input gradients, and training.

python benchmarks/speed/resnet34.py [--rows 16] [--time 9000]
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from pairs import machine, pairs
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy, dropout, max_pool1d, pad, relu

from ecgbench.core.data import Samples, Task
from ecgbench_plugins.models.resnet34 import Network, ResNet34


class Plain(Module):
    """The network layer by layer as it is published, on the weights of `net`."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        signal = relu(net.norm(net.stem(pad(x, (7, 8)))))
        for block in net.blocks:
            main = signal if block.before is None else self._active(block.before, block.dropout, signal)
            main = self._active(block.between, block.dropout, block.first(pad(main, (7, 8))))
            main = block.second(pad(main, (7, 8)))
            signal = signal if block.shortcut is None else block.shortcut(signal)
            if block.halves:
                main, signal = max_pool1d(main, 2), max_pool1d(signal, 2)
            signal = main + signal
        return net.head(relu(net.last(signal)).transpose(1, 2).flatten(1))

    def _active(self, norm: Module, share: float, signal: Tensor) -> Tensor:
        return dropout(relu(norm(signal)), share, self.training)


def attack(module: Module, x: Tensor, y: Tensor) -> None:
    """Gradients of the loss with respect to the input, weights held still."""
    module.eval().requires_grad_(False)
    delta = torch.zeros_like(x).requires_grad_()
    torch.autograd.grad(cross_entropy(module(x + delta), y), delta)


def step(module: Module, x: Tensor, y: Tensor) -> None:
    """Forward and backward of a training step."""
    module.train().requires_grad_(True)
    module.zero_grad()
    cross_entropy(module(x), y).backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--time", type=int, default=9000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(chosen.rows, 1, chosen.time, generator=torch.Generator().manual_seed(0))
    y = torch.arange(chosen.rows) % 4
    none = Samples.of(x[:0], y[:0])
    built = ResNet34().build(Task("speed", tuple("ANO~"), none, none, none))
    assert isinstance(built, Network)
    plain = Plain(built)
    with torch.no_grad():
        gap = float((built.eval()(x) - plain.eval()(x)).abs().max())
    print(f"{chosen.rows} rows of {chosen.time}; logits differ by at most {gap:.1e}; {machine()}")
    print(f"{'':<17}{'ours s':>8}{'plain s':>9}{'times as fast':>15}{'asked':>7}")
    for name, work, asked in (("input gradients", attack, 1.5), ("training step", step, 1.3)):
        ours, theirs, ratio = pairs(partial(work, built, x, y), partial(work, plain, x, y), runs=5)
        print(f"{name:<17}{ours:>8.3f}{theirs:>9.3f}{1 / ratio:>15.2f}{asked:>7}", flush=True)


if __name__ == "__main__":
    main()
