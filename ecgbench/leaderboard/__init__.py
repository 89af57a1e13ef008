"""Records become pages."""

from __future__ import annotations

from ecgbench.leaderboard.board import check, write
from ecgbench.leaderboard.figures import board_figures, draw_all, of_perturbations

__all__ = ["board_figures", "check", "draw_all", "of_perturbations", "write"]
