"""Figures are the same bytes at every drawing, show what they are given, and a file that does not is found."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from ecgbench.figures import values
from ecgbench.figures.svg import draw
from ecgbench.figures.values import Curves, Figure, Line, Matrices, Panels, Signals, fault, shows

EPS, ACC = (0.0, 0.05, 0.1), (0.9, 0.5, 0.1)
OURS = Line("mlp, ours", EPS, ACC, tuple((acc - 0.05, acc + 0.05) for acc in ACC))
THEIRS = Line("mlp, published", EPS, (0.8, 0.6, 0.2), dashed=True)
CURVES = Curves("beats, linf", "eps in mV", "accuracy", (OURS, THEIRS), headline=0.05)
SHARES = ((0.875, 0.125), (0.25, 0.75))
MATRICES = Matrices("mlp", ("N", "V"), (16, 4), (("clean", SHARES), ("attacked", SHARES[::-1])))
WAVE = tuple(np.sin(np.arange(50) / 5).tolist())
SIGNALS = Signals("sample 7", "mV", 125.0, (WAVE,), (tuple(0.01 * v for v in WAVE),))
PANELS = Panels(
    "four", "eps in mV", "accuracy", tuple((f"panel {n}", (OURS, replace(THEIRS, mark=1))) for n in range(4))
)
ALL = (CURVES, PANELS, MATRICES, SIGNALS)
NAMES = ("Curves", "Panels", "Matrices", "Signals")


def texts(svg: str) -> list[str]:
    """Every text that a viewer shows; fails where the SVG is not XML."""
    return [str(node.text) for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def marks(svg: str) -> list[list[tuple[float, float]]]:
    """The points of each line, which carry its fill."""
    groups = re.findall(r"<g>\n((?: *<use .*/>\n){3})", svg)
    found = [re.findall(r'x="([\d.]+)" y="([\d.]+)"', group) for group in groups]
    return [[(float(x), float(y)) for x, y in points] for points in found]


@pytest.mark.parametrize("figure", ALL, ids=NAMES)
def test_a_figure_is_the_same_bytes_whatever_the_users_style(figure: Figure) -> None:
    one = draw(figure)
    with matplotlib.rc_context({"font.size": 30.0, "axes.facecolor": "red", "svg.hashsalt": None}):
        before = dict(matplotlib.rcParams)
        assert draw(figure) == one
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("figure", ALL, ids=NAMES)
def test_coordinates_are_rounded_and_no_date_or_version_is_told(figure: Figure) -> None:
    svg = draw(figure)
    placed = re.findall(r' (?:d|x|y|transform)="([^"]*)"', svg)
    assert placed and not any(re.search(r"\.\d{3}", each) for each in placed)
    assert "dc:date" not in svg and "Matplotlib" not in svg and "\r" not in svg and " \n" not in svg


@pytest.mark.parametrize("figure", ALL, ids=NAMES)
def test_a_drawn_figure_is_without_fault_and_no_other_is(figure: Figure) -> None:
    svg = draw(figure)
    assert fault(svg, figure) is None
    assert {fault(svg, other) for other in ALL if other != figure} == {"shows something else"}
    assert fault(svg.replace(values._SEAL.search(svg)[0], ""), figure) == "has no seal"  # type: ignore[index]


@pytest.mark.parametrize("figure", ALL, ids=NAMES)
def test_a_digit_altered_anywhere_is_found(figure: Figure) -> None:
    svg = draw(figure)
    places = [found.start() for found in re.finditer(r"\d", svg)]
    for place in places[:: len(places) // 50]:
        digit = str((int(svg[place]) + 1) % 10)
        assert fault(svg[:place] + digit + svg[place + 1 :], figure) is not None


def test_panels_tell_each_label_once() -> None:
    shown = texts(draw(PANELS))
    assert [shown.count(label) for label in ("mlp, ours", "mlp, published", "four")] == [1, 1, 1]
    assert [shown.count(f"panel {n}") for n in range(4)] == [1] * 4
    assert shown.count("eps in mV") == 3 and shown.count("accuracy") == 2  # below each column, beside each row


def test_a_fault_is_found_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    svg = draw(CURVES)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert fault(svg, CURVES) is None


def test_another_way_of_drawing_makes_figures_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    svg = draw(CURVES)
    monkeypatch.setattr(values, "DRAWING", values.DRAWING + 1)
    assert fault(svg, CURVES) == "shows something else"


def test_the_last_bits_of_a_figure_are_not_shown_but_a_thousandth_is() -> None:
    near, far = (replace(CURVES, lines=(replace(OURS, values=(0.9 + by, 0.5, 0.1)), THEIRS)) for by in (1e-15, 1e-3))
    assert shows(near) == shows(CURVES) != shows(far)


def test_names_cannot_break_the_drawing() -> None:
    nasty = 'a<b>&"\x1b\n$x^2$ \u4e2d \U0001f600' + "long" * 50
    for figure in (
        replace(CURVES, title=nasty, x=nasty, lines=(replace(OURS, label=nasty),)),
        replace(PANELS, title=nasty, x=nasty, panels=((nasty, (OURS, THEIRS)),)),
        replace(MATRICES, title=nasty, classes=(nasty, "V")),
        replace(SIGNALS, title=nasty, unit=nasty),
    ):
        svg = draw(figure)
        assert any("<b>&" in text for text in texts(svg)) and "\x1b" not in svg
        assert fault(svg, figure) is None


# what is seen


def test_curves_have_a_point_for_every_figure_in_its_place() -> None:
    svg = draw(CURVES)
    ours, theirs = marks(svg)
    (x0, y0), (_, y1), (x2, y2) = ours
    assert (y1 - y0) / (y2 - y0) == pytest.approx((0.9 - 0.5) / (0.9 - 0.1), abs=1e-3)
    assert [x for x, _ in theirs] == [x for x, _ in ours]
    unit = (y2 - y0) / (0.9 - 0.1)
    assert [y0 + (0.9 - acc) * unit for acc in THEIRS.values] == pytest.approx([y for _, y in theirs], abs=0.02)
    upright = [float(x) for x, other in re.findall(r'd="M ([\d.]+) [\d.]+\nL ([\d.]+) ', svg) if x == other]
    assert any(x == pytest.approx((x0 + x2) / 2, abs=0.01) for x in upright)  # the headline


def test_curves_name_their_axes_and_lines_and_dash_what_others_published() -> None:
    svg = draw(CURVES)
    assert {"beats, linf", "eps in mV", "accuracy", "mlp, ours", "mlp, published"} <= set(texts(svg))
    assert svg.count("stroke-dasharray") == 1
    assert "stroke-dasharray" not in draw(replace(CURVES, lines=(OURS,)))


def test_a_band_lies_round_its_line() -> None:
    svg = draw(replace(CURVES, lines=(OURS,)))
    band = re.search(r'FillBetween.*? d="([^"]*)".*?<use [^>]*y="([\d.]+)"', svg, re.DOTALL)
    assert band is not None
    heights = [float(y) + float(band[2]) for y in re.findall(r"[ML] \S+ (-?[\d.]+)", band[1])]
    (line,) = marks(svg)
    assert min(heights) < min(y for _, y in line) and max(heights) > max(y for _, y in line)
    assert "FillBetween" not in draw(replace(CURVES, lines=(THEIRS,)))


def test_matrices_show_every_share_and_the_number_of_samples() -> None:
    shown = texts(draw(MATRICES))
    shares = [text for text in shown if re.fullmatch(r"0\.\d\d", text)]
    assert shares == ["0.88", "0.12", "0.25", "0.75", "0.25", "0.75", "0.88", "0.12"]
    assert {"N (16)", "V (4)", "clean", "attacked", "predicted class", "true class (samples)"} <= set(shown)


def test_signals_stand_over_seconds_or_sample_numbers() -> None:
    assert {"time, s", "mV", "change, mV", "original", "attacked"} <= set(texts(draw(SIGNALS)))
    assert "sample of the signal" in texts(draw(replace(SIGNALS, rate=None)))
    assert "lead 2, mV" in texts(draw(replace(SIGNALS, clean=(WAVE, WAVE), delta=(WAVE, WAVE))))


def test_a_perturbation_has_a_scale_of_its_own() -> None:
    """A change of a hundredth fills its panel as a change of 1 would."""
    axis = [text for text in texts(draw(SIGNALS)) if "0.01" in text]
    assert axis and not any("0.01" in text for text in texts(draw(replace(SIGNALS, delta=(WAVE,)))))
