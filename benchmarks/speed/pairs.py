"""Paired timings: two pieces of work in turn, CPU seconds of this process, the ratio pair by pair."""

from __future__ import annotations

import platform
from collections.abc import Callable
from statistics import median
from time import process_time

import torch


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    began = process_time()
    work()
    return process_time() - began


def pairs(ours: Callable[[], object], bare: Callable[[], object], runs: int = 9) -> tuple[float, float, float]:
    """Median seconds of `ours` and `bare`, and the median of their ratios; a first, cold pair is not counted."""
    seconds(bare), seconds(ours)
    taken = [(seconds(ours), seconds(bare)) for _ in range(runs)]
    return median(a for a, _ in taken), median(b for _, b in taken), median(a / b for a, b in taken)


def machine() -> str:
    """What the figures were measured on."""
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, 1 thread"
