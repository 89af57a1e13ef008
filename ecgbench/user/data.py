"""What somebody gives to `evaluate`, read strictly: signals, labels, masks, groups, names and bounds.

Arrays are numpy's, torch's, lists, or whatever numpy makes an array of (a DataFrame, a Series). What is read is a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler

from ecgbench.core.errors import EcgbenchError, UnknownNameError

EXACT = 1 << 24  # whole numbers up to here have a float32 of their own


def read_signals(given: object) -> Tensor:
    """X (n, *shape) float32, rounded from what is wider. Raises EcgbenchError where there are no such numbers."""
    x = _numbers("x", given)
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise EcgbenchError(f"x has shape {tuple(x.shape)}; expected (n, *shape), n samples of one shape.")
    if not x.is_floating_point() and x.numel() and int(x.abs().amax() if x.dtype != torch.bool else 1) > EXACT:
        raise EcgbenchError("x holds whole numbers beyond 2**24, which float32 cannot hold; expected another unit.")
    return x.to(torch.float32)


def read_labels(given: object, names: tuple[str, ...] | None) -> Tensor:
    """Y (n,) int64: whole numbers as they are; words as places among `names`.

    Raises EcgbenchError for labels that are no whole numbers, words without names, another shape.
    """
    words = _words(given)
    y = _whole("y", "labels", given) if words is None else torch.from_numpy(_places(words, names))
    if y.ndim == 2 and y.shape[1] == 1:
        y = y.squeeze(1)
    if y.ndim != 1 or not len(y):
        raise EcgbenchError(f"y has shape {tuple(y.shape)}; expected (n,), one label of each sample.")
    return y


def check_labels(y: Tensor, classes: int) -> None:
    """Raises EcgbenchError for a label outside 0..classes-1, naming the sample."""
    odd = ((y < 0) | (y >= classes)).nonzero()
    if len(odd):
        row = int(odd[0])
        raise EcgbenchError(f"a label lies outside 0..{classes - 1}: {int(y[row])} at sample {row}.")


def read_mask(given: object) -> Tensor:
    """A mask, bool. Raises EcgbenchError for numbers other than 0 and 1."""
    mask = _numbers("mask", given)
    odd = mask[(mask != 0) & (mask != 1)]
    if len(odd):
        raise EcgbenchError(f"mask holds {odd[0].item()!r}; expected True where an attack may write, False elsewhere.")
    return mask.bool()


def read_groups(given: object) -> Tensor:
    """Group (n,) int64, numbered from 0 in the order of the names or numbers given.

    Raises EcgbenchError where a sample has none, or for another shape.
    """
    words = _words(given)
    named = words if words is not None else _whole("group", "groups", given).numpy()
    if named.ndim == 2 and named.shape[1] == 1:
        named = named[:, 0]
    if named.ndim != 1:
        raise EcgbenchError(f"group has shape {named.shape}; expected (n,), the patient of each sample.")
    return torch.from_numpy(np.unique(named, return_inverse=True)[1].astype(np.int64).reshape(-1))


def read_names(given: Iterable[object]) -> tuple[str, ...]:
    """Class names, as str. Raises EcgbenchError for fewer than two, a name twice, numbers that are no positions."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise EcgbenchError(f"classes={given!r} is given; expected the name of each class, in the order of the logits.")
    listed = list(given.tolist()) if hasattr(given, "tolist") else list(given)
    names = tuple(str(name) for name in listed)
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise EcgbenchError(f"class {twice!r} is named twice; expected another name for each class.")
    if len(names) < 2:
        raise EcgbenchError(f"classes {list(names)} are given; expected two or more: one class is no classification.")
    if any(isinstance(name, int) and name != place for place, name in enumerate(listed)):
        raise EcgbenchError(
            f"classes {list(names)} are numbers other than the labels 0..{len(names) - 1}; expected names as str."
        )
    return names


def read_bounds(given: Any) -> tuple[float, float] | None:
    """The valid range of x, rounded to float32 as x is. EcgbenchError unless two numbers, the lower first."""
    if given is None:
        return None
    try:
        low, high = (float(np.float32(end)) for end in ([] if isinstance(given, str) else given))
    except (TypeError, ValueError, RuntimeError):
        low, high = 1.0, 0.0
    if not (isfinite(low) and isfinite(high) and low < high):
        shown = " ".join(str(given).split())
        raise EcgbenchError(f"bounds {shown} are given; expected two finite numbers, the lower one first, or None.")
    return low, high


@dataclass(frozen=True)
class Batches:
    """Samples gathered from a DataLoader: `x` (n, *shape), `y` a list of labels."""

    x: Tensor
    y: list[Any]


def gather(loader: Iterable[Any]) -> Batches:
    """All samples of a DataLoader, or of batches (x, y) or (x, y, ...), in its order.

    Raises EcgbenchError, naming the batch, for one that is no such pair or has samples of another shape.
    """
    signals: list[Tensor] = []
    labels: list[Any] = []
    for number, batch in enumerate(loader):
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            raise EcgbenchError(f"batch {number} of x is a {type(batch).__name__}; expected (x, y) or (x, y, ...).")
        x, y = _numbers("x", batch[0]), batch[1]
        listed = y.tolist() if hasattr(y, "tolist") else list(y) if isinstance(y, tuple | list) else y
        if x.ndim < 2 or not isinstance(listed, list) or len(listed) != len(x):
            many = f"{len(listed)} labels" if isinstance(listed, list) else f"the label {listed!r}"
            raise EcgbenchError(f"batch {number} of x has signals {tuple(x.shape)} and {many}; expected n of each.")
        if signals and x.shape[1:] != signals[0].shape[1:]:
            other, first = tuple(x.shape[1:]), tuple(signals[0].shape[1:])
            raise EcgbenchError(f"batch {number} of x has samples of shape {other}, others {first}; expected one.")
        signals.append(x)
        labels += listed
    if not labels:
        raise EcgbenchError("x yields no batch; expected (x, y) or (x, y, ...).")
    return Batches(torch.cat(signals), labels)


def shuffled(loader: object) -> bool:
    """Whether a DataLoader draws its order anew each time."""
    return isinstance(loader, DataLoader) and isinstance(getattr(loader, "sampler", None), RandomSampler)


def _numbers(name: str, given: object) -> Tensor:
    """A tensor of real numbers or of bool, a copy on the CPU, in a type of its own."""
    if isinstance(given, list | tuple) and given and all(isinstance(part, Tensor) for part in given):
        try:
            given = torch.stack([part.detach() for part in given])
        except RuntimeError:
            shapes = sorted({tuple(part.shape) for part in given})
            raise EcgbenchError(f"{name} holds tensors of shapes {shapes}; expected one shape.") from None
    tensor = _plain(name, given) if isinstance(given, Tensor) else torch.from_numpy(_array(name, given))
    if tensor.is_complex():
        raise EcgbenchError(f"{name} is complex; expected real numbers.")
    return tensor


def _plain(name: str, given: Tensor) -> Tensor:
    try:
        tensor = given.detach()
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
        return tensor.to("cpu", copy=True, memory_format=torch.contiguous_format).resolve_conj().resolve_neg()
    except (RuntimeError, NotImplementedError) as fault:
        raise EcgbenchError(f"{name} holds no table of numbers ({str(fault).splitlines()[0]}).") from None


def _array(name: str, given: object) -> NDArray[Any]:
    if isinstance(given, np.ma.MaskedArray) and given.mask.any():
        raise EcgbenchError(f"{name} is a masked array; expected a value everywhere, and mask= for padding.")
    try:
        array = np.array(given, order="C")
    except (TypeError, ValueError, RuntimeError) as fault:
        raise EcgbenchError(f"{name} holds no table of numbers ({str(fault).splitlines()[0]}).") from None
    if array.dtype == object and name != "x":
        array = np.array(array.tolist())  # a column of a DataFrame whose values are plain numbers
    if array.dtype.kind not in "fiubc":
        raise EcgbenchError(f"{name} holds no table of numbers (its type is {array.dtype}).")
    wide = {"u": np.int64, "f": np.float64}.get(array.dtype.kind) if array.dtype.itemsize > 1 else None
    if wide is None:
        return array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise EcgbenchError(f"{name} holds {int(array.max())}; expected numbers below 2**63.")
    return array.astype(wide)


def _words(given: object) -> NDArray[Any] | None:
    """The words in `given`, an array of str; None where it holds something else."""
    if isinstance(given, Tensor):
        return None
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        return None
    if array.dtype == object and array.size and all(isinstance(each, str) for each in array.flat):
        return array.astype(str)
    return array if array.dtype.kind == "U" or "String" in type(array.dtype).__name__ else None


def _places(words: NDArray[Any], names: Sequence[str] | None) -> NDArray[np.int64]:
    if names is None:
        raise EcgbenchError(
            f"y holds names such as {str(words.flat[0])!r}; expected classes=, all names in the order of the logits."
        )
    place = {name: number for number, name in enumerate(names)}
    odd = next((str(word) for word in words.flat if str(word) not in place), None)
    if odd is not None:
        raise UnknownNameError("class", odd, names)
    return np.array([place[str(word)] for word in words.flat], dtype=np.int64).reshape(words.shape)


def _whole(name: str, what: str, given: object) -> Tensor:
    """Whole numbers as int64. Raises EcgbenchError for others, naming the first."""
    value = _numbers(name, given)
    if not value.is_floating_point():
        return value.to(torch.int64)
    odd = ~torch.isfinite(value) | (value != value.round())
    if bool(odd.any()):
        row = int(odd.flatten(1).any(1).nonzero()[0]) if odd.ndim > 1 else int(odd.nonzero()[0])
        shown = float(value[odd][0])
        raise EcgbenchError(
            f"{what} are no whole numbers: {shown!r} given at sample {row}; expected the number of each sample's "
            f"{'class' if name == 'y' else 'group'}."
        )
    return value.to(torch.int64)
