"""A sweep that tells how far it is also while an attack is at work: one chunk of samples may take minutes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from typing import Literal

from torch import Tensor

from ecgbench.core.interfaces import Attack
from ecgbench.core.progress import Checkpoint, SweepProgress
from ecgbench.core.random import RandomStream
from ecgbench.core.trial import Trial
from ecgbench.core.victim import chunks
from ecgbench.evaluation.sweep import Sweep, _Table

EVERY = 1.0
"""Seconds between two tellings inside a chunk."""


@dataclass
class Step:
    """One eps of a sweep: `remaining` samples are attacked, and the chunks that are behind held `done` of them."""

    checkpoint: Checkpoint
    eps: float
    position: int
    of: int
    done: int
    remaining: int
    told: float = field(default_factory=time.monotonic)

    def tell(self, found: int) -> None:
        """Say how far it is; `found` samples of the chunk under way are adversarial, and done with."""
        self.told = time.monotonic()
        self.checkpoint.report(
            SweepProgress(self.eps, self.position, self.of, min(self.remaining, self.done + found), self.remaining)
        )

    def tell_now_and_then(self, adversarial: Tensor) -> None:
        """The same once in a while."""
        if time.monotonic() - self.told >= EVERY:
            self.tell(int(adversarial.sum()))


@dataclass(frozen=True)
class ToldTrial(Trial):
    """A trial that tells, whenever it is asked for logits or gradients, how many rows are adversarial by now."""

    step: Step | None = None

    @classmethod
    def of(cls, trial: Trial, step: Step) -> ToldTrial:
        """The same trial, with the same memory."""
        return cls(**{each.name: getattr(trial, each.name) for each in fields(trial)}, step=step)

    def _count(self, what: Literal["forwards", "gradients"], times: int = 1) -> None:
        super()._count(what, times)
        if self.step is not None:
            self.step.tell_now_and_then(self.memory.is_adversarial)


@dataclass(frozen=True)
class ToldSweep(Sweep):
    """A sweep that tells when an eps begins and, once a second, how far its attack is; its outcomes are the same."""

    _under_way: list[Step] = field(default_factory=list, repr=False, compare=False)

    def ask(self, attack: Attack, trial: Trial, rng: RandomStream) -> Tensor:
        return super().ask(attack, ToldTrial.of(trial, self._under_way[-1]) if self._under_way else trial, rng)

    def _visit(self, table: _Table, position: int, remaining: Tensor, checkpoint: Checkpoint) -> None:
        rows = remaining.nonzero().squeeze(1)
        behind = chunks(rows, self.task.shape)[: table.chunk]
        step = Step(checkpoint, self.eps[position], position, len(self.eps), sum(map(len, behind)), len(rows))
        step.tell(0)
        self._under_way.append(step)
        try:
            super()._visit(table, position, remaining, checkpoint)
        finally:
            self._under_way.pop()

    def _attack(self, table: _Table, position: int, rows: Tensor) -> None:
        super()._attack(table, position, rows)
        self._under_way[-1].done += len(rows)
