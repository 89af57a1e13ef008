"""Where successful perturbations lie: maps over hours and measurements, and how far they can be read."""

from __future__ import annotations

from ecgbench.susceptibility.agreement import Agreement, agreement, split_half
from ecgbench.susceptibility.comparison import Compared, comparisons
from ecgbench.susceptibility.maps import Maps
from ecgbench.susceptibility.report import Direction, Report, report

__all__ = ["Agreement", "Compared", "Direction", "Maps", "Report", "agreement", "comparisons", "report", "split_half"]
