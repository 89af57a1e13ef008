"""Peak memory of one piece of work, in a process of its own; Linux only."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

PROCESS = Path("/proc/self")


def peak(work: Callable[[Any], object], small: Any, whole: Any) -> float:
    """MB that `work(whole)` needs at most beyond what its process holds already.

    `work(small)` comes first, so that libraries are loaded; the input counts as held.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak, work, pickle.dumps(small), pickle.dumps(whole)).result()


def _peak(work: Callable[[Any], object], small: bytes, whole: bytes) -> float:
    torch.set_num_threads(1)
    work(pickle.loads(small))
    problem = pickle.loads(whole)
    (PROCESS / "clear_refs").write_text("5")  # the high-water mark starts anew
    before = _megabytes("VmRSS")
    work(problem)
    return _megabytes("VmHWM") - before


def _megabytes(name: str) -> float:
    line = next(line for line in (PROCESS / "status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024
