"""Jobs in processes of their own: a plugin that crashes, hangs or changes the process harms its own job alone."""

from __future__ import annotations

from ecgbench.engine.local import Engine, Watch, cores
from ecgbench.engine.request import Failures
from ecgbench.engine.supervisor import Ended, Limits, most_memory, parse_duration, parse_memory

__all__ = ["Ended", "Engine", "Failures", "Limits", "Watch", "cores", "most_memory", "parse_duration", "parse_memory"]
