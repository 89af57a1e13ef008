"""What a long job tells while it works, and what it keeps so that a killed one can go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Epoch:
    """One finished epoch of a training: number from 1, of how many, mean loss, score on validation."""

    number: int
    of: int
    loss: float
    score: float | None


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """Progress of an attack: samples done of those that remain at this eps, and where eps is in its grid."""

    eps: float
    position: int
    of: int
    done: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Note:
    """One line for whoever watches."""

    text: str


@dataclass(frozen=True, slots=True)
class Started:
    """A line that says that a long job begins, and why."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A cell failed; the traceback, many lines, for whoever wrote the plugin."""

    traceback: str


Progress = Epoch | SweepProgress | Note | Started | Failed
State = dict[str, Tensor]
"""Tensors by name; numbers travel as tensors of one element."""


class Checkpoint:
    """Tells progress as values and keeps one state per chapter; this one listens and keeps nothing."""

    def __init__(self, tell: Callable[[Progress], None] | None = None) -> None:
        self._report = tell

    def report(self, progress: Progress) -> None:
        """Say how far the job is."""
        if self._report is not None:
            self._report(progress)

    def save(self, state: State) -> None:
        """Replace the kept state, all or nothing."""

    def load(self) -> State | None:
        """What an earlier, killed job kept; None at a fresh start."""
        return None

    def measured_once(self, what: Mapping[str, str], measure: Callable[[], float]) -> float:
        """A figure of this machine, measured once and kept for later jobs; this journal measures every time."""
        return measure()

    def part(self, name: str) -> Checkpoint:
        """A checkpoint with a state of its own, for a job of several parts."""
        return self
