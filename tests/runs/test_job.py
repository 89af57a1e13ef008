"""A job is words: whoever reads them, in another process too, makes the same victim and the same cell."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Attack
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.evaluation.sweep import Protocol
from ecgbench.registry.catalog import discover
from ecgbench.runs.cell import Cell, VictimSpec
from ecgbench.runs.job import CellJob, VictimJob, catalog_of, jobs, read_job, write_job
from ecgbench.runs.runner import Runner
from ecgbench.storage.store import Store
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.attacks.transfer import Transfer
from ecgbench_plugins.datasets.synthetic_beats import SyntheticBeats
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.linear import LinearClassifier
from tests.command_line import environment

CATALOG = discover()
CELL = Cell(SyntheticBeats(beats=200), LinearClassifier(), Standard(epochs=1), FGSM(), Threat("linf"), (0.05,))


def presets(kind: str) -> st.SearchStrategy[Any]:
    return st.sampled_from([CATALOG.value(kind, name) for name in CATALOG.names(kind)])


sizes = st.floats(1e-30, 1e30) | st.integers(1, 255).map(lambda n: n / 255)
cells = st.builds(
    Cell,
    dataset=presets("dataset"),
    model=presets("model"),
    defense=presets("defense"),
    attack=presets("attack"),
    threat=st.builds(Threat, st.sampled_from(["linf", "l2"]), mask=st.booleans(), bounds=st.booleans()),
    eps=st.sets(sizes, min_size=1, max_size=4).map(lambda found: tuple(sorted(found))),
    protocol=st.builds(
        Protocol,
        st.sampled_from(["first", "last"]),
        st.sampled_from(["growing", "independent"]),
        st.sampled_from(["wrong", "attacked"]),
        st.integers(0, 100),
        st.sampled_from(["val", "test"]),
    ),
    seed=st.integers(0, 2**63 - 1),
    limit=st.none() | st.integers(1, 10**9),
    audit=st.booleans(),
    save_perturbations=st.integers(0, 10**9),
)


@given(cells)
@settings(max_examples=40, deadline=None)
def test_a_cell_comes_back_from_its_job_as_it_was(cell: Cell) -> None:
    job = read_job(write_job(CellJob.of(cell, CATALOG)))
    assert isinstance(job, CellJob) and job.cell(CATALOG) == cell
    assert CellJob.of(job.cell(CATALOG), CATALOG) == job


@given(cells)
@settings(max_examples=20, deadline=None)
def test_a_victim_comes_back_from_its_job_as_it_was(cell: Cell) -> None:
    job = read_job(write_job(VictimJob.of(cell.victim, CATALOG)))
    assert isinstance(job, VictimJob) and job.victim(CATALOG) == cell.victim


@given(cells, cells)
@settings(max_examples=20, deadline=None)
def test_other_cells_are_other_jobs(one: Cell, other: Cell) -> None:
    assert (CellJob.of(one, CATALOG) == CellJob.of(other, CATALOG)) == (one == other)


def test_a_job_is_words_that_a_person_can_write() -> None:
    assert json.loads(write_job(CellJob.of(CELL, CATALOG))) == {
        "type": "cell",
        "dataset": "synthetic-beats[beats=200]",
        "model": "linear",
        "defense": "none[epochs=1]",
        "attack": "fgsm",
        "threat": "linf",
        "protocol": "standard",
        "eps": [0.05],
        "seed": 0,
        "limit": None,
        "audit": False,
        "save_perturbations": 0,
        "plugins": [],
    }


class Stranger(Attack):
    """Made in Python; no plugin offers it."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return trial.batch.x * 0


def test_a_value_that_no_selector_can_write_is_one_sentence() -> None:
    with pytest.raises(EcgbenchError, match=r"comes from no known attack, so that it has no name\.$"):
        CellJob.of(replace(CELL, attack=Stranger()), CATALOG)


WORDS = json.loads(write_job(CellJob.of(CELL, CATALOG)))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "this is no job"),
        ("[]", "this is no job"),
        ("{}", "this is no job: .*type"),
        ('{"type": "cell"}', "dataset"),
        (json.dumps(WORDS | {"type": "grid"}), "grid"),
        (json.dumps(WORDS | {"seed": -1}), "seed"),
        (json.dumps(WORDS | {"seed": "0"}), "seed"),
        (json.dumps(WORDS | {"limit": 0}), "limit"),
        (json.dumps(WORDS | {"save_perturbations": -1}), "save_perturbations"),
        (json.dumps(WORDS | {"eps": ["0.1"]}), "eps"),
        (json.dumps(WORDS | {"store": "/here"}), "store"),
    ],
)
def test_what_is_no_job_is_refused_by_its_field(text: str, fault: str) -> None:
    with pytest.raises(EcgbenchError, match=fault):
        read_job(text.encode())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"attack": "fgsn"}, "fgsn"),
        ({"attack": "fgsm["}, "fgsm"),
        ({"eps": []}, "eps grid"),
        ({"eps": [0.2, 0.1]}, "eps grid"),
        ({"eps": [0.0]}, "eps 0.0"),
    ],
)
def test_words_that_name_nothing_are_refused(change: dict[str, Any], fault: str) -> None:
    job = read_job(json.dumps(WORDS | change).encode())
    assert isinstance(job, CellJob)
    with pytest.raises(EcgbenchError, match=fault):
        job.cell(CATALOG)


# plugins that are not installed


PLUGIN = """
from dataclasses import dataclass

from ecgbench import Attack, hookimpl


@dataclass(frozen=True)
class Nothing(Attack):
    size: float = 1.0

    def perturb(self, trial, rng):
        return trial.batch.x * 0


@hookimpl
def attacks():
    return {"does-nothing": Nothing()}
"""
ELSEWHERE = """
import sys
from pathlib import Path
from ecgbench.core.dataroot import DataRoot
from ecgbench.runs.job import catalog_of, read_job
from ecgbench.runs.runner import Runner
from ecgbench.storage.store import Store

for text in sys.stdin.read().splitlines():
    job = read_job(text.encode())
    runner = Runner(catalog_of(job), DataRoot(None), Store(Path("store")))
    if type(job).__name__ == "VictimJob":
        runner.victim(job)
    else:
        sys.stdout.write(runner.execute(job).json().decode())
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "plugins" / "does_nothing.py"
    file.parent.mkdir()
    file.write_text(PLUGIN)
    return file


def test_a_job_names_plugins_that_are_not_installed_by_where_they_are(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plugin.parent)
    catalog = discover(("does_nothing.py",))
    cell = replace(CELL, attack=catalog.resolve("attack", "does-nothing[size=0.5]"))
    job = CellJob.of(cell, catalog)
    assert job.plugins == (str(plugin),)
    monkeypatch.chdir(plugin.parent.parent)
    assert job.cell(catalog_of(job)) == cell


def test_a_job_whose_plugin_is_gone_is_one_sentence(plugin: Path) -> None:
    job = CellJob.of(CELL, discover((str(plugin),)))
    plugin.unlink()
    with pytest.raises(EcgbenchError, match=r"does_nothing\.py' .*is refused"):
        catalog_of(msgspec.structs.replace(job, plugins=(str(plugin.with_name("gone_does_nothing.py")),)))


def test_another_process_makes_the_same_from_words_alone(plugin: Path, tmp_path: Path) -> None:
    catalog = discover((str(plugin),))
    cell = replace(CELL, attack=catalog.resolve("attack", "does-nothing"))
    here = Runner(catalog, DataRoot(None), Store(tmp_path / "store")).execute(cell)
    other = tmp_path / "other"
    other.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        input=b"\n".join(map(write_job, jobs([cell], catalog))),
        env=environment(other), cwd=other, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    assert here.status == "ok" and (there["key"], there["scores"]) == (here.key, json.loads(here.json())["scores"])
    assert sorted(path.name for path in (other / "store" / "victims").iterdir()) == sorted(
        path.name for path in (tmp_path / "store" / "victims").iterdir()
    )


# what must be done before


def in_order(found: Any) -> bool:
    """Whether every job stands after those that it needs."""
    done: set[Any] = set()
    for job, needed in found.items():
        if not done >= set(needed):
            return False
        done.add(job)
    return True


def test_a_victim_is_trained_once_and_before_the_cells_that_attack_it() -> None:
    found = jobs([CELL, replace(CELL, eps=(0.1,)), CELL], CATALOG)
    victim = VictimJob.of(CELL.victim, CATALOG)
    assert list(found) == [victim, *(CellJob.of(cell, CATALOG) for cell in (CELL, replace(CELL, eps=(0.1,))))]
    assert list(found.values()) == [(), (victim,), (victim,)]


def job_of(selector: str) -> VictimJob:
    return VictimJob.of(replace(CELL.victim, defense=CATALOG.resolve("defense", selector)), CATALOG)


def test_a_base_comes_before_the_defense_that_starts_from_it() -> None:
    tuned = next(value for value in CATALOG.values("defense").values() if value.base is not None)
    found = jobs([replace(CELL, defense=tuned)], CATALOG)
    base, victim, cell = found
    assert base == VictimJob.of(VictimSpec(CELL.dataset, CELL.model, tuned.base), CATALOG)
    assert (found[base], found[victim], found[cell]) == ((), (base,), (victim,))


def test_a_surrogate_comes_before_the_transfer_that_uses_it() -> None:
    cell = replace(CELL, attack=Transfer(surrogate=Standard(epochs=2)))
    found = jobs([cell], CATALOG)
    assert found[CellJob.of(cell, CATALOG)] == (job_of("none[epochs=1]"), job_of("none[epochs=2]"))


@pytest.mark.parametrize(("defense", "undefended"), [("none[epochs=1]", ("none",)), ("none", ())])
def test_the_undefended_victim_comes_before_an_audit_that_compares_with_it(
    defense: str, undefended: tuple[str, ...]
) -> None:
    cell = replace(CELL, defense=CATALOG.resolve("defense", defense), audit=True)
    found = jobs([cell], CATALOG)
    assert found[CellJob.of(cell, CATALOG)] == (job_of(defense), *map(job_of, undefended))


def test_a_catalog_may_lack_the_undefended_victim() -> None:
    catalog = replace(CATALOG, defenses={name: each for name, each in CATALOG.defenses.items() if name == "trades"})
    cell = replace(CELL, defense=catalog.value("defense", "trades"), audit=True)
    assert [type(job) for job in jobs([cell], catalog)] == [VictimJob, CellJob]


@given(st.lists(cells, max_size=3))
@settings(max_examples=20, deadline=None)
def test_every_job_stands_once_and_after_what_it_needs(some: list[Cell]) -> None:
    found = jobs(some, CATALOG)
    assert in_order(found)
    attacking = [CellJob.of(cell, CATALOG) for cell in dict.fromkeys(some)]
    assert [job for job in found if isinstance(job, CellJob)] == attacking
