"""The board as a static web site that works offline."""

from __future__ import annotations

from ecgbench.leaderboard.site.build import files, write_site

__all__ = ["files", "write_site"]
