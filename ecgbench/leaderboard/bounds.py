"""Victims from both sides: what is proven beside the worst case over their attacks, and how a page says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from ecgbench.evaluation.certification import BothSides
from ecgbench.leaderboard.ranking import RankedVictim, complete, grouped, worst_case
from ecgbench.leaderboard.wording import MISSING, figure
from ecgbench.results.bounds import Bounds
from ecgbench.results.published import Published

BOTH_SIDES = """\
Robust accuracy lies between what certificates prove, which no attack can lower, and what the attacks left; decided is \
the share of samples that are proven or were broken, exact where that is all of them. Means over seeds."""


def with_bounds(victim: RankedVictim, rows: Sequence[Published], bounds: Bounds) -> RankedVictim:
    """A victim of these rows with what certificates prove of it."""
    own = [row for row in rows if row.record.status == "ok" and row.outcomes is not None and _is(row, victim)]
    by_seed = grouped(own, lambda r: r.seed)
    found = {eps: _over_seeds([by_seed[seed] for seed in complete(by_seed, eps)], eps, bounds) for eps in victim.robust}
    return replace(victim, sides={eps: side for eps, side in found.items() if side is not None})


def bracket(side: BothSides | None) -> str:
    """Both ends, [0.740, 0.787], or the figure alone where nothing is left between."""
    if side is None:
        return MISSING
    return f"{figure(side.attacked)} exact" if side.exact else f"[{figure(side.proven)}, {figure(side.attacked)}]"


def decided(side: BothSides | None) -> str:
    """The share of samples that are decided either way."""
    return MISSING if side is None else figure(side.decided)


def proof(name: str, side: BothSides) -> str:
    """A sentence on what is proven of a victim."""
    if side.exact:
        return f"The figure of {name} is exact: all that the attacks left is proven."
    return f"Of {name} at least {figure(side.proven)} is proven, and {figure(side.decided)} of the samples are decided."


def _is(row: Published, victim: RankedVictim) -> bool:
    return (row.record.model, row.record.defense, row.record.limit) == (victim.model, victim.defense, victim.limit)


def _over_seeds(seeds: Sequence[Sequence[Published]], eps: float, bounds: Bounds) -> BothSides | None:
    """The mean over seeds; None unless all samples of every one were asked for."""
    sides = [side for rows in seeds for side in _side(rows, eps, bounds)]
    if not sides or len(sides) < len(seeds):
        return None
    shares: Mapping[str, float] = {n: fmean(getattr(s, n) for s in sides) for n in ("proven", "attacked", "decided")}
    return BothSides(eps, open_samples=sum(side.open_samples for side in sides), **shares)


def _side(rows: Sequence[Published], eps: float, bounds: Bounds) -> list[BothSides]:
    """Certificates of one training beside the worst case over its attacks at eps, one or none."""
    runs = [(row.record.attack, row.outcomes) for row in rows if row.outcomes is not None]
    if not bounds.asked(rows[0].record, runs[0][1], eps):
        return []
    return bounds.beside(rows[0].record, worst_case(runs, [eps]))
