"""Interval bound propagation: the box of all that a net can answer while its input stays in a box.

Gowal et al. 2018 (arXiv 1810.12715), section 3. A `Box` goes through a module's own forward in place of the tensor
and answers torch's functions (`__torch_function__`), so that residual and other nets need no rewriting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ecgbench import EcgbenchError

FACTS = {"shape", "size", "ndim", "dim", "device", "dtype"}
SHAPING = {
    *("flatten", "unsqueeze", "squeeze", "contiguous", "view", "reshape", "transpose", "permute"),
    *("index_select", "narrow", "clone"),
}
RISING = {
    *("relu", "leaky_relu", "elu", "tanh", "sigmoid", "hardtanh", "softplus", "dropout", "mean"),
    *("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d"),
}
LINEAR = {"linear", "conv1d", "conv2d", "conv3d"}


class Box:
    """All tensors within `radius` of `centre`, entry by entry; `made` are the box and the weight of a linear layer.

    Raises EcgbenchError for a function of torch without a rule here. A module is bounded in eval mode: dropout is
    the identity there, and batch normalisation a fixed affine map.
    """

    def __init__(self, centre: Tensor, radius: Tensor, made: tuple[Box, Tensor] | None = None) -> None:
        self.centre, self.radius, self.made = centre, radius, made

    @classmethod
    def between(cls, low: Tensor, high: Tensor) -> Box:
        """The box with these corners."""
        return cls((low + high) / 2, (high - low) / 2)

    @property
    def low(self) -> Tensor:
        return self.centre - self.radius

    @property
    def high(self) -> Tensor:
        return self.centre + self.radius

    def __len__(self) -> int:
        return len(self.centre)

    def __add__(self, other: Box | Tensor | float) -> Box:
        if isinstance(other, Box):
            return Box(self.centre + other.centre, self.radius + other.radius)
        return Box(self.centre + other, self.radius)

    __radd__ = __add__

    def __getattr__(self, name: str) -> Any:
        if name in FACTS:
            return getattr(self.centre, name)
        if name not in SHAPING | RISING:
            raise _without_rule(name)
        return lambda *args, **kwargs: _through(getattr(Tensor, name), (self, *args), kwargs)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Box:
        return _through(func, args, kwargs or {})


def _through(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Box:
    """The smallest box of `func` over the first argument's box, entry by entry."""
    name, (box, *rest) = func.__name__, args
    if name in {"add", "__add__"} and isinstance(box, Box):
        return box + rest[0]
    if not isinstance(box, Box) or any(isinstance(one, Box) for one in (*rest, *kwargs.values())):
        raise _without_rule(name)
    if name in SHAPING:
        return Box(func(box.centre, *rest, **kwargs), func(box.radius, *rest, **kwargs))
    if name in RISING:
        return Box.between(func(box.low, *rest, **kwargs), func(box.high, *rest, **kwargs))
    if name in LINEAR:
        return _linear(func, box, *rest, **kwargs)
    if name == "batch_norm":
        return _normalised(func, box, *rest, **kwargs)
    if name == "pad":
        return _padded(func, box, *rest, **kwargs)
    raise _without_rule(name)


def _linear(
    func: Callable[..., Tensor], box: Box, weight: Tensor, bias: Tensor | None = None, *rest: Any, **kwargs: Any
) -> Box:
    centre = func(box.centre, weight, bias, *rest, **kwargs)
    radius = func(box.radius, weight.abs(), None, *rest, **kwargs)
    return Box(centre, radius, (box, weight) if func.__name__ == "linear" else None)


def _normalised(
    func: Callable[..., Tensor],
    box: Box,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Box:
    if training or mean is None or var is None:
        raise _without_rule("batch_norm of the batch's own mean")
    centre = func(box.centre, mean, var, weight, bias, False, momentum, eps)
    gradient = None if weight is None else weight.abs()
    return Box(centre, func(box.radius, torch.zeros_like(mean), var, gradient, None, False, momentum, eps))


def _padded(
    func: Callable[..., Tensor], box: Box, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Box:
    """What is padded with a constant is certain there."""
    certain = 0.0 if mode == "constant" else None
    return Box(func(box.centre, pad, mode, value), func(box.radius, pad, mode, certain))


def leads(logits: Box, y: Tensor) -> Tensor:
    """The most that each logit can be ahead of the true class's, (n, classes); 0 for the true class itself.

    Where a linear layer made the logits, of the difference of its two rows (section 3, "elision"): tighter than
    of the two logits apart, and exact for a net of this one layer.
    """
    ahead = logits.centre - logits.centre.gather(1, y[:, None])
    if logits.made is None:
        rival = torch.ones_like(ahead).scatter(1, y[:, None], 0.0)
        return ahead + rival * (logits.radius + logits.radius.gather(1, y[:, None]))
    box, weight = logits.made
    between = weight[None] - weight[y][:, None]
    return ahead + torch.einsum("nkd,nd->nk", between.abs(), box.radius)


def _without_rule(name: str) -> EcgbenchError:
    return EcgbenchError(
        f"no interval is known for {name!r}, which this module uses; "
        "expected linear, convolution, pooling, batch normalisation, addition and rising activations such as ReLU."
    )
