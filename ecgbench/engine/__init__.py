"""Jobs in processes of their own: a plugin that crashes, hangs or changes the process harms its own job alone."""

from __future__ import annotations

from ecgbench.engine.engine import Engine, Finished, Listener, Watch
from ecgbench.engine.request import Failures
from ecgbench.engine.supervisor import Ended, Limits, most_memory, parse_duration, parse_memory
from ecgbench.engine.workers import Local, Workers

__all__ = [
    "Ended",
    "Engine",
    "Failures",
    "Finished",
    "Limits",
    "Listener",
    "Local",
    "Watch",
    "Workers",
    "most_memory",
    "parse_duration",
    "parse_memory",
]
