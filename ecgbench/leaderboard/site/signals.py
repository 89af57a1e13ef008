"""What the page of a row shows of its perturbations: signals before and after, and maps where samples are tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.data import Task
from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.figures import Figure
from ecgbench.results.record import Record
from ecgbench.susceptibility.figures import report_figures
from ecgbench.susceptibility.report import report

SHOWN = 3
"""Samples of a row; one of each true class before a second of any."""
LEFT, WIDTH = 70.0, 510.0
SIGNAL, PERTURBATION = (12.0, 150.0), (186.0, 66.0)
"""Top and height of the two panels of a plot."""
MOST = 1000
"""Points of a line, every so many samples where there are more."""


@dataclass(frozen=True)
class Panel:
    """Lines, each its points in an SVG, on one axis from `low` to `high`, whose ends lie at `bottom` and `top`."""

    lines: tuple[str, ...]
    low: str
    high: str
    top: float
    bottom: float


@dataclass(frozen=True)
class SignalPlot:
    """A sample before and after, and its perturbation, in `unit`; `end` is the last tick of the axis `across`."""

    caption: str
    unit: str
    signal: Panel
    perturbation: Panel
    end: str
    across: str


def plots(record: Record, task: Task, kept: Perturbations) -> list[SignalPlot]:
    """Of signals in leads the samples that are shown, each by the lead that is perturbed most; [] for other shapes."""
    if kept.delta.ndim != 3 or task.features:
        return []
    shown = chosen(kept)
    return [_plot(record, task, shown, at) for at in range(len(shown.ids))]


def maps(record: Record, task: Task, kept: Perturbations) -> dict[str, Figure]:
    """Of tables, where they are susceptible: figures by the names of their files."""
    if not task.features or kept.delta.ndim != 3:
        return {}
    row = f"{record.dataset} {record.model} {record.defense} {record.attack} seed {record.seed}"
    made = report(row, record.headline, kept, record.classes, task.features)
    return {f"{record.key[:12]}-{name}": figure for name, figure in report_figures(made)}


def chosen(kept: Perturbations) -> Perturbations:
    """The samples that are shown, those that an attack made wrong first."""
    turns: dict[int, int] = {}
    places = []
    for at, label in enumerate(kept.y.tolist()):
        adversarial = bool(kept.attacked[at] != kept.y[at] and kept.clean[at] == kept.y[at])
        turns[label] = turns.get(label, 0) + 1
        places.append((not adversarial, turns[label], at))
    rows = sorted(at for *_, at in sorted(places)[:SHOWN])
    return Perturbations.from_arrays({name: value[rows] for name, value in kept.arrays().items()})


def _plot(record: Record, task: Task, kept: Perturbations, at: int) -> SignalPlot:
    factor = kept.scale[at].astype(np.float64) if task.physical else np.float64(1.0)
    unit = task.physical or ("unit of the signal" if task.unit == "1" else task.unit)
    x, delta = (factor * one[at] for one in (kept.x, kept.delta))
    lead = int(np.abs(delta).max(1).argmax())
    true, clean, attacked = (_named(task, int(labels[at])) for labels in (kept.y, kept.clean, kept.attacked))
    of_lead = f", lead {lead + 1} of {len(x)}" if len(x) > 1 else ""
    facts = f"Sample {int(kept.ids[at])}{of_lead}: {true}; predicted {clean} when clean, {attacked} when perturbed"
    largest = float(np.abs(delta[lead]).max())
    end, across = (f"{len(x[lead]) / task.rate:g}", "s") if task.rate else (f"{len(x[lead])}", "samples")
    return SignalPlot(
        caption=f"{facts} at eps {record.headline:g}. Largest change: {largest:.3g} {unit}.",
        unit=unit,
        signal=_panel([x[lead], x[lead] + delta[lead]], *SIGNAL),
        perturbation=_panel([delta[lead]], *PERTURBATION),
        end=end,
        across=across,
    )


def _named(task: Task, label: int) -> str:
    return task.classes[label] if label >= 0 else "nothing"


def _panel(values: Sequence[NDArray[Any]], top: float, height: float) -> Panel:
    """Lines between the least and the largest of all values."""
    low, high = float(np.min(values)), float(np.max(values))
    reach = high - low or 1.0
    every = max(1, -(-len(values[0]) // MOST))
    x = LEFT + WIDTH * np.linspace(0, 1, len(values[0]))[::every]
    lines = [top + height * (high - one[::every]) / reach for one in values]
    points = (" ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)) for y in lines)
    return Panel(tuple(points), f"{low:.2g}", f"{high:.2g}", top, top + height)
