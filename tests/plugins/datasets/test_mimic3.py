"""MIMIC-III in made-up tables: who is in a cohort, what is read of them, and damaged tables by name."""

from __future__ import annotations

import csv
import gzip
import shutil
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError, EcgbenchError, NotInstalledError, StoreError
from ecgbench.testing import check_dataset
from ecgbench_plugins.datasets import mimic3_tables
from ecgbench_plugins.datasets.mimic3 import FEATURES, Mimic3, datasets
from tests.plugins.datasets.made_up_mimic3 import COLUMNS, HOUR, START, Tree, drawn_tree

pytest.importorskip("duckdb", reason="DuckDB is not installed")
NAMES = {"sun2018": [f.name for f in FEATURES["sun2018"]], "lstm_aa": [f.name for f in FEATURES["lstm-aa"]]}
nan = np.nan


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_tree(30).write(tmp_path_factory.mktemp("made") / "mimiciii")


@pytest.fixture
def tree(made: Path, tmp_path: Path) -> Path:
    """A tree of one's own."""
    return Path(shutil.copytree(made, tmp_path / "mimiciii"))


def cohort(tree: Tree, folder: Path, rules: str = "sun2018") -> np.ndarray:
    tables = mimic3_tables.find_tables(DataRoot(tree.write(folder)))
    return mimic3_tables.cohort(tables, rules, NAMES[rules])


def load(folder: Path, **parameters: object) -> Task:
    return Mimic3(**parameters).load(DataRoot(folder))  # type: ignore[arg-type]


def one(rates: int = 50, first: datetime = START, **admitted: object) -> Tree:
    """An admission with a heart rate of 80 every hour."""
    tree = Tree()
    tree.admit(1, 100, 200, **admitted)  # type: ignore[arg-type]
    tree.heart_rates(200, [80.0] * rates, first)
    return tree


def hourly(tree: Tree, folder: Path, name: str, rules: str = "sun2018") -> list[float]:
    """The observed hourly values of the one admission, NaN elsewhere; the first is START's next full hour."""
    (row,) = cohort(tree, folder, rules)
    place = NAMES[rules].index(name)
    return np.where(row["observed"][:, place], row["values"][:, place], nan).tolist()


# who is in the cohort


@pytest.mark.parametrize(
    ("admitted", "chosen"),
    [
        ({}, True),
        ({"age": 18.0}, True),
        ({"age": 17.9}, False),
        ({"age": 300}, True),  # as MIMIC-III hides the age of the oldest
        ({"charted": 0}, False),
        ({"hours": 24}, True),
        ({"hours": 23.9}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("rules", NAMES)
def test_adults_with_charts_and_a_whole_day_in_the_icu_are_chosen(
    tmp_path: Path, rules: str, admitted: dict[str, object], chosen: bool
) -> None:
    assert len(cohort(one(**admitted), tmp_path, rules)) == chosen  # type: ignore[arg-type]


def test_less_than_a_whole_day_in_hospital_is_not_enough(tmp_path: Path) -> None:
    tree = one()
    (row,) = tree.rows["ADMISSIONS"]
    row["DISCHTIME"] = row["ADMITTIME"] + timedelta(hours=23)  # type: ignore[operator]
    assert len(cohort(tree, tmp_path)) == 0


@pytest.mark.parametrize(("rules", "fewest"), [("sun2018", 49), ("lstm_aa", 49)])
def test_there_must_be_48_full_hours_from_the_first_to_the_last_measurement(
    tmp_path: Path, rules: str, fewest: int
) -> None:
    assert len(cohort(one(fewest), tmp_path / "enough", rules)) == 1
    assert len(cohort(one(fewest - 1), tmp_path / "few", rules)) == 0


@pytest.mark.parametrize(("rules", "on_the_hour"), [("sun2018", (48,)), ("lstm_aa", ())])
def test_an_arrival_on_the_full_hour_has_49_hours_in_a_closed_window_and_47_in_an_open_one(
    tmp_path: Path, rules: str, on_the_hour: tuple[int, ...]
) -> None:
    full = START.replace(minute=0)
    found = [
        hours for hours in (47, 48, 49, 60) if len(cohort(one(hours, full, intime=full), tmp_path / str(hours), rules))
    ]
    assert found == list(on_the_hour)


def test_gaps_in_between_do_not_matter_but_three_times_are_needed(tmp_path: Path) -> None:
    tree = Tree()
    tree.admit(1, 100, 200)
    for hour in (0, 49):
        tree.chart(200, 220045, START + hour * HOUR, 80)
        tree.chart(200, 220277, START + hour * HOUR, 97)
    assert len(cohort(tree, tmp_path / "two")) == 0
    tree.chart(200, 220045, START + 20 * HOUR, 90)
    assert len(cohort(tree, tmp_path / "three")) == 1


def test_the_window_begins_with_the_first_stay_that_counts(tmp_path: Path) -> None:
    tree = Tree()
    tree.admit(1, 100, 199, intime=START - 40 * HOUR, hours=12)  # too short to count
    tree.admit(1, 100, 200)
    tree.admit(1, 100, 201, intime=START + 100 * HOUR, hours=30)
    tree.heart_rates(199, [60.0] * 12, START - 40 * HOUR)
    tree.heart_rates(200, range(70, 120))
    tree.heart_rates(201, [60.0] * 30, START + 100 * HOUR)
    (row,) = tree.rows["ADMISSIONS"]
    row["DISCHTIME"] = START + 200 * HOUR
    assert hourly(tree, tmp_path, "HR") == list(range(71, 119))


def test_every_admission_of_a_patient_is_one_of_its_own(tmp_path: Path) -> None:
    tree = one()
    later = START + timedelta(days=50)
    tree.admit(1, 101, 201, intime=later, died=1)
    tree.heart_rates(201, [90.0] * 50, later)
    table = cohort(tree, tmp_path)
    assert table["hadm_id"].tolist() == [100, 101] and table["subject_id"].tolist() == [1, 1]
    assert table["died"].tolist() == [0, 1]


# what is read of them


def test_hours_are_full_ones_and_their_value_is_the_mean_of_times(tmp_path: Path) -> None:
    tree = one()
    first = START.replace(minute=0) + HOUR  # the first full hour in the ICU; START + 1 h lies in it
    tree.chart(200, 220045, first, 60)
    tree.chart(200, 220045, first + timedelta(minutes=59), 100)
    tree.chart(200, 211, first + timedelta(minutes=59), 120)  # the same time: mean 110
    tree.chart(200, 220045, first - timedelta(minutes=1), 300 - 1)
    values = hourly(tree, tmp_path, "HR")
    assert values[0] == pytest.approx((60 + 80 + 110) / 3) and values[1:] == [80.0] * 47


@pytest.mark.parametrize(
    ("name", "item", "good", "bad"),
    [
        ("HR", 220045, (299,), (0, 300)),
        ("SBP", 51, (399,), (0, 400)),
        ("DBP", 8368, (299,), (0, 300)),
        ("RespRate", 618, (69,), (0, 70)),
        ("SpO2", 646, (100,), (0, 101)),
        ("Temp", 676, (49,), (10, 50)),
    ],
)
def test_vital_signs_have_limits(
    tmp_path: Path, name: str, item: int, good: tuple[float, ...], bad: tuple[float, ...]
) -> None:
    tree = one() if name != "HR" else Tree()
    if name == "HR":
        tree.admit(1, 100, 200)
        for hour in range(50):
            tree.chart(200, 220277, START + hour * HOUR, 97)
    for hour, value in enumerate((*good, *bad), start=1):
        tree.chart(200, item, START + hour * HOUR, value)
    values = hourly(tree, tmp_path, name)
    assert values[: len(good)] == list(good) and np.isnan(values[len(good) :]).all()


def test_fahrenheit_becomes_celsius_within_its_own_limits(tmp_path: Path) -> None:
    tree = one()
    for hour, (item, value) in enumerate(
        [(223761, 98.6), (678, 104), (223761, 70), (678, 120), (223762, 36.5)], start=1
    ):
        tree.chart(200, item, START + hour * HOUR, value)
    np.testing.assert_allclose(hourly(tree, tmp_path, "Temp")[:5], [37, 40, nan, nan, 36.5], rtol=1e-6)


def test_rows_marked_as_errors_without_a_stay_or_of_other_items_are_not_read(tmp_path: Path) -> None:
    tree = one()
    tree.chart(200, 220277, START + HOUR, 97, error=1)
    tree.chart(200, 220277, START + 2 * HOUR, 96, error=0)
    tree.add("CHARTEVENTS", ICUSTAY_ID="", ITEMID=220277, CHARTTIME=START + 3 * HOUR, VALUENUM=95)
    tree.chart(200, 999, START + 4 * HOUR, 94)
    values = hourly(tree, tmp_path, "SpO2")
    assert values[1] == 96 and np.isnan(np.delete(values, 1)).all()


def test_blood_gases_belong_to_their_admission_and_not_with_two_specimens(tmp_path: Path) -> None:
    tree = one()
    for hour, specimens in enumerate((0, 1, 2), start=1):
        at = START + hour * HOUR
        tree.lab(1, 100, 50820, at, 7.3)
        for _ in range(specimens):
            tree.lab(1, 100, 50800, at, "")
    tree.lab(1, "", 50820, START + 4 * HOUR, 7.5)
    tree.lab(1, 100, 50820, START + 5 * HOUR, 0)
    values = hourly(tree, tmp_path, "pH")
    np.testing.assert_allclose(values[:5], [7.3, 7.3, nan, nan, nan], rtol=1e-6)


@pytest.mark.parametrize(
    ("item", "name", "high"),
    [(50862, "Albumin", 10), (51006, "BUN", 300), (50912, "Creatinine", 150), (50983, "Na", 200), (51237, "INR", 50)],
)
def test_laboratory_values_have_limits_and_belong_to_whoever_is_there(
    tmp_path: Path, item: int, name: str, high: float
) -> None:
    tree = one()
    for hour, value in enumerate((high, high + 1, 0), start=1):
        tree.lab(1, "", item, START + hour * HOUR, value)
    tree.lab(2, "", item, START + 4 * HOUR, high)
    values = hourly(tree, tmp_path, name)
    assert values[0] == high and np.isnan(values[1:]).all()


@pytest.mark.parametrize(
    ("before", "mine"), [(11, True), (13, False)], ids=["in the 12 hours before", "before the 12 hours"]
)
def test_a_laboratory_value_belongs_to_an_admission_from_12_hours_before_it(
    tmp_path: Path, before: int, mine: bool
) -> None:
    tree = one(48, START + 2 * HOUR, ward=timedelta(0))  # hours 2 to 49: without the value before, the first is missing
    tree.lab(1, "", 50983, START - before * HOUR, 139)
    assert len(cohort(tree, tmp_path)) == mine


def test_between_two_admissions_less_than_a_day_apart_the_border_is_in_the_middle(tmp_path: Path) -> None:
    tree = Tree()
    later = START + (72 + 24 + 2 + 10) * HOUR  # its admission begins 10 hours after the first one's end
    tree.admit(1, 100, 200)
    tree.admit(1, 101, 201, intime=later)
    middle = START + (72 + 24 + 5) * HOUR
    tree.heart_rates(200, [80.0] * 50)
    tree.heart_rates(201, [80.0] * 48, later + 2 * HOUR)
    tree.lab(1, "", 50983, middle - timedelta(minutes=1), 139)
    assert cohort(tree, tmp_path / "before")["hadm_id"].tolist() == [100]
    tree.lab(1, "", 50983, middle, 139)
    assert cohort(tree, tmp_path / "after")["hadm_id"].tolist() == [100, 101]


def test_borders_reach_12_hours_out_and_no_further_than_half_way_to_a_neighbour(tmp_path: Path) -> None:
    tree = Tree()
    ends = START + 96 * HOUR
    second, third = ends + 12 * HOUR, ends + (10 + 2 + 96 + 24) * HOUR  # their admissions begin 10 and 24 hours behind
    for admission, intime in ((100, START), (101, second), (102, third + 2 * HOUR)):
        tree.admit(1, admission, admission + 100, intime=intime)
    tree.admit(2, 103, 203, intime=START + HOUR)  # of another patient
    files = mimic3_tables.find_tables(DataRoot(tree.write(tmp_path)))
    with mimic3_tables._database(files) as database:
        rows = database.execute(
            f"select hadm_id, begins, ends from ({mimic3_tables.sql('borders')}) order by 1"
        ).fetchall()
    middle, last = ends + 5 * HOUR, third + 98 * HOUR
    assert rows == [
        (100, START - 14 * HOUR, middle),
        (101, middle, second + 108 * HOUR),
        (102, third - 12 * HOUR, last + 12 * HOUR),
        (103, START - 13 * HOUR, ends + 13 * HOUR),
    ]


def test_the_13th_laboratory_value_is_inr_or_magnesium(tmp_path: Path) -> None:
    tree = one()
    tree.lab(1, 100, 51237, START + HOUR, 1.5)
    tree.lab(1, 100, 50960, START + HOUR, 2.5)
    assert hourly(tree, tmp_path / "a", "INR")[0] == 1.5
    assert hourly(tree, tmp_path / "b", "Mg", "lstm_aa")[0] == 2.5
    assert [name for name in NAMES["sun2018"] if name not in NAMES["lstm_aa"]] == ["INR"]


# the task


def test_the_hook_offers_the_set_under_its_name() -> None:
    assert datasets() == {"mimic3": Mimic3()} and Mimic3.remote is None


@pytest.mark.parametrize("cohort", ["sun2018", "lstm-aa"])
def test_the_dataset_keeps_its_promises(made: Path, tmp_path: Path, cohort: str) -> None:
    check_dataset(Mimic3(cohort=cohort), DataRoot(made.parent, cache=tmp_path))  # type: ignore[arg-type]


def test_a_row_is_48_hours_of_19_measurements_and_a_note_says_credentialed(made: Path) -> None:
    task = load(made)
    assert task.shape == (48, 19) and task.features == tuple(NAMES["sun2018"])
    assert any("credentialed" in note for note in task.notes)
    assert task.notes[0] == "cohort sun2018: 36 admissions of 30 patients, 19.44 % died"


def test_no_patient_is_in_two_parts(made: Path) -> None:
    task = load(made)
    owners = [set(part.group.tolist()) for part in (task.train, task.val, task.test) if part.group is not None]
    assert sum(map(len, owners)) == 30 and set.union(*owners) == set(range(1, 31))
    assert [len(some) for some in owners] == [19, 5, 6]
    assert load(made, seed=1).test.ids.tolist() != task.test.ids.tolist()


def test_gzipped_tables_give_the_same(tmp_path: Path, made: Path) -> None:
    for path in made.iterdir():
        with gzip.open(tmp_path / f"{path.name}.gz", "wb") as file:
            file.write(path.read_bytes())
    one, other = load(made), load(tmp_path)
    for part in ("train", "val", "test"):
        mine, theirs = getattr(one, part), getattr(other, part)
        assert mine.x.equal(theirs.x) and mine.ids.equal(theirs.ids) and mine.y.equal(theirs.y)


def test_names_in_small_letters_as_in_the_demo_are_read(tree: Path) -> None:
    wanted = load(tree)
    for path in sorted(tree.iterdir()):
        header, _, body = path.read_text().partition("\n")
        path.unlink()
        path.with_name(path.name.lower()).write_text(f"{header.lower()}\n{body}")
    assert load(tree).train.x.equal(wanted.train.x)


def test_rows_may_come_in_another_order(tree: Path) -> None:
    wanted = load(tree)
    for path in tree.iterdir():
        header, *rows = path.read_text().splitlines(keepends=True)
        path.write_text(header + "".join(np.random.default_rng(0).permutation(rows)))
    task = load(tree)
    assert task.train.x.equal(wanted.train.x) and task.test.ids.equal(wanted.test.ids)


def test_columns_may_come_in_another_order(tree: Path) -> None:
    wanted = load(tree)
    path = tree / "ICUSTAYS.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("".join(",".join(reversed(row)) + "\n" for row in rows))
    assert load(tree).train.x.equal(wanted.train.x)


def test_the_second_load_reads_the_cache(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = DataRoot(made.parent, cache=tmp_path)
    first = Mimic3().load(root)
    monkeypatch.setattr(mimic3_tables, "cohort", None)
    assert Mimic3().load(root).train.x.equal(first.train.x)


def test_the_sql_is_that_of_this_version() -> None:
    assert mimic3_tables.rules_digest() == mimic3_tables.RULES, "the SQL was edited: set RULES to its new digest"


def test_nothing_is_left_behind(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    load(made)
    assert not list(tmp_path.iterdir())


# faults


def _no_chart(tree: Path) -> None:
    (tree / "CHARTEVENTS.csv").unlink()


def _no_column(tree: Path) -> None:
    path = tree / "LABEVENTS.csv"
    path.write_text(path.read_text().replace('"VALUENUM"', '"NUMBER"', 1))


def _no_header(tree: Path) -> None:
    path = tree / "LABEVENTS.csv"
    path.write_text(path.read_text().partition("\n")[2])


def _empty(tree: Path) -> None:
    (tree / "PATIENTS.csv").write_text("")


def _odd_time(tree: Path) -> None:
    path = tree / "CHARTEVENTS.csv"
    path.write_text(path.read_text().replace('"2150-03-01', '"never', 1))


def _odd_number(tree: Path) -> None:
    path = tree / "LABEVENTS.csv"
    lines = path.read_text().splitlines()
    cells = lines[7].split(",")
    lines[7] = ",".join([*cells[:6], '"much"', *cells[7:]])
    path.write_text("\n".join(lines) + "\n")


def _cut(tree: Path) -> None:
    path = tree / "CHARTEVENTS.csv"
    path.write_bytes(path.read_bytes()[:-37])


def _cut_gzip(tree: Path) -> None:
    path = tree / "CHARTEVENTS.csv"
    (tree / "CHARTEVENTS.csv.gz").write_bytes(gzip.compress(path.read_bytes())[:-5000])
    path.unlink()


def _no_gzip(tree: Path) -> None:
    path = tree / "LABEVENTS.csv"
    (tree / "LABEVENTS.csv.gz").write_bytes(path.read_bytes())
    path.unlink()


def _edit(table: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Other lines of a table, of which the first is the header."""

    def damage(tree: Path) -> None:
        path = tree / f"{table}.csv"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return damage


def _cell(table: str, column: str, value: str) -> Callable[[Path], None]:
    """Another value in the first row of a table."""
    place = COLUMNS[table].split().index(column)

    def change(lines: list[str]) -> list[str]:
        cells = next(csv.reader([lines[1]]))
        cells[place] = value
        return [lines[0], ",".join(f'"{cell}"' if cell else "" for cell in cells).replace('"CUTS"', "CUTS"), *lines[2:]]

    return _edit(table, change)


def test_a_column_without_a_name_as_pandas_writes_it_is_not_read(tree: Path) -> None:
    wanted = load(tree)
    _edit("PATIENTS", lambda lines: [f"{number or ''},{line}," for number, line in enumerate(lines)])(tree)
    assert load(tree).train.x.equal(wanted.train.x)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tree: Path) -> None:
    wanted = load(tree)
    _edit("PATIENTS", lambda lines: [line.partition(",")[2] for line in lines])(tree)  # SUBJECT_ID is the first now
    path = tree / "PATIENTS.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(tree).train.x.equal(wanted.train.x)


IMPOSSIBLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no byte of it": (lambda tree: (tree / "CHARTEVENTS.csv").write_bytes(b""), r"CHARTEVENTS\.csv is empty"),
    "a column twice": (
        _edit("PATIENTS", lambda lines: [lines[0].replace("GENDER", "DOB"), *lines[1:]]),
        r"PATIENTS\.csv has the column DOB twice",
    ),
    "a patient twice": (
        _edit("PATIENTS", lambda lines: [*lines, lines[1]]),
        r"PATIENTS\.csv .*patient 1 stands there 2",
    ),
    "an admission twice": (
        _edit("ADMISSIONS", lambda lines: [*lines, lines[1]]),
        r"ADMISSIONS\.csv .*admission 100002 stands there 2",
    ),
    "a stay twice": (
        _edit("ICUSTAYS", lambda lines: [*lines, lines[1]]),
        r"ICUSTAYS\.csv .*ICU stay 200002 stands there 2",
    ),
    "a stay of no admission": (
        _edit("ADMISSIONS", lambda lines: [lines[0], *lines[2:]]),
        r"ICUSTAYS\.csv .*ICU stay 200002 is of admission 100002 of patient 1, which is not in ADMISSIONS",
    ),
    "an admission of nobody": (
        _edit("PATIENTS", lambda lines: [lines[0], *lines[2:]]),
        r"ADMISSIONS\.csv .*admission 100002 is of patient 1, who is not in PATIENTS",
    ),
    "a stay of another patient": (_cell("ICUSTAYS", "SUBJECT_ID", "2"), r"ICUSTAYS\.csv .*ICU stay 200002 is of .* 2,"),
    "nobody's birth": (_cell("PATIENTS", "DOB", ""), r"PATIENTS\.csv .*patient 1 has no date of birth"),
    "two deaths": (_cell("ADMISSIONS", "HOSPITAL_EXPIRE_FLAG", "2"), r"ADMISSIONS\.csv .*admission 100002 has a HOSP"),
    "an unknown death": (_cell("ADMISSIONS", "HOSPITAL_EXPIRE_FLAG", ""), r"ADMISSIONS\.csv .*admission 100002 has a"),
    "no number": (_cell("LABEVENTS", "VALUENUM", "NaN"), r"LABEVENTS\.csv .*the value nan of item 50822 at 2150-03-01"),
    "too large a number": (
        _cell("CHARTEVENTS", "VALUENUM", "1e400"),
        r"CHARTEVENTS\.csv .*the value inf of item 220045",
    ),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_rows_that_contradict_each_other_are_one_sentence(tree: Path, name: str) -> None:
    damage, fault = IMPOSSIBLE[name]
    damage(tree)
    with pytest.raises(DataError, match=rf"^mimic3: {fault}.*; expected the table as MIMIC-III has it\.$"):
        load(tree)


FAULTS: dict[Callable[[Path], None], str] = {
    _no_chart: r"CHARTEVENTS\.csv and CHARTEVENTS\.csv\.gz are missing in .*; expected one of them\.",
    _no_column: r"LABEVENTS\.csv has no column VALUENUM; expected the table LABEVENTS of MIMIC-III\.",
    _no_header: r"LABEVENTS\.csv has no column CHARTTIME; expected the table LABEVENTS of MIMIC-III\.",
    _empty: r"PATIENTS\.csv is empty; expected the table as MIMIC-III has it\.",
    _odd_time: r"CHARTEVENTS\.csv is damaged, line 2 \(.*charttime.*\); expected the table as MIMIC-III has it\.",
    _odd_number: r"LABEVENTS\.csv is damaged, line 8 \(.*valuenum.*\); expected the table as MIMIC-III has it\.",
    _cut: r"CHARTEVENTS\.csv is damaged, line \d+ \(.*\); expected the table as MIMIC-III has it\.",
    _cut_gzip: r"CHARTEVENTS\.csv\.gz .*; expected the table as MIMIC-III has it\.",
    _no_gzip: r"LABEVENTS\.csv\.gz cannot be read \(.*\); expected the table as MIMIC-III has it\.",
}


@pytest.mark.parametrize("damage", FAULTS, ids=lambda damage: damage.__name__)
def test_a_missing_or_damaged_table_is_one_sentence(tree: Path, damage: Callable[[Path], None]) -> None:
    damage(tree)
    with pytest.raises(DataError, match=rf"^mimic3: {FAULTS[damage]}$"):
        load(tree)


def test_a_data_root_without_the_tables_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^mimic3: found no ICUSTAYS\.csv.* below .*; set ECGBENCH_DATA to the folder "
    ):
        Mimic3().files(DataRoot(tmp_path))


def test_tables_without_an_admission_of_the_cohort_are_one_sentence(tmp_path: Path) -> None:
    tree = one(10)
    with pytest.raises(
        DataError, match=r"^mimic3: no admission is of the cohort sun2018; expected the whole of MIMIC-III\.$"
    ):
        load(tree.write(tmp_path))


def test_a_machine_without_room_is_no_fault_of_the_tables(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimic3_tables, "MEMORY", "1MB")
    with pytest.raises(StoreError, match=r"^mimic3: DuckDB cannot go on \(.*\); expected 1MB of memory and room "):
        load(made)


def test_few_patients_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^mimic3: no admission is left to validate on; expected more patients\.$"):
        load(one().write(tmp_path))


def test_without_duckdb_a_sentence_says_how_to_install_it(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(
        NotInstalledError,
        match=r"^DuckDB is not installed; install it with `pip install 'ecgbench-robustness\[mimic\]'`\.$",
    ):
        load(made)


def test_edited_sql_is_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mimic3_tables, "RULES", "0" * 64)
    with pytest.raises(
        EcgbenchError, match=r"^mimic3: .* holds other SQL than that of this version; expected the digest 0+\.$"
    ):
        load(made)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_one_sentence(seed: int) -> None:
    with pytest.raises(EcgbenchError, match=r"^mimic3: seed=-?\d+ is out of range; expected 0 to 2\*\*32 - 1\.$"):
        Mimic3(seed=seed)
