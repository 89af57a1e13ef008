"""Perturbations that somebody found: measured here, believed in nothing, and never in a victim's favour."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ecgbench import api
from ecgbench.core.errors import EcgbenchError, StoreError
from ecgbench.core.losses import cross_entropy
from ecgbench.leaderboard.board import check
from ecgbench.leaderboard.counterexamples import best_known, faults_of_counterexamples, kept
from ecgbench.results.published import publish, read_results
from ecgbench.runs.suite import Grid, unfold
from ecgbench.runs.zoo import cards, load_victim
from ecgbench.storage.store import Store
from ecgbench.submissions.counterexamples import Claim, keep, measure, measured_again, rows_of
from tests.command_line import ecgbench
from tests.made_up_rows import outcomes_of

EPS = 0.1


@dataclass(frozen=True)
class Board:
    """A leaderboard with one row of an attack that does nothing, and what a gradient step finds beyond it."""

    leaderboard: Path
    home: Path
    victim: str
    ids: NDArray[np.int64]
    delta: NDArray[np.float32]

    @property
    def runner(self) -> Any:
        return opened(self.home)

    def claim(self, path: Path, **changes: Any) -> Path:
        arrays: dict[str, Any] = {
            "victim": self.victim,
            "threat": "linf",
            "ids": self.ids,
            "delta": self.delta,
            "by": "somebody",
        }
        np.savez(path, **(arrays | changes))
        return path

    def measured(self, path: Path, **changes: Any) -> Any:
        return measure(Claim.read(self.claim(path, **changes)), self.runner, self.leaderboard)


def opened(home: Path) -> Any:
    return api.open_runner(data={}, store=home, device="cpu", plugins=(), tell=lambda _: None)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    home, leaderboard = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("board")
    runner = opened(home)
    words: dict[str, Any] = {
        "dataset": ("synthetic-beats[beats=400]",),
        "model": ("linear",),
        "defense": ("none[epochs=2]",),
    }
    (cell,) = unfold((Grid(**words, attack=("identity",), eps=(0.05, EPS)),), runner.catalog)
    record = runner.execute(cell)
    publish(record, runner.outcomes_of(record), leaderboard / "results")
    runner.publish_victim(record, Store(leaderboard / "checkpoints"))
    (name,) = cards(leaderboard / "checkpoints")
    task = runner.task(cell.dataset)
    batch = task.test[torch.arange(len(task.test))]
    ball = cell.threat.ball(batch, EPS, task.bounds)
    x = batch.x.clone().requires_grad_()
    module = load_victim(name, leaderboard / "checkpoints")
    loss = cross_entropy(module(x), cell.threat.goal(batch.y, task.outputs)).sum()
    delta = ball.project(EPS * ball.steepest(torch.autograd.grad(loss, x)[0]))
    return Board(leaderboard, home, name, batch.ids.numpy(), delta.numpy())


def known(board: Board, *found: Any) -> dict[float, float]:
    (row,) = rows_of(found[0], board.leaderboard)
    return best_known(row, [row], found)


def stated(board: Board) -> dict[float, float]:
    (row,) = read_results(board.leaderboard / "results")
    return {score.eps: score.acc for score in row.record.scores if score.eps > 0}


def test_what_is_adversarial_lowers_the_figure_from_its_size_on(board: Board, tmp_path: Path) -> None:
    found = board.measured(tmp_path / "a.npz")
    assert 0 < len(found.ids) < len(board.ids) and max(found.size) == pytest.approx(EPS, rel=1e-5)
    best, was = known(board, found), stated(board)
    assert best[0.05] == pytest.approx(was[0.05]) and best[EPS] < was[EPS]
    assert was[EPS] - best[EPS] == pytest.approx(len(found.ids) / len(board.ids))


def test_more_counterexamples_never_raise_a_figure(board: Board, tmp_path: Path) -> None:
    found, half = board.measured(tmp_path / "a.npz"), board.measured(tmp_path / "b.npz", delta=board.delta / 2)
    both, one = known(board, found, half), known(board, found)
    assert both[0.05] < one[0.05] and both[EPS] <= one[EPS]
    assert len(half.ids) <= len(found.ids) and max(half.size) == pytest.approx(EPS / 2, rel=1e-5)


def test_perturbations_that_do_nothing_lower_nothing(board: Board, tmp_path: Path) -> None:
    found = board.measured(tmp_path / "a.npz", delta=np.zeros_like(board.delta))
    assert found.ids == () and known(board, found) == pytest.approx(stated(board))


def test_what_lies_outside_of_every_ball_of_a_row_lowers_nothing(board: Board, tmp_path: Path) -> None:
    found = board.measured(tmp_path / "a.npz")
    beyond = msgspec.structs.replace(found, size=tuple(size * 1.01 for size in found.size))
    assert known(board, beyond) == pytest.approx(stated(board)) and known(board, found) != known(board, beyond)


def test_samples_wrong_when_clean_are_not_counted_twice(board: Board, tmp_path: Path) -> None:
    (row,) = rows_of(board.measured(tmp_path / "a.npz"), board.leaderboard)
    outcomes = outcomes_of(row)
    wrong = set(outcomes.ids[~outcomes.correct].tolist())
    assert wrong and not wrong & set(board.measured(tmp_path / "a.npz").ids)


def test_another_victims_rows_are_left_alone(board: Board, tmp_path: Path) -> None:
    found = msgspec.structs.replace(board.measured(tmp_path / "a.npz"), weights="f" * 64)
    assert rows_of(found, board.leaderboard) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: {"delta": b.delta + np.float32(2)}, "leaves the mask or the bounds"),
        (lambda b: {"delta": np.full_like(b.delta, np.nan)}, "not finite"),
        (lambda b: {"delta": b.delta[..., :-1]}, "of shape"),
        (lambda b: {"ids": b.ids + 100_000}, "is no test sample"),
        (lambda b: {"ids": np.full_like(b.ids, b.ids[0])}, "stands twice"),
        (lambda b: {"victim": "nobody"}, "nobody"),
        (lambda b: {"threat": "linfty"}, "linfty"),
    ],
)
def test_what_breaks_the_rules_is_refused(board: Board, tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(EcgbenchError, match=said):
        board.measured(tmp_path / "a.npz", **change(board))


@pytest.mark.parametrize(
    "change", [{"ids": np.arange(3.0)}, {"delta": np.zeros((2, 1, 187))}, {"by": np.array([{}], dtype=object)}]
)
def test_a_file_of_another_kind_is_refused(board: Board, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match=r"a\.npz"):
        board.measured(tmp_path / "a.npz", **change)
    (tmp_path / "b.npz").write_bytes(b"PK")
    with pytest.raises(StoreError, match="holds no readable counterexamples"):
        Claim.read(tmp_path / "b.npz")


def test_the_command_says_what_is_best_known_and_keeps_it(board: Board, tmp_path: Path) -> None:
    file = board.claim(tmp_path / "a.npz")
    done = ecgbench(tmp_path, "submit", "counterexamples", str(file), "--keep", "--leaderboard", str(board.leaderboard))
    assert done.code == 0 and "identity, standard, eps 0.1: " in done.out and "best known" in done.out, done.err
    ((path, found),) = kept(board.leaderboard).items()
    assert found == board.measured(file) and path.as_posix() in done.out
    assert path.with_suffix(".npz").read_bytes() == file.read_bytes()


@pytest.fixture
def copied(board: Board, tmp_path: Path) -> Path:
    """A copy of the leaderboard, with counterexamples."""
    leaderboard = tmp_path / "leaderboard"
    shutil.copytree(board.leaderboard, leaderboard, ignore=shutil.ignore_patterns("counterexamples"))
    keep(board.measured(tmp_path / "a.npz"), tmp_path / "a.npz", leaderboard)
    return leaderboard


def test_counterexamples_of_a_board_are_measured_again(board: Board, copied: Path) -> None:
    told, faults = measured_again(copied, board.runner)
    assert faults == faults_of_counterexamples(copied) == [] and len(told) == 1 and "as stated" in told[0]
    done = ecgbench(board.home, "submit", "remeasure", "--leaderboard", str(copied))
    assert (done.code, done.out.strip()) == (0, told[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: {"size": tuple(size / 2 for size in one.size)}, "another size of"),
        (lambda one: {"ids": tuple(at + 1 for at in one.ids)}, "right here; measure it again"),
        (lambda one: {"dataset": "synthetic-beats"}, "another victim, dataset or threat"),
    ],
)
def test_what_is_not_what_was_measured_is_a_fault(board: Board, copied: Path, change: Any, said: str) -> None:
    ((path, found),) = kept(copied).items()
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, **change(found))))
    assert faults_of_counterexamples(copied) == []
    _, (fault,) = measured_again(copied, board.runner)
    assert said in fault and path.as_posix() in fault
    done = ecgbench(board.home, "submit", "remeasure", "--leaderboard", str(copied))
    assert done.code == 1 and said in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path, one: {"weights": "f" * 64}, "which no published victim has"),
        (lambda path, one: {"size": one.size[1:]}, "expected unique ids, each with a size above 0"),
        (lambda path, one: {"ids": one.ids[:1] * len(one.ids)}, "expected unique ids"),
        (lambda path, one: {"threat": "l2"}, "is not where it belongs; expected"),
        (lambda path, one: path.with_suffix(".npz").unlink() or {}, "is missing or another file"),
        (lambda path, one: path.with_suffix(".npz").write_bytes(b"PK") and {}, "is missing or another file"),
        (
            lambda path, one: path.with_name("mine.npz").write_bytes(b"PK") and {},
            "is no counterexample that was measured",
        ),
    ],
)
def test_a_board_sees_what_is_wrong_without_measuring(copied: Path, change: Any, said: str) -> None:
    ((path, found),) = kept(copied).items()
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, **change(path, found))))
    (fault,) = faults_of_counterexamples(copied)
    assert said in fault and fault in check(copied)


def test_a_file_that_is_none_is_one_sentence(copied: Path) -> None:
    (path,) = kept(copied)
    path.write_text("{}")
    with pytest.raises(StoreError, match="is no file of counterexamples"):
        kept(copied)
    (fault,) = faults_of_counterexamples(copied)
    assert "is no file of counterexamples" in fault
