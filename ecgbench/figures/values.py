"""What figures show, and the seal by which the text of a drawn one is known.

A figure is a value. Its seal holds a digest of what is shown and one of the text, so whoever has another version of
matplotlib, or none, still sees whether a file shows what it should.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import Any

from ecgbench.results.published import slug
from ecgbench.storage.store import canonical_json, key_of

DRAWING = 2
"""Raise it with every change of how figures look: those drawn before are then stale."""
_UNSEALED = "0" * 64
_SEAL = re.compile(r"shows ([0-9a-f]{64}), sealed ([0-9a-f]{64})")


@dataclass(frozen=True)
class Line:
    """Accuracy (0..1) by eps; `band` holds its 95 % intervals, if any. `dashed` figures are somebody else's.

    Lines with the same `mark` have the same colour and shape.
    """

    label: str
    eps: tuple[float, ...]
    values: tuple[float, ...]
    band: tuple[tuple[float, float], ...] = ()
    dashed: bool = False
    mark: int = 0


@dataclass(frozen=True)
class Curves:
    """Figures over eps; `x` and `y` name the axes. A thin line stands at the `headline` eps."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    headline: float | None = None


@dataclass(frozen=True)
class Panels:
    """Curves in panels on the same axes, each with its name; the label of a mark is that of its first line."""

    title: str
    x: str
    y: str
    panels: tuple[tuple[str, tuple[Line, ...]], ...]


@dataclass(frozen=True)
class Matrices:
    """Confusion matrices side by side: by name, the share of each true class (row) predicted as each class.

    `counts` is the number of samples of each class; a class without any has shares 0.
    """

    title: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    panels: tuple[tuple[str, tuple[tuple[float, ...], ...]], ...]


@dataclass(frozen=True)
class Signals:
    """One sample, `clean` (leads, samples), and its perturbation `delta`, in `unit`; `rate` in Hz, if it is known."""

    title: str
    unit: str
    rate: float | None
    clean: tuple[tuple[float, ...], ...]
    delta: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Heatmaps:
    """Maps side by side on the same axes: by name, a row of values of 0 or more for each of `rows`; `x` names columns.

    Each map has a scale of its own, from 0 to its largest value.
    """

    title: str
    x: str
    rows: tuple[str, ...]
    panels: tuple[tuple[str, tuple[tuple[float, ...], ...]], ...]


Figure = Curves | Panels | Matrices | Signals | Heatmaps


def file_name(*words: str) -> str:
    """A readable name with a digest, since different words may look alike in it."""
    return f"{slug('-'.join(words))}-{key_of({'words': words})[:8]}.svg"


def eps_axis(unit: str) -> str:
    """The name of an axis of eps in a record's unit."""
    return "eps in the unit of the signal" if unit == "1" else f"eps in {unit}"


def unsealed(figure: Figure) -> str:
    """The seal of a figure, to be put into its text, which `sealed` then completes."""
    return f"ecgbench figure, shows {shows(figure)}, sealed {_UNSEALED}"


def sealed(svg: str) -> str:
    """The text with its own digest in its seal."""
    return svg.replace(f"sealed {_UNSEALED}", f"sealed {_digest(svg)}", 1)


def shows(figure: Figure) -> str:
    """Digest of what a figure shows, to 5 digits, and of how it is drawn."""
    kind = type(figure).__name__
    return _digest(canonical_json({"drawing": DRAWING, "kind": kind, **_short(asdict(figure))}).decode())


def fault(svg: str, figure: Figure) -> str | None:
    """What is wrong with a text that should be the figure, None if nothing is; needs no matplotlib."""
    seal = _SEAL.search(svg)
    if seal is None:
        return "has no seal"
    if _digest(svg.replace(f"sealed {seal[2]}", f"sealed {_UNSEALED}", 1)) != seal[2]:
        return "was altered by hand"
    return None if seal[1] == shows(figure) else "shows something else"


def _short(value: Any) -> Any:
    """Numbers to 5 digits, at every depth: the last ones of an interval differ between machines."""
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return float(f"{value:.5g}") + 0.0 if isinstance(value, float) else value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
