"""A result as a few lines that a person reads: how it scored, how far that can be believed, which number to cite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from ecgbench.checks.cheap import Check
from ecgbench.checks.flags import FLAGS
from ecgbench.evaluation.metrics import Score

Part = TypeVar("Part")
SIZES, RAISED, NOTES = 8, 6, 3  # lines of each kind at most
WIDTH = 160


def lines_of_notes(notes: Sequence[str]) -> Iterator[str]:
    """The first facts that stand beside every score."""
    yield from (f"note: {note}" for note in notes[:NOTES])


def lines_of_scores(scores: Sequence[Score], headline: float, method: str) -> Iterator[str]:
    """A table over eps, the clean score first; of many sizes some, from the smallest to the largest."""
    yield f"       eps  ACC   [95 %, {method}]  F1"
    for score in _some(scores, SIZES):
        low, high = score.interval.acc
        name = "clean" if score.eps == 0 else "headline" if score.eps == headline else ""
        yield f"{score.eps:10.4g}  {score.acc:.3f} [{low:.3f}, {high:.3f}]  {score.f1:.3f}  {name}".rstrip()


def lines_of_flags(checks: Sequence[Check]) -> Iterator[str]:
    """What was raised and what it means, and of how many checks."""
    raised = [check for check in checks if check.raised]
    yield f"flags: {len(raised) or 'none'} of {len(checks)} checks{':' if raised else ''}"
    for check in raised[:RAISED]:
        yield f"  {check.code}: {FLAGS.get(check.code, check.note)} ({check.note}: {check.effect:.3g})"
    if len(raised) > RAISED:
        yield f"  and {', '.join(check.code for check in raised[RAISED:])}"


def sentence(score: Score | None, flagged: bool) -> str:
    """The number to cite, or that there is none."""
    if score is None:
        return "No score at the headline eps."
    low, high = score.interval.acc
    but = "flagged, so not to be cited" if flagged else "a stronger attack may lower it"
    return f"Robust accuracy at eps {score.eps:g} is at most {score.acc:.3f} [{low:.3f}, {high:.3f}]: {but}."


def joined(lines: Iterable[str]) -> str:
    """One text, long lines cut."""
    return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in lines)


def _some(parts: Sequence[Part], most: int) -> Sequence[Part]:
    """At most so many, spread from the first to the last."""
    if len(parts) <= most:
        return parts
    return [parts[round(number * (len(parts) - 1) / (most - 1))] for number in range(most)]
