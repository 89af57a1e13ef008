"""Which victim stands where: the worst case over its attacks, sample by sample, and a total order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_EVEN, Decimal
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecgbench.checks.chance import OF_CLEAN, verdict
from ecgbench.checks.flags import OF_VICTIM, UNCHECKED
from ecgbench.evaluation.certification import BothSides
from ecgbench.evaluation.metrics import Score, summarize
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.uncertainty import Spread, over_seeds
from ecgbench.results.published import Published
from ecgbench.results.record import Record

CLAIMED = "claimed"
PLACE = 6  # terms of the order, all but the names: victims that agree in them share a rank
Key = TypeVar("Key", bound=Hashable)
_COLUMNS = ("predicted", "adversarial", "size", "l0", "l1", "by", "forwards", "gradients")


@dataclass(frozen=True)
class RankedVictim:
    """One victim; `limit` is None where it met the whole split.

    `robust` holds, by eps, the accuracy in the worst case over all attacks that ran at that eps, for the seeds
    in which all of them ran, and `intervals` the widest span over these seeds, 0 being clean. `seeds` of `of` seeds
    are such at the headline eps, to which `decided_by`, the attack with the lowest accuracy, belongs. `failed` are
    attacks that broke off, so nobody knows what they would have found. `audited`: one attack or more of each seed met
    the costly checks, too. `rank` is None for a victim that does not rank. `sides` holds, by eps, what is proven of the
    same samples, where certificates asked for all of them. `badges` are those of rows of others: what is only claimed
    does not count where anything else is known of the victim, nor rank where nothing is. `best_known` holds, by
    eps, what counterexamples leave of `robust`, where they leave less.
    """

    model: str
    defense: str
    limit: int | None
    status: str
    n: int
    seeds: int
    of: int
    clean: Spread | None
    headline: float
    robust: Mapping[float, Spread]
    intervals: Mapping[float, tuple[float, float]]
    decided_by: str | None
    flags: tuple[str, ...]
    failed: tuple[str, ...]
    audited: bool = False
    rank: int | None = None
    sides: Mapping[float, BothSides] = field(default_factory=dict)
    badges: tuple[str, ...] = ()
    best_known: Mapping[float, float] = field(default_factory=dict)

    @property
    def deciding(self) -> Spread | None:
        """The robust accuracy at the headline eps."""
        return self.robust.get(self.headline)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval of the robust accuracy at the headline eps."""
        return self.intervals.get(self.headline)

    @property
    def ranks(self) -> bool:
        """Whether the whole split met every attack that was tried, at the headline eps, and somebody can tell."""
        whole = self.limit is None and self.deciding is not None and not self.failed
        return whole and CLAIMED not in self.badges


def grouped(rows: Iterable[Published], key: Callable[[Record], Key]) -> dict[Key, list[Published]]:
    """Rows by what `key` says of their records, in the order of their coming."""
    groups: dict[Key, list[Published]] = {}
    for row in rows:
        groups.setdefault(key(row.record), []).append(row)
    return groups


def rank_victims(rows: Iterable[Published], headline: float) -> tuple[RankedVictim, ...]:
    """The victims of rows that may be compared, in order.

    Victims with scores come first, those better than chance when clean before others, unflagged before flagged, ranking
    before not; then the higher robust accuracy at the headline eps, the higher clean one, the name. Equal figures under
    equal flags share a rank.
    """
    victims = grouped(rows, lambda r: (r.model, r.defense, r.limit)).values()
    ordered = sorted((_ranked_victim(believed(victim), headline) for victim in victims), key=_order)
    ranks = [_order(ranked)[:PLACE] for ranked in ordered if ranked.ranks]
    return tuple(
        replace(ranked, rank=1 + ranks.index(_order(ranked)[:PLACE])) if ranked.ranks else ranked for ranked in ordered
    )


def believed(rows: Sequence[Published]) -> list[Published]:
    """The rows of one victim that count: what is only claimed does where there is nothing else."""
    return [row for row in rows if row.badge != CLAIMED] or list(rows)


def rounded(value: float) -> Decimal:
    """A figure as the board shows and ranks it: three decimals, half to even, never -0."""
    return Decimal(repr(float(value))).quantize(Decimal("0.001"), ROUND_HALF_EVEN) + Decimal(0)


def flags(record: Record) -> tuple[str, ...]:
    """Codes of the raised checks; a scored row that was never checked is flagged for that."""
    return (UNCHECKED.code,) if record.status == "ok" and not record.checks else record.flags


def clean_flags(row: Published) -> frozenset[str]:
    """What the clean predictions raise; told from the outcomes where the record is older than these checks."""
    known = OF_CLEAN & {check.code for check in row.record.checks}
    if known or row.outcomes is None:
        return OF_CLEAN & {*row.record.flags}
    return frozenset(check.code for check in verdict(row.outcomes) if check.raised)


def worst_case(runs: Sequence[tuple[str, Outcomes]], grid: Sequence[float]) -> Outcomes:
    """Runs of several attacks on one victim as one: at each eps a sample is wrong if any run at that eps makes it so.

    `runs` are attacks and outcomes on the same samples in the same order, at least one at each of `grid`.
    What is known of a sample is taken from the first run that makes it wrong; `by` and `components` name it.
    The clean prediction is the worst over all runs, too. Logits are of single runs, so there are none.
    """
    first = runs[0][1]
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
    for eps in grid:
        members = [(at, run) for at, (_, run) in enumerate(runs) if eps in run.eps]
        taken = _first_wrong([run.at(eps) for _, run in members], first.y)
        for name in set(_COLUMNS) - {"by"}:
            columns[name].append(_taken([getattr(run, name)[run.eps == eps][0] for _, run in members], taken))
        columns["by"].append(np.asarray([at for at, _ in members], np.int8)[taken])
    clean = [run.clean for _, run in runs]
    return replace(
        first,
        eps=np.asarray(grid, np.float64),
        clean=_taken(clean, _first_wrong(clean, first.y)),
        distance=np.full(len(first.y), np.nan, np.float32),
        logits=np.zeros((1 + len(grid), len(first.y), 0), np.float16),
        threshold=np.zeros(0),
        components=np.asarray([attack for attack, _ in runs], np.str_),
        **{name: np.reshape(column, (len(grid), len(first.y))) for name, column in columns.items()},
    )


def at_headline(rows: Iterable[Published], victim: RankedVictim) -> list[Outcomes]:
    """The worst case over the attacks on a victim of these rows at its headline eps, for each seed that counts."""
    scored = [row for row in rows if row.record.status == "ok"]
    own = grouped(scored, lambda r: (r.model, r.defense, r.limit))[victim.model, victim.defense, victim.limit]
    own = believed(own)
    by_seed = grouped(own, lambda r: r.seed)
    runs = {s: [(row.record.attack, row.outcomes) for row in of if row.outcomes] for s, of in by_seed.items()}
    return [worst_case(runs[seed], [victim.headline]) for seed in sorted(complete(by_seed, victim.headline))]


def _first_wrong(predicted: Sequence[NDArray[np.integer]], y: NDArray[np.integer]) -> NDArray[np.int64]:
    """Position of the first run in which each sample is wrong, 0 if it is right in all: (n,)."""
    return np.asarray((np.stack(predicted) != y).argmax(0))


def _taken(columns: Sequence[NDArray[Any]], position: NDArray[np.int64]) -> NDArray[Any]:
    return np.asarray(np.take_along_axis(np.stack(columns), position[None], 0)[0])


def _ranked_victim(rows: Sequence[Published], headline: float) -> RankedVictim:
    """One victim, not yet ranked."""
    record = rows[0].record
    scored = [row for row in rows if row.record.status == "ok"]
    grid = sorted({headline, *(eps for row in scored for eps in row.record.eps)})
    by_seed = {seed: runs for seed, runs in sorted(grouped(scored, lambda r: r.seed).items())}
    ran = {eps: complete(by_seed, eps) for eps in grid}
    scores = {seed: _scores(runs, [eps for eps in grid if seed in ran[eps]]) for seed, runs in by_seed.items()}
    counted = ran[headline]
    shown = {0.0: counted or list(by_seed), **ran}
    robust = {eps: over_seeds([scores[s][eps].acc for s in seeds]) for eps, seeds in ran.items() if seeds}
    known = {eps: fmean(_best_known(by_seed[s], scores[s][eps]) for s in ran[eps]) for eps in robust}
    failed = sorted({row.record.attack for row in rows if row.record.status == "failed"})
    tried = {row.record.seed for row in rows if row.record.status != "skipped"}
    return RankedVictim(
        model=record.model,
        defense=record.defense,
        limit=record.limit,
        status="ok" if scored else "failed" if failed else "skipped",
        n=record.n,
        seeds=len(counted or by_seed),
        of=len(tried),
        clean=over_seeds([scores[seed][0.0].acc for seed in counted or by_seed]) if by_seed else None,
        headline=headline,
        robust=robust,
        intervals={eps: _span([scores[s][eps].interval.acc for s in seeds]) for eps, seeds in shown.items() if seeds},
        decided_by=_decided_by([row.record for seed in counted for row in by_seed[seed]], headline),
        flags=_victim_flags(scored, [by_seed[seed] for seed in counted]),
        failed=tuple(failed),
        badges=tuple(sorted({row.badge for row in rows if row.badge is not None})),
        audited=bool(counted) and all(any(row.record.audited for row in by_seed[seed]) for seed in counted),
        best_known={eps: value for eps, value in known.items() if value < robust[eps].mean},
    )


def _span(intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    lows, highs = zip(*intervals, strict=True)
    return min(lows), max(highs)


def _order(ranked: RankedVictim) -> tuple[object, ...]:
    figures = (-rounded(spread.mean) if spread else Decimal(1) for spread in (ranked.deciding, ranked.clean))
    names = (ranked.model, ranked.defense, ranked.limit or 0)
    useless, flagged = not OF_CLEAN.isdisjoint(ranked.flags), bool(ranked.flags)
    return (ranked.clean is None, useless, flagged, not ranked.ranks, *figures, *names)


def complete(by_seed: Mapping[int, Sequence[Published]], eps: float) -> list[int]:
    """Seeds in which every attack ran that ran at this eps in any seed."""
    ran = {seed: {row.record.attack for row in runs if eps in row.record.eps} for seed, runs in by_seed.items()}
    every = set().union(*ran.values())
    return [seed for seed, attacks in ran.items() if attacks and attacks == every]


def _scores(runs: Sequence[Published], grid: Sequence[float]) -> dict[float, Score]:
    """The worst case over the runs of one seed, by eps, 0 being clean."""
    if len(runs) == 1:
        return {score.eps: score for score in runs[0].record.scores}
    record = runs[0].record
    merged = worst_case(
        [(row.record.attack, row.outcomes) for row in runs if row.outcomes is not None], grid or record.eps
    )
    summary = summarize(merged, record.outputs, skip_unpredicted=record.skip_unpredicted)
    return {score.eps: score for score in summary.scores}


def _best_known(runs: Sequence[Published], score: Score) -> float:
    """What is left of one seed's victim at the eps of a score, the worst case over its runs."""
    return min([score.acc, *(row.best_known[score.eps] for row in runs if score.eps in row.best_known)])


def _decided_by(records: Sequence[Record], headline: float) -> str | None:
    """The attack with the lowest mean accuracy over seeds, the first by name if several have it."""
    found: dict[str, list[float]] = {}
    for record in records:
        score = record.score(headline)
        if score is not None:
            found.setdefault(record.attack, []).append(score.acc)
    return min(found, key=lambda attack: (fmean(found[attack]), attack), default=None)


def _victim_flags(scored: Sequence[Published], counted: Sequence[Sequence[Published]]) -> tuple[str, ...]:
    """Flags of a victim, by code.

    A check of the victim counts whatever the attack. A check of an attack shows that what is robust against it is not
    against something else; what is robust in the worst case is so against every attack, so it is beyond doubt as soon
    as one attack of each seed is unflagged. Where none is, the flags are those of the strongest.
    """
    raised = {code for row in scored for code in (*flags(row.record), *clean_flags(row)) if code in OF_VICTIM}
    for runs in counted or [scored]:
        at_headline = [row.record for row in runs if row.record.score(row.record.headline)] or [r.record for r in runs]
        doubted = [set(flags(record)) - OF_VICTIM for record in sorted(at_headline, key=_strength)]
        if doubted and all(doubted):
            raised |= doubted[0]
    return tuple(sorted(raised))


def _strength(record: Record) -> tuple[object, ...]:
    score = record.score(record.headline)
    return (score.acc if score else 1.0, record.attack)
