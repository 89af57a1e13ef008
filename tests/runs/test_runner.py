"""Each stage of a cell is made once, kept, and made again only where it is missing; a fault harms its cell alone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import Flatten, Identity, Linear, Module

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError, StoreError
from ecgbench.core.fingerprint import digest
from ecgbench.core.interfaces import Attack, Dataset, Defaults, Defense, Model
from ecgbench.core.losses import margin
from ecgbench.core.progress import Checkpoint, Epoch, Note, Progress, Started, SweepProgress
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.evaluation.sweep import Protocol
from ecgbench.registry.catalog import discover
from ecgbench.registry.loading import RegisteredPlugin
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.runner import Runner
from ecgbench.storage.store import Store, key_of
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.linear import LinearClassifier
from tests.command_line import stages, stamps
from tests.problems import blobs

LOG: list[str] = []  # what the plugins below have done


@pytest.fixture(autouse=True)
def log() -> list[str]:
    LOG.clear()
    return LOG


@dataclass(frozen=True)
class Clouds(Dataset):
    """Three clouds; with `filed`, moved by the number in a file."""

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.2, 0.6), headline=0.6)
    filed: bool = False

    def files(self, root: DataRoot) -> Mapping[str, Path]:
        if not self.filed:
            return {}
        return {"by.npy": root.find("clouds", "by.npy", (), "put it there.") / "by.npy"}

    def load(self, root: DataRoot) -> Task:
        LOG.append("load")
        task = blobs(n=300)
        if not self.filed:
            return task
        moved = replace(task.test, x=task.test.x + float(np.load(self.files(root)["by.npy"])))
        moved.check()
        return replace(task, test=moved)


@dataclass(frozen=True)
class Logged(Defense):
    """One epoch of plain training, from `start`'s weights if there is one."""

    name: str = "logged"
    start: Defense | None = None
    trains: bool = True

    @property
    def base(self) -> Defense | None:
        return self.start

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        LOG.append(f"fit {self.name}")
        return Standard(epochs=1).fit(model, task, rng, checkpoint) if self.trains else model


@dataclass(frozen=True)
class Wrapped(Logged):
    """Attacked behind a layer of its own."""

    layer: Literal["linear", "hidden", "new"] = "linear"

    def wrap(self, module: Module, task: Task) -> Module:
        return torch.nn.Sequential(Hidden() if self.layer == "hidden" else Identity(), module)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        trained = super().fit(model, task, rng, checkpoint)
        if self.layer == "hidden":
            trained[0].shift = 1.0  # type: ignore[index]
        return torch.nn.Sequential(trained, Linear(3, 3)) if self.layer == "new" else trained


class Hidden(Module):
    """Holds a number that is no part of its weights."""

    shift = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift * x.flip(2)


@dataclass(frozen=True)
class Marked(Attack):
    """One step of full length; goes wrong where it is told to."""

    fault: Literal["none", "raises", "exits", "stops", "too-large"] = "none"

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        LOG.append("attack")
        if self.fault == "raises":
            raise RuntimeError("the attack\n  broke")
        if self.fault == "exits":
            raise SystemExit(3)
        if self.fault == "stops":
            raise KeyboardInterrupt
        _, gradient = trial.gradient(torch.zeros_like(trial.batch.x), margin)
        return trial.ball.project(2 * gradient.sign()) * (2 if self.fault == "too-large" else 1)


@dataclass(frozen=True)
class Borrowed(Marked):
    """Asks for a second victim."""

    teacher: Defense = field(default=Logged("teacher"))

    @property
    def surrogate(self) -> Defense:
        return self.teacher

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        assert trial.surrogate is not None and trial.surrogate.module is not trial.victim.module
        return super().perturb(trial, rng)


@dataclass(frozen=True)
class Picky(Logged):
    """Trains nowhere, if it is not its base that cannot."""

    def unfit(self, task: Task) -> str | None:
        return "it trains on no task." if self.start is None else None


@dataclass(frozen=True)
class Choosy(Marked):
    """Runs nowhere."""

    def unfit(self, task: Task, threat: Threat) -> str | None:
        return "it suits no task."


def offers(kind: str, **values: object) -> dict[str, RegisteredPlugin]:
    return {name: RegisteredPlugin(value, name, kind, "here", "local", "", __file__) for name, value in values.items()}


INSTALLED = discover()
CATALOG = replace(
    INSTALLED,
    datasets=offers("dataset", clouds=Clouds()),
    attacks=offers("attack", marked=Marked(), borrowed=Borrowed(), choosy=Choosy()),
    defenses=offers("defense", logged=Logged(), wrapped=Wrapped(), picky=Picky()),
)
CELL = Cell(Clouds(), LinearClassifier(), Logged(), Marked(), Threat("linf"), (0.2, 0.6))


@dataclass
class Home:
    """A bench in a folder, and what it tells and says."""

    folder: Path
    told: list[Progress] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def bench(self, retrain: bool = False, data: Path | None = None) -> Runner:
        self.told.clear()
        self.said.clear()
        store = Store(self.folder / "store", self.said.append)
        return Runner(CATALOG, DataRoot(data), store, tell=self.told.append, retrain=retrain)

    def run(self, cell: Cell = CELL, retrain: bool = False) -> Record:
        return self.bench(retrain).execute(cell)

    def forget(self, *names: str) -> None:
        for name in names:
            shutil.rmtree(self.folder / "store" / name)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def without_cost(record: Record) -> Record:
    return msgspec.structs.replace(record, cost=msgspec.structs.replace(record.cost, train_seconds=0, attack_seconds=0))


def test_a_cell_is_trained_and_attacked_once_and_then_read_as_it_was(home: Home, log: list[str]) -> None:
    first = home.run()
    assert first.status == "ok" and log == ["load", "fit logged", "attack", "attack"]
    assert {type(each) for each in home.told} == {Started, Epoch, SweepProgress}
    log.clear()
    before = stamps(home.folder)
    assert home.run() == first
    assert (log, home.told, home.said) == ([], [], []) and stamps(home.folder) == before


def test_a_finished_cell_leaves_four_results_and_nothing_else(home: Home) -> None:
    record = home.run()
    kept = stages(home.folder)
    assert {name: len(keys) for name, keys in kept.items()} == dict.fromkeys(
        ("victims", "outcomes", "checks", "records"), 1
    )
    assert kept["records"] == [record.key]
    assert record.provenance is not None
    assert [kept["victims"], kept["outcomes"]] == [[record.provenance.victim], [record.provenance.outcomes]]


def test_the_same_cell_in_another_place_gives_the_same_record_but_for_seconds(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    torch.manual_seed(1)
    first = home.run()
    torch.manual_seed(2)
    assert without_cost(first) == without_cost(other.run())


def test_a_run_leaves_the_global_generator_alone(home: Home) -> None:
    before = torch.random.get_rng_state()
    home.run()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_seeds_train_and_attack_apart(home: Home, log: list[str]) -> None:
    one, other = (home.run(replace(CELL, seed=seed)) for seed in (0, 1))
    assert log.count("fit logged") == 2 and len(stages(home.folder)["victims"]) == 2
    assert one.scores != other.scores


def test_attacks_threats_and_sizes_share_one_victim(home: Home, log: list[str]) -> None:
    for cell in (CELL, replace(CELL, attack=Borrowed(teacher=Logged())), replace(CELL, eps=(0.1,))):
        assert home.run(cell).status == "ok"
    assert log.count("fit logged") == 1


def test_cells_of_one_bench_share_its_task(home: Home, log: list[str]) -> None:
    runner = home.bench()
    for eps in (0.1, 0.2):
        runner.execute(replace(CELL, eps=(eps,)))
    assert log.count("load") == 1


# what is missing is made, and no more


WORK = [
    ((), "none", []),
    (("records",), "score", []),
    (("records", "checks"), "check", []),
    (("records", "checks", "outcomes"), "attack", ["attack", "attack"]),
    (("records", "checks", "outcomes", "victims"), "train", ["fit logged", "attack", "attack"]),
    (("records", "outcomes"), "attack", ["attack", "attack"]),
    (("records", "victims"), "train", ["fit logged"]),
    (("records", "checks", "victims"), "train", ["fit logged"]),
    (("checks", "outcomes", "victims"), "train", ["fit logged"]),
]


@pytest.mark.parametrize(("gone", "work", "done"), WORK, ids=str)
def test_what_is_planned_is_what_is_done(
    gone: tuple[str, ...], work: str, done: list[str], home: Home, log: list[str]
) -> None:
    first = home.run()
    home.forget(*gone)
    (planned,) = home.bench().plan([CELL])
    assert planned.work == work and (planned.key == first.key) == ("victims" not in gone)
    log.clear()
    assert without_cost(home.run()) == without_cost(first)
    assert [each for each in log if each != "load"] == done


def test_a_plan_makes_nothing(home: Home, log: list[str]) -> None:
    assert [planned.work for planned in home.bench().plan([CELL, replace(CELL, seed=1)])] == ["train", "train"]
    assert not log and not home.told and not home.folder.joinpath("store").exists()


def test_a_record_scored_again_has_the_same_bytes(home: Home) -> None:
    first = home.run()
    home.forget("records")
    assert home.run().json() == first.json()


@pytest.mark.parametrize(
    ("stage", "file", "done"),
    [
        ("records", "record.json", []),
        ("outcomes", "outcomes.npz", ["attack", "attack"]),
        ("victims", "weights.safetensors", ["fit logged", "attack", "attack"]),
    ],
)
@pytest.mark.parametrize("how", ["edited", "gone"])
def test_a_damaged_result_is_said_and_made_again(
    stage: str, file: str, done: list[str], how: str, home: Home, log: list[str]
) -> None:
    first = home.run()
    later = ("victims", "outcomes", "checks", "records")
    home.forget(*later[later.index(stage) + 1 :])
    (path,) = (home.folder / "store" / stage).glob(f"*/{file}")
    path.unlink() if how == "gone" else path.write_bytes(path.read_bytes().replace(b"0", b"1"))
    log.clear()
    assert without_cost(home.run()) == without_cost(first)
    assert [each for each in log if each != "load"] == done
    (line,) = home.said
    assert line.startswith(f"{stage}/") and line.endswith("it is set aside and counts as missing.")


def test_retrain_makes_every_stage_again_once(home: Home, log: list[str]) -> None:
    first, other = CELL, replace(CELL, eps=(0.1,))
    records = [home.run(cell) for cell in (first, other)]
    log.clear()
    runner = home.bench(retrain=True)
    again = [runner.execute(cell) for cell in (first, other)]
    assert log == ["load", "fit logged", "attack", "attack", "attack"]
    assert [without_cost(record) for record in again] == [without_cost(record) for record in records]
    assert home.run(first) == again[0]


# bases, sources, wrappers


def weights(home: Home, key: str) -> bytes:
    return (home.folder / "store" / "victims" / key / "weights.safetensors").read_bytes()


def test_a_base_is_trained_once_and_shared_by_those_that_start_from_it(home: Home, log: list[str]) -> None:
    base = Logged("base")
    tuned = [replace(CELL, defense=Logged(name, start=base)) for name in ("one", "other")]
    for cell in (*tuned, replace(CELL, defense=base)):
        assert home.run(cell).status == "ok"
    assert [each for each in log if each.startswith("fit")] == ["fit base", "fit one", "fit other"]


def test_a_fit_is_given_the_weights_of_its_base(home: Home) -> None:
    idle = home.run(replace(CELL, defense=Logged("idle", start=Logged(), trains=False))).provenance
    base, fresh = (home.run(replace(CELL, defense=each)).provenance for each in (Logged(), Logged(trains=False)))
    assert idle is not None and base is not None and fresh is not None
    assert weights(home, idle.victim) == weights(home, base.victim) != weights(home, fresh.victim)


def test_a_second_victim_is_trained_for_the_attack_that_asks_for_it(home: Home, log: list[str]) -> None:
    cell = replace(CELL, attack=Borrowed())
    assert home.run(cell).status == "ok"
    assert log == ["load", "fit logged", "fit teacher", "attack", "attack"]
    assert home.run(replace(CELL, defense=Logged("teacher"))).status == "ok" and log.count("fit teacher") == 1


def test_a_wrapper_is_part_of_the_victim(home: Home) -> None:
    record = home.run(replace(CELL, defense=Wrapped()))
    assert record.status == "ok" and record.provenance is not None
    assert b"1.1.weight" in weights(home, record.provenance.victim)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [("hidden", "a module that its weights determine"), ("new", "weights that fit wrap(build(task))")],
)
def test_a_victim_that_its_weights_do_not_determine_is_refused(
    layer: Literal["hidden", "new"], reason: str, home: Home
) -> None:
    record = home.run(replace(CELL, defense=Wrapped(layer=layer)))
    assert record.status == "failed" and reason in str(record.error)
    assert "victims" not in stages(home.folder)


# faults


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raises", r"RuntimeError in attack marked\[fault=raises\], test_runner.py line \d+: the attack broke"),
        ("exits", r"SystemExit in attack marked\[fault=exits\], test_runner.py line \d+: 3"),
        ("too-large", r"attack marked\[fault=too-large\] broke its contract: expected linf size <= 0.2, got 0.4"),
    ],
)
def test_a_fault_of_an_attack_is_a_failed_record_and_the_next_cell_runs(
    fault: Literal["raises", "exits", "too-large"], reason: str, home: Home
) -> None:
    runner = home.bench()
    failed, good = (runner.execute(replace(CELL, attack=attack)) for attack in (Marked(fault), Marked()))
    assert failed.status == "failed" and re.match(reason, str(failed.error))
    assert not failed.scores and failed.provenance is None
    assert good.status == "ok"
    assert {name: len(keys) for name, keys in stages(home.folder).items()} == dict.fromkeys(
        ("victims", "outcomes", "checks", "records"), 1
    )


def test_a_failed_cell_is_no_result_and_is_tried_again(home: Home, log: list[str]) -> None:
    cell = replace(CELL, attack=Marked("raises"))
    first, again = home.run(cell), home.run(cell)
    assert first == again and log.count("attack") == 2 and log.count("fit logged") == 1
    assert [planned.work for planned in home.bench().plan([cell])] == ["attack"]


def test_an_interrupt_ends_the_run_and_is_no_result(home: Home) -> None:
    with pytest.raises(KeyboardInterrupt):
        home.run(replace(CELL, attack=Marked("stops")))
    assert set(stages(home.folder)) == {"victims"}


def test_an_unfit_pair_is_skipped_with_its_reason_before_any_training(home: Home, log: list[str]) -> None:
    record = home.run(replace(CELL, attack=Choosy()))
    assert (record.status, record.error) == ("skipped", "it suits no task.") and log == ["load"]


@pytest.mark.parametrize(
    "cell",
    [replace(CELL, defense=Picky(start=Picky(start=Picky()))), replace(CELL, attack=Borrowed(teacher=Picky()))],
    ids=["base", "surrogate"],
)
def test_so_is_a_cell_whose_base_or_second_victim_cannot_be_trained(cell: Cell, home: Home, log: list[str]) -> None:
    record = home.run(cell)
    assert (record.status, record.error) == ("skipped", "it trains on no task.") and log == ["load"]


def test_a_threat_that_does_not_fit_the_task_fails_before_any_training(home: Home, log: list[str]) -> None:
    record = home.run(replace(CELL, threat=Threat("linf", target="9")))
    assert record.status == "failed" and "no class is named '9'" in str(record.error) and log == ["load"]


def test_missing_recordings_end_the_run(home: Home) -> None:
    with pytest.raises(DataError, match=r"found no by\.npy"):
        home.run(replace(CELL, dataset=Clouds(filed=True)))
    assert stages(home.folder) == {}


# recordings


def recording(folder: Path, by: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "by.npy", by)
    return folder


def test_a_changed_recording_makes_all_its_cells_missing_and_no_others(home: Home) -> None:
    filed = replace(CELL, dataset=Clouds(filed=True))
    data = recording(home.folder / "data", 0.0)
    for cell in (CELL, filed):
        assert home.bench(data=data).execute(cell).status == "ok"
    recording(data, 0.5)
    assert [planned.work for planned in home.bench(data=data).plan([CELL, filed])] == ["none", "train"]


def test_where_a_recording_lies_is_no_part_of_a_key(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    filed = replace(CELL, dataset=Clouds(filed=True))
    first, copy = (recording(home.folder / name, 0.0) for name in ("first", "copy"))
    assert home.bench(data=first).execute(filed).status == "ok"
    (home.folder / "link").symlink_to(copy)
    monkeypatch.chdir(home.folder)
    for place in (copy, Path("copy"), Path("./first/../copy/"), Path("link")):
        assert [planned.work for planned in home.bench(data=place).plan([filed])] == ["none"]


def test_a_signal_that_is_not_finite_is_no_recording(home: Home) -> None:
    data = recording(home.folder / "data", float("nan"))
    with pytest.raises(DataError, match="not finite"):
        home.bench(data=data).execute(replace(CELL, dataset=Clouds(filed=True)))
    assert stages(home.folder) == {}


def test_a_record_of_other_versions_is_used_and_said_in_one_line(home: Home) -> None:
    record = home.run()
    assert record.provenance is not None
    older = msgspec.structs.replace(record.provenance, versions={**record.provenance.versions, "torch": "1.0"})
    store = home.bench().store
    store.put("records", home.bench().identities(CELL)["records"], {
        "record.json": msgspec.structs.replace(record, provenance=older).json()
    })  # fmt: skip
    assert home.run().provenance == older
    (note,) = home.told
    assert isinstance(note, Note) and "was made with torch 1.0 (now" in note.text


def test_some_of_each_class_are_attacked_where_the_protocol_says_so(home: Home, log: list[str]) -> None:
    few = home.run(replace(CELL, protocol=Protocol(per_class=5)))
    whole = home.run()
    assert few.status == "ok" and few.n == 15 and set(few.counts.values()) == {5} and few.key != whole.key
    assert few.weighting == "at most 5 samples of each class count, drawn by their ids, each once"
    assert few.limit is None and log.count("fit logged") == 1


def test_a_limit_is_a_part_of_the_same_split_under_the_same_victim(home: Home, log: list[str]) -> None:
    whole, part = home.run(), home.run(replace(CELL, limit=20))
    assert (part.n, part.limit, whole.limit) == (20, 20, None) and log.count("fit logged") == 1
    runner = home.bench()
    ids = [outcomes.ids.tolist() for record in (part, whole) if (outcomes := runner.outcomes_of(record))]
    assert set(ids[0]) < set(ids[1]) and key_of(runner.identities(CELL)["records"]) == whole.key


# published victims


def published(home: Home, tmp_path: Path) -> Store:
    """The victim of CELL, trained in another home, among the published ones."""
    there = Home(tmp_path / "there")
    record = there.run()
    store = Store(tmp_path / "checkpoints", home.said.append)
    there.bench().publish_victim(record, store)
    return store


def test_a_published_victim_of_the_same_parameters_is_used_and_named(
    home: Home, tmp_path: Path, log: list[str]
) -> None:
    store = published(home, tmp_path)
    log.clear()
    record = replace(home.bench(), checkpoints=store).execute(CELL)
    (key,) = (key for key, _ in store.identities("victims"))
    assert "fit logged" not in log and "attack" in log
    assert record.provenance is not None and record.provenance.checkpoint == key
    told = [each.text for each in home.told if isinstance(each, Note)]
    assert told == [f"using the published victim {key[:12]} (--retrain trains it again)."]
    other = replace(home.bench(), checkpoints=store).execute(replace(CELL, seed=1))
    assert other.provenance is not None and other.provenance.checkpoint is None


@dataclass(frozen=True)
class Odd(Model):
    """Gives what no victim may."""

    default_dataset: ClassVar[str] = "clouds"
    fault: Literal["wide", "nan"] = "wide"

    def build(self, task: Task) -> Module:
        layer = Linear(int(np.prod(task.shape)), 7 if self.fault == "wide" else 3)
        torch.nn.init.constant_(layer.weight, float("nan") if self.fault == "nan" else 1.0)
        return torch.nn.Sequential(Flatten(), layer)


@pytest.mark.parametrize(
    ("fault", "said"), [("wide", "expected logits of shape (2, 3), got (2, 7)"), ("nan", "expected finite logits")]
)
def test_a_model_without_usable_logits_fails_by_its_name_before_it_is_trained(
    fault: Literal["wide", "nan"], said: str, home: Home, log: list[str]
) -> None:
    catalog = replace(CATALOG, models={**CATALOG.models, **offers("model", odd=Odd())})
    record = replace(home.bench(), catalog=catalog).execute(replace(CELL, model=Odd(fault)))
    assert record.status == "failed" and record.error is not None
    assert record.error.startswith("model odd" if fault == "wide" else "model odd[fault=nan]") and said in record.error
    assert "fit logged" not in log


# weights


def reweighed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """A victim with one weight moved a little."""
    weights = load(files["weights.safetensors"])
    next(iter(weights.values())).view(-1)[0] += 1e-3
    return {**files, "weights.safetensors": save(weights)}


def test_outcomes_are_those_of_the_weights_they_were_made_on(home: Home, tmp_path: Path, log: list[str]) -> None:
    one = home.run(replace(CELL, attack=Borrowed()))
    assert one.provenance is not None
    weights = one.provenance.identity["weights"]
    assert one.provenance.weights == weights["victim"] and set(weights) == {"victim", "surrogate"}
    store = home.bench().store
    for key, identity in list(store.identities("victims")):
        files = store.get("victims", key)
        assert files is not None
        assert digest(load(files["weights.safetensors"])) in weights.values()
        store.put("victims", identity, reweighed(files))
    log.clear()
    (planned,) = home.bench().plan([replace(CELL, attack=Borrowed())])
    other = home.run(replace(CELL, attack=Borrowed()))
    assert other.provenance is not None and planned.work == "attack" and planned.key == other.key != one.key
    assert "attack" in log and not [line for line in log if line.startswith("fit")]
    assert other.provenance.victim == one.provenance.victim and other.provenance.outcomes != one.provenance.outcomes
    now = other.provenance.identity["weights"]
    assert not set(now.values()) & set(weights.values()) and other.provenance.weights == now["victim"]
    assert {len(keys) for stage, keys in stages(home.folder).items() if stage in ("outcomes", "victims")} == {2}


def test_a_published_victim_with_other_weights_than_its_card_names_ends_the_run(home: Home, tmp_path: Path) -> None:
    store = published(home, tmp_path)
    ((key, identity),) = store.identities("victims")
    files = store.get("victims", key)
    assert files is not None
    store.put("victims", identity, reweighed(files))
    runner = replace(home.bench(), checkpoints=store)
    for ask in (runner.execute, lambda cell: runner.plan([cell])):
        with pytest.raises(StoreError, match=f"{key} holds weights .*, its card names"):
            ask(CELL)
    assert "outcomes" not in stages(home.folder)


def test_a_victim_with_other_weights_than_its_record_names_is_not_published(home: Home, tmp_path: Path) -> None:
    record, runner = home.run(), home.bench()
    ((key, identity),) = runner.store.identities("victims")
    files = runner.store.get("victims", key)
    assert files is not None
    runner.store.put("victims", identity, reweighed(files))
    with pytest.raises(StoreError, match="its card names"):
        runner.publish_victim(record, Store(tmp_path / "checkpoints"))
    assert not (tmp_path / "checkpoints").exists()


def test_sources_that_changed_since_it_was_published_are_said(home: Home, tmp_path: Path, log: list[str]) -> None:
    store = published(home, tmp_path)
    ((key, identity),) = store.identities("victims")
    files = store.get("victims", key)
    assert files is not None
    shutil.rmtree(tmp_path / "checkpoints")
    store.put("victims", {**identity, "sources": {**identity["sources"], "ecgbench.core.training": "other"}}, files)
    log.clear()
    record = replace(home.bench(), checkpoints=store).execute(CELL)
    assert record.status == "ok" and "fit logged" not in log
    assert record.provenance is not None and record.provenance.victim == record.provenance.checkpoint
    assert any(
        "before changes in sources.ecgbench.core.training" in each.text for each in home.told if isinstance(each, Note)
    )


def test_a_parameter_that_a_plugin_got_since_counts_as_at_its_default(home: Home, tmp_path: Path) -> None:
    store = published(home, tmp_path)
    ((key, identity),) = store.identities("victims")
    files = store.get("victims", key)
    assert files is not None
    older = {name: value for name, value in identity["defense"]["fields"].items() if name != "trains"}
    shutil.rmtree(tmp_path / "checkpoints")
    old = store.put("victims", {**identity, "defense": {**identity["defense"], "fields": older}}, files)
    runner = replace(home.bench(), checkpoints=store)
    other = replace(CELL, defense=Logged(trains=False))
    assert [planned.work for planned in runner.plan([CELL, other])] == ["attack", "train"]
    record = runner.execute(CELL)
    assert record.provenance is not None and record.provenance.checkpoint == old


def test_of_published_victims_the_one_whose_sources_differ_least_is_used(home: Home, tmp_path: Path) -> None:
    store = published(home, tmp_path)
    ((key, identity),) = store.identities("victims")
    files = store.get("victims", key)
    assert files is not None
    for number in range(9):  # some of them sort before the one that fits
        store.put("victims", {**identity, "sources": {**identity["sources"], "ecgbench.core.data": f"{number}"}}, files)
    record = replace(home.bench(), checkpoints=store).execute(CELL)
    assert record.provenance is not None and record.provenance.checkpoint == key


def test_a_plan_counts_on_published_victims_in_silence_unless_they_are_damaged(home: Home, tmp_path: Path) -> None:
    store = published(home, tmp_path)
    runner = replace(home.bench(), checkpoints=store)
    assert [planned.work for planned in runner.plan([CELL, replace(CELL, seed=1)])] == ["attack", "train"]
    assert not home.told
    (path,) = (tmp_path / "checkpoints" / "victims").glob("*/weights.safetensors")
    path.write_bytes(b"")
    assert [planned.work for planned in runner.plan([CELL])] == ["train"]


def test_an_audit_is_a_result_of_its_own_that_changes_no_score(home: Home, log: list[str]) -> None:
    plain, audited = home.run(), home.run(replace(CELL, audit=True))
    assert not plain.audited and audited.audited and audited.key != plain.key
    assert audited.scores == plain.scores and audited.checks[: len(plain.checks)] == plain.checks
    assert {name: len(keys) for name, keys in stages(home.folder).items()}["audits"] == 1
    log.clear()
    assert home.run(replace(CELL, audit=True)) == audited and log == []


def test_a_plan_says_that_only_the_audit_is_missing(home: Home) -> None:
    home.run()
    assert [planned.work for planned in home.bench().plan([CELL, replace(CELL, audit=True)])] == ["none", "audit"]


def test_retrain_ignores_published_victims(home: Home, tmp_path: Path, log: list[str]) -> None:
    store = published(home, tmp_path)
    log.clear()
    replace(home.bench(retrain=True), checkpoints=store).execute(CELL)
    assert log.count("fit logged") == 1


def test_kept_perturbations_are_a_result_of_their_own_that_changes_no_record(home: Home, log: list[str]) -> None:
    plain, keeping = home.run(), home.run(replace(CELL, save_perturbations=3))
    assert keeping == plain
    assert {name: len(keys) for name, keys in stages(home.folder).items()}["perturbations"] == 1
    log.clear()
    runner = home.bench()
    assert runner.execute(replace(CELL, save_perturbations=3)) == plain and log == []
    kept, outcomes = runner.perturbations_of(replace(CELL, save_perturbations=3)), runner.outcomes_of(plain)
    assert outcomes is not None and kept.ids.tolist() == sorted(outcomes.ids[outcomes.correct])[:3] and log == []


def test_a_plan_says_that_only_the_perturbations_are_missing(home: Home) -> None:
    home.run()
    keeping = replace(CELL, save_perturbations=3)
    assert [planned.work for planned in home.bench().plan([CELL, keeping])] == ["none", "save"]
    home.forget("victims")
    assert [planned.work for planned in home.bench().plan([CELL, keeping])] == ["train", "train"]
    home.run(keeping)
    assert [planned.work for planned in home.bench().plan([CELL, keeping])] == ["none", "none"]


def test_perturbations_are_kept_where_the_outcomes_are_gone(home: Home) -> None:
    record = home.run()
    home.forget("outcomes")
    assert home.run(replace(CELL, save_perturbations=3)) == record and "outcomes" in stages(home.folder)


def test_a_cell_without_scores_keeps_no_perturbations(home: Home) -> None:
    assert home.run(replace(CELL, attack=Choosy(), save_perturbations=3)).status == "skipped"
    assert "perturbations" not in stages(home.folder)
