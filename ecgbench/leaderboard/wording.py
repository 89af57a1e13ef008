"""Figures and marks as a page shows them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from math import isfinite

from ecgbench.evaluation.uncertainty import Spread
from ecgbench.leaderboard.ranking import rounded
from ecgbench.results.record import Record

MISSING = "—"
REASON = 200
"""Characters of an error that a page shows."""


def figure(value: float | None) -> str:
    """Three decimals."""
    return MISSING if value is None or not isfinite(value) else str(rounded(value))


def short(value: float) -> str:
    """Two decimals, for the ends of an interval."""
    return str(Decimal(repr(float(value))).quantize(Decimal("0.01"), ROUND_HALF_EVEN) + Decimal(0)).replace("-", "−")


def span(interval: tuple[float, float] | None) -> str:
    """An interval, "[0.61, 0.73]"."""
    return MISSING if interval is None else f"[{short(interval[0])}, {short(interval[1])}]"


def spread(over_seeds: Spread | None) -> str:
    """A mean, and the standard deviation over seeds where there are several."""
    if over_seeds is None:
        return MISSING
    return figure(over_seeds.mean) + ("" if over_seeds.sd is None else f" ±{figure(over_seeds.sd)}")


def mean(over_seeds: Spread | None) -> str:
    """The mean alone."""
    return MISSING if over_seeds is None else figure(over_seeds.mean)


def signed(value: float) -> str:
    """A difference, "+0.021"."""
    shown = figure(value)
    return f"−{shown[1:]}" if shown.startswith("-") else f"+{shown}"


def number(value: float) -> str:
    """An eps exactly as it was given, in decimals."""
    return format(Decimal(repr(float(value))).normalize(), "f")


def eps_in(record: Record | None) -> str:
    """The unit of eps after its number, nothing for the unit of the signal."""
    return "" if record is None or record.unit == "1" else f" {record.unit}"


def counted(count: int, noun: str) -> str:
    """A number of things: "1 seed", "3 seeds"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def joined(names: Iterable[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def capitalised(text: str) -> str:
    """Text as a sentence begins."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Text that ends in one full stop."""
    return f"{text.removesuffix('.')}."
