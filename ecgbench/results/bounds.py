"""Robust accuracy from both sides: published rows beside the certificates of the same victim and samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ecgbench.core.errors import EcgbenchError, StoreError
from ecgbench.evaluation.certification import BothSides, Certified, both_sides
from ecgbench.results.certificates import CertificateRecord, read_certificates
from ecgbench.results.published import Published

Certificates = Sequence[tuple[CertificateRecord, Certified]]


def beside(row: Published, certificates: Certificates) -> list[BothSides]:
    """[proven, attacked] of a row at every eps that it shares with a certificate; what any of them proves counts.

    A certificate fits a row of the same weights, threat and samples. Raises EcgbenchError where the row's attack made
    a proven sample adversarial.
    """
    fitting = [certified for record, certified in certificates if _fits(row, record, certified)]
    if row.outcomes is None or not fitting:
        return []
    found = []
    for eps in sorted({float(eps) for certified in fitting for eps in certified.eps}):
        at = [_at(certified, eps) for certified in fitting if eps in certified.eps]
        proven = np.logical_or.reduce([each.proven for each in at])
        found += both_sides(replace(at[0], proven=proven), row.outcomes)
    return found


def contradictions(leaderboard: Path, rows: Iterable[Published]) -> list[str]:
    """A sentence for each row whose attack broke what a published certificate proves, or for a damaged certificate."""
    try:
        certificates = read_certificates(leaderboard)
    except StoreError as fault:
        return [str(fault)]
    faults = []
    for row in rows:
        try:
            beside(row, certificates)
        except EcgbenchError as fault:
            faults.append(f"{row.path.as_posix()}: {fault}")
    return faults


def _fits(row: Published, record: CertificateRecord, certified: Certified) -> bool:
    if row.outcomes is None or row.record.provenance is None or record.statistical:
        return False
    same = (row.record.provenance.weights, row.record.threat) == (record.weights, record.threat)
    return same and np.array_equal(row.outcomes.ids, certified.ids)


def _at(certified: Certified, eps: float) -> Certified:
    """The certificate at one eps."""
    place = np.flatnonzero(certified.eps == eps)
    parts = {name: getattr(certified, name)[place] for name in ("eps", "proven", "least", "error", "queries")}
    return replace(certified, **parts)
