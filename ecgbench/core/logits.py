"""What a module returned, read as logits: the one place that knows tuples, dicts, arrays, single logits, odd shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from ecgbench.core.errors import ContractError


def read_logits(output: object, x: Tensor, classes: int | None, who: str) -> Tensor:
    """Logits (n, classes) float32, on the device of `x`, in what the module `who` returned for `x` (n, *shape).

    A single logit z a row, (n,) or (n, 1), is read as (0, z): two classes, the second where z > 0. Axes of length 1
    are left out: (n, classes, 1), (1, n, classes). Of a dict or an object `logits` counts; of several values the first
    that has one logit for each class. float64 and half precision become float32. Raises ContractError where nothing
    can be read so; where `classes` is None and values of several widths could be meant, too.
    """
    if isinstance(output, Tensor) and output.shape == (len(x), classes) and _plain(output):
        return output
    tables = [table for each in _offered(output) if (table := _table(each, len(x), classes)) is not None]
    widths = {table.shape[1] for table in tables}
    if classes in widths:
        tables = [table for table in tables if table.shape[1] == classes]
    if not tables or (classes is None and len(widths) > 1):
        wanted = "classes" if classes is None else classes
        also = " or one logit each" if classes == 2 else ""
        raise ContractError(who, f"logits of shape ({len(x)}, {wanted}){also}", described(output))
    logits = tables[0].to(device=x.device, dtype=torch.float32)
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def described(output: object) -> str:
    """What was returned, in a few words: the shape of a tensor, the contents of a tuple, the keys of a dict."""
    if isinstance(output, Tensor | np.ndarray):
        odd = "" if _real(output) else f" of {output.dtype}"
        return f"{tuple(output.shape)}{odd}"
    if isinstance(output, Mapping):
        return f"a dict of {', '.join(str(name) for name in output) or 'nothing'}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {', '.join(described(part) for part in output[:4]) or 'nothing'}"
    return f"a value of type {type(output).__name__}"


def _plain(value: Tensor) -> bool:
    return value.dtype == torch.float32 and value.layout == torch.strided


def _real(value: Tensor | np.ndarray) -> bool:
    return value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind == "f"


def _offered(output: object) -> Iterator[Tensor]:
    """The tensors among which the logits are, in their order."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, np.ndarray):
        if output.dtype.kind in "fiu":
            yield torch.from_numpy(np.ascontiguousarray(output))
    elif isinstance(output, Mapping):
        for part in (output["logits"],) if "logits" in output else output.values():
            yield from _offered(part)
    elif hasattr(output, "logits"):
        yield from _offered(output.logits)
    elif isinstance(output, tuple | list):
        for part in output:
            yield from _offered(part)


def _table(value: Tensor, n: int, classes: int | None) -> Tensor | None:
    """`value` as (n, width), axes of length 1 left out; None where its rows are not n, or no logits of `classes`."""
    if value.is_complex() or value.dtype == torch.bool:
        return None
    if value.is_quantized:
        value = value.dequantize()
    if value.layout != torch.strided:
        value = value.to_dense()
    if value.ndim > 2 and len(value) == 1 and n > 1:
        value = value[0]
    if n == 1 and value.ndim < 2:
        value = value.reshape(1, -1)
    wide = [size for size in value.shape[1:] if size != 1]
    if not value.ndim or len(value) != n or len(wide) > 1:
        return None
    width = wide[0] if wide else 1
    if width != classes and (classes not in (None, 2) or (width > 1 and classes is not None)):
        return None
    if width == 0 or (width == 1 and not value.is_floating_point()):  # whole numbers are classes, not logits
        return None
    return value.reshape(n, width)
