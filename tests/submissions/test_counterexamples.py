"""Perturbations that somebody found: measured here, believed in nothing, and never in a victim's favour."""

from __future__ import annotations

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
from ecgbench.results.published import publish
from ecgbench.runs.suite import Grid, unfold
from ecgbench.runs.zoo import cards, load_victim
from ecgbench.storage.store import Store
from ecgbench.submissions.counterexamples import BestKnown, Claim, best_known, keep, kept, measure, rows_of
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


def known(board: Board, *found: Any) -> BestKnown:
    (row,) = rows_of(found[0], board.leaderboard)
    return best_known(row, [row], found)


def test_what_falls_lowers_the_figure_from_its_size_on(board: Board, tmp_path: Path) -> None:
    found = board.measured(tmp_path / "a.npz")
    assert 0 < len(found.ids) < len(board.ids) and max(found.size) == pytest.approx(EPS, rel=1e-5)
    best = known(board, found)
    assert best.known[0] == pytest.approx(best.stated[0]) and best.known[1] < best.stated[1]
    fallen = len(found.ids) / len(board.ids)
    assert best.stated[1] - best.known[1] == pytest.approx(fallen)


def test_more_counterexamples_never_raise_a_figure(board: Board, tmp_path: Path) -> None:
    found, half = board.measured(tmp_path / "a.npz"), board.measured(tmp_path / "b.npz", delta=board.delta / 2)
    assert all(
        both <= one for both, one in zip(known(board, found, half).known, known(board, found).known, strict=True)
    )
    assert len(half.ids) <= len(found.ids) and max(half.size) == pytest.approx(EPS / 2, rel=1e-5)


def test_perturbations_that_do_nothing_lower_nothing(board: Board, tmp_path: Path) -> None:
    found = board.measured(tmp_path / "a.npz", delta=np.zeros_like(board.delta))
    assert found.ids == () and known(board, found).known == pytest.approx(known(board, found).stated)


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
    (found,) = kept(board.leaderboard)
    assert found == board.measured(file) and keep(found, board.leaderboard).as_posix() in done.out
