"""What is told while one chunk is under attack, and that the outcomes are those of a sweep that tells nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch import Tensor

from ecgbench.core.interfaces import Attack
from ecgbench.core.progress import Checkpoint, Progress, SweepProgress
from ecgbench.core.random import RandomStream, stream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.evaluation.sweep import Sweep
from ecgbench.runs import telling
from ecgbench.runs.telling import ToldSweep
from ecgbench.storage.arrays import pack
from ecgbench_plugins.attacks.pgd import PGD
from tests.problems import KilledError, MemoryCheckpoint, random_mlp

GRID = (0.1, 0.4)


def sweep(attack: Attack, kind: type[Sweep] = ToldSweep) -> Sweep:
    task, victim = random_mlp(250)
    return kind(attack, victim, task, Threat("linf"), GRID, stream("attack"))


def told(made: Sweep) -> list[SweepProgress]:
    progress: list[Progress] = []
    made.run(Checkpoint(progress.append))
    return [each for each in progress if isinstance(each, SweepProgress)]


@pytest.mark.parametrize("every", [0.0, 3600.0], ids=["always", "never"])
def test_telling_changes_no_outcome(every: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "EVERY", every)
    attack = PGD(steps=5, restarts=2)
    assert pack(sweep(attack).run(Checkpoint())) == pack(sweep(attack, Sweep).run(Checkpoint()))


def test_inside_a_chunk_samples_are_done_that_are_adversarial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "EVERY", 0.0)
    made = sweep(PGD(steps=5))
    steps = told(made)
    for position, eps in enumerate(GRID):
        here = [step for step in steps if step.position == position]
        assert {(step.eps, step.of, step.remaining) for step in here} == {(eps, 2, here[0].remaining)}
        done = [step.done for step in here]
        assert done == sorted(done) and done[0] == 0 and done[-1] == here[0].remaining
    inside = [step.done for step in steps if step.position == 1 and 0 < step.done < step.remaining]
    assert len(set(inside)) > 1  # chunks are larger than the split: nothing else than the attack itself can tell


@dataclass(frozen=True)
class Asks(Attack):
    """Asks so many times and perturbs nothing."""

    times: int = 4

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        zero = torch.zeros_like(trial.batch.x)
        for _ in range(self.times):
            trial.logits(zero)
        return zero


def test_it_is_told_now_and_then_and_when_an_eps_begins_and_a_chunk_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(telling, "EVERY", 6.0)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    steps = told(sweep(Asks(times=20)))
    assert [step.done for step in steps if step.position == 0] == [0, 0, 0, 0, steps[0].remaining]


def test_a_sweep_that_goes_on_counts_what_is_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgbench.core.victim.CHUNK_BYTES", 4 * 24 * 100)
    before = MemoryCheckpoint(dies_at=1)
    with pytest.raises(KilledError):
        sweep(PGD(steps=2)).run(before)
    after = MemoryCheckpoint(before.state)
    sweep(PGD(steps=2)).run(after)
    first = next(step for step in after.told if isinstance(step, SweepProgress))
    assert (first.position, first.done) == (0, 100)


def test_a_part_of_a_told_trial_tells_too() -> None:
    trial = Trial.begin(*_given())
    step = telling.Step(Checkpoint(), 0.1, 0, 1, 0, 5)
    made = telling.ToldTrial.of(trial, step)
    assert made[torch.tensor([1, 2])].step is step and made.memory is trial.memory  # type: ignore[attr-defined]
    assert all(getattr(made, each.name) is getattr(trial, each.name) for each in fields(trial))


def _given() -> tuple[Any, ...]:
    task, victim = random_mlp(5)
    batch = task.test[slice(0, 5)]
    threat = Threat("linf")
    return victim, batch, threat.ball(batch, 0.1, task.bounds), threat.goal(batch.y, task.outputs), stream("attack")
