"""What each attack of a section is worth: how far it stays from all of them together, and what it costs.

The distance to the union is AttackBench's optimality turned round (Cinà et al. 2025): accuracy that an attack leaves at
the headline eps, less what all attacks on the same victims leave together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from ecgbench.leaderboard.naming import Names
from ecgbench.leaderboard.page import Block, Paragraph, Table
from ecgbench.leaderboard.ranking import grouped, worst_case
from ecgbench.leaderboard.sections import Section
from ecgbench.leaderboard.wording import figure
from ecgbench.results.published import Published


@dataclass(frozen=True)
class Worth:
    """An attack on `victims` (each seed of a victim is one): mean distance to the union, seconds a sample."""

    attack: str
    victims: int
    distance: float
    seconds: float


def worths(part: Section) -> list[Worth]:
    """Every attack of a section that met a victim beside another attack, the nearest to the union first."""
    scored = [row for row in part.rows if row.record.status == "ok" and row.record.score(part.headline) is not None]
    victims = grouped(scored, lambda r: (r.model, r.defense, r.seed, r.limit)).values()
    found: dict[str, list[tuple[float, float]]] = {}
    for rows in victims:
        if len(rows) > 1:
            for attack, one in _beside(rows, part.headline):
                found.setdefault(attack, []).append(one)
    made = [
        Worth(attack, len(values), fmean(distance for distance, _ in values), fmean(cost for _, cost in values))
        for attack, values in found.items()
    ]
    return sorted(made, key=lambda one: (one.distance, one.seconds, one.attack))


def worth(part: Section, names: Names) -> Iterator[Block]:
    """The table of attacks, where there are several."""
    found = worths(part)
    if not found:
        return
    rows = tuple(
        (names.attacks[one.attack], str(one.victims), figure(one.distance), f"{one.seconds:.3g}") for one in found
    )
    yield Paragraph(
        "Attacks: accuracy that each leaves above what all of them leave together at the headline eps (0: it decides "
        "alone), and its seconds for each sample, over its whole grid of eps, on the machine that made the row."
    )
    yield Table(("attack", "victims", "above the union", "s / sample"), rows, frozenset({1, 2, 3}))


def _beside(rows: Sequence[Published], eps: float) -> Iterator[tuple[str, tuple[float, float]]]:
    runs = [(row.record.attack, row.outcomes) for row in rows if row.outcomes is not None]
    union = worst_case(runs, [eps])
    weight = union.weight.astype(np.float64)
    least = float(np.average(union.at(eps) == union.y, weights=weight))
    for row in rows:
        score = row.record.score(eps)
        if score is not None:
            yield row.record.attack, (score.acc - least, row.record.cost.attack_seconds / max(row.record.n, 1))
