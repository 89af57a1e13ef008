import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgbench.core.errors import StoreError
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.results.published import find, outcomes_path, place, publish, read_published, read_results
from ecgbench.storage.arrays import pack, unpack
from tests.made_up_rows import Facts, changed, curve_of, made_up, provenance_of, row


def published(tmp_path: Path, outcomes: Outcomes | None = None, **facts: Unpack[Facts]) -> Path:
    outcomes = made_up(["0", "01"]) if outcomes is None else outcomes
    return publish(row(outcomes, **facts).record, outcomes, tmp_path)


def test_packed_outcomes_come_back_as_they_were() -> None:
    outcomes = made_up(["0", "01"], clean="7", groups=3)
    back = unpack(pack(outcomes), "here")
    for name, array in outcomes.arrays().items():
        np.testing.assert_array_equal(array, getattr(back, name), strict=True)


def test_numpy_reads_what_was_packed_without_pickle() -> None:
    outcomes = made_up(["0", "01"])
    with np.load(io.BytesIO(pack(outcomes)), allow_pickle=False) as arrays:
        assert {name: repr(arrays[name].tolist()) for name in arrays} == {
            name: repr(array.tolist()) for name, array in outcomes.arrays().items()
        }


def test_equal_outcomes_pack_to_equal_bytes_at_any_time() -> None:
    outcomes = made_up(["0", "01"])
    other = replace(outcomes, y=np.repeat(outcomes.y, 2)[::2])
    assert pack(outcomes) == pack(other)
    with zipfile.ZipFile(io.BytesIO(pack(outcomes))) as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_outcomes_are_packed_small() -> None:
    outcomes = made_up(["0", "01"], n=1000)
    assert len(pack(outcomes)) < sum(array.nbytes for array in outcomes.arrays().values()) / 5


def test_outcomes_that_would_not_be_read_back_are_not_packed() -> None:
    outcomes = made_up(["0", "01"])
    with pytest.raises(StoreError, match="size is float64"):
        pack(replace(outcomes, size=outcomes.size.astype(float)))


PACKED = pack(made_up(["0", "01"]))


@given(at=st.integers(0, len(PACKED) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_outcomes_are_refused_by_name_or_read_whole(at: int, byte: int, cut: bool) -> None:
    damaged = PACKED[:at] + (b"" if cut else bytes([byte]) + PACKED[at + 1 :])
    try:
        assert len(unpack(damaged, "x.npz").y) == 10
    except StoreError as fault:
        assert str(fault).startswith("x.npz holds no readable outcomes: ")


def test_pickled_outcomes_are_refused() -> None:
    content = io.BytesIO()
    arrays = {**made_up(["0", "01"]).arrays(), "components": np.array([{}], dtype=object)}
    np.savez(content, **arrays)  # type: ignore[arg-type] # none of them is named allow_pickle
    with pytest.raises(StoreError, match="Object arrays cannot be loaded"):
        unpack(content.getvalue(), "x.npz")


@given(text=st.text(max_size=200), key=st.text("0123456789abcdef", min_size=12, max_size=64))
def test_a_place_is_short_and_fits_every_file_system(text: str, key: str) -> None:
    named = changed(row(), key=key, dataset=text, model=text, defense=text, attack=text, threat=text)
    folder, name = place(named.record).parts
    assert not set(folder + name) & set(':/\\*?"<>|[]=, ')
    assert len(folder) <= 80 and len(name) <= 80 + 18
    assert name.endswith(f"-{key[:12]}.json") and folder not in (".", "..")


def test_a_published_result_is_read_back(tmp_path: Path) -> None:
    outcomes = made_up(["0", "01"])
    path = published(tmp_path, outcomes)
    assert path == tmp_path / "beats" / path.name
    assert (back := read_published(path)).record == row(outcomes).record
    assert hashlib.sha256(outcomes_path(path).read_bytes()).hexdigest() == provenance_of(back).outcomes_digest
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".json", ".npz"]


def test_publishing_twice_changes_no_byte(tmp_path: Path) -> None:
    path = published(tmp_path)
    once = path.read_bytes(), outcomes_path(path).read_bytes()
    assert published(tmp_path) == path and (path.read_bytes(), outcomes_path(path).read_bytes()) == once


def test_a_failed_result_is_published_without_outcomes(tmp_path: Path) -> None:
    path = publish(row().record, None, tmp_path)
    assert read_published(path).record.error == "out of memory" and not outcomes_path(path).exists()


def test_a_failure_does_not_replace_the_scores_of_its_cell(tmp_path: Path) -> None:
    scored = published(tmp_path, key="a" * 64)
    record = read_published(scored).record
    failed = msgspec.structs.replace(
        record, key="b" * 64, status="failed", error="out of memory", scores=(), curve=None, provenance=None
    )
    assert publish(failed, None, tmp_path) == scored and find(tmp_path) == [scored] and outcomes_path(scored).is_file()


def test_a_new_result_of_a_cell_replaces_the_old_one_and_no_other(tmp_path: Path) -> None:
    old, other = published(tmp_path, key="a" * 64), published(tmp_path, key="c" * 64, limit=5)
    new = published(tmp_path, key="b" * 64)
    assert find(tmp_path) == [new, other]
    assert not old.exists() and not outcomes_path(old).exists()


def test_outcomes_of_another_row_are_not_published(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="was scored from outcomes"):
        publish(row(made_up(["0", "01"])).record, made_up(["0", "02"]), tmp_path)
    with pytest.raises(StoreError, match="expected its outcomes"):
        publish(row(made_up(["0", "01"])).record, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_would_not_be_read_back_is_not_published(tmp_path: Path) -> None:
    outcomes = made_up(["0", "01"])
    curve = replace(curve_of(row(outcomes)), auc=float("nan"))
    with pytest.raises(StoreError, match=r"Expected `float`, got `null`.*auc"):
        publish(msgspec.structs.replace(row(outcomes).record, curve=curve), outcomes, tmp_path)


def test_results_are_read_by_path_in_all_folders(tmp_path: Path) -> None:
    for dataset in ("z", "a", "m[beats=3]"):
        published(tmp_path, dataset=dataset)
    assert [found.path.parent.name for found in read_results(tmp_path)] == ["a", "m-beats-3", "z"]


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"status": "\xff"}', b"[]"])
def test_a_damaged_record_is_named(tmp_path: Path, content: bytes) -> None:
    path = published(tmp_path)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=path.name):
        read_results(tmp_path)


def test_damaged_outcomes_are_named(tmp_path: Path) -> None:
    path = outcomes_path(published(tmp_path))
    path.write_bytes(b"PK")
    with pytest.raises(StoreError, match=path.name):
        read_results(tmp_path)


def test_a_missing_folder_of_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere is no folder"):
        read_results(tmp_path / "nowhere")
