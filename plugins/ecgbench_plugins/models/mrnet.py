"""MRNet: one network looks at every slice of a volume, and the strongest answer of each feature counts."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import Conv2d, Linear, MaxPool2d, Module, ReLU, Sequential
from torch.nn.functional import conv2d
from torch.nn.init import kaiming_normal_, zeros_

from ecgbench import EcgbenchError, Model, Task, hookimpl

MEAN, DEVIATION = 58.09 / 255, 49.73 / 255
"""Of MRNet's grey values, by which the published models standardise; x is in [0, 1]."""
RGB = 3
PIXELS = 2**21  # of slices that run at once: memory beyond 32 MiB is new to the process at every call, and slow
ALEXNET_SHA256 = "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
ALEXNET_SIDE = 63  # pixels, of the smallest slice of which AlexNet's poolings leave one


@dataclass(frozen=True)
class MRNet(Model):
    """AlexNet's features of every slice, mean over the plane, maximum over slices, linear: one logit.

    Bien et al. 2018 (PLoS Med 15(11) e1002699), as the public baseline codes it: 2,469,696 parameters in the features
    and 257 in the head. x is (n, slices, channels, height, width) in [0, 1], of one grey channel or of three; grey
    values are standardised inside, by MRNet's mean and standard deviation. Padded slices are not looked at.

    `weights` is the path of torchvision's AlexNet file (alexnet-owt-7be5be79.pth), whose features the network then
    begins with; without one it begins at random. Raises EcgbenchError for any other file.
    """

    default_dataset: ClassVar[str] = "synthetic-knee"
    weights: str = ""

    def unfit(self, task: Task) -> str | None:
        return _unfit("mrnet", task, ALEXNET_SIDE)

    def build(self, task: Task) -> Module:
        network = Network(alexnet())
        if self.weights:
            network.features.load_state_dict(read_alexnet(Path(self.weights)))
        return network


@dataclass(frozen=True)
class SmallMRNet(Model):
    """MRNet with convolutions of `widths` channels in place of AlexNet's: 5x5 at stride 2, then 3x3 at stride 2.

    Weights begin as for layers before a ReLU (He et al. 2015, arXiv 1502.01852): torch's own are smaller, and the mean
    over a plane leaves little of a finding of a few pixels.
    """

    default_dataset: ClassVar[str] = "synthetic-knee"
    widths: tuple[int, ...] = (8, 16, 32, 64)

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise EcgbenchError(f"widths={self.widths} given; expected at least one, all of them 1 or more.")

    def unfit(self, task: Task) -> str | None:
        return _unfit("mrnet-small", task, 1)

    def build(self, task: Task) -> Module:
        layers: list[Module] = [Conv2d(RGB, self.widths[0], 5, stride=2, padding=2), ReLU()]
        for before, after in pairwise(self.widths):
            layers += [Conv2d(before, after, 3, stride=2, padding=1), ReLU()]
        for layer in layers[::2]:
            assert isinstance(layer, Conv2d) and layer.bias is not None
            kaiming_normal_(layer.weight, nonlinearity="relu")
            zeros_(layer.bias)
        return Network(Sequential(*layers))


class Network(Module):
    """x (n, slices, channels, height, width) and mask -> one logit (n, 1).

    All slices of a batch run as images, many at once. A slice of which nothing may be written is padding and is not
    looked at: it costs nothing and has a gradient of 0. An exam of which nothing at all may be written counts whole.
    """

    takes_mask = True

    def __init__(self, features: Sequential) -> None:
        super().__init__()
        self.features = features
        self.width = [layer for layer in features if isinstance(layer, Conv2d)][-1].out_channels
        self.head = Linear(self.width, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        own = mask.flatten(2).any(2).expand(x.shape[:2])
        own = own | ~own.any(1, keepdim=True)
        images = _rows(x.flatten(0, 1), own.flatten())
        pieces = images.split(max(1, PIXELS // (x.shape[-2] * x.shape[-1])))
        found = torch.cat([self._features(piece).mean((2, 3)) for piece in pieces])
        by_slice = found.new_full((*own.shape, self.width), -torch.inf)
        return self.head(by_slice.masked_scatter(own[:, :, None], found).amax(1))

    def _features(self, images: Tensor) -> Tensor:
        """Features (m, width, ...) of grey images (m, channels, height, width) in [0, 1].

        Three equal channels are one channel under the sum of the kernels: exact, and faster.
        """
        first, *rest = self.features
        assert isinstance(first, Conv2d)
        kernel = first.weight if images.shape[1] == RGB else first.weight.sum(1, keepdim=True)
        images, kernel = (_channels_last(each) for each in ((images - MEAN).div_(DEVIATION), kernel))
        seen = conv2d(images, kernel, first.bias, stride=first.stride, padding=first.padding)
        for layer in rest:
            seen = layer(seen)
        return seen


def _rows(images: Tensor, own: Tensor) -> Tensor:
    """The images (m, ...) where `own` (m,); where they follow each other, as those of one exam do, a view."""
    rows = own.nonzero()[:, 0]
    if len(rows) and int(rows[-1] - rows[0]) + 1 == len(rows):
        return images[int(rows[0]) : int(rows[-1]) + 1]
    return images.index_select(0, rows)


def _channels_last(images: Tensor) -> Tensor:
    """The same values with channels last. Of one channel nothing is copied, but the strides say so."""
    if images.shape[1] > 1:
        return images.contiguous(memory_format=torch.channels_last)
    return images.reshape(len(images), *images.shape[2:], 1).permute(0, 3, 1, 2)


def alexnet() -> Sequential:
    """The convolutional part of AlexNet in one column (Krizhevsky 2014, arXiv 1404.5997), numbered as torchvision's."""
    return Sequential(
        *(Conv2d(RGB, 64, 11, stride=4, padding=2), ReLU(), MaxPool2d(3, 2)),
        *(Conv2d(64, 192, 5, padding=2), ReLU(), MaxPool2d(3, 2)),
        *(Conv2d(192, 384, 3, padding=1), ReLU()),
        *(Conv2d(384, 256, 3, padding=1), ReLU()),
        *(Conv2d(256, 256, 3, padding=1), ReLU(), MaxPool2d(3, 2)),
    )


def read_alexnet(path: Path) -> dict[str, Tensor]:
    """Weights of `alexnet()` in torchvision's file. Raises EcgbenchError for any other file; nothing is executed."""
    named = "expected torchvision's alexnet-owt-7be5be79.pth"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise EcgbenchError(f"{path} cannot be read ({fault.strerror}); {named}.") from None
    if digest != ALEXNET_SHA256:
        raise EcgbenchError(f"{path} has the SHA-256 {digest[:8]}...; {named}, {ALEXNET_SHA256[:8]}....")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise EcgbenchError(f"{path} is no file of weights; {named}.") from None
    return {name.removeprefix("features."): value for name, value in state.items() if name.startswith("features.")}


def _unfit(name: str, task: Task, side: int) -> str | None:
    """Why a network over slices cannot serve `task`; None if it can."""
    shape = task.shape
    if len(shape) != 4 or shape[1] not in (1, RGB):
        return f"{name} reads (slices, 1 or 3 channels, height, width); this dataset's samples have shape {shape}."
    if len(task.classes) != 2:
        return f"{name} has one logit for two classes; this dataset has {len(task.classes)}."
    if min(shape[2:]) < side:
        return f"{name} needs slices of {side} x {side} or more; this dataset's are {shape[2]} x {shape[3]}."
    return None


@hookimpl
def models() -> Mapping[str, Model]:
    return {"mrnet": MRNet(), "mrnet-small": SmallMRNet()}
