"""Finding recordings below a root, and keeping arrays made from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ecgbench.core.dataroot import DataRoot, digest, sha256
from ecgbench.core.errors import DataError, StoreError


def place(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RECORDS").touch()
    return folder


def find(root: DataRoot) -> Path:
    return root.find("toy", "RECORDS", ["a", "b/c"], "run: get toy")


@pytest.mark.parametrize("below", ["", "a", "b/c"])
def test_a_set_is_found_in_the_root_and_in_each_layout(below: str, tmp_path: Path) -> None:
    folder = place(tmp_path / below)
    assert find(DataRoot(tmp_path)) == folder


def test_the_first_layout_that_holds_the_set_wins(tmp_path: Path) -> None:
    place(tmp_path / "b/c")
    first = place(tmp_path / "a")
    assert find(DataRoot(tmp_path)) == first


def test_a_folder_of_the_markers_name_is_not_the_marker(tmp_path: Path) -> None:
    (tmp_path / "RECORDS").mkdir()
    with pytest.raises(DataError):
        find(DataRoot(tmp_path))


def test_a_place_named_for_the_set_is_searched_instead_of_the_root(tmp_path: Path) -> None:
    place(tmp_path / "root/a")
    mine = place(tmp_path / "mine/b/c")
    assert find(DataRoot(tmp_path / "root", {"toy": tmp_path / "mine"})) == mine
    with pytest.raises(DataError, match=r"below .*elsewhere"):
        find(DataRoot(tmp_path / "root", {"toy": tmp_path / "elsewhere"}))


def test_a_place_named_for_another_set_changes_nothing(tmp_path: Path) -> None:
    folder = place(tmp_path / "a")
    assert find(DataRoot(tmp_path, {"other": tmp_path / "elsewhere"})) == folder


def test_a_set_that_is_nowhere_is_an_error_that_ends_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"toy: found no RECORDS below {tmp_path}; run: get toy$"):
        find(DataRoot(tmp_path))


def test_without_a_root_the_error_says_so() -> None:
    with pytest.raises(DataError, match=r"no data root is set; run: get toy$"):
        find(DataRoot())


class Maker:
    """Makes an array and counts how often."""

    calls = 0

    def __call__(self) -> np.ndarray:
        self.calls += 1
        return np.arange(6, dtype=np.float32).reshape(2, 3)


def test_an_array_is_made_once_and_then_read(tmp_path: Path) -> None:
    root, make = DataRoot(cache=tmp_path), Maker()
    first, second = (root.array("toy", "key", make) for _ in range(2))
    assert make.calls == 1
    assert isinstance(second, np.memmap)
    np.testing.assert_array_equal(first, second)


def test_another_key_makes_another_array(tmp_path: Path) -> None:
    root, make = DataRoot(cache=tmp_path), Maker()
    root.array("toy", "key", make)
    root.array("toy", "yek", make)
    assert make.calls == 2


def test_without_a_cache_an_array_is_made_each_time() -> None:
    root, make = DataRoot(), Maker()
    root.array("toy", "key", make)
    root.array("toy", "key", make)
    assert make.calls == 2


def test_writing_into_an_array_changes_nothing_on_disk(tmp_path: Path) -> None:
    root = DataRoot(cache=tmp_path)
    root.array("toy", "key", Maker())[:] = -1
    assert root.array("toy", "key", Maker()).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("left", [0, 10, -1])
def test_a_damaged_cache_file_is_made_anew(left: int, tmp_path: Path) -> None:
    root = DataRoot(cache=tmp_path)
    root.array("toy", "key", Maker())
    (file,) = (tmp_path / "arrays").iterdir()
    file.write_bytes(file.read_bytes()[:left])
    assert root.array("toy", "key", Maker()).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_an_array_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    def make() -> np.ndarray:
        raise DataError("record 100 is damaged.")

    with pytest.raises(DataError, match="record 100"):
        DataRoot(cache=tmp_path).array("toy", "key", make)
    assert list(tmp_path.rglob("*.*")) == []


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(StoreError, match=r"cache.* cannot be written \(.*\); a file stands where a folder"):
        DataRoot(cache=tmp_path / "cache").array("toy", "key", Maker())


def test_an_array_leaves_no_other_file_in_the_cache(tmp_path: Path) -> None:
    DataRoot(cache=tmp_path).array("toy", "k" * 64, Maker())
    assert [file.name for file in tmp_path.rglob("*.*")] == [f"toy-{'k' * 24}.npy"]


@pytest.fixture
def two(tmp_path: Path) -> dict[str, Path]:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    return {"a": tmp_path / "a", "b": tmp_path / "b"}


def test_a_digest_does_not_depend_on_order_or_folder(two: dict[str, Path], tmp_path: Path) -> None:
    before = digest(two)
    (tmp_path / "moved").mkdir()
    assert digest({name: two[name].rename(tmp_path / "moved" / name) for name in ("b", "a")}) == before


def test_a_digest_sees_content_name_and_number(two: dict[str, Path]) -> None:
    swapped = {"a": two["b"], "b": two["a"]}
    renamed = {"a": two["a"], "c": two["b"]}
    assert len({digest(two), digest(swapped), digest(renamed), digest({"a": two["a"]}), digest({})}) == 5


def test_the_sha256_of_a_file_is_that_of_its_bytes(two: dict[str, Path]) -> None:
    assert sha256(two["a"]) == hashlib.sha256(b"a").hexdigest()


def test_a_digest_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone cannot be read"):
        digest({"gone": tmp_path / "gone"})
