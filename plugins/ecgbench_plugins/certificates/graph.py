"""The computation of a module as a graph of affine operations and ReLUs, recorded while the module runs.

A `Traced` tensor goes through the module's own forward and answers torch's functions (`__torch_function__`), so that no
model is rewritten. One sample is traced; many are computed by `torch.vmap` over its graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["input", "affine", "relu"]


@dataclass(frozen=True)
class Ref:
    """In the arguments of a recorded call: the value of the node of this number."""

    number: int


@dataclass(frozen=True)
class Call:
    """A recorded call; its arguments hold a `Ref` where a traced value stood."""

    func: Callable[..., Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self, *values: Tensor) -> Tensor:
        """The call with `values` in place of its `Ref`s, in their order."""
        left = iter(values)
        args, kwargs = filled((self.args, self.kwargs), left)
        return self.func(*args, **kwargs)

    @property
    def parents(self) -> tuple[int, ...]:
        """The numbers of the `Ref`s, in their order."""
        return tuple(ref.number for ref in refs((self.args, self.kwargs)))


@dataclass(frozen=True)
class Node:
    """One value of the graph, of `shape` (1, ...).

    `call` is affine in its parents, or the ReLU of one. `absolute` is the same call with the absolute values of all
    constants, so that `absolute(|x|)` bounds every sum of absolute products; `terms` says of how many rounded
    operations a value is made in float32, 0 for none. `largest_of` are two nodes of which this one is the maximum.
    """

    name: str
    kind: Kind
    shape: torch.Size
    call: Call
    absolute: Call
    terms: int = 0
    largest_of: tuple[int, int] | None = None

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Numbers of the nodes that this one is computed of."""
        return self.call.parents

    @property
    def size(self) -> int:
        """How many numbers the value of one sample has."""
        return self.shape.numel()


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of computation: the first is the input, the last are the logits, (1, classes)."""

    nodes: tuple[Node, ...]
    dtype: torch.dtype = torch.float64
    _biases: dict[int, Tensor] = field(default_factory=dict, repr=False)
    _reaches: dict[int, Tensor] = field(default_factory=dict, repr=False)

    @property
    def relus(self) -> list[int]:
        """Numbers of the ReLUs, in the order of computation."""
        return [number for number, node in enumerate(self.nodes) if node.kind == "relu"]

    @property
    def last(self) -> int:
        """The number of the logits."""
        return len(self.nodes) - 1

    @property
    def widest(self) -> int:
        """The size of the largest value of one sample."""
        return max(node.size for node in self.nodes)

    def values(self, x: Tensor) -> list[Tensor]:
        """The value of every node, (n, 1, ...), at the samples `x` (n, 1, *shape)."""
        found: list[Tensor] = [x]
        for node in self.nodes[1:]:
            found.append(each(node.call)(*(found[parent] for parent in node.parents)))
        return found

    def zeros(self, number: int) -> list[Tensor]:
        """A 0 in the shape of every parent of a node."""
        return [torch.zeros(self.nodes[parent].shape, dtype=self.dtype) for parent in self.nodes[number].parents]

    def bias(self, number: int) -> Tensor:
        """The value of an affine node where all its parents are 0: (1, ...)."""
        if number not in self._biases:
            self._biases[number] = self.nodes[number].call(*self.zeros(number))
        return self._biases[number]

    def reach(self, number: int, radii: Sequence[Tensor]) -> Tensor:
        """How far an affine node can move where its parents move by up to `radii`, each (n, 1, ...)."""
        absolute = self.nodes[number].absolute
        if number not in self._reaches:
            self._reaches[number] = absolute(*self.zeros(number))
        return each(absolute)(*radii) - self._reaches[number]

    def transposed(self, number: int, coefficients: Tensor) -> tuple[Tensor, ...]:
        """Coefficients (b, 1, ...) on an affine node, as coefficients on each of its parents."""
        node = self.nodes[number]
        if node.name == "linear":
            return (coefficients @ node.call.args[1],)
        back = torch.func.vjp(node.call, *self.zeros(number))[1]
        return torch.vmap(back)(coefficients)


def each(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A call on one sample, as one on many: every argument and the result get an axis in front."""
    return torch.vmap(call)


def refs(tree: Any) -> list[Ref]:
    """All `Ref`s in nested arguments, from left to right."""
    if isinstance(tree, Ref):
        return [tree]
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [ref for part in tree for ref in refs(part)] if isinstance(tree, tuple | list) else []


def filled(tree: Any, values: Any) -> Any:
    """Nested arguments with the next of `values` in place of every `Ref`."""
    return mapped(tree, lambda part: next(values) if isinstance(part, Ref) else part)


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Nested arguments with every leaf changed."""
    if isinstance(tree, dict):
        return {name: mapped(part, change) for name, part in tree.items()}
    if isinstance(tree, tuple | list) and not isinstance(tree, torch.Size):
        return type(tree)(mapped(part, change) for part in tree)
    return change(tree)
