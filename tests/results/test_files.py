"""Only regular files of a sane size, at their place, are read as results."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ecgbench.leaderboard.check_rows import Rows
from ecgbench.results.files import irregular
from ecgbench.results.published import outcomes_path, publish
from tests.made_up_rows import made_up, provenance_of, row


@pytest.fixture
def results(tmp_path: Path) -> Path:
    outcomes = made_up(["0", "01"])
    publish(row(outcomes).record, outcomes, tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def path(results: Path) -> Path:
    return next(results.rglob("*.json"))


def test_what_a_run_publishes_is_regular(results: Path) -> None:
    assert irregular(results) == {} and irregular(results / "nowhere") == {}


def linked(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.with_name("elsewhere.txt").write_bytes(content)
    path.symlink_to(path.with_name("elsewhere.txt"))


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def deeper(path: Path) -> None:
    (path.parent / "more").mkdir()
    path.rename(path.parent / "more" / path.name)


def large(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(1 << 21)


@pytest.mark.parametrize("spoil", [linked, piped, deeper, large])
def test_a_file_that_is_no_regular_result_is_a_fault_and_is_not_read(
    results: Path, path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(path)
    read = Rows.read(results)
    assert read.published == () and any(path.parent.as_posix() in fault for fault in read.faults)


def test_outcomes_that_are_a_link_are_not_read(results: Path, path: Path) -> None:
    linked(outcomes_path(path))
    assert Rows.read(results).published == ()


@pytest.mark.parametrize("name", ["row.txt", "beats/.hidden", "beats/row.pkl", "row.json"])
def test_files_that_are_no_results_are_named(results: Path, name: str) -> None:
    (results / name).write_bytes(b"")
    (fault,) = irregular(results).values()
    assert (results / name).as_posix() in fault and "expected" in fault


def test_one_bad_record_is_one_fault_and_stops_no_other(results: Path, path: Path) -> None:
    bad = path.parent / "bad.json"
    for content in (
        b"{",
        b"[" * 100_000,
        path.read_bytes().replace(b'"victim": {', b'"victim": [{').replace(b"}", b"]}", 1),
    ):
        bad.write_bytes(content)
        read = Rows.read(results)
        assert len(read.published) == 1 and len(read.faults) == 1 and "bad.json" in read.faults[0]


@pytest.mark.parametrize("part", ["victim", "weights", "sources", "surrogate"])
def test_a_provenance_of_another_form_is_one_fault(results: Path, part: str) -> None:
    honest = row(made_up(["0", "01"]), model="cnn")
    made = provenance_of(honest)
    odd = msgspec.structs.replace(made, identity=made.identity | {part: [1, {"a": 2}]})
    publish(msgspec.structs.replace(honest.record, provenance=odd), honest.outcomes, results)
    read = Rows.read(results)
    assert len(read.published) == 1 and "does not say who was attacked" in read.faults[0]
