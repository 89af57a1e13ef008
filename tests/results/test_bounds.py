"""A row beside certificates: what any of them proves counts, others do not fit, and a contradiction is found."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.certification import Certified
from ecgbench.results.bounds import beside, contradictions
from ecgbench.results.certificates import SCHEMA, CertificateRecord, pack_certified, publish_certificate, summary
from ecgbench.results.published import Published
from tests.made_up_rows import made_up, row

EPS = (0.1, 0.2)


def attacked() -> Published:
    """Ten samples; 0 and 3 are broken at 0.1, 4 and 5 as well at 0.2; of weights "w"."""
    found = row(made_up(["03", "0345"]))
    assert found.record.provenance is not None
    provenance = msgspec.structs.replace(found.record.provenance, weights="w")
    return replace(found, record=msgspec.structs.replace(found.record, provenance=provenance))


def proves(first: str, second: str, ids: int = 0) -> Certified:
    """A certificate of these positions at the two eps."""
    proven = np.array([[str(i) in row for i in range(10)] for row in (first, second)])
    y = np.arange(10) % 2
    return Certified(
        eps=np.array(EPS),
        ids=np.arange(ids, ids + 10),
        y=y,
        clean=y,
        weight=np.ones(10, np.float32),
        proven=proven,
        least=np.where(proven, 1.0, -1.0),
        error=np.zeros((2, 10)),
        queries=np.zeros((2, 10), np.int64),
    )


def certificate(
    certified: Certified, weights: str = "w", threat: str = "linf", statistical: bool = False
) -> tuple[CertificateRecord, Certified]:
    record = CertificateRecord(
        schema=SCHEMA,
        key="k" * 64,
        dataset="beats",
        model="mlp",
        defense="none",
        seed=0,
        certificate="crown",
        statistical=statistical,
        threat=threat,
        unit="native",
        protocol="standard",
        limit=None,
        seconds=(1.0, 1.0),
        weights=weights,
        content=hashlib.sha256(pack_certified(certified)).hexdigest(),
        versions={},
        identity={},
        **summary(certified),
    )
    return record, certified


def test_each_eps_has_both_sides_and_what_any_certificate_proves_counts() -> None:
    sides = beside(attacked(), [certificate(proves("12", "1")), certificate(proves("2456789", "2"))])
    assert [(side.eps, side.proven, side.attacked, side.open_samples) for side in sides] == [
        (0.1, 0.8, 0.8, 0),
        (0.2, 0.2, 0.6, 4),
    ]
    assert [side.exact for side in sides] == [True, False]


def test_a_certificate_of_another_victim_or_threat_or_of_votes_does_not_fit() -> None:
    proven = proves("0", "0")
    assert beside(attacked(), [certificate(proven, weights="v")]) == []
    assert beside(attacked(), [certificate(proven, threat="l2")]) == []
    assert beside(attacked(), [certificate(proven, statistical=True)]) == []


def test_one_of_other_samples_does_not_fit_either() -> None:
    assert beside(attacked(), [certificate(proves("0", "0", ids=5))]) == []


def test_a_broken_proof_is_found_among_published_ones_by_row(tmp_path: Path) -> None:
    wrong = certificate(proves("12", "14"))
    with pytest.raises(EcgbenchError, match=r"sample 4 is proven at eps 0\.2 and was made adversarial"):
        beside(attacked(), [wrong])
    assert contradictions(tmp_path, [attacked()]) == []
    publish_certificate(wrong[0], pack_certified(wrong[1]), tmp_path)
    (fault,) = contradictions(tmp_path, [attacked()])
    assert fault.startswith(attacked().path.as_posix()) and "sample 4 is proven" in fault
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(b"")
    (fault,) = contradictions(tmp_path, [attacked()])
    assert "other proofs" in fault
