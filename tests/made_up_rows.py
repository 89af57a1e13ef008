"""Made-up outcomes and the records that follow from them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from ecgbench.checks.cheap import Check
from ecgbench.core.outputs import SingleLabel
from ecgbench.evaluation.metrics import summarize
from ecgbench.evaluation.outcomes import Outcomes, spent
from ecgbench.results.published import Published, place
from ecgbench.results.record import Cost, Provenance, Record
from ecgbench.storage.arrays import pack
from ecgbench.storage.store import key_of

CLASSES = ("N", "V")
DRAWS = 20
UNRAISED = tuple(Check(code, False, 0.0, 0.005, "made up") for code in ("RANDOM", "NOISE", "LOSS", "STEP"))


def made_up(wrong, *, clean="", n=10, eps=(0.1, 0.2), groups=0, start=0) -> Outcomes:
    """n samples of classes 0, 1, 0, 1, ...; `wrong` holds, by eps, the positions that are wrong: ["03", "0345"]."""
    y = np.arange(n) % 2
    adversarial = np.array([[str(i) in row or str(i) in clean for i in range(n)] for row in wrong])
    shape = (len(eps), n)
    return Outcomes(
        eps=np.array(eps, np.float64),
        ids=np.arange(start, start + n),
        y=y.astype(np.int16),
        group=np.arange(n) % groups if groups else np.full(n, -1),
        weight=np.ones(n, np.float32),
        clean=np.where([str(i) in clean for i in range(n)], 1 - y, y).astype(np.int16),
        predicted=np.where(adversarial, 1 - y, y).astype(np.int16),
        adversarial=adversarial,
        size=np.full(shape, 0.05, np.float32),
        l0=np.ones(shape, np.int32),
        l1=np.full(shape, 0.05, np.float32),
        distance=np.full(n, np.nan, np.float32),
        logits=np.zeros((1 + len(eps), n, 0), np.float16),
        threshold=np.zeros(0),
        by=np.zeros(shape, np.int8),
        forwards=np.full(shape, 3, np.int32),
        gradients=np.full(shape, 2, np.int32),
        components=np.array(["only"]),
    )


def raised(*codes: str) -> tuple[Check, ...]:
    """All checks of a row, these ones raised."""
    return tuple(replace(c, raised=c.code in codes, effect=float(c.code in codes)) for c in UNRAISED)


def row(outcomes: Outcomes | None = None, folder: Path = Path("results"), **facts) -> Published:
    """What `publish` would have written; a row without outcomes failed."""
    names = {"dataset": "beats", "model": "mlp", "defense": "none", "attack": "pgd", "threat": "linf"}
    names |= {"protocol": "standard", "seed": 0, "limit": None, "eps": (0.1, 0.2), "headline": 0.1}
    names |= {"unit": "mV", "synthetic": False, "notes": ("intra-patient",), "weighting": "every beat counts once"}
    names |= {"classes": CLASSES, "skip_unpredicted": False, "checks": UNRAISED}
    if outcomes is None:
        names |= {"status": "failed", "n": 0, "groups": None, "counts": {}, "checks": (), "error": "out of memory"}
    else:
        run = {name: facts.get(name, names[name]) for name in ("seed", "limit")}
        names |= scored(outcomes, facts.get("classes", CLASSES), **run) | {"status": "ok"}
    names |= facts
    cell = {
        name: str(names[name])
        for name in ("dataset", "model", "defense", "attack", "threat", "protocol", "seed", "limit")
    }
    cell |= {"eps": str(names["eps"])}
    record = Record(**({"key": key_of(cell)} | names))
    return Published(record, outcomes, folder / place(record))


def scored(outcomes: Outcomes, classes: tuple[str, ...], seed: int, limit: int | None) -> dict[str, object]:
    """The facts of a record that follow from its outcomes, and a provenance that names no plugin."""
    summary = summarize(outcomes, SingleLabel(classes), skip_unpredicted=False, draws=DRAWS)
    victim = {"made": "up", "seed": seed, "data": "data"}
    identity = {"victim": victim, "weights": {"victim": "weights"}, "limit": limit}
    return {
        "n": len(outcomes.y),
        "groups": len(set(outcomes.group.tolist())) if outcomes.group[0] >= 0 else None,
        "counts": {name: int((outcomes.y == label).sum()) for label, name in enumerate(classes)},
        "eps": tuple(outcomes.eps.tolist()),
        "scores": summary.scores,
        "curve": summary.curve,
        "uncertainty": summary.uncertainty,
        "cost": Cost(**spent(outcomes)),
        "provenance": Provenance(
            victim=key_of(victim),
            outcomes=key_of(identity),
            weights="weights",
            data="data",
            outcomes_digest=hashlib.sha256(pack(outcomes)).hexdigest(),
            versions={},
            plugins={},
            identity=identity,
        ),
    }


def changed(published: Published, **facts) -> Published:
    """The same row with facts of its record replaced, key and place left as they were."""
    return replace(published, record=msgspec.structs.replace(published.record, **facts))
