"""Robust accuracy from both sides: published rows beside the certificates of the same victim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.threat import Threat
from ecgbench.evaluation.certification import BothSides, Certified, both_sides
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.registry.catalog import Catalog
from ecgbench.results.certificates import CertificateRecord, read_certificates
from ecgbench.results.published import Published
from ecgbench.results.record import Cost, Record


@dataclass(frozen=True)
class Bounds:
    """Published certificates, to stand beside rows of the same weights and samples.

    A proof holds for every smaller ball: at a smaller eps, and where mask or bounds bind beside. What any certificate
    proves counts. Statistical ones, whose proofs a few draws of a victim may contradict, stand beside nothing.
    """

    certificates: tuple[tuple[CertificateRecord, Certified], ...] = ()

    @classmethod
    def read(cls, leaderboard: Path) -> Bounds:
        """The certificates of a leaderboard. Raises StoreError for a damaged one."""
        return cls(tuple(read_certificates(leaderboard)))

    def of(self, row: Record) -> list[tuple[CertificateRecord, Certified]]:
        """The certificates of a row's victim whose balls hold those of the row."""
        made = row.provenance
        return [
            (record, certified)
            for record, certified in self.certificates
            if made is not None
            and (record.weights, record.dataset, record.statistical) == (made.weights, row.dataset, False)
            and _holds(record.threat, row.threat)
        ]

    def beside(self, row: Record, outcomes: Outcomes) -> list[BothSides]:
        """[proven, attacked] of outcomes of a row's victim, at each eps at which all their samples were asked for.

        Raises EcgbenchError where a proven sample is adversarial.
        """
        found = []
        for eps in outcomes.eps.tolist():
            asked = self.asked(row, outcomes, eps)
            if asked:
                found += both_sides(_joined(asked, outcomes, eps), outcomes)
        return found

    def asked(self, row: Record, outcomes: Outcomes, eps: float) -> list[Certified]:
        """Proofs at eps of a row's victim, none unless one certificate was asked for all samples."""
        certified = [proofs for _, proofs in self.of(row) if (proofs.eps >= eps).any()]
        return certified if any(np.isin(outcomes.ids, proofs.ids).all() for proofs in certified) else []

    def contradiction(self, row: Published) -> str | None:
        """What a row's attack or labels say against a certificate of its victim, in one sentence; None if nothing."""
        outcomes = row.outcomes
        if outcomes is None:
            return None
        for record, proofs in self.of(row.record):
            _, here, there = np.intersect1d(outcomes.ids, proofs.ids, return_indices=True)
            other = here[outcomes.y[here] != proofs.y[there]]
            if len(other):
                return f"sample {outcomes.ids[other[0]]} has another label than in certificate {record.key[:12]}."
            for place, eps in enumerate(outcomes.eps):
                wrong = outcomes.adversarial[place] | ~outcomes.correct
                against = np.flatnonzero(wrong & _proven(proofs, float(eps), outcomes.ids))
                if len(against):
                    sample = f"sample {outcomes.ids[against[0]]} is proven at eps {eps:g} by {record.certificate}"
                    return (
                        f"{sample} ({record.key[:12]}) and was made adversarial there ({len(against)} in all): "
                        "the certificate or the host is at fault; please report this."
                    )
        return None

    def judged(self, row: Published) -> Published:
        """The row, or, where it contradicts a certificate, a failed one without figures that says so."""
        reason = self.contradiction(row) if row.record.status == "ok" else None
        if reason is None:
            return row
        none: dict[str, Any] = {"n": 0, "groups": None, "counts": {}, "scores": (), "curve": None, "uncertainty": None}
        none |= {"checks": (), "provenance": None, "cost": Cost()}
        failed = msgspec.structs.replace(row.record, status="failed", error=reason, **none)
        return replace(row, record=failed, outcomes=None)


def _holds(larger: str, smaller: str) -> bool:
    """Whether all that one threat allows is allowed by another, at the same eps."""
    if larger == smaller:
        return True
    try:
        outer, inner = _threat(larger), _threat(smaller)
    except EcgbenchError:
        return False
    return outer == replace(inner, mask=inner.mask and outer.mask, bounds=inner.bounds and outer.bounds)


@cache
def _threat(words: str) -> Threat:
    """The threat that a record names; all of them are the host's own, so no plugin is asked."""
    found: Threat = Catalog({}, {}, {}, {}).resolve("threat", words)
    return found


def _proven(certified: Certified, eps: float, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these samples are proven at eps or at a larger one, (n,)."""
    proven = certified.proven[certified.eps >= eps].any(0)
    return np.isin(ids, certified.ids[proven])


def _joined(certified: Sequence[Certified], outcomes: Outcomes, eps: float) -> Certified:
    """What any of the certificates proves of the samples of outcomes at eps, as one."""
    proven = np.logical_or.reduce([_proven(each, eps, outcomes.ids) for each in certified])
    return Certified(
        eps=np.array([eps]),
        ids=outcomes.ids,
        y=outcomes.y.astype(np.int64),
        clean=outcomes.clean.astype(np.int64),
        weight=outcomes.weight,
        proven=proven[None],
        queries=np.zeros((1, len(proven)), np.int64),
    )
