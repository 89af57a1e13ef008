"""The residual convolutional network of the noise-to-signal-ratio study, run in the layout fastest on CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import Conv1d, Linear, Module, ModuleList
from torch.nn.functional import max_pool1d, max_pool2d, relu

from ecgbench import Model, Task, hookimpl
from ecgbench_plugins.models.conv1d import convolved, flat, often_met

KERNEL, STRIDE = 5, 2


@dataclass(frozen=True)
class CNN(Model):
    """Five residual blocks of `width` kernels of 5; Ma and Liang 2020 (arXiv 2005.09134), after Kachuee et al. 2018.

    conv (no ReLU); 5 x [conv, ReLU, conv, + input, ReLU, max-pool 5/2]; linear `width`, ReLU; linear. For
    beats of 187 samples and 5 classes: 53,957 parameters. `layout` changes the speed, not the weights:
    "conv2d" runs the convolutions as channels-last 2-D of height 1, "conv1d" as they are written.
    """

    default_dataset: ClassVar[str] = "synthetic-beats"
    width: int = 32
    blocks: int = 5
    layout: str = "conv2d"

    def __post_init__(self) -> None:
        if self.width < 1 or self.blocks < 1:
            raise ValueError(f"width {self.width} and blocks {self.blocks} given; expected 1 or more")
        if self.layout not in ("conv1d", "conv2d"):
            raise ValueError(f"layout {self.layout!r} given; expected 'conv1d' or 'conv2d'")

    def unfit(self, task: Task) -> str | None:
        if len(task.shape) != 2:
            return f"cnn reads (channels, time); this dataset's samples have shape {task.shape}."
        if pooled(task.shape[1], self.blocks) < 1:
            return f"cnn pools {self.blocks} times; {task.shape[1]} samples of time are too few."
        return None

    def build(self, task: Task) -> Module:
        channels, time = task.shape
        flat = self.width * pooled(time, self.blocks)
        return ResidualNet(channels, flat, len(task.classes), self.width, self.blocks, self.layout == "conv2d")


def pooled(time: int, blocks: int) -> int:
    """Length after `blocks` poolings: 187 -> 92 -> 44 -> 20 -> 8 -> 2; 0 where nothing is left."""
    for _ in range(blocks):
        time = (time - KERNEL) // STRIDE + 1 if time >= KERNEL else 0
    return time


class ResidualNet(Module):
    """x (n, channels, time) -> logits (n, classes)."""

    def __init__(self, channels: int, flat: int, classes: int, width: int, blocks: int, flattened: bool) -> None:
        super().__init__()
        self.flattened = flattened
        self.stem = Conv1d(channels, width, KERNEL, padding=KERNEL // 2)
        self.first = ModuleList(Conv1d(width, width, KERNEL, padding=KERNEL // 2) for _ in range(blocks))
        self.second = ModuleList(Conv1d(width, width, KERNEL, padding=KERNEL // 2) for _ in range(blocks))
        self.narrow = Linear(flat, width)
        self.head = Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        signal = flat(x, often_met(len(x))) if self.flattened else x
        signal = self._convolve(self.stem, signal)
        for first, second in zip(self.first, self.second, strict=True):
            signal = relu(self._convolve(second, relu(self._convolve(first, signal))) + signal)
            signal = self._pool(signal)
        return self.head(relu(self.narrow(signal.flatten(1).narrow(0, 0, len(x)))))

    def _convolve(self, layer: Module, signal: Tensor) -> Tensor:
        assert isinstance(layer, Conv1d)
        return convolved(layer, signal) if self.flattened else layer(signal)

    def _pool(self, signal: Tensor) -> Tensor:
        if not self.flattened:
            return max_pool1d(signal, KERNEL, STRIDE)
        return max_pool2d(signal, (1, KERNEL), (1, STRIDE))


@hookimpl
def models() -> Mapping[str, Model]:
    return {"cnn": CNN()}
