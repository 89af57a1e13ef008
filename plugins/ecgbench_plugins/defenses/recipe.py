"""What the code of the noise-to-signal-ratio study does to the weights and its text does not say, piece by piece.

Ma and Liang 2020 (arXiv 2005.09134) with its published code: kernels of unit norm, dead kernels drawn anew,
decoupled L1 and L2 decay, two steps on one gradient, no biases. Any training can use any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Conv1d, Conv2d, Conv3d, Linear, Module, ModuleList
from torch.optim import Optimizer

from ecgbench import Hook, RandomStream, State

Recipe = Literal["plain", "text", "code"]
"""A study's training as its text has it, as its code has it, or plain: the loss alone, as coded."""
Layer = Conv1d | Conv2d | Conv3d | Linear
CONVOLUTIONS = (Conv1d, Conv2d, Conv3d)
DECAY = 0.01


def layers_of(module: Module) -> list[Layer]:
    """All convolutions and linear layers; a kernel is what feeds one output unit of such a layer."""
    return [part for part in module.modules() if isinstance(part, (*CONVOLUTIONS, Linear))]


def convolutional(module: Module) -> bool:
    """Whether the study's values for its CNN hold for this module, not those for its MLP."""
    return any(isinstance(part, CONVOLUTIONS) for part in module.modules())


def kept_in_norm(module: Module) -> list[Layer]:
    """The layers whose kernels the study keeps at unit norm and watches: all but the last one.

    Of a net that holds its blocks in a ModuleList, as its CNN: all, the last one too, but not those of the last
    block. That is odd, and as coded: the loop over blocks ends one early.
    """
    lists = [part for part in module.modules() if isinstance(part, ModuleList) and len(part)]
    passed_over = {id(part) for blocks in lists for part in blocks[-1].modules()}
    layers = layers_of(module)
    return [layer for layer in layers if id(layer) not in passed_over] if lists else layers[:-1]


@torch.no_grad()
def normalise(layers: Sequence[Layer]) -> None:
    """Divide every kernel and its bias by the kernel's L2 norm, in place; a kernel of zeros stays."""
    for layer in layers:
        size = torch.linalg.vector_norm(layer.weight.flatten(1), dim=1).clamp_min_(1e-38)
        layer.weight.div_(size.view(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.div_(size)


@torch.no_grad()
def clear_biases(layers: Sequence[Layer], *, freeze: bool = False) -> None:
    """Set every bias to 0; frozen, it stays there, as in a net without biases."""
    for bias in _biases(layers):
        bias.zero_().requires_grad_(not freeze)


class Revival(Hook):
    """Kernels whose gradient was exactly 0 throughout an epoch begin the next one afresh.

    In place of such a kernel comes a Gaussian direction of unit norm, in place of its bias 0.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self.largest = [torch.zeros(len(layer.weight), device=layer.weight.device) for layer in layers]

    def state(self) -> State:
        """The largest entry of each kernel's gradient so far in this epoch."""
        return {str(number): largest for number, largest in enumerate(self.largest)}

    @torch.no_grad()
    def begin_epoch(self, epoch: int, rng: RandomStream) -> None:
        for number, (layer, largest) in enumerate(zip(self.layers, self.largest, strict=True)):
            dead = (largest == 0).nonzero().squeeze(1)
            if epoch and len(dead):
                kernel = rng.fold_in(number).normal(dead, layer.weight.shape[1:])
                size = torch.linalg.vector_norm(kernel.flatten(1), dim=1)
                layer.weight[dead] = kernel / size.view(-1, *[1] * (kernel.ndim - 1))
                if layer.bias is not None:
                    layer.bias[dead] = 0.0
            largest.zero_()

    @torch.no_grad()
    def after_step(self, optimizer: Optimizer) -> None:
        for layer, largest in zip(self.layers, self.largest, strict=True):
            if layer.weight.grad is not None:
                torch.maximum(largest, layer.weight.grad.flatten(1).abs().amax(1), out=largest)


@dataclass(frozen=True)
class Decay(Hook):
    """Decoupled decay of every tensor in training, biases too: p -= lr l1 sign(p), then p -= lr l2 p."""

    l1: float = DECAY
    l2: float = DECAY

    @torch.no_grad()
    def after_backward(self, optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    parameter.sub_(parameter.sign(), alpha=group["lr"] * self.l1)
                    parameter.mul_(1 - group["lr"] * self.l2)


@dataclass(frozen=True)
class SecondStep(Hook):
    """The optimizer steps once more on the same gradient."""

    def after_step(self, optimizer: Optimizer) -> None:
        optimizer.step()


@dataclass(frozen=True)
class Mechanisms:
    """Which of them a training uses; the default is none.

    `start`: kernels of unit norm and biases 0 before the first epoch. `unit_norm`: unit norm again before every
    forward of an update. `revival`, `decay`, `second_step`: the hooks above. `biases` False: none, throughout.
    """

    start: bool = False
    unit_norm: bool = False
    revival: bool = False
    decay: bool = False
    second_step: bool = False
    biases: bool = True

    def begin(self, module: Module) -> tuple[Callable[[], None], list[Hook]]:
        """Prepare a fresh module: what to call before each forward of an update, and the training's hooks."""
        layers, kept = layers_of(module), kept_in_norm(module)
        if self.start:
            normalise(layers)
        if self.start or not self.biases:
            clear_biases(layers, freeze=not self.biases)
        hooks: list[Hook] = [Revival(kept)] if self.revival else []
        hooks += [Decay()] * self.decay + [SecondStep()] * self.second_step
        return (lambda: normalise(kept)) if self.unit_norm else (lambda: None), hooks


NONE = Mechanisms()
CODED = Mechanisms(start=True, unit_norm=True, revival=True)
"""What all methods of the study's code share; some add to it, and some of those for the MLP leave `unit_norm` out."""


def coded(recipe: Recipe, **changes: bool) -> Mechanisms:
    """The shared mechanisms with `changes` where the recipe is the code's, else none."""
    return replace(CODED, **changes) if recipe == "code" else NONE


def _biases(layers: Sequence[Layer]) -> Iterator[Tensor]:
    return (layer.bias for layer in layers if layer.bias is not None)
