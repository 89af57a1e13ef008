"""All that a module's answers are made of, as one digest: the same bytes, the same digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module


def fingerprint(module: Module) -> str:
    """SHA-256 of every weight, buffer (kept in the state dict or not) and extra state, by name.

    Bytes are compared, so a NaN equals itself. Sparse and quantised tensors count by what they hold. Of a value of a
    kind unknown here its type alone counts.
    """
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return digest({**module.state_dict(), **dict(tensors)})


def digest(state: Mapping[str, object]) -> str:
    """SHA-256 of a state dict by what it holds: name, type, shape and bytes of each tensor, however a file keeps it."""
    found = hashlib.sha256()
    _add(found, state)
    return found.hexdigest()


def _add(found: hashlib._Hash, value: object) -> None:
    """Feed what `value` is, and then what it holds; the number of parts comes first, so that no two look alike."""
    found.update(f"{type(value).__name__};".encode())
    if isinstance(value, Tensor):
        _add_tensor(found, value.detach())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        _add_array(found, value)
    elif isinstance(value, Mapping):
        found.update(f"{len(value)};".encode())
        for name in sorted(value, key=repr):
            _add(found, name)
            _add(found, value[name])
    elif isinstance(value, list | tuple):
        found.update(f"{len(value)};".encode())
        for part in value:
            _add(found, part)
    elif isinstance(value, str | bytes | int | float | complex | torch.dtype | torch.device | None):
        found.update(f"{value!r};".encode())


def _add_tensor(found: hashlib._Hash, value: Tensor) -> None:
    found.update(f"{value.dtype} {tuple(value.shape)};".encode())
    if value.is_quantized:
        channels = "channel" in str(value.qscheme())
        _add(found, value.q_per_channel_scales() if channels else value.q_scale())
        _add(found, value.q_per_channel_zero_points() if channels else value.q_zero_point())
        _add(found, value.int_repr())
    elif value.layout == torch.sparse_coo:
        whole = value.coalesce()
        _add(found, (whole.indices(), whole.values()))
    elif value.layout != torch.strided:
        _add(found, value.to_dense())
    else:
        flat = value.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        _add_array(found, flat.view(torch.uint8).numpy())


def _add_array(found: hashlib._Hash, value: np.ndarray) -> None:
    found.update(f"{value.dtype} {value.shape};".encode())
    found.update(np.ascontiguousarray(value).tobytes())
