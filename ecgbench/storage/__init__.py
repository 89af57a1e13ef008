"""Bytes on a machine: results by key, arrays and tensors, downloads."""

from __future__ import annotations

from ecgbench.storage.arrays import pack, pack_arrays, pack_tensors, unpack, unpack_arrays
from ecgbench.storage.download import get, unpinned, verify
from ecgbench.storage.opening import is_url, open_store, reopened
from ecgbench.storage.store import Store, StoredCheckpoint, canonical_json, key_of, write_file

__all__ = [
    "Store",
    "StoredCheckpoint",
    "canonical_json",
    "get",
    "is_url",
    "key_of",
    "open_store",
    "pack",
    "pack_arrays",
    "pack_tensors",
    "reopened",
    "unpack",
    "unpack_arrays",
    "unpinned",
    "verify",
    "write_file",
]
