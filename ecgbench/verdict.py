"""A record as a few lines that a person reads: how it scored, how far that can be believed, which number to cite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from ecgbench.flags import CHECKS

if TYPE_CHECKING:
    from ecgbench.metrics import Score
    from ecgbench.record import Record

Part = TypeVar("Part")
SIZES, FLAGS, NOTES = 8, 6, 3  # lines of each kind at most
WIDTH = 160


def verdict(record: Record) -> str:
    """The record in less than 25 lines."""
    lines = _lines(record) if record.scores else _unscored(record)
    return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in lines)


def _unscored(record: Record) -> Iterator[str]:
    yield _title(record)
    yield f"{record.status}: {record.error}"


def _lines(record: Record) -> Iterator[str]:
    yield _title(record)
    counts = ", ".join(f"{name} {count}" for name, count in record.counts.items())
    groups = "no groups" if record.groups is None else f"{record.groups} groups"
    yield f"n {record.n}, {groups}; by class: {counts}"
    yield f"threat {record.threat}, eps in {record.unit}; protocol {record.protocol}; seed {record.seed}"
    yield from (f"note: {note}" for note in _some(record.notes, NOTES))
    method = "" if record.uncertainty is None else f", {record.uncertainty.method}"
    yield f"       eps    ACC [95 %{method}]    F1"
    yield from (_row(score, record.headline) for score in _some(record.scores, SIZES))
    raised = [check for check in record.checks if check.raised]
    made = f"{len(record.checks)} checks{', costly ones too' if record.audited else ''}"
    yield f"flags: {len(raised) or 'none'} of {made}{':' if raised else ''}"
    for check in raised[:FLAGS]:
        yield f"  {check.code}: {CHECKS.get(check.code, check.note)} ({check.note}: {check.effect:.3g})"
    if len(raised) > FLAGS:
        yield f"  and {', '.join(check.code for check in raised[FLAGS:])}"
    yield _headline(record, bool(raised))


def _title(record: Record) -> str:
    return f"{record.model} on {record.dataset}, defense {record.defense}, attack {record.attack}"


def _row(score: Score, headline: float) -> str:
    low, high = score.interval.acc
    name = "clean" if score.eps == 0 else "headline" if score.eps == headline else ""
    return f"{score.eps:10.4g}  {score.acc:.3f} [{low:.3f}, {high:.3f}]  {score.f1:.3f}  {name}".rstrip()


def _headline(record: Record, flagged: bool) -> str:
    score = record.score(record.headline)
    if score is None:
        return "No score at the headline eps."
    low, high = score.interval.acc
    but = "flagged: not to be cited" if flagged else "a stronger attack may lower it"
    return f"Robust accuracy at eps {record.headline:g}: at most {score.acc:.3f} [{low:.3f}, {high:.3f}]; {but}."


def _some(parts: Sequence[Part], most: int) -> Sequence[Part]:
    """At most so many, spread from the first to the last."""
    if len(parts) <= most:
        return parts
    return [parts[round(number * (len(parts) - 1) / (most - 1))] for number in range(most)]
