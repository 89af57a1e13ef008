"""Records become pages."""

from __future__ import annotations

from ecgbench.leaderboard.board import check, write
from ecgbench.leaderboard.figures import draw_all, of_perturbations, run_figures

__all__ = ["check", "draw_all", "of_perturbations", "run_figures", "write"]
