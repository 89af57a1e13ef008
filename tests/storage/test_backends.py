"""A folder and a bucket keep results alike: the first writer wins, nothing is seen by halves, damage heals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem

from ecgbench.core.errors import EcgbenchError, StoreError
from ecgbench.storage.files import unique
from ecgbench.storage.folders import DAY, Folders
from ecgbench.storage.objects import Objects
from ecgbench.storage.opening import open_store, reopened
from ecgbench.storage.store import MANIFEST, Store, key_of
from tests.bucket import bucket, serving
from tests.command_line import TINY, ecgbench

MADE_OF = {"stage": "outcomes", "seed": 0}
KEY = key_of(MADE_OF)
FILES = {"table.npz": b"\x00\x01", "cost.json": b"{}"}
OTHER = {"table.npz": b"\x00\x02", "cost.json": b"[]"}


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with serving() as variables:
        yield variables


class Place:
    """A place for results, and how a test looks into it past the store."""

    def __init__(self, home: str, local: Path, files: Any = None) -> None:
        self.home, self.local, self._files, self.said = home, local, files, list[str]()

    def store(self, machine: str = "one") -> Store:
        return open_store(f"{self.home}/store", self.local / machine, self.said.append)

    def paths(self) -> list[str]:
        """Everything that lies there, seen from its top; the locks apart."""
        if self._files is None:
            found = [path.relative_to(self.home).as_posix() for path in Path(self.home).rglob("*") if path.is_file()]
        else:
            top = self.home.removeprefix("s3://")
            found = [str(path).removeprefix(f"{top}/") for path in self._files.find(top)]
        return sorted(path for path in found if "locks" not in path)

    def write(self, path: str, content: bytes) -> None:
        if self._files is None:
            Path(self.home, path).write_bytes(content)
        else:
            self._files.pipe_file(f"{self.home}/{path}", content)

    def entry(self, name: str = MANIFEST) -> str:
        """The path of one file of the one entry."""
        (found,) = [path for path in self.paths() if path.startswith("store/outcomes/") and self._is(path, name)]
        return found

    def _is(self, path: str, name: str) -> bool:
        if self._files is None or name == MANIFEST:
            return path.endswith(f"/{name}")
        return path.endswith(sha256(FILES[name]).hexdigest())


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "folder":
        yield Place(str(tmp_path / "shared"), tmp_path)
        return
    with bucket(request.getfixturevalue("server")) as (url, files):
        yield Place(f"{url}/some/prefix", tmp_path, files)


def test_what_was_kept_on_one_machine_is_found_on_another(place: Place) -> None:
    assert place.store("one").add("outcomes", MADE_OF, FILES) == FILES
    other = place.store("other")
    assert other.get("outcomes", KEY) == FILES and other.get("outcomes", "0" * 64) is None
    assert list(other.identities("outcomes")) == [(KEY, MADE_OF)] and not list(other.identities("victims"))
    assert not list(other.faults("outcomes")) and len(place.paths()) == 3 and not place.said


def test_many_results_are_listed_by_key(place: Place) -> None:
    made = [{**MADE_OF, "seed": seed} for seed in range(3)]
    for each in made:
        place.store().add("outcomes", each, FILES)
    assert list(place.store().identities("outcomes")) == sorted((key_of(each), each) for each in made)


def test_the_first_writer_wins_and_the_second_reads_what_the_first_has_kept(place: Place) -> None:
    place.store("one").add("outcomes", MADE_OF, FILES)
    assert place.store("other").add("outcomes", MADE_OF, OTHER) == FILES
    assert place.store().get("outcomes", KEY) == FILES and len(place.paths()) == 3
    assert place.said == [f"another process was first with outcomes/{KEY[:12]}; its result is used."]


def test_what_is_put_replaces_all_that_was_there(place: Place) -> None:
    place.store().add("outcomes", MADE_OF, FILES)
    place.store("other").put("outcomes", MADE_OF, {"other.json": b"1"})
    assert place.store().get("outcomes", KEY) == {"other.json": b"1"}
    assert len(place.paths()) == 2 and not place.said


def test_of_many_writers_at_once_all_have_the_files_of_one(place: Place) -> None:
    stores = [place.store(str(number)) for number in range(4)]
    for entry in range(2):
        made_of, kept = {**MADE_OF, "seed": entry}, dict[int, dict[str, bytes]]()
        ready = threading.Barrier(len(stores))

        def race(number: int, made_of: Any = made_of, ready: Any = ready, kept: Any = kept) -> None:
            ready.wait()
            kept[number] = stores[number].add("outcomes", made_of, {"a": b"%d" % number, "b": b"same"})

        threads = [threading.Thread(target=race, args=(number,)) for number in range(len(stores))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (won,) = {files["a"] for files in kept.values()}
        assert len(kept) == len(stores) and kept[int(won)] == place.store().get("outcomes", key_of(made_of))
    assert len(place.paths()) == 3 * 2, "a loser has left something behind"


KILLED = """
import os, signal, sys
from pathlib import Path
from ecgbench.storage.opening import open_store
home, local = sys.argv[1:]
store = open_store(f"{home}/store", Path(local))

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if store.elsewhere is None:
    import ecgbench.storage.folders as folders
    write = folders.write_through
    folders.write_through = lambda path, content: die() if path.name == "manifest.json" else write(path, content)
else:
    from ecgbench.storage.objects import Objects
    Objects._put = die
store.add("outcomes", {"stage": "outcomes", "seed": 0}, {"table.npz": bytes([0, 1]), "cost.json": b"{}"})
"""


def test_a_writer_killed_between_files_and_manifest_has_written_nothing_and_the_next_one_heals(place: Place) -> None:
    command = [sys.executable, "-c", KILLED, place.home, str(place.local / "killed")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(place.paths()) == 2, "the files are there, the manifest is not"
    store = place.store()
    assert store.get("outcomes", KEY) is None and not list(store.identities("outcomes"))
    assert not list(store.faults("outcomes")) and not place.said
    assert store.add("outcomes", MADE_OF, OTHER) == OTHER == place.store("other").get("outcomes", KEY)
    for left in Path(place.home).glob("store/writing/*"):
        os.utime(left, (0, 0))  # long ago
    store.put("outcomes", MADE_OF, OTHER)
    assert len(place.paths()) == 3 and not place.said


@pytest.mark.parametrize(("name", "left"), [("table.npz", 0), ("table.npz", 1), (MANIFEST, 1)])
def test_what_is_cut_short_is_never_read_and_the_next_writer_heals_it(name: str, left: int, place: Place) -> None:
    place.store().add("outcomes", MADE_OF, FILES)
    place.write(place.entry(name), b"\x00"[:left])
    assert place.store("other").get("outcomes", KEY) is None
    assert "it is set aside and counts as missing" in place.said.pop() and not place.said
    assert [path for path in place.paths() if not path.startswith("store/damaged/outcomes-")] == []
    assert place.store().add("outcomes", MADE_OF, OTHER) == OTHER == place.store("other").get("outcomes", KEY)
    assert not place.said


def test_whoever_comes_second_to_a_damaged_result_replaces_it(place: Place) -> None:
    place.store().add("outcomes", MADE_OF, FILES)
    place.write(place.entry("table.npz"), b"")
    assert place.store("other").add("outcomes", MADE_OF, OTHER) == OTHER == place.store().get("outcomes", KEY)


def test_a_place_that_others_damage_all_the_time_ends_the_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgbench.storage.store.Store.get", lambda *_: None)
    place.store().add("outcomes", MADE_OF, FILES)
    with pytest.raises(StoreError, match="others change it all the time"):
        place.store().add("outcomes", MADE_OF, OTHER)


def test_a_store_is_opened_again_by_its_place(place: Place) -> None:
    store = place.store()
    store.add("outcomes", MADE_OF, FILES)
    assert open_store(store.entries.place, place.local).get("outcomes", KEY) == FILES
    again = reopened(store.entries.place, store.root)
    assert (again.root, again.elsewhere, again.get("outcomes", KEY)) == (store.root, store.elsewhere, FILES)
    assert store.where("outcomes", KEY).endswith(f"/store/outcomes/{KEY}")


# folders


def test_what_a_living_writer_writes_is_left_alone_by_the_others(tmp_path: Path) -> None:
    living = tmp_path / "writing" / unique()
    living.mkdir(parents=True)
    Store(tmp_path).add("outcomes", MADE_OF, FILES)
    assert living.is_dir()
    now = living.stat().st_mtime
    os.utime(living, (now - DAY - 60, now - DAY - 60))
    Store(tmp_path).put("outcomes", MADE_OF, FILES)
    assert not living.exists()


def test_a_rename_whose_answer_was_lost_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def lost(path: Path, target: Path) -> None:
        rename(path, target)
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(Path, "rename", lost)
    assert Store(tmp_path).add("outcomes", MADE_OF, FILES) == FILES
    monkeypatch.undo()
    assert Folders(tmp_path).manifest("outcomes", KEY) and Store(tmp_path).get("outcomes", KEY) == FILES


def test_names_of_unfinished_files_differ_between_hosts_with_equal_process_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr("ecgbench.storage.folders.write_through", lambda path, _: written.append(path.parent.name))
    for machine in "ab":
        Folders(tmp_path / machine).add("outcomes", KEY, b"{}", {}, replace=False)
    assert len({*written}) == 2


# buckets


@pytest.mark.parametrize("code", ["PreconditionFailed", "412", "ConditionalRequestConflict"])
def test_servers_may_say_in_their_own_words_that_another_writer_was_first(
    code: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.store()
    if store.elsewhere is None:
        return
    store.add("outcomes", MADE_OF, FILES)
    pipe = type(store.elsewhere._files).pipe_file  # type: ignore[attr-defined]

    def refused(files: Any, path: str, content: bytes, mode: str = "overwrite") -> Any:
        if mode == "create":
            cause = Exception()
            cause.response = {"Error": {"Code": code}}  # type: ignore[attr-defined]
            raise OSError(22, "no") from cause
        return pipe(files, path, content)

    monkeypatch.setattr("s3fs.S3FileSystem.pipe_file", refused)
    assert store.add("outcomes", MADE_OF, OTHER) == FILES


@pytest.mark.parametrize(
    "given", ["gs://bucket/x", "s3:/bucket/x", "s3://", "s3://bu cket", "file:///tmp/x", "s3://b?x"]
)
def test_another_url_is_refused_in_a_sentence(given: str, tmp_path: Path) -> None:
    with pytest.raises(EcgbenchError, match=r"expected a folder, or a URL such as s3://bucket/prefix\.$"):
        open_store(given, tmp_path)


def test_a_bucket_that_is_not_there_and_one_without_credentials_end_the_run(
    server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=r"^s3://nowhere/x cannot be read \(.*bucket does not exist\); check the buck"):
        open_store("s3://nowhere/x", tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match=r"cannot be read \(.*credentials.*\); check the bucket, "):
        open_store("s3://nowhere/x", tmp_path)
    S3FileSystem.clear_instance_cache()


def test_without_the_library_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(EcgbenchError, match=r'pip install "ecgbench-robustness\[object-store\]"'):
        Objects("s3://bucket").check()


# the command line

FGSM = ("run", *TINY, "--attack", "fgsm", "--eps", "0.05", "--quiet", "--json")


def test_two_machines_share_a_bucket_and_each_keeps_its_unfinished_work(server: dict[str, str], tmp_path: Path) -> None:
    with bucket(server) as (url, files):
        first = ecgbench(tmp_path / "one", *FGSM, "--store", url)
        assert first.code == 0 and "note: these" in first.err and not (tmp_path / "one" / "store").exists()
        again = ecgbench(tmp_path / "other", *FGSM, ECGBENCH_HOME=f"{url}/", HOME=str(tmp_path / "other"))
        assert (again.code, again.out, again.err) == (0, first.out, first.err)
        shown = ecgbench(tmp_path / "third", "results", "show", "--store", url, "--json")
        assert shown.out == first.out
        (cut,) = [path for path in files.find(f"{url}/store/outcomes") if files.cat_file(path)[:2] == b"PK"]
        files.pipe_file(cut, files.cat_file(cut)[:-100])
        record = first.records[0]
        files.rm(f"{url}/store/records/{record['key']}", recursive=True)
        healed = ecgbench(tmp_path / "other", *FGSM, "--store", url)
        assert healed.code == 0 and "it is set aside and counts as missing" in healed.err
        assert {**healed.records[0], "cost": 0} == {**record, "cost": 0}
        store = open_store(f"{url}/store", tmp_path / "one")
        store.checkpoint("victims", "k", print).save({})
        assert (tmp_path / "one" / "remote").is_dir() and not files.exists(f"{url}/store/unfinished")
