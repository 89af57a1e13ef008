"""Maps of susceptibility as figures."""

from __future__ import annotations

from collections.abc import Iterator

from ecgbench.figures import Figure, Heatmaps, file_name
from ecgbench.susceptibility.report import Report


def report_figures(report: Report) -> Iterator[tuple[str, Figure]]:
    """A figure for each direction in which a perturbation succeeded, by the name of its file."""
    for direction in report.directions:
        if direction.maps is not None:
            panels = [(name, tuple(map(tuple, each.T.tolist()))) for name, each in direction.maps.named()]
            title = f"{direction.name}: {len(direction.delta)} perturbations\n{report.row}, eps {report.eps:g}"
            figure = Heatmaps(title, "hour", report.measurements, tuple(panels))
            yield file_name("susceptibility", direction.name, report.row, f"{report.eps:g}"), figure
