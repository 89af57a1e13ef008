"""Arrays and tensors as bytes: npz without pickle, and safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ecgbench.core.errors import StoreError
from ecgbench.evaluation.outcomes import Outcomes

LARGEST = 1 << 31
"""Bytes of arrays in one npz: a hundred times what the outcomes of 50,000 samples need."""


def pack_tensors(tensors: Mapping[str, Tensor], notes: dict[str, str] | None = None) -> bytes:
    """Tensors, and notes on them, as the bytes of a safetensors file; equal ones give equal bytes."""
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, notes)


def unpack_tensors(content: bytes, where: str) -> dict[str, Tensor]:
    """The tensors that `pack_tensors` packed. Raises StoreError, naming `where`, if the bytes are anything else."""
    try:
        return load(content)
    except SafetensorError as fault:
        raise StoreError(f"{where} holds no readable tensors: {fault}.") from None


def pack(outcomes: Outcomes) -> bytes:
    """Outcomes as the bytes of a compressed npz; equal outcomes give equal bytes with equal zlib versions.

    Raises StoreError where a field has another shape or type than it is read with.
    """
    return pack_arrays(Outcomes.from_arrays(outcomes.arrays()).arrays())


def pack_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Arrays by name as the bytes of a compressed npz; equal arrays give equal bytes with equal zlib versions."""
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            info = ZipInfo(f"{name}.npy")  # dated 1980, not now
            info.compress_type, info.create_system, info.external_attr = ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, member.getvalue())
    return content.getvalue()


def unpack(content: bytes, where: str) -> Outcomes:
    """The outcomes that `pack` packed. Raises StoreError, naming `where`, if the bytes are anything else."""
    try:
        return Outcomes.from_arrays(unpack_arrays(content))
    except Exception as fault:  # zip, deflate and npy readers each raise what they like on damaged bytes
        reason = str(fault).strip().rstrip(".") or type(fault).__name__
        raise StoreError(f"{where} holds no readable outcomes: {reason}.") from None


def unpack_arrays(content: bytes) -> dict[str, NDArray[np.generic]]:
    """The arrays of an npz by name; raises what zip, deflate and npy readers raise on other bytes."""
    with ZipFile(BytesIO(content)) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise StoreError(f"arrays of {size} bytes are packed here; expected at most {LARGEST}.")
        return {
            name.removesuffix(".npy"): np.lib.format.read_array(BytesIO(archive.read(name)), allow_pickle=False)
            for name in archive.namelist()
        }
