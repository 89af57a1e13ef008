"""Made-up outcomes and the records that follow from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import msgspec
import numpy as np

from ecgbench.checks.chance import verdict
from ecgbench.checks.cheap import Check
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Determinism
from ecgbench.core.outputs import SingleLabel
from ecgbench.evaluation.metrics import Curve, Score, summarize
from ecgbench.evaluation.outcomes import Outcomes, spent
from ecgbench.evaluation.uncertainty import Uncertainty
from ecgbench.registry.catalog import Catalog, discover
from ecgbench.registry.identity import identity
from ecgbench.results.published import Published, place
from ecgbench.results.record import Cost, Provenance, Record
from ecgbench.results.words import KINDS
from ecgbench.storage.arrays import pack
from ecgbench.storage.store import key_of

CLASSES = ("N", "V")
DRAWS = 20
CELL = ("dataset", "model", "defense", "attack", "threat", "protocol", "seed", "limit", "eps")
STANDARD = ("RANDOM", "DYNAMIC", "STATE", "PROB", "GRAD", "NOOP", "NOISE", "LOSS", "STEP")
UNRAISED = tuple(Check(code, False, 0.0, 0.005, "made up") for code in STANDARD)


def made_up(
    wrong: Sequence[str],
    *,
    clean: str = "",
    n: int = 10,
    eps: tuple[float, ...] = (0.1, 0.2),
    groups: int = 0,
    start: int = 0,
) -> Outcomes:
    """n samples of classes 0, 1, 0, 1, ...; `wrong` holds, by eps, the positions that are wrong: ["03", "0345"].

    What is wrong when clean is not attacked; what is adversarial is attacked no more.
    """
    y = np.arange(n) % 2
    right = np.array([str(i) not in clean for i in range(n)])
    adversarial = np.array([[str(i) in row for i in range(n)] for row in wrong]) & right
    attacked = np.concatenate([right[None], right & ~adversarial[:-1]])
    size = np.where(right, eps[0] / 2, 0).astype(np.float32)
    shape = (len(eps), n)
    return Outcomes(
        eps=np.array(eps, np.float64),
        ids=np.arange(start, start + n),
        y=y.astype(np.int16),
        group=np.arange(n) % groups if groups else np.full(n, -1),
        weight=np.ones(n, np.float32),
        clean=np.where(right, y, 1 - y).astype(np.int16),
        predicted=np.where(right & ~adversarial, y, 1 - y).astype(np.int16),
        adversarial=adversarial,
        size=np.broadcast_to(size, shape).copy(),
        l0=np.broadcast_to(right.astype(np.int32), shape).copy(),
        l1=np.broadcast_to(size, shape).copy(),
        distance=np.full(n, np.nan, np.float32),
        logits=np.zeros((1 + len(eps), n, 0), np.float16),
        threshold=np.zeros(0),
        by=np.zeros(shape, np.int8),
        forwards=np.where(attacked, 3, 0).astype(np.int32),
        gradients=np.where(attacked, 2, 0).astype(np.int32),
        components=np.array(["only"]),
    )


def raised(*codes: str) -> tuple[Check, ...]:
    """All checks of a row, these ones raised."""
    return tuple(replace(c, raised=c.code in codes, effect=float(c.code in codes)) for c in UNRAISED)


class Facts(TypedDict, total=False):
    """Fields of a record as a test states them; the others are those of `FAILED` or follow from the outcomes."""

    status: Literal["ok", "failed", "skipped"]
    key: str
    dataset: str
    model: str
    defense: str
    attack: str
    determinism: Determinism
    goes_on: bool
    threat: str
    protocol: str
    seed: int
    limit: int | None
    eps: tuple[float, ...]
    headline: float
    n: int
    groups: int | None
    classes: tuple[str, ...]
    counts: dict[str, int]
    unit: str
    synthetic: bool
    notes: tuple[str, ...]
    weighting: str
    skip_unpredicted: bool
    challenge: tuple[str, ...]
    scores: tuple[Score, ...]
    curve: Curve | None
    uncertainty: Uncertainty | None
    checks: tuple[Check, ...]
    error: str | None
    cost: Cost
    provenance: Provenance | None


FAILED = Record(
    status="failed",
    key="",
    dataset="beats",
    model="mlp",
    defense="none",
    attack="pgd",
    threat="linf",
    protocol="standard",
    seed=0,
    limit=None,
    eps=(0.1, 0.2),
    headline=0.1,
    classes=CLASSES,
    unit="mV",
    notes=("intra-patient",),
    weighting="every beat counts once",
    error="out of memory",
)


def row(outcomes: Outcomes | None = None, folder: Path = Path("results"), **facts: Unpack[Facts]) -> Published:
    """What `publish` would have written; a row without outcomes failed."""
    record = msgspec.structs.replace(FAILED, **facts)
    if outcomes is not None:
        record = msgspec.structs.replace(scored(outcomes, record), **facts)
        if record.checks:
            stated = {check.code for check in record.checks}
            told = (check for check in verdict(outcomes) if check.code not in stated)
            record = msgspec.structs.replace(record, checks=(*told, *record.checks))
    if not record.key:
        record = msgspec.structs.replace(record, key=key_of({name: str(getattr(record, name)) for name in CELL}))
    return Published(record, outcomes, folder / place(record))


def scored(outcomes: Outcomes, record: Record) -> Record:
    """A record with what follows from its outcomes, and the provenance of a cell in its words."""
    summary = summarize(outcomes, SingleLabel(record.classes), skip_unpredicted=False, draws=DRAWS)
    made = {kind: meant(kind, getattr(record, kind)) for kind in KINDS}
    victim = {kind: made[kind] for kind in ("dataset", "model", "defense")} | {"seed": record.seed, "data": "data"}
    run = {kind: made[kind] for kind in ("attack", "threat", "protocol")}
    run |= {"victim": victim, "weights": {"victim": "weights"}, "limit": record.limit}
    run |= {"eps": [repr(eps) for eps in outcomes.eps.tolist()]}
    return msgspec.structs.replace(
        record,
        status="ok",
        error=None,
        checks=UNRAISED,
        n=len(outcomes.y),
        groups=len(set(outcomes.group.tolist())) if outcomes.group[0] >= 0 else None,
        counts={name: int((outcomes.y == label).sum()) for label, name in enumerate(record.classes)},
        eps=tuple(outcomes.eps.tolist()),
        scores=summary.scores,
        curve=summary.curve,
        uncertainty=summary.uncertainty,
        cost=Cost(**spent(outcomes)),
        provenance=Provenance(
            victim=key_of(victim),
            outcomes=key_of(run),
            weights="weights",
            data="data",
            outcomes_digest=hashlib.sha256(pack(outcomes)).hexdigest(),
            versions={},
            plugins={},
            identity=run,
        ),
    )


def meant(kind: str, words: str) -> Any:
    """What words say was run; what nobody here knows is of another distribution."""
    try:
        return identity(catalog().resolve(kind, words))
    except EcgbenchError:
        return {"class": "elsewhere.Thing", "fields": {"words": words}}


@cache
def catalog() -> Catalog:
    """All installed plugins."""
    return discover()


def changed(published: Published, **facts: Unpack[Facts]) -> Published:
    """The same row with facts of its record replaced, key and place left as they were."""
    return replace(published, record=msgspec.structs.replace(published.record, **facts))


def provenance_of(published: Published) -> Provenance:
    """The provenance of a row that has scores."""
    assert published.record.provenance is not None
    return published.record.provenance


def outcomes_of(published: Published) -> Outcomes:
    """The outcomes of a row that has scores."""
    assert published.outcomes is not None
    return published.outcomes


def curve_of(published: Published) -> Curve:
    """The curve of a row that has scores."""
    assert published.record.curve is not None
    return published.record.curve
