"""What the page of a row shows: curves, confusion matrices, cost, checks, proofs, provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecgbench.checks.flags import FLAGS
from ecgbench.evaluation.metrics import confusion
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.leaderboard.badges import MEANINGS
from ecgbench.leaderboard.flags_page import BADGES, BEST_KNOWN, FLAGS_PAGE
from ecgbench.leaderboard.naming import anchor, dataset_page, victim_page
from ecgbench.leaderboard.site.charts import curves
from ecgbench.leaderboard.site.entries import Entry
from ecgbench.results.bounds import Bounds

CLASSES = 12
"""A matrix of more is not read at a glance."""


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: the share of each true class (row) predicted as each class; None for one without samples."""

    title: str
    rows: tuple[tuple[float | None, ...], ...]


def row_facts(entry: Entry, bounds: Bounds) -> dict[str, Any]:
    """What the template of a row's page is filled with."""
    record = entry.record
    return {
        "entry": entry,
        "record": record,
        "meanings": {code: FLAGS.get(code, "unknown to this version") for code in entry.flags},
        "chart": curves(record.scores, record.headline),
        "matrices": _matrices(entry),
        "badge": MEANINGS[entry.badge],
        "badges_page": f"{FLAGS_PAGE}#{anchor(BADGES)}",
        "known_page": f"{FLAGS_PAGE}#{anchor(BEST_KNOWN)}",
        "deciding": _deciding(entry),
        "proofs": [] if entry.row.outcomes is None else bounds.beside(record, entry.row.outcomes),
        "dataset_page": dataset_page(record.dataset),
        "victim_page": victim_page(record.dataset, (record.model, record.defense)),
    }


def _matrices(entry: Entry) -> list[Matrix]:
    """When clean, and at the headline eps, weighted as the split states."""
    record, outcomes = entry.record, entry.row.outcomes
    if outcomes is None or not 0 < len(record.classes) <= CLASSES:
        return []
    found = [Matrix("clean", _shares(outcomes, 0.0, len(record.classes)))]
    if record.score(record.headline) is not None:
        found.append(Matrix(f"at eps {record.headline:g}", _shares(outcomes, record.headline, len(record.classes))))
    return found


def _shares(outcomes: Outcomes, eps: float, classes: int) -> tuple[tuple[float | None, ...], ...]:
    table = confusion(outcomes.y, outcomes.at(eps), classes, outcomes.weight)
    return tuple(tuple(float(v) / float(sum(row)) if sum(row) else None for v in row) for row in table)


def _deciding(entry: Entry) -> Sequence[tuple[str, int]]:
    """By component of an attack how many samples it made adversarial at the headline eps; () for a single attack."""
    record, outcomes = entry.record, entry.row.outcomes
    if outcomes is None or len(outcomes.components) < 2 or record.headline not in outcomes.eps:
        return ()
    at = int(np.flatnonzero(outcomes.eps == record.headline)[0])
    counts = np.bincount(outcomes.by[at][outcomes.adversarial[at]], minlength=len(outcomes.components))
    told = zip(outcomes.components.tolist(), counts.tolist(), strict=True)
    return sorted(told, key=lambda item: (-item[1], item[0]))
