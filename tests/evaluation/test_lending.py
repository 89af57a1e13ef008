"""A plugin that writes into what it was lent fails its own cell by its name; no other row notices."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import torch
from torch import Tensor
from torch.nn import Flatten, Linear, Module, Sequential
from torch.nn.functional import one_hot

from ecgbench.core.data import Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import ContractError, DataError
from ecgbench.core.interfaces import Attack, Dataset, Defaults, Defense, Model
from ecgbench.core.losses import margin
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim, frozen
from ecgbench.evaluation.lending import batch_change, lent, unlabelled
from ecgbench.evaluation.sweep import Sweep
from ecgbench.registry.catalog import discover
from ecgbench.registry.loading import RegisteredPlugin
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.runner import Runner
from ecgbench.storage.store import Store
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.linear import LinearClassifier
from tests.problems import Written, blobs, random_mlp

LINF = Threat("linf")


class Net(Module):
    """A linear readout with a `forward` of its own class."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.body = Sequential(Flatten(), Linear(task.test.x.shape[1:].numel(), len(task.classes)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits


OF_OTHER_TESTS: list[Samples] = []


@pytest.fixture(autouse=True)
def spare_other_tests() -> Iterator[None]:
    """What lay in memory before a test belongs to others of this process."""
    OF_OTHER_TESTS.extend(found for found in gc.get_objects() if type(found) is Samples)
    yield
    OF_OTHER_TESTS.clear()


def every_split(change: Callable[[Samples], object]) -> None:
    """Whatever lies in memory."""
    spared = set(map(id, OF_OTHER_TESTS))
    for found in gc.get_objects():
        if type(found) is Samples and len(found) and id(found) not in spared:
            change(found)


def weights(trial: Trial) -> list[Tensor]:
    return [parameter.data for parameter in trial.victim.module.parameters()]


def replaced(trial: Trial) -> None:
    type(trial.victim.module).forward = lambda self, x: torch.zeros(len(x), 3, requires_grad=True)


def wiped(trial: Trial) -> None:
    with torch.no_grad():
        for parameter in trial.victim.module.parameters():
            parameter.zero_()


ACTS: dict[str, Callable[[Trial], object]] = {
    "x": lambda t: t.batch.x.zero_(),
    "y": lambda t: t.batch.y.zero_(),
    "mask": lambda t: t.batch.mask.logical_not_(),
    "ids": lambda t: t.batch.ids.zero_(),
    "scale": lambda t: t.batch.scale.mul_(2),
    "eps": lambda t: t.ball.eps.fill_(10),
    "low": lambda t: t.ball.low.fill_(-10),
    "label": lambda t: t.goal.label.add_(1).remainder_(3),
    "fell": lambda t: t.memory.is_adversarial.fill_(True),
    "forwards": lambda t: t.memory.forwards.zero_(),
    "forwards replaced": lambda t: setattr(t.memory, "forwards", torch.zeros_like(t.memory.forwards)),
    "weights": wiped,
    "weights by their data": lambda t: [weight.zero_() for weight in weights(t)],
    "train": lambda t: t.victim.module.train(),
    "requires_grad": lambda t: t.victim.module.requires_grad_(True),
    "hook": lambda t: t.victim.module.register_forward_hook(lambda module, given, logits: logits * 0),
    "forward": lambda t: setattr(t.victim.module, "forward", lambda x: torch.zeros(len(x), 3)),
    "forward of the class": replaced,
    "a new weight": lambda t: setattr(t.victim.module, "more", torch.nn.Parameter(torch.zeros(1))),
    "all x": lambda t: every_split(lambda samples: samples.x.zero_()),
    "all y": lambda t: every_split(lambda samples: samples.y.zero_()),
    "all x by their data": lambda t: every_split(lambda samples: samples.x.data.zero_()),
    "all y in numpy": lambda t: every_split(lambda samples: samples.y.numpy().fill(0)),
    "data error": lambda t: (_ for _ in ()).throw(DataError("not a recording.")),
}
UNSEEN: dict[str, Callable[[Trial], object]] = {
    "x by its data": lambda t: t.batch.x.data.zero_(),
    "labels in numpy": lambda t: t.batch.y.numpy().fill(0),
    "eps by its data": lambda t: t.ball.eps.data.fill_(10),
    "ball": lambda t: object.__setattr__(t, "ball", LINF.ball(t.batch, 10.0)),
}
"""Writes round torch's counters, into copies: the host need not see them, for it judges on its own."""
BY_ACT = ACTS | UNSEEN


@dataclass(frozen=True)
class Clouds(Dataset):
    """Three clouds."""

    defaults: ClassVar[Defaults] = Defaults(LINF, (0.2, 0.6), headline=0.6)

    def load(self, root: DataRoot) -> Task:
        return blobs(n=300, seed=7)


@dataclass(frozen=True)
class Nets(Model):
    """Builds `Net`."""

    default_dataset: ClassVar[str] = "clouds"

    def build(self, task: Task) -> Module:
        return Net(task)


@dataclass(frozen=True)
class Acting(Attack):
    """One step of full length, after an act; with `far`, beyond the ball."""

    act: str = ""
    far: bool = False

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        _, gradient = trial.gradient(torch.zeros_like(trial.batch.x), margin)
        delta = trial.ball.project(2 * gradient.sign())
        if self.act:
            BY_ACT[self.act](trial)
        return 10 * delta if self.far else delta


@dataclass(frozen=True)
class Fitting(Defense):
    """Plain training, after an act on the task."""

    act: str = ""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        if self.act == "train":
            task.train.x.sub_(task.train.x.mean())
        if self.act == "train by its data":
            task.train.x.data.zero_()
        if self.act == "val in numpy":
            task.val.y.numpy().fill(0)
        if self.act == "dtype":
            torch.set_default_dtype(torch.float64)
        return Standard(epochs=1).fit(model, task, rng, checkpoint)


def offers(kind: str, **values: object) -> dict[str, RegisteredPlugin]:
    return {name: RegisteredPlugin(value, name, kind, "here", "local", "", __file__) for name, value in values.items()}


CATALOG = replace(
    discover(),
    datasets=offers("dataset", clouds=Clouds()),
    models=offers("model", nets=Nets(), linear=LinearClassifier()),
    attacks=offers("attack", acting=Acting()),
    defenses=offers("defense", fitting=Fitting()),
)
CELL = Cell(Clouds(), Nets(), Fitting(), Acting(), LINF, (0.2, 0.6))


def run(folder: Path, *cells: Cell) -> list[Record]:
    runner = Runner(CATALOG, DataRoot(), Store(folder))
    return [runner.execute(cell) for cell in cells]


def figures(record: Record) -> Record:
    assert record.cost is not None
    return msgspec.structs.replace(record, cost=msgspec.structs.replace(record.cost, train_seconds=0, attack_seconds=0))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Rows of two models in a run without anybody hostile."""
    return list(map(figures, run(tmp_path_factory.mktemp("honest"), CELL, replace(CELL, model=LinearClassifier()))))


@pytest.mark.parametrize("act", ACTS)
def test_writing_into_what_is_lent_fails_the_cell_by_name_and_no_other(
    act: str, honest: list[Record], tmp_path: Path
) -> None:
    cells = (replace(CELL, attack=Acting(act)), CELL, replace(CELL, model=LinearClassifier()))
    bad, *good = run(tmp_path, *cells)
    assert bad.status == "failed" and not bad.scores
    if act != "data error":
        assert (
            str(bad.error).startswith("attack acting[act=")
            and act in str(bad.error)
            and "it was lent" in str(bad.error)
        )
    assert list(map(figures, good)) == honest
    bad_again, *kept = run(tmp_path, *cells)
    assert bad_again == bad and kept == good


@pytest.mark.parametrize("act", UNSEEN)
def test_what_is_written_into_copies_moves_no_number(act: str, honest: list[Record], tmp_path: Path) -> None:
    bad, good = run(tmp_path, replace(CELL, attack=Acting(act)), CELL)
    assert (bad.scores, bad.status) == (honest[0].scores, "ok") and figures(good) == honest[0]


@pytest.mark.parametrize("act", ["eps by its data", "ball"])
def test_a_perturbation_is_measured_by_the_ball_of_the_host(act: str, tmp_path: Path) -> None:
    (record,) = run(tmp_path, replace(CELL, attack=Acting(act, far=True)))
    assert record.status == "failed" and "expected linf size <= 0.2" in str(record.error)


@pytest.mark.parametrize("act", ["train", "train by its data", "val in numpy", "dtype"])
def test_a_training_that_writes_into_its_task_fails_and_the_next_has_the_samples_as_they_were(
    act: str, honest: list[Record], tmp_path: Path
) -> None:
    bad, good = run(tmp_path, replace(CELL, defense=Fitting(act)), CELL)
    assert bad.status == "failed" and str(bad.error).startswith("defense fitting[act=") and act in str(bad.error)
    assert figures(good) == honest[0]


def test_a_setting_changed_while_a_cell_is_planned_is_the_plugins_fault(
    honest: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a training begins: its weights would be kept."""
    monkeypatch.setattr(Fitting, "unfit", lambda self, task: torch.set_default_dtype(torch.float64))
    (bad,) = run(tmp_path, CELL)
    monkeypatch.undo()
    assert bad.status == "failed" and "the default dtype torch.float64" in str(bad.error)
    assert list(map(figures, run(tmp_path, CELL))) == honest[:1]


def test_what_a_hostile_attack_left_half_done_is_not_gone_on_from(tmp_path: Path) -> None:
    """The first size is finished and kept when the second one is spoiled."""

    def late(trial: Trial) -> None:
        if float(trial.ball.eps.max()) > 0.5:
            wiped(trial)

    BY_ACT["late"] = late
    first, again = (run(tmp_path, replace(CELL, attack=Acting("late")))[0] for _ in range(2))
    assert first.status == again.status == "failed" and not list((tmp_path / "unfinished").glob("outcomes-*"))


# a victim works in place, or looks for labels


def halved(x: Tensor) -> Tensor:
    x.data.mul_(0.5)
    return x


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x.sub_(x.mean(-1, keepdim=True)),
        torch.relu_,
        halved,
    ],
)
def test_a_module_that_works_in_place_changes_nobodys_signals(forward: Callable[[Tensor], Tensor]) -> None:
    task, victim = random_mlp(60)
    kept = task.test.x.clone()
    inner = victim.module
    written = Victim(Written(lambda x: inner(forward(x))).eval())
    plain = Victim(Written(lambda x: inner(forward(x.clone()))).eval())
    there, here = (
        Sweep(Acting(), each, task, LINF, (0.05,), RandomStream((0,))).run(Checkpoint()) for each in (written, plain)
    )
    assert torch.equal(task.test.x, kept)
    assert (there.predicted == here.predicted).all() and (there.clean == here.clean).all()


class Scribbling(Module):
    """Writes into all that it is given."""

    takes_mask = takes_rng = True

    def forward(self, x: Tensor, mask: Tensor, rng: RandomStream, ids: Tensor) -> Tensor:
        logits = x.flatten(1)[:, :2] * 1
        for given in (x.data, mask, ids):
            given.zero_()
        return logits


def test_a_module_writes_into_copies_alone() -> None:
    test = blobs(30).test
    kept = test.copy()
    Victim(Scribbling().eval()).logits(test.x, test, RandomStream((0,)))
    assert batch_change(test, kept) is None


def _by_frames(x: Tensor) -> Tensor | None:
    """Labels of a batch, in a frame of whoever called."""
    frame: Any = sys._getframe(1)
    while frame:
        for value in list(frame.f_locals.values()):
            y = getattr(value, "y", None)
            if isinstance(y, Tensor) and len(y) == len(x):
                return y
        frame = frame.f_back
    return None


def _by_memory(x: Tensor) -> Tensor | None:
    """Labels of the samples nearest to x, anywhere in memory."""
    splits = [found for found in gc.get_objects() if type(found) is Samples and found.x.shape[1:] == x.shape[1:]]
    xs, ys = (torch.cat([getattr(split, name) for split in splits]) for name in ("x", "y"))
    return ys[torch.cdist(x.flatten(1), xs.flatten(1)).argmin(1)]


@pytest.mark.parametrize("look", [_by_frames, _by_memory])
def test_no_label_is_in_reach_of_a_victim_that_the_host_asks(look: Callable[[Tensor], Tensor | None]) -> None:
    """It would be perfect if it found them."""
    task, victim = random_mlp(200, seed=7)
    limited, inner, found = task.limited(60), victim.module, []

    def forward(x: Tensor) -> Tensor:
        y = look(x)
        found.append(None if y is None else y.clone())
        if y is None or bool((y < 0).any()):
            return inner(x)
        return 10 * one_hot(y, 3).float()

    peeking = Victim(Written(forward).eval())
    sweep = Sweep(Acting(), peeking, limited, LINF, (0.05,), RandomStream((0,)), labels=(task.test.y,))
    clean, _ = sweep.predicted(limited.test, limited.test.x, "clean")
    assert torch.equal(clean, victim.predict(limited.test.x, limited.test, RandomStream((0,))))
    assert all(y is None or bool((y == -1).all()) for y in found)


def test_labels_are_back_afterwards_whatever_happens() -> None:
    y = torch.tensor([2, 0, 1])
    with pytest.raises(RuntimeError), unlabelled(y, y):
        assert y.tolist() == [-1, -1, -1]
        raise RuntimeError
    assert y.tolist() == [2, 0, 1]


@pytest.mark.parametrize("look", [_by_frames, _by_memory])
def test_no_test_label_is_in_reach_of_a_model_or_a_defense(
    look: Callable[[Tensor], Tensor | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by the task, whose test split is empty, nor by whatever else lies in memory."""
    x, met = blobs(n=300, seed=7).test.x, []

    def note(task: Task) -> None:
        y = look(x)
        met.append((len(task.test), None if y is None else y.clone()))

    def build(self: Nets, task: Task) -> Module:
        note(task)
        return Net(task)

    def fit(self: Fitting, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        note(task)
        return model.eval()

    monkeypatch.setattr(Nets, "build", build)
    monkeypatch.setattr(Fitting, "fit", fit)
    (record,) = run(tmp_path, CELL)
    assert record.status == "ok" and len(met) > 3
    for size, y in met:
        assert size == 0 and (y is None or bool((y == -1).all()))


def test_a_module_that_cannot_be_copied_is_lent_as_it_is() -> None:
    module = Written(lambda x: x)
    module.kept = (torch.ones(1, requires_grad=True) * 2,)  # type: ignore[assignment]
    victim = frozen(module)
    assert lent(victim) is victim
    with pytest.raises(ContractError, match="logits"):
        lent(Victim(Written(lambda x: x[:1]).eval())).logits(torch.zeros(2, 3), blobs(10).test[:2], RandomStream((0,)))
