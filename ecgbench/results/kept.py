"""Records that a store keeps, found by the beginning of their key."""

from __future__ import annotations

from ecgbench.core.errors import EcgbenchError, StoreError
from ecgbench.results.record import Record, read_record
from ecgbench.storage.store import Store


def kept_record(store: Store, beginning: str) -> Record:
    """The one record whose key begins so.

    Raises EcgbenchError where none or several do, and StoreError where it was damaged.
    """
    keys = [key for key, _ in store.identities("records") if key.startswith(beginning)]
    if len(keys) != 1:
        raise EcgbenchError(f"{len(keys)} records begin with {beginning!r}; expected one (see: ecgbench results show).")
    files = store.get("records", keys[0])
    if files is None:
        raise StoreError(f"record {keys[0][:12]} was damaged; run its cell again.")
    return read_record(files["record.json"], f"record {keys[0][:12]}")
