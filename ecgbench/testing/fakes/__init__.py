"""Fake defenses, each caught by the check meant for it, and honest victims that no check may flag."""

from __future__ import annotations

from ecgbench.testing.fakes.table import FAKES, HONEST, MODULES, STRONG, Bed, Row

__all__ = ["FAKES", "HONEST", "MODULES", "STRONG", "Bed", "Row"]
