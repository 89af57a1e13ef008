"""Perturbations that earlier runs saved."""

from __future__ import annotations

from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.results.record import Record
from ecgbench.storage.arrays import unpack_arrays
from ecgbench.storage.store import Store


def saved_perturbations(store: Store, record: Record) -> Perturbations | None:
    """Of all that were saved of a record's row those of most samples; None where there are none."""
    outcomes = None if record.provenance is None else record.provenance.outcomes
    saved = [
        (int(made_of["n"]), key)
        for key, made_of in store.identities("perturbations")
        if (made_of.get("outcomes"), made_of.get("headline")) == (outcomes, repr(record.headline))
    ]
    files = store.get("perturbations", max(saved)[1]) if saved else None
    return None if files is None else Perturbations.from_arrays(unpack_arrays(files["perturbations.npz"]))
