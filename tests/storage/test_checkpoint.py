"""States of unfinished work are kept whole, belong to one job, and are forgotten when it is done."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ecgbench.core.progress import Epoch, Progress
from ecgbench.storage.arrays import pack_tensors
from ecgbench.storage.store import Store


def test_a_journal_gives_back_its_last_state_in_another_process_and_forgets_it_when_finished(tmp_path: Path) -> None:
    checkpoint = Store(tmp_path).checkpoint("victims", "k", lambda _: None)
    assert checkpoint.load() is None
    for epoch in range(3):
        checkpoint.save({"weights": torch.full((2, 3), float(epoch)), "epoch": torch.tensor(epoch)})
    state = Store(tmp_path).checkpoint("victims", "k", lambda _: None).load()
    assert state is not None
    assert torch.equal(state["weights"], torch.full((2, 3), 2.0)) and int(state["epoch"]) == 2
    checkpoint.finish()
    assert checkpoint.load() is None and not list((tmp_path / "unfinished").iterdir())


def test_the_seconds_of_a_killed_process_count_up_to_what_it_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 100.0, 107.0, 900.0, 1000.0, 1030.0])
    monkeypatch.setattr("ecgbench.storage.checkpoint.time.perf_counter", lambda: next(now))
    killed = Store(tmp_path).checkpoint("victims", "k", lambda _: None)  # opened at 0, its base trained until 100
    killed.start()
    killed.save({"epoch": torch.tensor(1)})  # at 107
    resumed = Store(tmp_path).checkpoint("victims", "k", lambda _: None)
    resumed.start()
    assert resumed.seconds == 7 + 30


def test_a_checkpoint_that_is_not_alone_keeps_its_states_for_its_own_process(tmp_path: Path) -> None:
    checkpoint = Store(tmp_path).checkpoint("victims", "k", lambda _: None, alone=False)
    assert checkpoint.load() is None
    for name, each in (("main", checkpoint), ("part", checkpoint.part("part"))):
        weight = torch.ones(2)
        each.save({name: weight})
        weight += 1
    checkpoint.start()
    checkpoint.finish()
    for name, each in (("main", checkpoint), ("part", checkpoint.part("part"))):
        state = each.load()
        assert state is not None and list(state) == [name] and torch.equal(state[name], torch.ones(2))
    assert Store(tmp_path).checkpoint("victims", "k", lambda _: None, alone=False).load() is None
    assert not list(tmp_path.iterdir())


def test_a_state_is_replaced_whole(tmp_path: Path) -> None:
    checkpoint = Store(tmp_path).checkpoint("victims", "k", lambda _: None)
    checkpoint.save({"epoch": torch.tensor(1)})
    (file,) = (tmp_path / "unfinished").rglob("*.safetensors")
    before = file.stat().st_ino
    checkpoint.save({"epoch": torch.tensor(2)})
    assert file.stat().st_ino != before, "written over in place, a kill would leave half a state"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("left", [b"", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", b"{" * 99], ids=["empty", "cut", "other"])
def test_a_state_that_cannot_be_read_counts_as_none(left: bytes, tmp_path: Path) -> None:
    checkpoint = Store(tmp_path).checkpoint("victims", "k", lambda _: None)
    checkpoint.save({"epoch": torch.tensor(1)})
    (file,) = (tmp_path / "unfinished").rglob("*.safetensors")
    file.write_bytes(left)
    assert checkpoint.load() is None


def test_journals_of_other_keys_and_chapters_are_apart_and_tell_the_same_listener(tmp_path: Path) -> None:
    told: list[Progress] = []
    store = Store(tmp_path)
    one, other = (store.checkpoint("victims", key, told.append) for key in "ab")
    for number, each in enumerate((one, other, one.part("head"), one.part("tail"))):
        each.save({"n": torch.tensor(number)})
        each.report(Epoch(number, 4, 0.0, None))
    states = [each.load() for each in (one, other, one.part("head"), one.part("tail"))]
    assert [int(state["n"]) for state in states if state] == [0, 1, 2, 3] == [each.number for each in told]  # type: ignore[union-attr]
    one.finish()
    assert one.part("head").load() is None and other.load() is not None


def test_equal_tensors_give_equal_bytes_and_others_do_not() -> None:
    weights = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([True, False]), "c": torch.tensor(7)}
    again = {name: weights[name].clone() for name in reversed(weights)}
    strided = {**weights, "b": weights["b"].T.contiguous().T.requires_grad_()}
    assert pack_tensors(weights) == pack_tensors(again) == pack_tensors(strided)
    assert pack_tensors(weights) != pack_tensors({**weights, "c": torch.tensor(8)})
