"""Which of torch's functions are affine or made of ReLUs, and how a module is recorded as a graph of these."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import batch_norm, relu

from ecgbench import Batch, EcgbenchError, RandomStream, Victim
from ecgbench_plugins.certificates.graph import Call, Graph, Node, Ref, mapped

FACTS = {
    *("shape", "ndim", "device", "dtype", "layout", "requires_grad", "is_sparse", "is_cuda", "is_quantized", "names"),
    *("size", "dim", "numel", "__len__", "is_floating_point", "is_complex", "is_contiguous", "stride", "grad_fn"),
}
"""What may be asked of a traced value: nothing that depends on its numbers."""
SHAPING = {
    *("flatten", "unflatten", "unsqueeze", "squeeze", "view", "reshape", "transpose", "permute", "repeat", "t", "T"),
    *("index_select", "narrow", "select", "expand", "movedim", "swapaxes", "flip", "roll", "cat", "stack", "pad"),
    *("__getitem__", "mT", "view_as"),
}
SAME = {"clone", "contiguous", "detach", "dropout", "alpha_dropout"}
TYPES = {"to", "double", "float", "type_as"}
WEIGHTED = {"linear", "conv1d", "conv2d", "conv3d"}
AVERAGING = {
    *("mean", "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
}
SCALING = {"mul", "div"}
SIGNS: dict[str, Callable[..., Tensor]] = {"sub": torch.add, "rsub": torch.add, "neg": torch.clone}
"""What adds absolute values, in place of the functions that subtract."""
ADDING = {"add", *SIGNS}
PRODUCT = {"matmul"}
AFFINE = SHAPING | SAME | TYPES | WEIGHTED | AVERAGING | SCALING | ADDING | PRODUCT | {"batch_norm"}
ALIASES = {"__add__": "add", "__radd__": "add", "__sub__": "sub", "__rsub__": "rsub", "__mul__": "mul"} | {
    **{"__rmul__": "mul", "__truediv__": "div", "true_divide": "div", "divide": "div", "multiply": "mul"},
    **{"__neg__": "neg", "negative": "neg", "subtract": "sub", "__matmul__": "matmul", "__rmatmul__": "rmatmul"},
    **{"concat": "cat", "concatenate": "cat", "swapdims": "swapaxes", "feature_alpha_dropout": "alpha_dropout"},
    **{"dropout1d": "dropout", "dropout2d": "dropout", "_adaptive_avg_pool1d": "adaptive_avg_pool1d"},
    **{"adjoint": "mT", "dropout3d": "dropout", "__iadd__": "add_", "__isub__": "sub_", "__imul__": "mul_"},
    **{"__itruediv__": "div_", "reshape_as": "view_as", "clamp_min": "clamp", "clip": "clamp"},
}
MARGIN = 1e-9
"""How far graph and module may be apart in float64, of the largest logit."""


class Tape:
    """The nodes recorded so far; `exact` while operations are recorded that the module itself does not round."""

    def __init__(self, shape: torch.Size) -> None:
        nothing = Call(torch.clone, (), {})
        self.nodes = [Node("input", "input", shape, nothing, nothing)]
        self.exact = False

    def traced(self, value: Tensor, number: int) -> Traced:
        """`value`, known as the node of this number."""
        made = value.detach().as_subclass(Traced)
        made.tape, made.number = self, number
        return made

    def record(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `func` returns for traced values. Raises EcgbenchError where it has no rule."""
        name = func.__self__.__name__ if func.__name__ == "__get__" else func.__name__  # type: ignore[attr-defined]
        name = ALIASES.get(name, name)
        if name in FACTS:
            return plain(func, args, kwargs)
        in_place = name.endswith("_") or bool(kwargs.get("inplace", False))
        if name.endswith("_") and not name.endswith("__"):
            name = name.removesuffix("_")
            func = getattr(Tensor, name, func)
        if name in PIECEWISE:
            made = PIECEWISE[name](*args, **{key: value for key, value in kwargs.items() if key != "inplace"})
        elif name == "relu":
            in_place = in_place or args[1:2] == (True,)
            made = self._node(Call(relu, self._names(args[:1]), {}), "relu", name, plain(relu, args[:1], {}))
        elif name in AFFINE:
            made = self._affine(name, func, args, kwargs)
        elif name in {"zeros_like", "ones_like", "full_like"}:
            return plain(func, args, kwargs)
        else:
            raise _without_rule(name)
        if in_place:
            args[0].number = made.number
        return made

    def _affine(self, name: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
        named = Call(func, self._names(args), self._names(kwargs))
        _check(name, named, args)
        if name in SAME | TYPES:  # in float64 whatever the module asks for
            func, args, kwargs = torch.clone, args[:1], {}
            named = Call(func, self._names(args), {})
        value = plain(func, args, kwargs)
        if not isinstance(value, Tensor):
            raise _without_rule(f"{name} with several results")
        return self._node(named, "affine", name, value)

    def _names(self, tree: Any) -> Any:
        return mapped(tree, lambda part: Ref(part.number) if isinstance(part, Traced) else part)

    def _node(self, call: Call, kind: Any, name: str, value: Tensor) -> Traced:
        terms = 0 if self.exact or kind == "relu" else _terms(name, call, self.nodes[call.parents[0]], value)
        self.nodes.append(Node(name, kind, value.shape, call, _absolute(name, call), terms))
        return self.traced(value, len(self.nodes) - 1)


class Traced(Tensor):
    """A tensor that records on `tape` what is computed of it, as the value of node `number`."""

    tape: Tape
    number: int

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return next(_traced((args, kwargs or {}))).tape.record(func, args, kwargs or {})

    def __deepcopy__(self, memo: Any) -> Tensor:
        raise _without_rule("deepcopy")


def _traced(tree: Any) -> Any:
    if isinstance(tree, Traced):
        yield tree
    elif isinstance(tree, tuple | list | dict):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _traced(part)


def plain(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What `func` returns, nothing recorded."""
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)


def _check(name: str, call: Call, args: tuple[Any, ...]) -> None:
    """Raises EcgbenchError where this use of an affine function is not affine in what is traced, or not known here."""
    count = len(call.parents)
    first = bool(args) and isinstance(call.args[0], Ref)
    if (name in WEIGHTED | PRODUCT | {"batch_norm", "div"} and not (first and count == 1)) or (
        name == "mul" and count != 1
    ):
        raise _without_rule(f"{name} of two values that depend on the signal")
    if name == "batch_norm" and (call.func is not batch_norm or args[5:6] == (True,) or call.kwargs.get("training")):
        raise _without_rule("batch_norm of the batch's own mean")
    if "dropout" in name and (call.kwargs.get("training") or args[2:3] == (True,)):
        raise _without_rule(f"{name} while training")
    if set(call.kwargs) & {"alpha", "rounding_mode", "out"}:
        raise _without_rule(f"{name} with {', '.join(call.kwargs)}")


def _absolute(name: str, call: Call) -> Call:
    """The call with absolute constants. Batch normalisation subtracts its mean, so the mean's counts as negative."""

    def positive(part: Any) -> Any:
        if isinstance(part, Tensor) and (part.is_floating_point() or name in SCALING):
            return part.abs()
        return abs(part) if name in SCALING | ADDING and isinstance(part, int | float) else part

    args, kwargs = mapped(call.args, positive), mapped(call.kwargs, positive)
    if name == "batch_norm":
        args = (args[0], -args[1], *args[2:])
    return Call(SIGNS.get(name, call.func), args, kwargs)


def _terms(name: str, call: Call, before: Node, value: Tensor) -> int:
    """Of how many rounded operations a value is made at most: of those of a sum, in any order."""
    if name in SHAPING | SAME:
        return 0
    if name in WEIGHTED:
        return cast(Tensor, call.args[1])[0].numel() + 2
    if name in {"mean", "sum"}:
        return before.size // value.numel() + 2
    if name in AVERAGING | PRODUCT:
        return before.size + 2
    return 10 if name == "batch_norm" else 2


def maximum(one: Tensor, other: Tensor) -> Traced:
    """max(a, b) = a + relu(b - a)."""
    tape = next(_traced((one, other))).tape
    was, tape.exact = tape.exact, True
    larger = one + relu(other - one)
    tape.exact = was
    if isinstance(one, Traced) and isinstance(other, Traced):
        node = tape.nodes[-1]
        pair = one.number, other.number
        tape.nodes[-1] = Node(node.name, node.kind, node.shape, node.call, node.absolute, 0, pair)
    return cast(Traced, larger)


def _max_pool(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    axes: int,
) -> Traced:
    """The largest of the windows, axis by axis. What is padded is repeated from the edge, which is in the window."""
    kernel, strides, pads, gaps = (
        (part,) * axes if isinstance(part, int) else tuple(part) * (axes if len(part) == 1 else 1)
        for part in (kernel_size, stride or kernel_size, padding, dilation)
    )
    if return_indices or (max(gaps) > 1 and (max(pads) > 0 or ceil_mode)):
        raise _without_rule("max_pool with indices, or with dilation and padding")
    pool = (torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)[axes - 1]
    out = plain(pool, (x, kernel, strides, pads, gaps, ceil_mode), {}).shape
    for axis in range(-axes, 0):
        starts = torch.arange(out[axis]) * strides[axis] - pads[axis]
        taps = [(starts + tap * gaps[axis]).clamp(0, x.shape[axis] - 1) for tap in range(kernel[axis])]
        x = _largest([x.index_select(axis % x.ndim, tap) for tap in taps])
    return cast(Traced, x)


def _largest(parts: list[Tensor]) -> Tensor:
    while len(parts) > 1:
        pairs = [maximum(*pair) for pair in zip(parts[::2], parts[1::2], strict=False)]
        parts = [*pairs, *(parts[-1:] if len(parts) % 2 else [])]
    return parts[0]


def _leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """A x + (1 - a) relu(x)."""
    return relu(x) * (1 - negative_slope) + x * negative_slope


def _clamp(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    if not all(side is None or isinstance(side, int | float) for side in (min, max)):
        raise _without_rule("clamp by tensors")
    if min is not None:
        x = maximum(x, torch.full_like(x, min))
    return x if max is None else -maximum(-x, torch.full_like(x, -max))


PIECEWISE: dict[str, Callable[..., Any]] = {
    "max_pool1d": lambda *args, **kwargs: _max_pool(*args, **kwargs, axes=1),
    "max_pool2d": lambda *args, **kwargs: _max_pool(*args, **kwargs, axes=2),
    "maximum": maximum,
    "leaky_relu": _leaky_relu,
    "relu6": lambda x: _clamp(x, 0.0, 6.0),
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: _clamp(x, min_val, max_val),
    "clamp": _clamp,
    "abs": lambda x: relu(x) + relu(-x),
}
"""Functions that are made of affine ones and ReLUs."""


def trace(victim: Victim, batch: Batch) -> Graph:
    """The graph of a victim in float64. Raises EcgbenchError for a function without a rule, by name.

    `batch` are samples on which graph and module are compared.
    """
    if victim.takes_rng or victim.takes_mask:
        asks = "draws random numbers" if victim.takes_rng else "reads the mask"
        raise EcgbenchError(f"{victim.name} {asks}; linear bounds expect a module of the signal alone.")
    if not victim.outputs.exclusive:
        raise EcgbenchError(f"{victim.name} answers several labels at once; linear bounds expect one class a sample.")
    exact = Victim(copy.deepcopy(victim.module).double().requires_grad_(False).eval(), victim.outputs)
    graph = _recorded(exact, batch.x[:1].double(), batch[:1])
    _compare(graph, exact, batch)
    return graph


def recorded(victim: Victim, batch: Batch) -> Graph:
    """The graph of a victim as it is, with its own weights and their gradients, in their type: for a training."""
    if victim.takes_rng or victim.takes_mask:
        raise EcgbenchError(f"{victim.name} asks for more than the signal; linear bounds expect a module of it alone.")
    return _recorded(victim, batch.x[:1], batch[:1])


def _recorded(victim: Victim, zero: Tensor, batch: Batch) -> Graph:
    tape = Tape(zero.shape)
    logits = victim.logits(tape.traced(torch.zeros_like(zero), 0), batch, RandomStream(("trace",)))
    if not isinstance(logits, Traced) or logits.shape != (1, logits.shape[-1]):
        raise EcgbenchError(f"the logits of {victim.name} do not depend on the signal; expected some that do.")
    return Graph(tuple(tape.nodes[: logits.number + 1]), zero.dtype)


def _compare(graph: Graph, exact: Victim, batch: Batch) -> None:
    """Raises EcgbenchError where graph and module differ on samples, on noise or on both."""
    rng, x = RandomStream(("trace",)), batch.x.double()
    points = [x, torch.zeros_like(x), rng.normal(batch.ids, x.shape[1:]).double() + x]
    for point in points:
        with torch.no_grad():
            asked = exact.output(point.clone(), batch, rng)
        given = graph.values(point.unsqueeze(1))[-1].squeeze(1)
        told = asked if isinstance(asked, Tensor) and asked.shape == given.shape else exact.logits(point, batch, rng)
        gap = (told.double() - given).abs().max()
        tolerance = MARGIN if told is asked and told.dtype == torch.float64 else 1e-5
        if not gap <= tolerance * (1 + given.abs().max()):
            raise EcgbenchError(
                f"what {exact.name} computes of a signal depends on more than the functions it calls on it, or on "
                "other samples of the batch; linear bounds expect a module of each signal alone."
            )


def _without_rule(name: str) -> EcgbenchError:
    return EcgbenchError(
        f"no linear bound is known for {name!r}, which this module uses; expected linear, convolution, batch "
        "normalisation, pooling, addition, ReLU and what is made of these."
    )
