"""Certificates of victims: found or made, kept under the key of all that they are made of, and published.

A certificate stands beside the attack of a cell: the same victim, samples, threat and eps. The attack is no part of its
key, the digest of the weights is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import msgspec

from ecgbench.core.certificates import Certificate
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.random import RandomStream
from ecgbench.evaluation.certification import BothSides, Certification, Certified, both_sides
from ecgbench.evaluation.guard import apart, guarded
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.registry.identity import Identity, code_digests, identity
from ecgbench.results.certificates import SCHEMA, CertificateRecord, pack_certified, summary, unpack_certified
from ecgbench.runs.cache import Files
from ecgbench.runs.cell import Cell
from ecgbench.runs.context import CellContext
from ecgbench.runs.runner import Runner
from ecgbench.runs.scoring import CellLabels, versions
from ecgbench.storage.store import TimedCheckpoint, key_of

STAGE = "certificates"


@dataclass(frozen=True)
class Claim:
    """That no perturbation of a cell's threat makes its victim wrong, to be proven by `certificate`."""

    runner: Runner
    cell: Cell
    certificate: Certificate

    @cached_property
    def context(self) -> CellContext:
        """The cell at its recordings, with its victim trained."""
        return CellContext(self.cell, self.runner.catalog, self.runner.victims).trained()

    @cached_property
    def identity(self) -> Identity:
        """What the certificate is made of."""
        cell, used = self.cell, self.context.named["victim"]
        return {
            "stage": "certificate",
            "victim": used.made_of,
            "weights": used.weights,
            "certificate": identity(self.certificate),
            "threat": identity(cell.threat),
            "eps": [repr(eps) for eps in cell.eps],
            "protocol": {"per_class": cell.protocol.per_class, "split": cell.protocol.split},
            "limit": cell.limit,
            "seed": cell.seed,
            "sources": code_digests(self.certificate, extra=("ecgbench.evaluation.certification",)),
        }

    def files(self) -> Files:
        """The proofs and what they cost, found or made. Raises EcgbenchError where nothing can be proven."""
        with apart():
            context = self.context
            with guarded(self.certificate):
                unfit = self.certificate.unfit(context.task, self.cell.threat)
            if unfit is not None:
                raise EcgbenchError(unfit)
            return self.runner.cache.get_or_make(STAGE, self.identity, self._make)

    def certified(self) -> Certified:
        """The proofs, found or made."""
        return unpack_certified(self.files()["certified.npz"], "the store")

    def record(self) -> tuple[CertificateRecord, bytes]:
        """The certificate as it is published, and its proofs."""
        files = self.files()
        content = files["certified.npz"]
        certified, catalog = unpack_certified(content, "the store"), self.runner.catalog
        names = CellLabels.of(self.cell, catalog).names
        return (
            CertificateRecord(
                schema=SCHEMA,
                key=key_of(self.identity),
                dataset=names["dataset"],
                model=names["model"],
                defense=names["defense"],
                seed=self.cell.seed,
                certificate=catalog.canonical("certificate", self.certificate),
                statistical=self.certificate.statistical,
                threat=catalog.canonical("threat", self.cell.threat),
                unit=self.cell.threat.unit,
                protocol=catalog.canonical("protocol", self.cell.protocol),
                limit=self.cell.limit,
                weights=str(self.identity["weights"]),
                content=hashlib.sha256(content).hexdigest(),
                versions=versions(),
                identity=self.identity,
                seconds=tuple(msgspec.json.decode(files["cost.json"])["seconds"]),
                **summary(certified),
            ),
            content,
        )

    def beside(self, outcomes: Outcomes) -> list[BothSides]:
        """What certificate and attack say together. Raises EcgbenchError where they contradict each other."""
        return both_sides(self.certified(), outcomes, self.certificate.statistical)

    def _make(self, checkpoint: TimedCheckpoint) -> Files:
        cell, recordings = self.cell, self.runner.recordings
        with recordings.lending(cell.dataset, self.certificate):
            trained = self.context.victim("victim")
            checkpoint.start()
            task = self.context.task
            certified, seconds = Certification(
                certificate=self.certificate,
                victim=trained.victim,
                task=task,
                samples=task.samples(cell.protocol.split),
                threat=cell.threat,
                eps=cell.eps,
                rng=RandomStream(("certificate", cell.seed)),
                device=self.runner.device,
            ).run(checkpoint)
        cost = {"seconds": [round(each, 3) for each in seconds]}
        return {"certified.npz": pack_certified(certified), "cost.json": msgspec.json.encode(cost)}
