"""The challenge of 2012 as its files lie: what is read, what is counted, who is tested, and every fault by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError, EcgbenchError
from ecgbench.testing import check_dataset
from ecgbench_plugins.datasets import icu2012_stays
from ecgbench_plugins.datasets.icu2012 import Icu2012, datasets
from ecgbench_plugins.datasets.icu2012_stays import read_all
from ecgbench_plugins.datasets.icu_features import OPEN_DATA
from tests.plugins.datasets.made_up_icu2012 import HEADER, described, write_outcomes, write_stay, write_tree

PLACE = {feature.name: place for place, feature in enumerate(OPEN_DATA)}
RECORD = 132539
nan = np.nan


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("made") / "challenge-2012")


@pytest.fixture
def tree(made: Path, tmp_path: Path) -> Path:
    """A tree of one's own."""
    return Path(shutil.copytree(made, tmp_path / "challenge-2012"))


def load(tree: Path, **parameters: object) -> Task:
    return Icu2012(**parameters).load(DataRoot(tree.parent))  # type: ignore[arg-type]


def read(tmp_path: Path, *lines: str) -> np.void:
    """The row of the one stay of these lines."""
    (row,) = read_all({RECORD: write_stay(tmp_path, RECORD, lines)})
    return row


def hours(row: np.void, name: str) -> list[float]:
    """The hourly means that were observed, NaN elsewhere."""
    return np.where(row["observed"][:, PLACE[name]], row["values"][:, PLACE[name]], nan).tolist()


# what a file says


def test_values_of_an_hour_are_averaged_and_hours_begin_at_their_full_minute(tmp_path: Path) -> None:
    row = read(tmp_path, "00:00,HR,60", "00:59,HR,80", "01:00,HR,90", "47:59,HR,100")
    wanted = [nan] * 48
    wanted[0], wanted[1], wanted[47] = 70, 90, 100
    np.testing.assert_array_equal(hours(row, "HR"), wanted)
    assert row["fault"] == b""


def test_repeats_of_a_time_count_as_one_value_their_mean(tmp_path: Path) -> None:
    row = read(tmp_path, "00:10,Temp,36", "00:10,Temp,37", "00:10,Temp,38", "00:40,Temp,39")
    assert hours(row, "Temp")[0] == 38  # and not 37.5, the mean of all four
    assert (row["rows"], row["repeated"]) == (9, 2)


def test_rows_at_48_hours_and_without_a_name_are_left_out_and_counted(tmp_path: Path) -> None:
    row = read(tmp_path, "00:10,HR,70", "10:00,,3.1", "48:00,HR,300", "48:00,Albumin,3", "48:00,pH,735")
    assert [row[name] for name in ("rows", "nameless", "late", "repeated")] == [10, 1, 3, 0]
    assert row["observed"].sum() == 1 and not row["dropped"].any()


@pytest.mark.parametrize(
    ("name", "parameter", "good", "bad"),
    [
        ("HR", "HR", (299.9, 0.1), (300, 0, -1)),
        ("RespRate", "RespRate", (69,), (70, 0, 98)),
        ("SaO2", "SaO2", (100,), (101, 0)),
        ("pH", "pH", (6.1, 8), (735, 6, 1)),
        ("Temp", "Temp", (49, 11), (-17.8, 50, 10)),
        ("SBP", "SysABP", (399,), (400, 0)),
        ("SBP", "NISysABP", (399,), (400, -1)),
        ("DBP", "NIDiasABP", (299,), (300, 0)),
    ],
)
def test_values_that_cannot_be_true_are_left_out_and_counted(
    tmp_path: Path, name: str, parameter: str, good: tuple[float, ...], bad: tuple[float, ...]
) -> None:
    row = read(tmp_path, *(f"{hour:02d}:30,{parameter},{value}" for hour, value in enumerate((*good, *bad))))
    np.testing.assert_allclose(hours(row, name)[: len(good)], good, rtol=1e-6)
    assert row["observed"].sum() == len(good)
    assert row["dropped"].tolist() == [len(bad) if at == PLACE[name] else 0 for at in range(18)]


def test_pressure_is_the_invasive_one_and_that_of_the_cuff_in_hours_without_it(tmp_path: Path) -> None:
    row = read(
        tmp_path, "00:10,SysABP,120", "00:20,NISysABP,90", "01:10,NISysABP,100", "02:10,SysABP,0", "02:20,NISysABP,110"
    )
    assert hours(row, "SBP")[:3] == [120, 100, 110]
    assert row["dropped"][PLACE["SBP"]] == 1


def test_gaps_are_bridged_and_a_measurement_that_is_never_made_is_nan(tmp_path: Path) -> None:
    row = read(tmp_path, "02:00,HR,60", "06:00,HR,80")
    assert row["values"][:8, PLACE["HR"]].tolist() == [60, 60, 60, 65, 70, 75, 80, 80]
    assert np.isnan(np.delete(row["values"], PLACE["HR"], 1)).all() and row["observed"].sum() == 2


def test_what_is_measured_and_not_read_makes_no_stay(tmp_path: Path) -> None:
    row = read(tmp_path, "00:10,Urine,0", "00:20,GCS,15", "00:30,WBC,12500")
    assert not row["observed"].any() and row["fault"] == b""


@pytest.mark.parametrize("newline", ["\r\n", "\n"], ids=repr)
def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path: Path, newline: str) -> None:
    path = write_stay(tmp_path, RECORD, ["00:10,HR,70"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", newline.encode()))
    (row,) = read_all({RECORD: path})
    assert row["fault"] == b"" and hours(row, "HR")[0] == 70


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["00:10,HR"], "damaged: line 8 of 132539.txt is '00:10,HR'; expected a time, a parameter and a value"),
        (["00:10,HR,1,2"], "damaged: line 8 of 132539.txt is '00:10,HR,1,2'; expected a time, a parameter and a value"),
        (
            ["00:10,HR,70", "48:01,HR,70"],
            "damaged: line 9 of 132539.txt is at '48:01'; expected a time from 00:00 to 48:00",
        ),
        (["0:10,HR,70"], "damaged: line 8 of 132539.txt is at '0:10'; expected a time from 00:00 to 48:00"),
        (["10:60,HR,70"], "damaged: line 8 of 132539.txt is at '10:60'; expected a time from 00:00 to 48:00"),
        (["00:10,Hart,70"], "damaged: line 8 of 132539.txt has the parameter 'Hart'; "),
        (["00:10,HR,x"], "damaged: line 8 of 132539.txt has the value 'x'; expected a number"),
        (["00:10,HR,nan"], "damaged: line 8 of 132539.txt has the value 'nan'; expected a number"),
        (["00:10,HR,inf"], "damaged: line 8 of 132539.txt has the value 'inf'; expected a number"),
        (["00:10,HR,7_0"], "damaged: line 8 of 132539.txt has the value '7_0'; expected a number"),
        (["00:10,HR,"], "damaged: line 8 of 132539.txt has the value ''; expected a number"),
        (["00:00,RecordID,7"], "damaged: 132539.txt states the record 132539, 7; expected 132539"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_line_that_cannot_be_is_named(tmp_path: Path, lines: list[str], fault: str) -> None:
    assert read(tmp_path, *lines)["fault"].decode().startswith(fault)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "damaged: 132539.txt begins with ''; expected Time,Parameter,Value"),
        ("time,value\n", "damaged: 132539.txt begins with 'time,value'; expected Time,Parameter,Value"),
        (HEADER, "empty: 132539.txt holds no line"),
        (HEADER + "\n".join(described(RECORD)), "cut short: 132539.txt ends within a line"),
        (HEADER + "\n".join(described(RECORD)[1:]) + "\n", "damaged: 132539.txt states no record; expected 132539"),
        (HEADER + "\n".join(described(7)) + "\n", "damaged: 132539.txt states the record 7; expected 132539"),
    ],
)
def test_a_file_that_cannot_be_is_named(tmp_path: Path, content: str, fault: str) -> None:
    path = tmp_path / f"{RECORD}.txt"
    path.write_text(content)
    (row,) = read_all({RECORD: path})
    assert row["fault"].decode() == fault and row["rows"] == 0


# the task


def test_the_hook_offers_the_set_under_its_name() -> None:
    assert datasets() == {"icu2012": Icu2012()}


def test_the_dataset_keeps_its_promises(made: Path, tmp_path: Path) -> None:
    check_dataset(Icu2012(), DataRoot(made.parent, cache=tmp_path))


def test_train_and_validation_come_from_set_a_and_the_test_set_is_set_b(made: Path) -> None:
    task = load(made)
    assert sorted([*task.train.ids.tolist(), *task.val.ids.tolist()]) == list(range(132539, 132559))
    assert task.test.ids.tolist() == list(range(142675, 142695))
    assert (task.classes, task.features) == (("survived", "died"), tuple(PLACE))
    for part in (task.train, task.val, task.test):
        assert part.y.equal((part.ids % 4 == 0).long())


@pytest.mark.parametrize(("test", "first"), [("b", {142675}), ("c", {152871}), ("both", {142675, 152871})])
def test_the_test_set_can_be_named_and_training_does_not_hang_on_it(made: Path, test: str, first: set[int]) -> None:
    task = load(made, test=test)
    assert set(task.test.ids.tolist()) == {one + k for one in first for k in range(20)}
    assert task.train.x.equal(load(made).train.x)
    assert task.notes[0].startswith("trained on set a, tested on set ")


def test_a_set_that_is_not_named_is_not_touched(tree: Path) -> None:
    whole = load(tree)
    shutil.rmtree(tree / "set-c")
    (tree / "Outcomes-c.txt").unlink()
    assert load(tree).test.x.equal(whole.test.x)
    assert not any("set-c" in name or "-c." in name for name in Icu2012().files(DataRoot(tree.parent)))


def test_a_fifth_of_each_class_validates_and_the_seed_draws_it(made: Path) -> None:
    one, other = load(made), load(made, seed=1)
    assert one.val.y.bincount().tolist() == [3, 1] and one.train.y.bincount().tolist() == [12, 4]
    assert set(one.val.ids.tolist()) != set(other.val.ids.tolist())
    assert not set(one.val.ids.tolist()) & set(one.train.ids.tolist())


def test_who_is_drawn_hangs_on_records_and_not_on_how_many_there_are(tree: Path) -> None:
    before = load(tree)
    for record in range(132559, 132563):
        shutil.copy(tree / "set-a" / "132539.txt", tree / "set-a" / f"{record}.txt")
        text = (tree / "set-a" / f"{record}.txt").read_text().replace("RecordID,132539", f"RecordID,{record}")
        (tree / "set-a" / f"{record}.txt").write_text(text)
    write_outcomes(tree, "a", {record: int(record % 4 == 0) for record in range(132539, 132563)})
    after = load(tree)
    was, is_now = ({*task.val.ids.tolist()} for task in (before, after))
    came = {record for record in is_now if record >= 132559}
    assert len(was - is_now) <= len(came) and len(was & is_now) >= 1


def test_the_second_load_reads_the_cache_and_gives_the_same(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = DataRoot(made.parent, cache=tmp_path)
    first = Icu2012().load(root)
    monkeypatch.setattr(icu2012_stays, "read_all", None)
    again = Icu2012().load(root)
    assert again.test.x.equal(first.test.x) and again.notes == first.notes


def test_another_content_of_a_file_is_read_anew(tree: Path, tmp_path: Path) -> None:
    root = DataRoot(tree.parent, cache=tmp_path / "cache")
    before = Icu2012().load(root)
    write_stay(tree / "set-b", 142675, ["00:10,HR,70"])
    assert not Icu2012().load(root).test.x.equal(before.test.x)


def test_stays_without_any_of_the_18_are_left_out_and_named(tree: Path) -> None:
    for letter, record in (("a", 132540), ("b", 142690)):
        write_stay(tree / f"set-{letter}", record, ["00:10,Urine,80"])
    task = load(tree)
    ids = {*task.train.ids.tolist(), *task.val.ids.tolist(), *task.test.ids.tolist()}
    assert len(ids) == 38 and not ids & {132540, 142690}
    assert "2 stays without any of the 18 features left out: 132540, 142690" in task.notes


def test_anomalies_are_counted_in_the_notes(tree: Path) -> None:
    with (tree / "set-a" / "132539.txt").open("a") as file:
        file.write("47:00,HR,0\n47:10,,3.5\n48:00,HR,80\n47:20,MAP,80\n47:20,MAP,90\n")
    rows = 40 * (5 + 4 * 22) + 5
    notes = load(tree).notes
    assert (
        f"{rows} rows: 1 without a parameter's name and 1 at 48:00 left out, 1 repeats of a time and parameter averaged"
        in notes
    )
    assert "impossible values left out: HR 1" in notes
    assert "only 40 of 8000 stays" in notes


def test_an_epsilon_can_be_in_the_unit_of_each_feature(made: Path) -> None:
    task = load(made)
    assert task.physical is not None and task.train.scale.shape == (16, 1, 18)
    ranges = task.train.scale[0, 0]
    assert 2 < float(ranges[PLACE["HR"]]) < 10 and 0.1 < float(ranges[PLACE["pH"]]) < 0.5


# faults


def _cut(tree: Path) -> None:
    path = tree / "set-a" / "132539.txt"
    path.write_bytes(path.read_bytes()[:-3])


def _unknown(tree: Path) -> None:
    write_stay(tree / "set-a", 132539, ["00:10,Hart,70"])


def _late(tree: Path) -> None:
    write_stay(tree / "set-a", 132539, ["48:30,HR,70"])


def _gone(tree: Path) -> None:
    (tree / "set-a" / "132539.txt").unlink()


def _unlisted(tree: Path) -> None:
    write_outcomes(tree, "a", {record: int(record % 4 == 0) for record in range(132540, 132559)})


def _again(tree: Path) -> None:
    with (tree / "Outcomes-a.txt").open("a") as file:
        file.write("132539,6,1,5,-1,0\n")


def _odd(tree: Path) -> None:
    path = tree / "Outcomes-a.txt"
    path.write_text(path.read_text().replace("132539,6,1,5,-1,0", "132539,6,1,5,-1,2"))


def _in_two(tree: Path) -> None:
    shutil.copy(tree / "set-a" / "132539.txt", tree / "set-b")
    write_outcomes(tree, "b", {record: record % 2 for record in (132539, *range(142675, 142695))})


def _renamed(tree: Path) -> None:
    shutil.copy(tree / "set-a" / "132540.txt", tree / "set-a" / "132539.txt")


FAULTS: dict[Callable[[Path], None], str] = {
    _cut: "cut short: 132539.txt ends within a line",
    _unknown: "damaged: line 8 of 132539.txt has the parameter 'Hart'; ",
    _late: "damaged: line 8 of 132539.txt is at '48:30'; expected a time from 00:00 to 48:00",
    _gone: "without its file set-a/132539.txt",
    _unlisted: "without an outcome in Outcomes-a.txt",
    _again: "listed twice in Outcomes-a.txt",
    _odd: "listed in Outcomes-a.txt with the outcome '2'; expected 0 or 1",
    _in_two: "a stay of 2 sets",
    _renamed: "damaged: 132539.txt states the record 132540; expected 132539",
}


@pytest.mark.parametrize("damage", FAULTS, ids=lambda damage: damage.__name__)
def test_a_fault_is_one_sentence_with_its_record(tree: Path, damage: Callable[[Path], None]) -> None:
    damage(tree)
    with pytest.raises(DataError) as raised:
        load(tree)
    assert str(raised.value).startswith(f"icu2012: record 132539 is {FAULTS[damage]}")
    assert str(raised.value).endswith("or leave such stays out (skip_bad=true).") and "\n" not in str(raised.value)


@pytest.mark.parametrize("damage", FAULTS, ids=lambda damage: damage.__name__)
def test_damaged_stays_are_left_out_where_asked_and_named(tree: Path, damage: Callable[[Path], None]) -> None:
    damage(tree)
    task = load(tree, skip_bad=True)
    ids = torch.cat([task.train.ids, task.val.ids, task.test.ids])
    assert len(ids) == 39 and 132539 not in ids.tolist()
    (said,) = (note for note in task.notes if note.startswith("record "))
    assert said.startswith(f"record 132539 left out, being {FAULTS[damage]}")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "Outcomes-b.txt",
            "RecordID,x\n1,2\n",
            "record 1 is listed in Outcomes-b.txt with the outcome None; expected 0 or 1",
        ),
        ("Outcomes-b.txt", "", "Outcomes-b.txt lists no stay; expected the columns RecordID and In-hospital_death."),
        ("Outcomes-b.txt", "a,b\n1,2\n", "Outcomes-b.txt names no record in '1,2'; expected the columns RecordID "),
    ],
)
def test_a_list_of_outcomes_that_cannot_be_is_one_sentence(tree: Path, name: str, content: str, said: str) -> None:
    (tree / name).write_text(content)
    with pytest.raises(DataError) as raised:
        load(tree)
    assert str(raised.value).startswith(f"icu2012: {said}")


def test_missing_folders_and_lists_are_one_sentence(tree: Path) -> None:
    shutil.rmtree(tree / "set-b")
    with pytest.raises(DataError, match=r"^icu2012: set-b holds no stay beside .*Outcomes-b.txt; set ECGBENCH_DATA "):
        Icu2012().files(DataRoot(tree.parent))
    (tree / "Outcomes-a.txt").unlink()
    with pytest.raises(DataError, match=r"^icu2012: found no Outcomes-a.txt below .*; set ECGBENCH_DATA to "):
        Icu2012().files(DataRoot(tree.parent))


def test_sets_that_leave_nobody_to_validate_on_are_one_sentence(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "challenge-2012", stays=2, letters="ab")
    with pytest.raises(DataError, match=r"^icu2012: no stay is left to validate on; expected more stays\.$"):
        load(tree)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_one_sentence(seed: int) -> None:
    with pytest.raises(EcgbenchError, match=r"^icu2012: seed=-?\d+ is out of range; expected 0 to 2\*\*32 - 1\.$"):
        Icu2012(seed=seed)


def test_stays_may_lie_a_folder_deeper_as_some_archives_unpack(tree: Path) -> None:
    whole = load(tree)
    (tree / "set-b").rename(tree / "x")
    (tree / "set-b").mkdir()
    (tree / "x").rename(tree / "set-b" / "set-b")
    assert load(tree).test.x.equal(whole.test.x)
    assert "set-b/142675.txt" in Icu2012().files(DataRoot(tree.parent))
