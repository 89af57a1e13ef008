"""The 34-layer residual network of the CinC 2017 challenge, run in the form fastest on CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Conv1d, Linear, Module, ModuleList
from torch.nn.functional import batch_norm, max_pool2d, relu
from torch.nn.init import trunc_normal_, xavier_uniform_, zeros_

from ecgbench import MixedPrecision, Model, Precision, Task, hookimpl
from ecgbench_plugins.models.conv1d import convolved, flat, often_met

KERNEL = 16
BLOCKS = 16
WIDER = (5, 9, 13)  # blocks that add `width` channels; those with an even number halve the time
TRUNCATED = 0.87962566103423978  # standard deviation of a standard normal cut at 2


@dataclass(frozen=True)
class ResNet34(Model):
    """ResNet of 33 convolutions of 16 taps and a linear head; Andreotti et al., CinC 2017, "30s_34lay_16conv".

    stem [conv, BN, ReLU]; 16 blocks of two convolutions with pre-activation and elementwise dropout, every other
    one ending in a max-pool 2/2; `width`, 2, 3 and 4 times `width` channels; BN, ReLU and a linear layer over all
    times and channels, so that a module reads one length only. On 9,000 samples and 4 classes it holds 843,780
    values with width 16 (2,400 of them running statistics), 13,316,100 with width 64.

    Convolutions begin by He et al. 2015 from a truncated normal, the 1x1 shortcuts and the head by Glorot and
    Bengio 2010. `precision` is that of the convolutions while training, attacks inside it included; every other
    prediction is made in float32. "bf16" is refused where this machine's kernels are wrong, "auto" is bf16 where
    they are right and at least 1.75 times as fast, else float32; the record says which (`provenance.versions`).
    Raises ValueError for a parameter out of range.
    """

    default_dataset: ClassVar[str] = "synthetic-rhythms"
    width: int = 16
    dropout: float = 0.5
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.width < 1 or not 0 <= self.dropout <= 255 / 256:
            raise ValueError(
                f"width={self.width}, dropout={self.dropout} given; expected width of 1 or more and "
                "dropout of 0 to 255/256"
            )

    def unfit(self, task: Task) -> str | None:
        if len(task.shape) != 2:
            return f"resnet34 reads (channels, time); this dataset's samples have shape {task.shape}."
        if task.shape[1] < 2 ** (BLOCKS // 2):
            return f"resnet34 halves the time {BLOCKS // 2} times; {task.shape[1]} samples of time are too few."
        return None

    def build(self, task: Task) -> Module:
        channels, time = task.shape
        return Network(channels, time, len(task.classes), self.width, self.dropout, self.precision)


class Network(MixedPrecision):
    """x (n, channels, time) -> logits (n, classes)."""

    def __init__(
        self, channels: int, time: int, classes: int, width: int, dropout: float, precision: Precision
    ) -> None:
        super().__init__()
        self.precision = precision
        self.stem, self.norm = convolution(channels, width), normalisation(width)
        widths = [width * (1 + sum(number >= wider for wider in WIDER)) for number in range(BLOCKS)]
        self.blocks = ModuleList(
            Block(number, before, after, dropout)
            for number, (before, after) in enumerate(zip([width, *widths], widths, strict=False))
        )
        self.last = normalisation(widths[-1])
        self.head = Linear((time >> BLOCKS // 2) * widths[-1], classes)
        xavier_uniform_(self.head.weight)
        _unbiased(self.head)

    def forward(self, x: Tensor) -> Tensor:
        with self.autocast(x.device):
            signal = flat(x, len(x) if self.norm.training else often_met(len(x)))
            signal = relu(normalised(self.norm, convolved(self.stem, signal)))
            for block in self.blocks:
                signal = block(signal)
            signal = relu(normalised(self.last, signal))
        by_time = signal.squeeze(2).transpose(1, 2).flatten(1).narrow(0, 0, len(x))
        return self.head(by_time.to(self.head.weight.dtype))


class Block(Module):
    """[BN, ReLU, dropout] conv, BN, ReLU, dropout, conv, [pool], + shortcut; the first block begins with the conv."""

    def __init__(self, number: int, before: int, after: int, dropout: float) -> None:
        super().__init__()
        self.halves, self.dropout = number % 2 == 0, dropout
        self.before = normalisation(before) if number else None
        self.shortcut = Conv1d(before, after, 1) if before != after else None
        if self.shortcut is not None:
            xavier_uniform_(self.shortcut.weight)
            _unbiased(self.shortcut)
        self.first, self.between = convolution(before, after), normalisation(after)
        self.second = convolution(after, after)

    def forward(self, signal: Tensor) -> Tensor:
        main = signal if self.before is None else self._active(self.before, signal)
        main = self._active(self.between, convolved(self.first, main))
        main = convolved(self.second, main)
        if self.shortcut is not None:
            signal = convolved(self.shortcut, signal)
        if self.halves:
            main, signal = (max_pool2d(each, (1, 2), (1, 2)) for each in (main, signal))
        return main + signal

    def _active(self, norm: BatchNorm1d, signal: Tensor) -> Tensor:
        active = relu(normalised(norm, signal))
        return dropped(active, self.dropout) if self.training and self.dropout else active


def normalised(layer: BatchNorm1d, signal: Tensor) -> Tensor:
    """What `layer` makes of a flat signal."""
    statistics = layer.running_mean, layer.running_var
    return batch_norm(signal, *statistics, layer.weight, layer.bias, layer.training, layer.momentum or 0.0, layer.eps)


def dropped(signal: Tensor, share: float) -> Tensor:
    """Dropout that draws a byte for each value, not 32 bits: `share` is rounded to 256ths."""
    limit = round(share * 256)
    draws = torch.empty(-(-signal.numel() // 8), dtype=torch.int64, device=signal.device)
    draws.random_(-(2**63), None)
    kept = draws.view(torch.uint8)[: signal.numel()] >= limit
    channels_last = signal.permute(0, 2, 3, 1).shape
    return signal * kept.view(channels_last).permute(0, 3, 1, 2) * (256 / (256 - limit))


def convolution(before: int, after: int) -> Conv1d:
    """Keras' `he_normal`: a normal cut at 2 standard deviations, widened to the variance of 2 / fan-in."""
    layer = Conv1d(before, after, KERNEL)
    deviation = sqrt(2 / (KERNEL * before)) / TRUNCATED
    trunc_normal_(layer.weight, 0.0, deviation, -2 * deviation, 2 * deviation)
    _unbiased(layer)
    return layer


def _unbiased(layer: Conv1d | Linear) -> None:
    assert layer.bias is not None
    zeros_(layer.bias)


def normalisation(channels: int) -> BatchNorm1d:
    """With the constants of Keras."""
    return BatchNorm1d(channels, eps=1e-3, momentum=0.01)


@hookimpl
def models() -> Mapping[str, Model]:
    return {"resnet34": ResNet34()}
