"""One table of stages: inputs stand first, what a stage keeps is what its row says, what is kept is not made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path

import pytest
import torch
from torch.nn import Flatten, Linear, Sequential

from ecgbench import api
from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.random import stream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import Victim
from ecgbench.evaluation.sweep import Sweep
from ecgbench.registry.catalog import discover
from ecgbench.registry.identity import Identity
from ecgbench.runs.cache import Files, Make, Nowhere
from ecgbench.runs.cell import AttackSetup, Cell, VictimIdentity
from ecgbench.runs.runner import Runner
from ecgbench.runs.scoring import CellLabels
from ecgbench.runs.stages import STAGES, Context, MadeOf, Walk, identities
from ecgbench.runs.victims import Trained
from ecgbench.storage.store import Store, key_of
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.datasets.synthetic_beats import SyntheticBeats
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.linear import LinearClassifier
from tests.command_line import stages

CATALOG = discover()
CELL = Cell(SyntheticBeats(beats=200), LinearClassifier(), Standard(epochs=1), FGSM(), Threat("linf"), (0.05,))
TASK = CELL.dataset.load(DataRoot(None)).limited(20)
SETUP = AttackSetup(FGSM(), Threat("linf"), (0.05,), 0.05)


def test_every_stage_stands_after_its_inputs() -> None:
    names = list(STAGES)
    assert all(names.index(name) < names.index(stage.name) for stage in STAGES.values() for name in stage.inputs)
    assert len({stage.work for stage in STAGES.values()}) == len(names)


def test_what_is_kept_of_a_stage_is_what_its_row_says(tmp_path: Path) -> None:
    runner = Runner(CATALOG, DataRoot(None), Store(tmp_path / "store"))
    assert runner.execute(replace(CELL, audit=True, save_perturbations=2)).status == "ok"
    kept = stages(tmp_path)
    assert set(kept) == set(STAGES)
    for stage in STAGES.values():
        for key in kept[stage.name]:
            files = runner.store.get(stage.name, key)
            assert files is not None and set(files) == set(stage.files)


def test_the_cell_has_the_stages_it_asks_for() -> None:
    always = ["victims", "outcomes", "checks", "records"]
    of = MadeOf(SETUP, "attack", VictimIdentity({"stage": "victim"}, "w1"))
    assert list(identities(of)) == always
    audited = replace(of, setup=replace(SETUP, audit=True, save_perturbations=1))
    assert sorted(identities(audited)) == sorted([*always, "audits", "perturbations"])


@dataclass
class Memory:
    """Keeps files in memory, and says what was made."""

    files: dict[str, Files] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)

    def has(self, stage: str, identity: Identity) -> bool:
        return stage in self.files

    def get(self, stage: str, identity: Identity) -> Files | None:
        return self.files.get(stage)

    def get_or_make(self, stage: str, identity: Identity, make: Make) -> Files:
        self.files[stage] = Nowhere().get_or_make(stage, identity, make)
        self.made.append(stage)
        return self.files[stage]


@dataclass(frozen=True)
class Here(Context):
    """A linear victim in memory, trained or not."""

    trained: bool = True

    @property
    def setup(self) -> AttackSetup:
        return replace(SETUP, audit=True)

    @property
    def labels(self) -> CellLabels:
        return CellLabels.of(CELL, CATALOG)

    @property
    def task(self) -> Task:
        return TASK

    @property
    def identities(self) -> dict[str, Identity]:
        return identities(MadeOf(self.setup, "attack", VictimIdentity({"stage": "victim", "data": "d1"}, "w1")))

    def has_victim(self) -> bool:
        return self.trained

    @contextmanager
    def at_work(self) -> Iterator[tuple[Sweep, Trained]]:
        victim = self.undefended()
        sweep = Sweep(FGSM(), victim, self.task, SETUP.threat, SETUP.eps, stream("attack", 0))
        yield sweep, Trained(victim, 1.5, None)

    def undefended(self) -> Victim:
        linear = Linear(prod(TASK.shape), len(TASK.classes))
        with torch.no_grad():
            linear.weight.fill_(0.1)
        return Victim(Sequential(Flatten(), linear).eval(), TASK.outputs)


LATER = ["outcomes", "checks", "audits", "records"]


@pytest.mark.parametrize(
    ("gone", "missing"),
    [
        ((), []),
        (("records",), ["records"]),
        (("records", "audits"), ["audits", "records"]),
        (("records", "outcomes"), ["outcomes", "records"]),
        (("outcomes",), []),
        (LATER, LATER),
    ],
    ids=str,
)
def test_what_is_missing_is_what_is_made(gone: tuple[str, ...], missing: list[str]) -> None:
    memory = Memory()
    whole = Walk(Here(), memory).files("records")
    assert memory.made == LATER
    memory.files = {name: files for name, files in memory.files.items() if name not in gone}
    memory.made.clear()
    walk = Walk(Here(), memory)
    assert list(dict.fromkeys(stage.name for stage in walk.missing("records"))) == missing
    assert set(walk.files("records")) == set(whole) and memory.made == missing


def test_an_untrained_victim_is_missing_where_something_needs_it() -> None:
    memory = Memory()
    Walk(Here(), memory).files("records")
    walk = Walk(Here(trained=False), memory)
    assert not list(walk.missing("records"))
    del memory.files["records"], memory.files["checks"]
    assert [stage.name for stage in walk.missing("records")] == ["victims", "checks", "records"]


def test_the_verdict_on_a_users_model_is_a_record_of_the_same_shape(tmp_path: Path) -> None:
    ours = Runner(CATALOG, DataRoot(None), Store(tmp_path / "store")).execute(CELL)
    x, y = torch.rand(30, 1, 4), torch.arange(30) % 2
    theirs = api.evaluate(Sequential(Flatten(), Linear(4, 2)), x, y, eps=[0.05], attack="fgsm")
    assert ours.provenance is not None and theirs.provenance is not None
    assert set(theirs.provenance.identity) == set(ours.provenance.identity)
    assert theirs.provenance.identity["attack"] == ours.provenance.identity["attack"]
    assert theirs.provenance.identity["sources"] == ours.provenance.identity["sources"]
    assert theirs.provenance.outcomes == key_of(theirs.provenance.identity)
    assert len(theirs.key) == len(ours.key) and theirs.cost.attack_seconds > 0
