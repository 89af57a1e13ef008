"""Made-up certificates of the victims of made-up rows."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ecgbench.evaluation.certification import Certified
from ecgbench.results.certificates import SCHEMA, CertificateRecord, pack_certified, publish_certificate, summary
from ecgbench.storage.store import key_of

EPS = (0.1, 0.2)


def proves(*proven: str, eps: tuple[float, ...] = EPS, ids: Iterable[int] = range(10)) -> Certified:
    """Proofs of ten samples; `proven` holds, by eps, the ids that are proven: ["12", "1"]."""
    numbers = np.array(list(ids))
    found = np.array([[str(number) in row for number in numbers] for row in proven])
    return Certified(
        eps=np.array(eps, np.float64),
        ids=numbers,
        y=numbers % 2,
        clean=numbers % 2,
        weight=np.ones(len(numbers), np.float32),
        proven=found,
        queries=np.zeros(found.shape, np.int64),
    )


def certificate(certified: Certified, **facts: Any) -> tuple[CertificateRecord, Certified]:
    """A record of these proofs, of the victim of a made-up row."""
    words: dict[str, Any] = {
        "dataset": "beats",
        "model": "mlp",
        "defense": "none",
        "threat": "linf",
        "unit": "native",
        "seed": 0,
    }
    words |= {"weights": "weights", "certificate": "crown", "statistical": False, "protocol": "standard", "limit": None}
    words |= facts
    made = {name: words[name] for name in ("seed", "limit", "weights")} | {"victim": {"made": "up"}, "made_of": facts}
    made |= {"eps": [repr(eps) for eps in certified.eps.tolist()], "protocol": {"per_class": 0, "split": "test"}}
    words |= {"schema": SCHEMA, "key": key_of(made), "identity": made, "versions": {}}
    words |= {"seconds": (1.0,) * len(certified.eps), "content": sha256(pack_certified(certified)).hexdigest()}
    return CertificateRecord(**(words | summary(certified) | facts)), certified


def publish(one: tuple[CertificateRecord, Certified], leaderboard: Path) -> Path:
    """Put it on a leaderboard; returns the record's file."""
    return publish_certificate(one[0], pack_certified(one[1]), leaderboard)
