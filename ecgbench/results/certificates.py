"""Published certificates: what is proven of a victim as one JSON document, and the proofs of each sample beside it.

`certificates/<dataset>/<row>-<key>.json` is what people read, the `.npz` of the same name what it follows from.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from msgspec import Struct

from ecgbench.core.errors import StoreError, accessing
from ecgbench.evaluation.certification import Certified
from ecgbench.results.published import slug
from ecgbench.storage.arrays import pack_arrays, unpack_arrays
from ecgbench.storage.store import write_file

FOLDER = "certificates"
SCHEMA = 1


class CertificateRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is proven of one victim; fractions are 0..1, selectors are canonical, eps is in `unit`.

    `clean` is the share of samples that are right when clean, `proven` the share proven at each eps, both as
    metrics weigh samples; `seconds` are CPU seconds and `queries` the mean number of answers asked for a sample, at
    each eps. `statistical` proofs hold with a confidence, of the votes of a randomised victim. `weights` is the
    digest of the victim's weights, `content` that of the proofs, `identity` the pre-image of `key`.
    """

    schema: int
    key: str
    dataset: str
    model: str
    defense: str
    seed: int
    certificate: str
    statistical: bool
    threat: str
    unit: str
    protocol: str
    limit: int | None
    n: int
    eps: tuple[float, ...]
    clean: float
    proven: tuple[float, ...]
    seconds: tuple[float, ...]
    queries: tuple[float, ...]
    weights: str
    content: str
    versions: dict[str, str]
    identity: dict[str, Any]

    def pretty(self) -> bytes:
        """The document as it is published."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def share(self, eps: float) -> float | None:
        """The share proven at eps, None where it was not asked for."""
        return dict(zip(self.eps, self.proven, strict=True)).get(eps)

    @property
    def place(self) -> PurePosixPath:
        """Where it is published, relative to the leaderboard; the same on every file system."""
        row = f"{self.model}-{self.defense}-{self.certificate}-{self.threat}-seed{self.seed}"
        return PurePosixPath(FOLDER, slug(self.dataset), f"{slug(row)}-{self.key[:12]}.json")


def pack_certified(certified: Certified) -> bytes:
    """Proofs as the bytes of an npz. Raises StoreError where they would not be read back."""
    return pack_arrays(Certified.from_arrays(certified.arrays()).arrays())


def unpack_certified(content: bytes, where: str) -> Certified:
    """What `pack_certified` packed. Raises StoreError, naming `where`, if the bytes are anything else."""
    try:
        return Certified.from_arrays(unpack_arrays(content))
    except Exception as fault:  # zip, deflate and npy readers each raise what they like on damaged bytes
        reason = str(fault).strip().rstrip(".") or type(fault).__name__
        raise StoreError(f"{where} holds no readable certificate: {reason}.") from None


def publish_certificate(record: CertificateRecord, content: bytes, leaderboard: Path) -> Path:
    """Write a certificate and its proofs; an earlier one of the same row, which has another key, is removed.

    Returns the record's file. Raises StoreError where the record does not follow from the proofs.
    """
    path = leaderboard / record.place
    check_certificate(record, content, path.as_posix())
    row = path.name.removesuffix(f"-{record.key[:12]}.json")
    earlier = [other for other in path.parent.glob(f"{row}-*.json") if other != path]
    write_file(path.with_suffix(".npz"), content)
    write_file(path, record.pretty())
    with accessing(path.parent):
        for other in earlier:
            if _same_row(read_certificate(other)[0], record):
                other.unlink()
                other.with_suffix(".npz").unlink(missing_ok=True)
    return path


def read_certificate(path: Path) -> tuple[CertificateRecord, Certified]:
    """A published certificate and its proofs. Raises StoreError, naming the file, where one does not fit the other."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=CertificateRecord)
        content = path.with_suffix(".npz").read_bytes()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise StoreError(f"{path.as_posix()} cannot be read: {fault}.") from None
    return record, check_certificate(record, content, path.as_posix())


def read_certificates(leaderboard: Path) -> list[tuple[CertificateRecord, Certified]]:
    """All published certificates, by path; none where there is no folder of them."""
    return [read_certificate(path) for path in find_certificates(leaderboard)]


def find_certificates(leaderboard: Path) -> list[Path]:
    """The files of all published certificates, in an order that is the same everywhere."""
    return sorted((leaderboard / FOLDER).rglob("*.json"), key=lambda path: path.as_posix())


def check_certificate(record: CertificateRecord, content: bytes, where: str) -> Certified:
    """The proofs of a certificate. Raises StoreError where the record states what does not follow from them."""
    if hashlib.sha256(content).hexdigest() != record.content:
        raise StoreError(f"{where} states other proofs than those beside it; restore both.")
    certified = unpack_certified(content, where)
    follows = summary(certified)
    stated = {name: getattr(record, name) for name in follows}
    if record.schema != SCHEMA or stated != follows:
        wrong = next((name for name in follows if stated[name] != follows[name]), "schema")
        raise StoreError(f"{where} states a {wrong} that does not follow from its proofs; make it again.")
    return certified


def summary(certified: Certified) -> dict[str, Any]:
    """What a record states that follows from its proofs."""
    weight = certified.weight.astype(float)
    right = (certified.clean == certified.y).astype(float)
    return {
        "n": len(certified.y),
        "eps": tuple(map(float, certified.eps)),
        "clean": round(float(right @ weight / weight.sum()), 6),
        "proven": tuple(round(share, 6) for share in certified.shares),
        "queries": tuple(round(float(row.mean()), 1) for row in certified.queries),
    }


def _same_row(one: CertificateRecord, other: CertificateRecord) -> bool:
    names = ("dataset", "model", "defense", "seed", "certificate", "threat", "protocol", "eps", "limit")
    return all(getattr(one, name) == getattr(other, name) for name in names)
