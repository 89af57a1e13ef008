"""Machines that share results: outcomes are those of the weights their row names, whoever trained, and when."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch.nn import Module

from ecgbench.cli.tables import tables
from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.fingerprint import digest
from ecgbench.core.interfaces import Defense
from ecgbench.core.progress import Checkpoint, Epoch, Progress, SweepProgress
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.runner import Runner
from ecgbench.storage.store import Store
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.linear import LinearClassifier
from tests.runs.test_runner import CATALOG, Borrowed, Clouds, Marked, offers

TRAININGS = count(1)


@dataclass(frozen=True)
class Drifting(Defense):
    """Gives other weights at every training, as two machines do."""

    name: str = "drifting"

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        trained = Standard(epochs=1).fit(model, task, rng, checkpoint)
        with torch.no_grad():
            next(trained.parameters()).view(-1)[0] += next(TRAININGS) * 1e-3
        return trained


CELL = Cell(Clouds(), LinearClassifier(), Drifting(), Marked(), Threat("linf"), (0.2, 0.6))
SURROGATED = replace(CELL, attack=Borrowed(teacher=Drifting("teacher")))
OFFERED = replace(CATALOG, defenses=offers("defense", drifting=Drifting()))


@dataclass(frozen=True)
class Machine:
    """A machine whose store is `shared`, and what it was told by it."""

    shared: Path
    said: list[str]

    def run(
        self, cell: Cell = CELL, tell: Callable[[Progress], None] = lambda _: None, retrain: bool = False
    ) -> Record:
        store = Store(self.shared, self.said.append)
        return Runner(OFFERED, DataRoot(), store, tell=tell, retrain=retrain).execute(cell)

    def weights(self, record: Record) -> str:
        """The digest of the weights that are kept of a record's victim."""
        assert record.provenance is not None
        files = Store(self.shared).get("victims", record.provenance.victim)
        assert files is not None
        return digest(load(files["weights.safetensors"]))


@pytest.fixture(autouse=True)
def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine waits for another one, as where the file system has no locks."""

    def unable(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", unable)


def once(kind: type, act: Callable[[], object]) -> Callable[[Progress], None]:
    """Hears of progress, and acts at the first of one kind."""
    left = [act]

    def tell(progress: Progress) -> None:
        if isinstance(progress, kind) and left:
            left.pop()()

    return tell


@pytest.mark.parametrize("moment", [Epoch, SweepProgress], ids=["training", "attack"])
def test_of_two_machines_on_one_cell_the_first_is_kept_and_both_tell_the_same(moment: type, tmp_path: Path) -> None:
    one, other, records = Machine(tmp_path, []), Machine(tmp_path, []), list[Record]()
    record = one.run(tell=once(moment, lambda: records.append(other.run())))
    assert (record.status, records) == ("ok", [record]) and record.provenance is not None
    assert record.provenance.weights == one.weights(record)
    assert any("another process was first with" in line for line in one.said)
    assert not any("first" in line for line in other.said)
    kept = {stage: len(list((tmp_path / stage).iterdir())) for stage in ("victims", "outcomes", "records", "writing")}
    assert kept == {"victims": 1, "outcomes": 1, "records": 1, "writing": 0}


@pytest.mark.parametrize("cell", [CELL, SURROGATED], ids=["victim", "surrogate"])
def test_a_victim_that_another_machine_trains_again_during_an_attack_fails_the_cell_and_mixes_nothing(
    cell: Cell, tmp_path: Path
) -> None:
    one, other, records = Machine(tmp_path, []), Machine(tmp_path, []), list[Record]()
    failed = one.run(cell, once(SweepProgress, lambda: records.append(other.run(cell, retrain=True))))
    assert failed.status == "failed" and failed.error is not None
    assert failed.error == "the victim was trained again while its cell was at work; run the cell again."
    again = one.run(cell)
    assert (again.status, [again]) == ("ok", records) and again.provenance is not None
    assert again.provenance.weights == one.weights(again)


def test_results_of_two_machines_put_together_never_mix(tmp_path: Path) -> None:
    machines = [Machine(tmp_path / name, []) for name in ("one", "other")]
    one, other = (machine.run(SURROGATED) for machine in machines)
    assert one.provenance is not None and other.provenance is not None
    assert one.provenance.victim == other.provenance.victim and one.provenance.weights != other.provenance.weights
    assert one.key != other.key and one.provenance.outcomes != other.provenance.outcomes
    for machine, source in (machines, machines[::-1]):
        for stage in ("outcomes", "checks", "records"):
            shutil.copytree(source.shared / stage, machine.shared / stage, dirs_exist_ok=True)
    for machine, record in zip(machines, (one, other), strict=True):
        assert machine.run(SURROGATED) == record and record.provenance is not None
        assert record.provenance.weights == machine.weights(record)
        assert f"weights {record.provenance.weights[:12]}" in " ".join(tables([record]).split())
