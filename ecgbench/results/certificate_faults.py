"""Do published certificates follow from their proofs, and are they of the published victims that they name?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ecgbench.core.errors import EcgbenchError, StoreError
from ecgbench.registry.catalog import Catalog, discover
from ecgbench.results.bounds import Bounds
from ecgbench.results.certificates import FOLDER, CertificateRecord, find_certificates, read_certificate
from ecgbench.results.verification import renamed, strays
from ecgbench.storage.store import key_of

Victim = tuple[str, str, str, int]
"""Dataset, model, defense and seed of a victim."""


def certificate_faults(leaderboard: Path, weights: Mapping[Victim, str]) -> tuple[Bounds, list[str]]:
    """The certificates that can be read, and all that is wrong with those of a leaderboard, a sentence each.

    `weights` are the digests of the published victims' weights.
    """
    paths = find_certificates(leaderboard)
    if not paths:
        return Bounds(), strays(leaderboard / FOLDER)
    catalog = discover()
    found, faults, seen = [], list[str](), dict[str, str]()
    for path in paths:
        try:
            record, certified = read_certificate(path)
        except StoreError as fault:
            faults.append(str(fault))
            continue
        found.append((record, certified))
        told = [*_of_file(leaderboard, path, record), *_of_identity(record, catalog), *_of_victim(record, weights)]
        if record.key in seen:
            told.append(f"holds the same key as {seen[record.key]}; expected one certificate of it.")
        seen.setdefault(record.key, path.as_posix())
        faults += [f"{path.as_posix()} {fault}" for fault in told]
    return Bounds(tuple(found)), [*faults, *strays(leaderboard / FOLDER)]


def _of_file(leaderboard: Path, path: Path, record: CertificateRecord) -> Iterator[str]:
    if path != leaderboard / record.place:
        yield f"is not where it belongs; expected {record.place.as_posix()}."
    if path.read_bytes() != record.pretty():
        yield "is not written as it was published; expected exactly the text of its record."


def _of_identity(record: CertificateRecord, catalog: Catalog) -> Iterator[str]:
    """What a record says otherwise than the identity of which its key is the digest."""
    made: Mapping[str, Any] = record.identity
    if key_of(made) != record.key:
        yield "has a key that is not the digest of its identity; make it again."
    stated = {"eps": [repr(eps) for eps in record.eps]} | {n: getattr(record, n) for n in ("seed", "limit", "weights")}
    for name, value in stated.items():
        if made.get(name) != value:
            yield f"states {name} {value}; its identity names {made.get(name)}."
    words = {kind: getattr(record, kind) for kind in ("dataset", "model", "defense", "certificate", "threat")}
    for kind in renamed(words, made, catalog):
        yield f"states {kind} {words[kind]!r}; its identity names another one."
    try:
        method = catalog.resolve("certificate", record.certificate)
        protocol = catalog.resolve("protocol", record.protocol)
    except EcgbenchError:
        return
    if record.statistical != method.statistical:
        yield f"states statistical {record.statistical}; {record.certificate} is {method.statistical}."
    if made.get("protocol") != {"per_class": protocol.per_class, "split": protocol.split}:
        yield f"states protocol {record.protocol!r}; its identity names another one."


def _of_victim(record: CertificateRecord, weights: Mapping[Victim, str]) -> Iterator[str]:
    victim = (record.dataset, record.model, record.defense, record.seed)
    card = weights.get(victim)
    if card is None:
        yield "is of a victim that is not published; restore the victim, or remove the certificate."
    elif card != record.weights:
        yield f"is of weights {record.weights[:12]}; the published victim has {card[:12]}: make it again."
