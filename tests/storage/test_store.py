"""The store keeps a result whole under its key, or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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
    assert list(store.faults("outcomes")) == [(folder.name, "lacks its files")]


def test_a_put_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    store, folder, _ = kept(tmp_path)
    with pytest.raises(TypeError):
        store.put("outcomes", MADE_OF, {"table.npz": b"new", "cost.json": "no bytes"})  # type: ignore[dict-item]
    assert [each.name for each in (tmp_path / "outcomes").iterdir()] == [folder.name]
    assert not list((tmp_path / "writing").iterdir())
    assert store.get("outcomes", folder.name) == FILES


def test_a_put_replaces_all_earlier_files(tmp_path: Path) -> None:
    store, folder, _ = kept(tmp_path)
    store.put("outcomes", MADE_OF, {"other.json": b"1"})
    assert store.get("outcomes", folder.name) == {"other.json": b"1"}
    assert [each.name for each in (tmp_path / "outcomes").iterdir()] == [folder.name]


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


def test_where_a_file_system_has_no_locks_the_work_is_done_all_the_same_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("filelock.FileLock.acquire", unable)
    said: list[str] = []
    store = Store(tmp_path, said.append)
    for key in "ab":
        with store.writing("outcomes", key) as alone:
            assert not alone
    assert said == [f"{tmp_path}/locks has no locks: another process may do the same work, and none is resumed."]
