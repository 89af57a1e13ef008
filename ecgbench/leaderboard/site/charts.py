"""Curves over eps as the numbers that an SVG is written with.

Matplotlib takes 0.15 s for a figure, half a minute for the rows of a board, and its files know no dark mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecgbench.evaluation.metrics import Score
from ecgbench.leaderboard.wording import number

LEFT, TOP, WIDTH, HEIGHT = 44.0, 12.0, 470.0, 236.0
APART = 14.0
"""Least distance of two labels."""


@dataclass(frozen=True)
class Series:
    """One line: `line` and `band` are points of an SVG, `dots` its marks, `label_y` the height of its name."""

    label: str
    line: str
    band: str
    dots: tuple[tuple[float, float], ...]
    label_y: float


@dataclass(frozen=True)
class Chart:
    """Lines, the places and words of the ticks on both axes, and the place of the headline eps."""

    series: tuple[Series, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]
    headline: float | None


def curves(scores: Sequence[Score], headline: float) -> Chart | None:
    """ACC with its band, PREC and F1 over eps; None for a row without an attack."""
    last = max((score.eps for score in scores), default=0.0)
    if last <= 0:
        return None
    x = [_x(score.eps, last) for score in scores]
    lines = [("ACC", "acc"), ("PREC", "prec"), ("F1", "f1")]
    heights = _apart([_y(getattr(scores[-1], name)) for _, name in lines])
    series = []
    for (label, name), height in zip(lines, heights, strict=True):
        dots = tuple(zip(x, (_y(getattr(score, name)) for score in scores), strict=True))
        spans = [getattr(score.interval, name) for score in scores]
        edge = [*zip(x, (_y(low) for low, _ in spans), strict=True)]
        edge += [*zip(x, (_y(high) for _, high in spans), strict=True)][::-1]
        series.append(Series(label, _points(dots), _points(edge) if name == "acc" else "", dots, height))
    across = tuple((_x(score.eps, last), number(score.eps)) for score in _ticks(scores, last))
    up = tuple((_y(share), f"{share:.1f}") for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    return Chart(tuple(series), across, up, _x(headline, last) if 0 < headline <= last else None)


def _ticks(scores: Sequence[Score], last: float) -> list[Score]:
    """Scores whose eps stand far enough apart for their numbers, from the right."""
    kept: list[Score] = []
    for score in reversed(scores):
        if not kept or (kept[-1].eps - score.eps) / last >= 0.07:
            kept.append(score)
    return kept[::-1]


def _x(eps: float, last: float) -> float:
    return round(LEFT + WIDTH * eps / last, 1)


def _y(share: float) -> float:
    return round(TOP + HEIGHT * (1 - share), 1)


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _apart(heights: Sequence[float]) -> list[float]:
    """Heights of labels near these, pushed up until none covers another."""
    order = sorted(range(len(heights)), key=lambda at: -heights[at])
    places, below = list(heights), TOP + HEIGHT + APART
    for at in order:
        below = places[at] = min(heights[at], below - APART)
    return [round(place, 1) for place in places]
