"""Figures as values, and as SVG."""

from __future__ import annotations

from ecgbench.figures.svg import draw
from ecgbench.figures.values import (
    Curves,
    Figure,
    Heatmaps,
    Line,
    Matrices,
    Panels,
    Signals,
    eps_axis,
    fault,
    file_name,
)

__all__ = [
    "Curves",
    "Figure",
    "Heatmaps",
    "Line",
    "Matrices",
    "Panels",
    "Signals",
    "draw",
    "eps_axis",
    "fault",
    "file_name",
]
