"""The store keeps a result whole under its key, or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ecgbench.core.progress import Epoch, Progress
from ecgbench.storage.arrays import pack_tensors
from ecgbench.storage.store import MANIFEST, Store, canonical_json, key_of, write_file
from tests.command_line import wait_for

MADE_OF = {"stage": "outcomes", "seed": 0, "eps": ["0.1", "0.3"], "base": None}
FILES = {"table.npz": b"\x00\x01", "cost.json": b"{}"}


def kept(root: Path) -> tuple[Store, Path, list[str]]:
    """A store with FILES under the key of MADE_OF, their folder, and what the store will say."""
    said: list[str] = []
    store = Store(root, said.append)
    key = store.put("outcomes", MADE_OF, FILES)
    return store, root / "outcomes" / key, said


def test_what_was_put_is_got_back_by_the_key_of_its_identity(tmp_path: Path) -> None:
    store, folder, said = kept(tmp_path)
    assert folder.name == key_of(MADE_OF)
    assert store.get("outcomes", key_of(MADE_OF)) == FILES
    assert not said


def test_nothing_is_found_under_another_key_or_stage(tmp_path: Path) -> None:
    store, folder, said = kept(tmp_path)
    assert store.get("records", folder.name) is None
    assert store.get("outcomes", key_of({**MADE_OF, "seed": 1})) is None
    assert not said


def test_a_key_is_the_content_and_not_the_order_of_its_identity() -> None:
    assert key_of(MADE_OF) == key_of(dict(reversed(MADE_OF.items())))
    assert len({key_of({**MADE_OF, name: "else"}) for name in MADE_OF} | {key_of(MADE_OF)}) == 5


def test_an_identity_holds_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"eps": float("nan")})


def without(*names: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def flipped(folder: Path) -> None:
    (folder / "table.npz").write_bytes(b"\x00\x02")


def cut(folder: Path) -> None:
    (folder / "table.npz").write_bytes(b"\x00")


def garbage(folder: Path) -> None:
    (folder / MANIFEST).write_text("not JSON {")


def a_list(folder: Path) -> None:
    (folder / MANIFEST).write_text('["no", "manifest"]')


def files_listed_otherwise(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": ["table.npz"]}))


def another_identity(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "identity": {**MADE_OF, "seed": 1}}))


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a file is gone": (without("table.npz"), "lacks its files"),
    "all files are gone": (without(*FILES, MANIFEST), "lacks its files"),
    "the manifest is gone": (without(MANIFEST), "lacks its files"),
    "a byte changed": (flipped, "table.npz that was changed"),
    "a file is cut short": (cut, "table.npz that was changed"),
    "the manifest is no JSON": (garbage, "lacks its files"),
    "the manifest is a list": (a_list, "lacks its files"),
    "the manifest lists no digests": (files_listed_otherwise, "lacks its files"),
    "the identity was edited": (another_identity, "does not belong to its key"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_folder_is_set_aside_said_in_a_line_and_counts_as_missing(how: str, tmp_path: Path) -> None:
    store, folder, said = kept(tmp_path)
    damage, reason = DAMAGE[how]
    damage(folder)
    assert store.get("outcomes", folder.name) is None
    assert not folder.exists() and len(list((tmp_path / "damaged").iterdir())) == 1
    (line,) = said
    assert reason in line and folder.name[:12] in line and "\n" not in line


def test_a_folder_set_aside_is_neither_listed_nor_found_damaged_again(tmp_path: Path) -> None:
    store, folder, said = kept(tmp_path)
    for _ in range(3):
        cut(folder)
        assert store.get("outcomes", folder.name) is None
        assert list(store.identities("outcomes")) == []
        store.put("outcomes", MADE_OF, FILES)
    assert store.get("outcomes", folder.name) == FILES
    assert len(said) == len(list((tmp_path / "damaged").iterdir())) == 3


def test_a_copied_folder_does_not_pass_for_another_key(tmp_path: Path) -> None:
    store, folder, said = kept(tmp_path)
    other = key_of({**MADE_OF, "seed": 1})
    shutil.copytree(folder, folder.with_name(other))
    assert store.get("outcomes", other) is None and "does not belong to its key" in said[0]
    assert store.get("outcomes", folder.name) == FILES


def test_identities_are_listed_by_key_and_unreadable_ones_passed_over(tmp_path: Path) -> None:
    store, folder, _ = kept(tmp_path)
    others = [{**MADE_OF, "seed": seed} for seed in range(1, 4)]
    for other in others:
        store.put("outcomes", other, FILES)
    garbage(folder)
    assert list(store.identities("outcomes")) == sorted((key_of(other), other) for other in others)
    assert list(store.identities("victims")) == []


def test_a_put_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    store, folder, _ = kept(tmp_path)
    with pytest.raises(TypeError):
        store.put("outcomes", MADE_OF, {"table.npz": b"new", "cost.json": "no bytes"})  # type: ignore[dict-item]
    assert [each.name for each in (tmp_path / "outcomes").iterdir()] == [folder.name]
    assert store.get("outcomes", folder.name) == FILES


def test_a_put_replaces_all_earlier_files(tmp_path: Path) -> None:
    store, folder, _ = kept(tmp_path)
    store.put("outcomes", MADE_OF, {"other.json": b"1"})
    assert store.get("outcomes", folder.name) == {"other.json": b"1"}
    assert [each.name for each in (tmp_path / "outcomes").iterdir()] == [folder.name]


def test_what_a_killed_writer_left_is_invisible_and_swept_up(tmp_path: Path) -> None:
    store, folder, said = kept(tmp_path)
    left = folder.rename(folder.with_name(f".writing-{folder.name}"))
    (left / MANIFEST).unlink()
    assert store.get("outcomes", folder.name) is None and list(store.identities("outcomes")) == []
    store.put("outcomes", MADE_OF, FILES)
    assert store.get("outcomes", folder.name) == FILES and not left.exists() and not said


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    write_file(path, b"first")
    with pytest.raises(TypeError):
        write_file(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"first" and list(path.parent.iterdir()) == [path]


MAKER = """
import sys, time
from pathlib import Path
from ecgbench.storage.store import Store, key_of
root, made_of = Path(sys.argv[1]), {"seed": 0}
store, key = Store(root, lambda line: print(line, flush=True)), key_of({"seed": 0})
with store.writing("outcomes", key):
    files = store.get("outcomes", key)
    if files is None:
        with (root / "makes").open("a") as log:
            log.write("made\\n")
        while not (root / "go").exists():
            time.sleep(0.002)
        files = {"a": b"b"}
        store.put("outcomes", made_of, files)
print(files, flush=True)
"""


def test_of_two_processes_on_one_key_one_works_and_the_other_waits_and_reads(tmp_path: Path) -> None:
    start = [sys.executable, "-c", MAKER, str(tmp_path)]
    first = subprocess.Popen(start, stdout=subprocess.PIPE, text=True)
    wait_for(first, (tmp_path / "makes").exists)
    second = subprocess.Popen(start, stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    assert "another process is working on outcomes/" in second.stdout.readline()
    (tmp_path / "go").touch()
    answers = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert answers == ["{'a': b'b'}\n"] * 2
    assert (tmp_path / "makes").read_text() == "made\n"


def test_a_writer_that_dies_or_fails_keeps_nobody_waiting(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    wait_for(first, (tmp_path / "makes").exists)
    first.kill()
    first.communicate(timeout=60)
    said: list[str] = []
    store = Store(tmp_path, said.append)
    for _ in range(2):
        with pytest.raises(RuntimeError), store.writing("outcomes", key_of({"seed": 0})):
            raise RuntimeError
    assert not said


# journals


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
    monkeypatch.setattr("ecgbench.storage.store.time.perf_counter", lambda: next(now))
    killed = Store(tmp_path).checkpoint("victims", "k", lambda _: None)  # opened at 0, its base trained until 100
    killed.start()
    killed.save({"epoch": torch.tensor(1)})  # at 107
    resumed = Store(tmp_path).checkpoint("victims", "k", lambda _: None)
    resumed.start()
    assert resumed.seconds == 7 + 30


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
