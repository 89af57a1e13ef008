"""What a page needs to compare two rows as `ecgbench results compare` does: outcomes in bits, and resamples.

A page has no generator of random numbers that draws as the host's. Where samples are resampled by group the draws
depend on the number of groups alone, so they are written once and the page multiplies; else they depend on the pair,
and the comparisons of all pairs are made here.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from itertools import permutations
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecgbench.core.fingerprint import digest
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.uncertainty import Resamples, compare
from ecgbench.leaderboard.site.entries import Entry

DRAWS = 1000
"""Resamples of a comparison, as many as `compare` draws by default."""
GROUPS = 255
"""Most groups whose draws are written."""
ROWS = 40
"""Most rows on the same samples whose pairs are compared here."""


def samples_of(outcomes: Outcomes) -> str:
    """The name of the samples that outcomes are on: equal for rows that may be compared."""
    parts = {name: getattr(outcomes, name) for name in ("ids", "weight", "group")}
    return digest(parts | {"y": outcomes.y.astype(np.int64)})[:12]


def scripts(entries: Iterable[Entry]) -> Iterator[tuple[str, bytes]]:
    """Files of a site, path and content, that its script loads when two rows are compared."""
    sets: dict[str, list[tuple[Entry, Outcomes]]] = {}
    for entry in entries:
        if entry.row.outcomes is not None:
            name = samples_of(entry.row.outcomes)
            sets.setdefault(name, []).append((entry, entry.row.outcomes))
            yield f"rows/{entry.id}.js", script("row", _row(entry, entry.row.outcomes, name))
    drawn: set[int] = set()
    for name, members in sets.items():
        first = members[0][1]
        groups = _groups(first)
        yield f"data/samples-{name}.js", script("samples", _samples(first, name, len(members)))
        if groups is None and len(members) <= ROWS:
            yield f"data/pairs-{name}.js", script("pairs", _pairs(members, name))
        elif groups is not None and groups not in drawn:
            drawn.add(groups)
            yield f"data/draws-{groups}.js", script("draws", {"groups": groups, "times": _draws(first)})


def script(name: str, value: object) -> bytes:
    """A script that gives a value to the one that asked for it; a page on a disk may load no other kind of file."""
    return b"ecgbench." + name.encode() + b"(" + msgspec.json.encode(value) + b");\n"


def _row(entry: Entry, outcomes: Outcomes, samples: str) -> dict[str, Any]:
    """A row's curve, and for each eps, 0 first, a bit for each sample: whether it is right."""
    record = entry.record
    right = [outcomes.at(eps) == outcomes.y for eps in (0.0, *record.eps)]
    return {
        "id": entry.id,
        "label": entry.label,
        "title": entry.title,
        "unit": record.unit,
        "samples": samples,
        "eps": [0.0, *record.eps],
        "acc": [score.acc for score in record.scores],
        "interval": [score.interval.acc for score in record.scores],
        "right": [_packed(np.packbits(bits)) for bits in right],
    }


def _samples(outcomes: Outcomes, name: str, rows: int) -> dict[str, Any]:
    """What all rows on these samples share; `weight` is one number where all weigh alike."""
    weight, groups = outcomes.weight, _groups(outcomes)
    alike = bool((weight == weight[0]).all())
    unit = None if groups is None else _packed(np.unique(outcomes.group, return_inverse=True)[1].astype(np.uint8))
    return {
        "name": name,
        "n": len(outcomes.y),
        "groups": groups,
        "paired": groups is None and rows <= ROWS,
        "unit": unit,
        "weight": float(weight[0]) if alike else _packed(weight.astype("<f4")),
    }


def _pairs(members: list[tuple[Entry, Outcomes]], name: str) -> dict[str, Any]:
    """The comparison of every ordered pair at every eps that both ran."""
    found = {}
    for (one, a), (other, b) in permutations(members, 2):
        grid = [0.0, *(eps for eps in one.record.eps if eps in other.record.eps)]
        made = [compare(a, b, eps) for eps in grid]
        found[f"{one.id} {other.id}"] = [(c.eps, c.difference, c.interval, c.p_value) for c in made]
    method = compare(members[0][1], members[0][1], 0.0).method
    return {"name": name, "method": method, "pairs": found}


def _draws(outcomes: Outcomes) -> str:
    """How often each group is drawn, a sign for each, "0" for never, draw after draw."""
    drawn = Resamples.of(outcomes, [outcomes.weight], DRAWS, 0)
    return (drawn.times.astype(np.uint8) + ord("0")).tobytes().decode("latin-1")


def _groups(outcomes: Outcomes) -> int | None:
    """The number of groups; None where there are none, or too many to write their draws."""
    count = len(np.unique(outcomes.group))
    return count if outcomes.group[0] >= 0 and count <= GROUPS else None


def _packed(values: NDArray[Any]) -> str:
    return b64encode(values.tobytes()).decode()
