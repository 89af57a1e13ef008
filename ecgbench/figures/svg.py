"""How figures are drawn: quiet, readable in grey, units on every axis, and the same bytes at every drawing."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from ecgbench.figures.values import Curves, Figure, Heatmaps, Line, Matrices, Panels, Signals, sealed, unsealed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Paper
    from matplotlib.lines import Line2D

WIDTH, STRIP = 6.4, 10.0  # inches: a figure, and a signal that lasts longer than `LONG` seconds
LONG = 5.0
LONGEST = 88  # characters of a label
COLUMNS = 3  # of panels
LEADS = 12  # that are drawn of a sample
INK, PALE = "#222222", "#9a9a9a"
COLOURS = (
    *("#000000", "#1f4e8c", "#b0572b", "#3f7f5f", "#7a5ea8"),
    *("#c08a2d", "#5c5c5c", "#4c9bb5", "#b86a8c", "#9a9a9a"),
)
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
"""Colours of different lightness and shapes, told apart in grey; their pairs give a hundred styles."""
DIRECT = 6  # lines that are named at their ends; more have a legend
STYLE: Mapping[str, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.0,
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "ecgbench",
}
_COORDINATES = re.compile(r' (d|x|y|width|height|points|transform)="([^"]*)"')
_FRACTION = re.compile(r"-?\d+\.\d+")


def draw(figure: Figure) -> str:
    """The figure as SVG: the same figure gives the same bytes with the same version of matplotlib."""
    from matplotlib import style

    text = StringIO()
    facts = {
        "Title": _clean(figure.title),
        "Description": unsealed(figure),
        "Creator": "ecgbench",
        "Date": None,
    }
    with warnings.catch_warnings(), style.context(["default", dict(STYLE)]):
        warnings.simplefilter("ignore")  # a name may hold signs that the font lacks; the viewer's may have them
        _paper(figure).savefig(text, format="svg", metadata=facts)
    svg = _COORDINATES.sub(lambda found: f' {found[1]}="{_FRACTION.sub(_rounded, found[2])}"', text.getvalue())
    svg = "".join(f"{line.rstrip()}\n" for line in svg.splitlines())
    return sealed(svg)


def _paper(figure: Figure) -> Paper:
    match figure:
        case Curves():
            return _curves(figure)
        case Panels():
            return _panels(figure)
        case Matrices():
            return _matrices(figure)
        case Signals():
            return _signals(figure)
        case Heatmaps():
            return _heatmaps(figure)


def _curves(figure: Curves) -> Paper:
    if len(figure.lines) <= DIRECT:
        return _named_at_their_ends(figure)
    labels = [_clip(line.label) for line in figure.lines]
    columns = 2 if len(labels) > 1 and max(map(len, labels)) <= LONGEST // 2 - 4 else 1
    legend = 0.17 * -(-len(labels) // columns) + 0.1
    above = max(0.45, 0.15 * (2 + figure.title.count("\n")))
    paper, (axes,) = _sheet(WIDTH, [2.6], above, below=legend + 0.5)
    for line, label in zip(figure.lines, labels, strict=True):
        _line(axes, line, label)
    if figure.headline is not None:
        axes.axvline(figure.headline, color=PALE, linewidth=0.6, zorder=0)
    axes.set(title=_heading(figure.title), xlabel=_clip(figure.x), ylabel=_clip(figure.y, 40), ylim=(-0.02, 1.02))
    axes.set_xlim(left=0)
    corner = (0.6 / WIDTH, 0.05 / paper.get_figheight())
    handles, labels = axes.get_legend_handles_labels()
    paper.legend(
        handles, labels, loc="lower left", bbox_to_anchor=corner, borderaxespad=0.0, ncols=columns, labelspacing=0.35
    )
    return paper


def _named_at_their_ends(figure: Curves) -> Paper:
    """Curves with their names at the right, where they end, pushed apart where they would meet."""
    height, above, names = 2.6, max(0.45, 0.15 * (2 + figure.title.count("\n"))), 2.2
    paper, (axes,) = _sheet(WIDTH, [height], above, below=0.5, right=names)
    for line in figure.lines:
        _line(axes, line, _clip(line.label))
    if figure.headline is not None:
        axes.axvline(figure.headline, color=PALE, linewidth=0.6, zorder=0)
    axes.set(title=_heading(figure.title), xlabel=_clip(figure.x), ylabel=_clip(figure.y, 40), ylim=(-0.02, 1.02))
    furthest = max(max(line.eps) for line in figure.lines)
    axes.set_xlim(0, furthest)
    apart = 1.04 * 0.15 / height
    places = _apart([line.values[-1] for line in figure.lines], apart)
    for line, place in zip(figure.lines, places, strict=True):
        colour, _ = _style(line)
        axes.annotate(
            _clip(line.label, 34),
            (line.eps[-1], line.values[-1]),
            xytext=(furthest * 1.04, place),
            va="center",
            color=colour,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "shrinkA": 1.0,
                "shrinkB": 3.0,
                "relpos": (0.0, 0.5),
            },
        )
    return paper


def _apart(values: Sequence[float], least: float) -> list[float]:
    """Places for labels at `values`, each at least so far from the next, within 0 to 1 where there is room."""
    order = sorted(range(len(values)), key=lambda at: values[at])
    places = [0.0] * len(values)
    below = -least
    for at in order:
        below = places[at] = max(values[at], below + least)
    above = 1.0 + least
    for at in reversed(order):
        above = places[at] = min(places[at], above - least)
    return places


def _style(line: Line) -> tuple[str, str]:
    """Colour and shape of a line's marks."""
    turn, at = divmod(line.mark, len(COLOURS))
    return COLOURS[at], SHAPES[(at + turn) % len(SHAPES)]


def _panels(figure: Panels) -> Paper:
    from matplotlib.figure import Figure as Paper

    columns = min(COLUMNS, len(figure.panels))
    rows, side, gap, left, below = -(-len(figure.panels) // columns), 1.75, 0.3, 0.6, 0.75
    top = 0.4 + 0.15 * figure.title.count("\n")
    width, height = max(WIDTH, left + columns * (side + gap)), top + rows * (side + gap) - gap + below
    paper = Paper(figsize=(width, height))
    told: dict[int, tuple[Line2D, str]] = {}
    furthest = 1.02 * max(max(line.eps) for _, lines in figure.panels for line in lines)
    for number, (name, lines) in enumerate(figure.panels):
        row, column = divmod(number, columns)
        x, y = left + column * (side + gap), height - top - row * (side + gap) - side
        axes = paper.add_axes((x / width, y / height, side / width, side / height))
        for line in lines:
            told.setdefault(line.mark, (_line(axes, line, _clip(line.label)), _clip(line.label)))
        axes.set(ylim=(-0.02, 1.02), ylabel=_clip(figure.y, 40) if column == 0 else "")
        axes.set_xlim(0, furthest)
        axes.set_title(_clip(name, 24), y=0.9, loc="right")
        last = number + columns >= len(figure.panels)
        axes.tick_params(labelleft=column == 0, labelbottom=last)
        axes.set_xlabel(_clip(figure.x, 30) if last else "")
    paper.text(0.1 / width, 1 - 0.1 / height, _heading(figure.title, width), va="top")
    handles, labels = zip(*(told[mark] for mark in sorted(told)), strict=True)
    paper.legend(handles, labels, loc="lower left", bbox_to_anchor=(left / width, 0.0), ncols=len(labels))
    return paper


def _line(axes: Axes, line: Line, label: str) -> Line2D:
    """One line with its band and its marks; those of somebody else are dashed and hollow."""
    colour, shape = _style(line)
    if line.band:
        low, high = zip(*line.band, strict=True)
        axes.fill_between(line.eps, low, high, color=colour, alpha=0.12, linewidth=0)
    (dots,) = axes.plot(line.eps, line.values, color=colour, marker=shape, label=label, clip_on=False)
    if line.dashed:
        dots.set(linestyle="--", markerfacecolor="white")
    return dots


def _matrices(figure: Matrices) -> Paper:
    from matplotlib.figure import Figure as Paper

    count = len(figure.classes)
    side, left, top = max(1.6, 0.42 * count), 1.1, 0.75
    width, height = left + len(figure.panels) * (side + 0.35), side + top + 0.65
    paper = Paper(figsize=(width, height))
    for number, (name, shares) in enumerate(figure.panels):
        place = ((left + number * (side + 0.35)) / width, 0.65 / height, side / width, side / height)
        axes = paper.add_axes(place)
        axes.pcolormesh(shares, cmap="Greys", vmin=0.0, vmax=1.1, edgecolors="white", linewidth=1.0)
        for row, values in enumerate(shares):
            for column, share in enumerate(values):
                ink = "white" if share > 0.55 else INK
                axes.text(column + 0.5, row + 0.5, f"{share:.2f}", ha="center", va="center", color=ink, fontsize=7)
        ticks = [place + 0.5 for place in range(count)]
        axes.set_xticks(ticks, [_clip(each, 8) for each in figure.classes])
        rows = [f"{_clip(each, 8)} ({n})" for each, n in zip(figure.classes, figure.counts, strict=True)]
        axes.set_yticks(ticks, rows if number == 0 else [""] * count)
        axes.set(title=_clip(name, 40), xlabel="predicted class", ylabel="true class (samples)" if number == 0 else "")
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    paper.text(0.1 / width, 1 - 0.1 / height, _heading(figure.title, width), va="top")
    return paper


def _heatmaps(figure: Heatmaps) -> Paper:
    """Cells as an image of one pixel each, so that a map of a thousand cells stays small."""
    from matplotlib.figure import Figure as Paper

    columns, left, gap, top, below = 2, 0.85, 0.35, 0.75, 0.5
    side, height, rows = 3.0, 0.13 * len(figure.rows), -(-len(figure.panels) // columns)
    whole = (left + columns * (side + gap), top + rows * (height + gap) + below)
    paper = Paper(figsize=whole)
    for number, (name, values) in enumerate(figure.panels):
        row, column = divmod(number, columns)
        x, y = left + column * (side + gap), whole[1] - top - row * (height + gap) - height
        axes = paper.add_axes((x / whole[0], y / whole[1], side / whole[0], height / whole[1]))
        largest = max(map(max, values))
        axes.imshow(values, cmap="Greys", vmin=0.0, vmax=largest or 1.0, aspect="auto", interpolation="none")
        axes.set_title(f"{_clip(name, 24)}, 0 to {largest:.3g}")
        axes.set_yticks(range(len(figure.rows)), [_clip(each, 14) for each in figure.rows] if column == 0 else [])
        axes.tick_params(axis="y", length=0, labelsize=6)
        last = number + columns >= len(figure.panels)
        axes.tick_params(labelbottom=last)
        axes.set_xlabel(_clip(figure.x, 30) if last else "")
    paper.text(0.1 / whole[0], 1 - 0.1 / whole[1], _heading(figure.title, whole[0]), va="top")
    return paper


def _signals(figure: Signals) -> Paper:
    leads = min(len(figure.clean), LEADS)
    length = len(figure.clean[0])
    time = [place / (figure.rate or 1.0) for place in range(length)]
    width = STRIP if figure.rate and length / figure.rate > LONG else WIDTH
    paper, panels = _sheet(width, [1.6, 0.8] * leads, above=0.45, below=0.5)
    for lead in range(leads):
        whole, change = panels[2 * lead : 2 * lead + 2]
        clean, delta = figure.clean[lead], figure.delta[lead]
        attacked = [x + d for x, d in zip(clean, delta, strict=True)]
        whole.plot(time, clean, color=PALE, linewidth=2.0, label="original")
        whole.plot(time, attacked, color="#000000", linewidth=0.7, label="attacked")
        change.plot(time, delta, color="#000000", linewidth=0.7)
        change.axhline(0.0, color=PALE, linewidth=0.5, zorder=0)
        which = f"lead {lead + 1}, " if leads > 1 else ""
        whole.set_ylabel(f"{which}{_clip(figure.unit, 20)}")
        change.set_ylabel(f"change, {_clip(figure.unit, 12)}")
        for axes in (whole, change):
            axes.set_xlim(time[0], max(time[-1], time[0] + 1e-9))
            axes.tick_params(labelbottom=axes is panels[-1])
            axes.yaxis.set_label_coords(-0.52 / (width - 0.95), 0.5)
            axes.locator_params(axis="y", nbins=4)
    panels[0].set_title(_heading(figure.title, width))
    panels[0].legend(loc="upper right", ncols=2)
    panels[-1].set_xlabel("time, s" if figure.rate else "sample of the signal")
    return paper


def _sheet(
    width: float, heights: Sequence[float], above: float, below: float, right: float = 0.2
) -> tuple[Paper, list[Axes]]:
    """A sheet with panels of these heights, in inches, one above the other, and room above and below."""
    from matplotlib.figure import Figure as Paper

    left, gap = 0.75, 0.15
    height = above + sum(heights) + gap * (len(heights) - 1) + below
    paper, top, panels = Paper(figsize=(width, height)), height - above, []
    for each in heights:
        panels.append(
            paper.add_axes((left / width, (top - each) / height, (width - left - right) / width, each / height))
        )
        top -= each + gap
    return paper, panels


def _heading(title: str, width: float = WIDTH) -> str:
    return "\n".join(_clip(line, int(width / WIDTH * LONGEST)) for line in title.split("\n"))


def _clip(text: str, longest: int = LONGEST) -> str:
    line = _clean(text)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _clean(text: str) -> str:
    """Text that XML can hold."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _rounded(number: re.Match[str]) -> str:
    """Hundredths of a point."""
    return f"{round(float(number[0]), 2) + 0.0:g}" if abs(float(number[0])) < 1e4 else number[0]
