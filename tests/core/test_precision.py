"""bfloat16 proves itself before it trains: wrong kernels are refused, right ones taken where they save enough."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import BatchNorm1d, Dropout, Flatten, Linear, Module, ReLU, Sequential
from torch.nn.functional import cross_entropy

from ecgbench.core import precision
from ecgbench.core.data import Batch, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Dataset, Defaults, Defense, Model
from ecgbench.core.precision import GRADIENTS, LOGITS, WORTH, MixedPrecision, Precision, errors, in_bf16, reduced, wrong
from ecgbench.core.progress import Checkpoint, Note, Progress
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.training import BF16, Schedule, train
from ecgbench.core.victim import Victim, evaluating
from ecgbench.registry.catalog import discover
from ecgbench.registry.identity import alike, identity
from ecgbench.registry.loading import RegisteredPlugin
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.runner import Runner
from ecgbench.storage.store import Store
from ecgbench_plugins.attacks.identity import Identity as Untouched
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.defenses.retraining import Retraining
from tests.problems import MemoryCheckpoint, blobs

TASK = blobs()
ROWS = TASK.train[torch.arange(64)]
SHORT = Schedule(epochs=2, batch=64, lr=1e-2)
Kernel = Callable[[Tensor], Tensor]


def rounded(signal: Tensor) -> Tensor:
    """What a right kernel does: 8 bits, on every processor."""
    return signal.bfloat16().float()


class Net(MixedPrecision):
    """A small net whose arithmetic in "bfloat16" is `kernel`."""

    def __init__(self, kernel: Kernel = rounded, asked: Precision = "bf16") -> None:
        super().__init__()
        self.precision = asked
        self.kernel, self.seen = kernel, list[bool]()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.below = Sequential(Flatten(), Linear(16, 24), BatchNorm1d(24), Dropout(0.3), ReLU())
            self.head = Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(self.bf16)
        signal = self.below(x)
        return self.head(self.kernel(signal) if self.bf16 else signal)


class _Backward(torch.autograd.Function):
    """Right forward, and a gradient twice as long as it should be."""

    @staticmethod
    def forward(ctx: FunctionCtx, signal: Tensor) -> Tensor:
        return signal.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, *oracle: Tensor) -> Tensor:
        return 2 * oracle[0]


WRONG: dict[str, Kernel] = {
    "other channels": lambda signal: signal.roll(1, 1),
    "twice as large": lambda signal: 2 * signal,
    "nothing": torch.zeros_like,
    "no number": lambda signal: signal * float("nan"),
    "far too large": lambda signal: 4e5 * signal,
    "part of the channels": lambda signal: signal * (torch.arange(24) < 12),
    "the gradient alone": _Backward.apply,
}


def fit(net: Module, checkpoint: Checkpoint | None = None) -> Module:
    def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
        return cross_entropy(Victim(module).logits(batch.x, batch, step), batch.y)

    return train(net, TASK, loss, SHORT, RandomStream(("train", 0)), checkpoint or Checkpoint())


def notes() -> tuple[list[str], Callable[[Progress], None]]:
    heard: list[str] = []
    return heard, lambda told: heard.append(told.text) if isinstance(told, Note) else None


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """How many times as fast this machine is made to seem; each measurement is counted."""
    told = {"measured": 0.0, "times": 2 * WORTH}

    def speedup(module: Module, batch: Batch) -> float:
        told["measured"] += 1
        return told["times"]

    monkeypatch.setattr(precision, "speedup", speedup)
    return told


def test_right_kernels_are_off_by_their_rounding_alone() -> None:
    found = errors(Net(), ROWS)
    assert all(2**-12 < error < 2**-6 for error in found.values())
    assert list(found) == ["logits", "parameter gradients", "input gradients"]
    assert wrong(Net(), ROWS) is None


def test_kernels_without_a_fault_are_off_by_nothing() -> None:
    assert set(errors(Net(lambda signal: signal), ROWS).values()) == {0.0}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_is_refused_before_a_weight_changes(name: str) -> None:
    net = Net(WRONG[name])
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(
        EcgbenchError, match=r"^precision=bf16 is refused: on this machine its (logits|.* gradients) are"
    ):
        fit(net)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("share", "taken"), [(0.9 * LOGITS, True), (1.1 * LOGITS, False), (-0.9 * LOGITS, True), (-1.1 * LOGITS, False)]
)
def test_logits_may_be_off_by_a_quarter(share: float, taken: bool) -> None:
    net = Net(lambda signal: (1 + share) * signal)
    net.head.bias.data.zero_()
    assert errors(net, ROWS)["logits"] == pytest.approx(abs(share), rel=1e-5)
    assert (wrong(net, ROWS) is None) == taken


@pytest.mark.parametrize("which", ["parameter gradients", "input gradients"])
@pytest.mark.parametrize(
    ("error", "taken"), [(0.99 * GRADIENTS, True), (1.01 * GRADIENTS, False), (float("nan"), False)]
)
def test_gradients_may_be_off_by_three_quarters(
    which: str, error: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "errors", lambda *_: {"logits": 0.0, which: error})
    assert (wrong(Net(), ROWS) is None) == taken


def test_asking_leaves_module_and_generators_alone() -> None:
    net = Net().train()
    before, state = torch.random.get_rng_state(), {key: value.clone() for key, value in net.state_dict().items()}
    errors(net, ROWS)
    precision.speedup(net, ROWS)
    assert torch.equal(before, torch.random.get_rng_state()) and net.training and not net.bf16
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(weight.grad is None for weight in net.parameters())


def test_a_speedup_is_a_positive_number() -> None:
    assert 0 < precision.speedup(Net(), ROWS) < float("inf")


@pytest.mark.parametrize("asked", ["float32", "bf16", "auto"])
def test_a_training_runs_in_one_precision_and_keeps_which(asked: Precision, times: dict[str, float]) -> None:
    net, checkpoint = Net(asked=asked), MemoryCheckpoint()
    fit(net, checkpoint)
    kept = checkpoint.load()
    assert kept is not None and bool(kept[BF16]) == (asked != "float32")
    assert (True in net.seen) == (asked != "float32") and not net.bf16


def test_statistics_and_scores_are_taken_in_float32() -> None:
    net = Net()
    modes: list[tuple[bool, bool]] = []
    net.register_forward_pre_hook(lambda *_: modes.append((net.training, net.bf16)))
    train(
        net,
        TASK,
        lambda m, b, s: cross_entropy(m(b.x), b.y),
        Schedule(epochs=1, keep="best"),
        RandomStream(()),
        Checkpoint(),
    )
    assert {bf16 for training, bf16 in modes if not training} == {False}
    assert (True, True) in modes


def test_attacks_inside_a_training_run_in_its_precision() -> None:
    net = Net()
    with reduced(net), evaluating(net) as victim:
        victim.logits(ROWS.x, ROWS, RandomStream(()))
    assert net.seen == [True] and not net.bf16


def test_a_module_inside_another_is_found() -> None:
    inner = Net()
    fit(Sequential(inner))
    assert True in inner.seen


def test_a_module_that_knows_one_precision_is_asked_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(precision, "errors")
    assert in_bf16(Linear(16, 3), ROWS, Checkpoint()) is False


@pytest.mark.parametrize(("share", "taken"), [(0.99, False), (1.0, True)])
def test_auto_takes_bf16_where_it_is_fast_enough(share: float, taken: bool, times: dict[str, float]) -> None:
    times["times"] = share * WORTH
    heard, tell = notes()
    assert in_bf16(Net(asked="auto"), ROWS, Checkpoint(tell)) == taken
    assert len(heard) == 1 and heard[0].startswith(f"training in {'bf16' if taken else 'float32'}: on this machine")


@pytest.mark.parametrize("name", WRONG)
def test_auto_trains_in_float32_where_bf16_is_fast_and_wrong(name: str, times: dict[str, float]) -> None:
    heard, tell = notes()
    assert in_bf16(Net(WRONG[name], "auto"), ROWS, Checkpoint(tell)) is False
    assert heard[0].startswith("training in float32: on this machine its ") and heard[0].endswith(".")


def test_a_machine_is_measured_once(times: dict[str, float], tmp_path: Path) -> None:
    for key in ("one", "other"):
        assert in_bf16(Net(asked="auto"), ROWS, Store(tmp_path).checkpoint("victims", key, print).part("part"))
        times["times"] = 1.0
    assert times["measured"] == 1
    (file,) = (tmp_path / "machine").iterdir()
    told = json.loads(file.read_bytes())
    assert told["measured"] == 2 * WORTH and told["torch"] == torch.__version__ and told["batch"] == "(64, 1, 16)"


@pytest.mark.parametrize("content", ["", "{}", '{"measured": "fast"}', "[1]"])
def test_a_damaged_measurement_is_made_again(content: str, times: dict[str, float], tmp_path: Path) -> None:
    checkpoint = Store(tmp_path).checkpoint("victims", "one", print)
    in_bf16(Net(asked="auto"), ROWS, checkpoint)
    (file,) = (tmp_path / "machine").iterdir()
    file.write_text(content)
    assert in_bf16(Net(asked="auto"), ROWS, checkpoint) and times["measured"] == 2


def test_other_work_another_library_or_processor_is_measured_by_itself(
    times: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Store(tmp_path).checkpoint("victims", "one", print)

    def measured(module: Module, batch: Any = ROWS) -> float:
        in_bf16(module, batch, checkpoint)
        return times["measured"]

    wider = Net(asked="auto")
    wider.head = Linear(24, 4)
    assert [measured(Net(asked="auto")), measured(wider), measured(Net(asked="auto"), ROWS[:32])] == [1, 2, 3]
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert measured(Net(asked="auto")) == 4
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert measured(Net(asked="auto")) == 5
    monkeypatch.setattr(precision, "_processor", lambda: "another one")
    assert measured(Net(asked="auto")) == 6


@dataclass(frozen=True)
class Reduced(Model):
    """Three classes of sixteen values, in the precision asked for; its kernels are right or wrong."""

    default_dataset: ClassVar[str] = "synthetic-beats"
    asked: Precision = "auto"
    right: bool = True

    def build(self, task: Task) -> Module:
        return Net(rounded if self.right else torch.zeros_like, self.asked)


@dataclass(frozen=True)
class Clouds(Dataset):
    """Three clouds."""

    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.2,), headline=0.2)

    def load(self, root: DataRoot) -> Task:
        return TASK


def executed(model: Reduced, defense: Defense, folder: Path) -> Record:
    found = discover()
    kinds = {"dataset": Clouds(), "model": model}
    offered = {
        kind: {kind: RegisteredPlugin(value, kind, kind, "here", "local", "", __file__)}
        for kind, value in kinds.items()
    }
    catalog = replace(found, datasets=offered["dataset"], models=offered["model"])
    cell = Cell(Clouds(), model, defense, Untouched(), Threat("linf"), (0.2,))
    return Runner(catalog, DataRoot(None), Store(folder)).execute(cell)


@pytest.mark.parametrize(
    ("model", "fast", "said"),
    [
        (Reduced("float32"), True, "float32"),
        (Reduced("bf16"), False, "bf16"),
        (Reduced("auto"), True, "bf16"),
        (Reduced("auto"), False, "float32"),
        (Reduced("auto", right=False), True, "float32"),
    ],
)
def test_a_record_says_in_which_precision_its_victim_was_trained(
    model: Reduced, fast: bool, said: str, times: dict[str, float], tmp_path: Path
) -> None:
    times["times"] = 2 * WORTH if fast else 1.0
    record = executed(model, Standard(epochs=1), tmp_path)
    assert record.provenance is not None and record.provenance.versions["precision"] == said
    assert record.provenance.identity["victim"]["model"]["fields"]["asked"] == model.asked


def test_a_precision_refused_is_a_failed_cell(tmp_path: Path) -> None:
    record = executed(Reduced("bf16", right=False), Standard(epochs=1), tmp_path)
    assert record.status == "failed" and str(record.error).startswith("precision=bf16 is refused: ")


def test_a_base_of_another_precision_is_said(times: dict[str, float], tmp_path: Path) -> None:
    """A batch of another size is measured by itself."""
    base = Standard(epochs=1, batch=32)
    executed(Reduced(), base, tmp_path)
    times["times"] = 1.0
    record = executed(Reduced(), Retraining(epochs=1, base=base, attack=Untouched()), tmp_path)
    assert record.provenance is not None and record.provenance.versions["precision"] == "float32 after bf16"


def test_auto_is_served_by_a_victim_of_either_precision_and_neither_by_auto() -> None:
    auto, plain, rough = (identity(Reduced(asked)) for asked in get_args(Precision)[::-1])
    assert alike(auto, [("plain", plain), ("rough", rough)]) == [("plain", []), ("rough", [])]
    assert alike(plain, [("auto", auto), ("rough", rough)]) == alike(rough, [("auto", auto), ("plain", plain)]) == []


def test_a_training_that_was_killed_goes_on_in_its_precision(times: dict[str, float]) -> None:
    checkpoint = MemoryCheckpoint()
    fit(Net(asked="auto"), checkpoint)
    times["times"] = 1.0
    state = checkpoint.load()
    assert state is not None
    state["counters"][0] = 1
    net = Net(asked="auto")
    checkpoint.save(state)
    fit(net, checkpoint)
    assert times["measured"] == 1 and True in net.seen
