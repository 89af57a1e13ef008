"""Rows of the board that may be compared: one dataset, threat, protocol and headline eps, the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import pairwise

from ecgbench.core.errors import StoreError
from ecgbench.leaderboard.bounds import with_bounds
from ecgbench.leaderboard.confidence import Certainty, certainties
from ecgbench.leaderboard.ranking import RankedVictim, at_headline, clean_flags, flags, grouped, rank_victims, rounded
from ecgbench.results.bounds import Bounds
from ecgbench.results.certificates import CertificateRecord
from ecgbench.results.published import Published
from ecgbench.results.record import Record

NONE = Bounds()


@dataclass(frozen=True)
class Section:
    """Rows that may be compared, best first, the standings of their victims, and the certificates of these."""

    dataset: str
    threat: str
    protocol: str
    headline: float
    eps: tuple[float, ...]
    rows: tuple[Published, ...]
    victims: tuple[RankedVictim, ...]
    certificates: tuple[CertificateRecord, ...] = ()

    @property
    def scored(self) -> Record | None:
        """A record that states what all scored rows of the section have in common, None where none is scored."""
        return next((row.record for row in self.rows if row.record.status == "ok"), None)

    @property
    def synthetic(self) -> bool:
        """Whether the recordings were made up."""
        return any(row.record.synthetic for row in self.rows)

    @cached_property
    def certainties(self) -> dict[tuple[str, str], Certainty]:
        """By model and defense how sure the places of the victims without flags are."""
        trusted = [victim for victim in self.victims if victim.ranks and not victim.flags]
        outcomes = [at_headline(self.rows, victim) for victim in trusted]
        sure = certainties(outcomes, self.headline) if trusted else []
        return {(victim.model, victim.defense): one for victim, one in zip(trusted, sure, strict=True)}


def sections(published: Iterable[Published], bounds: Bounds = NONE) -> list[Section]:
    """Everything published, in order: recordings before made-up data, the standard protocol before others.

    Raises StoreError where rows of a section were not scored alike or on the same samples.
    """
    by_terms = grouped(published, lambda r: (r.dataset, r.threat, r.protocol, r.headline))
    made = [_section(rows, bounds) for rows in by_terms.values()]
    return sorted(
        made, key=lambda s: (s.synthetic, s.dataset, s.protocol != "standard", s.protocol, s.threat, s.headline)
    )


def _section(rows: Sequence[Published], bounds: Bounds) -> Section:
    any_record = rows[0].record
    rows = sorted(rows, key=_row_order)
    scored = [row for row in rows if row.record.status == "ok"]
    _check_alike(scored)
    grid = sorted({any_record.headline, *(eps for row in scored for eps in row.record.eps)})
    return Section(
        dataset=any_record.dataset,
        threat=any_record.threat,
        protocol=any_record.protocol,
        headline=any_record.headline,
        eps=tuple(grid),
        rows=tuple(rows),
        victims=tuple(with_bounds(one, rows, bounds) for one in rank_victims(rows, any_record.headline)),
        certificates=tuple({c.key: c for row in scored for c, _ in bounds.of(row.record)}.values()),
    )


def _row_order(row: Published) -> tuple[object, ...]:
    """Rows with scores first, better than chance before not, unflagged before flagged, whole splits before parts.

    Then by the figures shown.
    """
    record = row.record
    robust, clean = record.score(record.headline), record.score(0.0)
    return (
        record.status != "ok",
        record.status == "ok" and bool(clean_flags(row)),
        bool(flags(record)),
        record.limit is not None,
        *(-rounded(score.acc) if score else Decimal(1) for score in (robust, clean)),
        *(record.model, record.defense, record.attack, record.seed, record.limit or 0, record.key),
    )


def _check_alike(scored: Sequence[Published]) -> None:
    """Raises StoreError where rows with scores cannot be compared."""
    for row in scored:
        ran = [0.0] if row.outcomes is None else [0.0, *row.outcomes.eps]
        if not ran == [0.0, *row.record.eps] == [score.eps for score in row.record.scores]:
            raise StoreError(f"{row.path.as_posix()} has scores without outcomes at the same eps; verify it.")
    _agree(scored, _TERMS)
    for same_limit in grouped(scored, lambda r: r.limit).values():
        _agree(same_limit, _SAMPLES)
    for one_victim in grouped(scored, lambda r: (r.model, r.defense, r.seed)).values():
        _agree(one_victim, {"trained victim": _trained})


def _agree(rows: Sequence[Published], facts: Mapping[str, Callable[[Published], object]]) -> None:
    for one, other in pairwise(rows):
        for name, fact in facts.items():
            if fact(one) != fact(other):
                paths = sorted(row.path.as_posix() for row in (one, other))
                raise StoreError(f"{paths[0]} and {paths[1]} differ in {name}; run the older one again or remove it.")


def _trained(row: Published) -> object:
    made = row.record.provenance
    return made and (made.victim, made.weights)


_TERMS: Mapping[str, Callable[[Published], object]] = {
    "classes": lambda row: row.record.classes,
    "weighting": lambda row: row.record.weighting,
    "skip_unpredicted": lambda row: row.record.skip_unpredicted,
    "notes": lambda row: row.record.notes,
    "synthetic": lambda row: row.record.synthetic,
    "unit": lambda row: row.record.unit,
    "data": lambda row: row.record.provenance and row.record.provenance.data,
}


def _samples(name: str) -> Callable[[Published], object]:
    return lambda row: getattr(row.outcomes, name).tobytes()


_SAMPLES = {name: _samples(name) for name in ("ids", "y", "weight", "group")}
