"""Figures of a row's saved perturbations: signals before and after, and maps where samples are tables."""

from __future__ import annotations

from ecgbench.core.data import Task
from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.figures import Figure
from ecgbench.leaderboard.figures import of_perturbations
from ecgbench.results.record import Record
from ecgbench.susceptibility.figures import report_figures
from ecgbench.susceptibility.report import report

SHOWN = 4
"""Samples of a row; one of each true class before a second of any."""


def row_figures(record: Record, task: Task, kept: Perturbations) -> dict[str, Figure]:
    """The figures by the names of their files."""
    found: dict[str, Figure] = {}
    if task.features and kept.delta.ndim == 3:
        row = f"{record.dataset} {record.model} {record.defense} {record.attack} seed {record.seed}"
        made = report(row, record.headline, kept, record.classes, task.features)
        found |= {f"{record.key[:12]}-{name}": figure for name, figure in report_figures(made)}
    return found | of_perturbations(record, task, chosen(kept))


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
