"""One-dimensional convolution in the form fastest on CPUs: channels-last signals of height 1, run as images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Conv1d
from torch.nn.functional import conv2d, pad


def flat(x: Tensor, rows: int) -> Tensor:
    """Signals (n, channels, time) as (rows, channels, 1, time), channels last; the last row is repeated up to `rows`.

    `contiguous` would leave a single channel as it is, and the first convolution would answer in that layout.
    """
    if rows == len(x):
        return x.unsqueeze(2).clone(memory_format=torch.channels_last)
    chosen = torch.arange(rows, device=x.device).clamp(max=len(x) - 1)
    return x.index_select(0, chosen).unsqueeze(2).clone(memory_format=torch.channels_last)


def often_met(n: int) -> int:
    """The next number of four binary digits and zeros: 1, 2, ... 16, 18, ... 32, 36, ... 64, 72, ...

    A convolution is compiled for every number of rows, a thousand of them are kept, and an attack whose rows fall
    one by one meets all numbers.
    """
    step = 1 << max(0, (n - 1).bit_length() - 4)
    return -(-n // step) * step


def convolved(layer: Conv1d, signal: Tensor) -> Tensor:
    """What `layer` makes of a flat signal at stride 1, as long as before: "same", an odd remainder at the end."""
    kernel = layer.weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    before, odd = divmod(kernel.shape[-1] - 1, 2)
    if odd:
        return conv2d(pad(signal, (before, before + 1)), kernel, layer.bias)
    return conv2d(signal, kernel, layer.bias, padding=(0, before))
