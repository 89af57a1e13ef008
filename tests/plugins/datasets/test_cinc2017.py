"""The challenge's recordings, made of small files of our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from ecgbench.api import skipping_bad
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError, EcgbenchError
from ecgbench.registry.catalog import discover
from ecgbench.runs.suite import Grid, unfold
from ecgbench.testing import check_dataset
from ecgbench_plugins.datasets import rhythm_files, rhythms
from ecgbench_plugins.datasets.cinc2017 import Cinc2017
from tests.command_line import ecgbench, sentence

LETTERS = "NAO~" * 6
TESTED = range(1, 5)


def name(number: int) -> str:
    return f"A{number:05d}"


def counts(number: int, n: int = 400) -> np.ndarray:
    """A record of noise, other for each number."""
    return np.random.default_rng(number).integers(-900, 900, n).astype(np.int16)


def write(folder: Path, number: int, signal: np.ndarray, **header: object) -> None:
    stated = {"samples": signal.size, "rate": 300, "gain": "1000/mV", "form": "16+24", "title": name(number)} | header
    savemat(folder / f"{name(number)}.mat", {"val": signal[None]}, format="4")
    (folder / f"{name(number)}.hea").write_text(
        "{title} 1 {rate} {samples} 05:05:15 1/05/2000 \n".format(**stated)
        + "{title}.mat {form} {gain} 16 0 -127 0 0 ECG \n".format(**stated)
    )


def label(path: Path, letters: Sequence[str], head: str = "", end: str = "\n") -> None:
    rows = [f"{name(number)},{letter}" for number, letter in enumerate(letters, 1)]
    path.write_bytes((head + end.join(rows) + end).encode())


def tree(home: Path, letters: Sequence[str] = LETTERS, below: str = "challenge-2017") -> Path:
    """As many records as letters; the first four are the validation set."""
    base = home / below
    for folder in ("training", "validation"):
        (base / folder).mkdir(parents=True)
    for number in range(1, len(letters) + 1):
        write(base / "training", number, counts(number))
    (base / "training" / "RECORDS").write_text("".join(f"{name(k + 1)}\n" for k in range(len(letters))))
    (base / "validation" / "RECORDS").write_text("".join(f"{name(k)}\n" for k in TESTED))
    for version in ("original", "v2", "v3"):
        label(base / f"REFERENCE-{version}.csv", letters)
    return base / "training"


@pytest.fixture
def training(tmp_path: Path) -> Path:
    return tree(tmp_path)


@pytest.fixture
def root(training: Path, tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    home = tmp_path_factory.mktemp("data")
    tree(home)
    return DataRoot(home, cache=home / "cache")


def read(folder: Path, number: int = 1) -> np.void:
    """One record, as a row of the table."""
    files = {name(number) + ending: folder / (name(number) + ending) for ending in rhythms.ENDINGS}
    row: np.void = rhythms.read_all(files, [name(number)])[0]
    return row


def ids(dataset: Cinc2017, root: DataRoot) -> list[set[int]]:
    """The records of train, validation and test."""
    task = dataset.load(root)
    return [set(part.ids.tolist()) for part in (task.train, task.val, task.test)]


@pytest.mark.parametrize("split", ["holdout", "han"])
def test_the_recordings_keep_the_promises_of_a_dataset(split: str, whole: DataRoot) -> None:
    check_dataset(Cinc2017(split=split), whole)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [2, 400, 9000, 9001, 18000])
def test_a_record_is_cut_then_standardised_then_padded(n: int, tmp_path: Path) -> None:
    write(tmp_path, 1, counts(1, n))
    table = np.array([read(tmp_path)])
    x, mask = rhythms.standardised(table, np.array([0])), rhythms.masked(table, np.array([0]))
    visible = counts(1, n)[:9000].astype(float)
    np.testing.assert_allclose(x[0, 0, :n], (visible - visible.mean()) / visible.std(), rtol=1e-6)
    assert x.shape == (1, 1, 9000) and not x[0, 0, n:].any()
    assert mask.sum() == min(n, 9000) and not mask[0, 0, n:].any()


def test_scale_turns_z_scores_into_mv(whole: DataRoot) -> None:
    test = Cinc2017().load(whole).test
    for row in range(len(test)):
        signal = counts(int(test.ids[row])) / 1000
        np.testing.assert_allclose(test.x[row, 0, :400] * test.scale[row], signal - signal.mean(), atol=1e-6)


def test_the_task_says_its_units_classes_and_versions(whole: DataRoot) -> None:
    task = Cinc2017(labels="v2").load(whole)
    assert task.classes == ("A", "N", "O", "~") and task.rate == 300.0
    assert (task.physical, task.unit, task.bounds) == ("mV", "1", None)
    assert task.test.group is None
    assert {"labels v2", "no patients are named: no split can be patient-disjoint"} < set(task.notes)
    assert "only 24 of 8528 records" in task.notes


def test_labels_are_joined_by_name(whole: DataRoot) -> None:
    task = Cinc2017().load(whole)
    for part in (task.train, task.val, task.test):
        assert [task.classes[y] for y in part.y] == [LETTERS[id_ - 1] for id_ in part.ids]


def test_the_holdout_tests_on_the_validation_set_and_trains_on_the_rest(whole: DataRoot) -> None:
    train, val, test = ids(Cinc2017(), whole)
    assert test == set(TESTED)
    assert train | val == set(range(5, 25)) and not train & val
    assert len(val) == 4  # one of each class


def test_what_equals_a_test_record_is_left_out_of_training(training: Path, root: DataRoot) -> None:
    write(training, 17, counts(2))
    train, val, test = ids(Cinc2017(), root)
    assert 2 in test and 17 not in train | val
    assert "left out of training, being equal to another record: A00017" in Cinc2017().load(root).notes


def test_of_equal_recordings_one_is_kept_in_training(training: Path, root: DataRoot) -> None:
    write(training, 17, counts(9))
    train, val, _ = ids(Cinc2017(), root)
    assert 9 in train and 17 not in train | val
    assert "left out of training, being equal to another record: A00017" in Cinc2017().load(root).notes


def test_recordings_are_equal_where_all_that_is_seen_of_them_is(training: Path, root: DataRoot) -> None:
    write(training, 2, counts(2, 9001))
    write(training, 17, counts(2, 9000))
    write(training, 18, counts(2, 8999))
    train, val, _ = ids(Cinc2017(), root)
    assert 17 not in train | val and 18 in train | val


def test_the_split_of_the_study_leaks_and_says_so(whole: DataRoot) -> None:
    train, val, test = ids(Cinc2017(split="study"), whole)
    assert test == set(TESTED) and train | val == set(range(1, 25))
    assert any("leaking" in note for note in Cinc2017(split="study").load(whole).notes)
    assert not any("leaking" in note for note in Cinc2017().load(whole).notes)


def test_the_split_of_han_keeps_equal_recordings_on_one_side(training: Path, root: DataRoot) -> None:
    for number in range(5, 21):
        write(training, number, counts((number - 1) // 8))
    for seed in range(5):
        _, val, test = ids(Cinc2017(split="han", seed=seed), root)
        assert len(test) == 4 and not (val | test) & set(range(5, 21))


def test_the_split_of_han_needs_no_validation_set(training: Path, root: DataRoot) -> None:
    (training.parent / "validation" / "RECORDS").unlink()
    assert Cinc2017(split="han").load(root).notes[0].endswith("their own draw is not public here")
    with pytest.raises(DataError, match=r"validation/RECORDS is missing .*ecgbench data get cinc2017$"):
        Cinc2017().files(root)


@pytest.mark.parametrize("split", ["holdout", "han", "study"])
def test_the_draw_is_fixed_by_its_seed(split: str, whole: DataRoot) -> None:
    first, again, other = (ids(Cinc2017(split=split, seed=seed), whole) for seed in (0, 0, 1))  # type: ignore[arg-type]
    assert first == again != other


def test_a_seed_out_of_range_is_an_error() -> None:
    with pytest.raises(EcgbenchError, match=r"seed=-1 is out of range; expected 0 to"):
        Cinc2017(seed=-1)


@pytest.mark.parametrize("below", ["", *rhythm_files.LAYOUTS])
def test_the_records_are_found_in_every_layout(below: str, tmp_path: Path) -> None:
    tree(tmp_path, below=below)
    files = Cinc2017().files(DataRoot(tmp_path))
    assert len(files) == 2 * 24 + 3 and all(path.is_file() for path in files.values())


def test_a_place_of_its_own_may_be_the_folder_of_the_records(training: Path) -> None:
    assert len(Cinc2017().files(DataRoot(places={"cinc2017": training}))) == 2 * 24 + 3


def unzipped(home: Path, head: str = "") -> Path:
    """The layout of the two zip files, with labels of no stated version."""
    training = tree(home, below="").rename(home / "training2017")
    (home / "sample2017").mkdir()
    (home / "validation").rename(home / "sample2017" / "validation")
    for version in ("original", "v2", "v3"):
        (home / f"REFERENCE-{version}.csv").unlink()
    label(training / "REFERENCE.csv", LETTERS, head, "\r\n")
    return training


@pytest.mark.parametrize("head", ["", "data_source,class\r\n"])
def test_the_unzipped_files_are_found_with_their_labels(head: str, tmp_path: Path) -> None:
    unzipped(tmp_path, head)
    task = Cinc2017().load(DataRoot(tmp_path))
    assert task.test.ids.tolist() == list(TESTED)
    assert any(note.startswith("labels v3, as far as known: REFERENCE.csv names no") for note in task.notes)


def test_labels_of_another_version_are_not_taken_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rhythm_files, "COUNTS", {"original": (9, 9, 9, 9), "v2": (6, 6, 6, 6), "v3": (1, 2, 3, 4)})
    unzipped(tmp_path)
    assert "labels v2" in Cinc2017(labels="v2").load(DataRoot(tmp_path)).notes
    with pytest.raises(DataError, match=r"REFERENCE-v3.csv is missing in .*; there is labels=v2"):
        Cinc2017().files(DataRoot(tmp_path))


def test_a_missing_version_names_those_that_are_there(training: Path, root: DataRoot) -> None:
    (training.parent / "REFERENCE-v3.csv").unlink()
    with pytest.raises(DataError, match=r"REFERENCE-v3.csv is missing in .*; there is labels=original and labels=v2"):
        Cinc2017().files(root)


def test_the_records_may_lie_in_folders_of_a_thousand(training: Path, root: DataRoot) -> None:
    (training / "A00").mkdir()
    for path in training.glob("A*.*"):
        path.rename(training / "A00" / path.name)
    (training / "RECORDS").write_text("".join(f"A00/{name(k)}\n" for k in range(1, 25)))
    assert ids(Cinc2017(), root)[2] == set(TESTED)


def test_without_a_list_every_record_with_a_file_counts(training: Path, root: DataRoot) -> None:
    (training / "RECORDS").unlink()
    (training.parent / "validation" / "A00099.mat").touch()
    assert len(Cinc2017().load(root).train) + len(Cinc2017().load(root).val) == 20


def test_missing_records_are_an_error_that_ends_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"or run: ecgbench data get cinc2017$"):
        Cinc2017().load(DataRoot(tmp_path))


def test_a_second_load_reads_the_cache(training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = DataRoot(tmp_path, cache=tmp_path / "cache")
    first = Cinc2017().load(root)
    monkeypatch.setattr(rhythms, "read_all", None)
    assert Cinc2017(split="han").load(root).notes[-1] == "only 24 of 8528 records"
    monkeypatch.setattr(rhythms, "standardised", None)
    assert Cinc2017().load(root).train.x.equal(first.train.x)


def tables(root: DataRoot) -> list[Path]:
    """The cached tables of records, whatever was made of them."""
    return [path for path in (root.cache or Path()).rglob("*.npy") if np.load(path).dtype == rhythms.RHYTHM]


@pytest.mark.parametrize("edited", ["recipe", "record", "list"])
def test_an_edit_does_not_meet_the_old_cache(
    edited: str, training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = DataRoot(tmp_path, cache=tmp_path / "cache")
    Cinc2017().load(root)
    if edited == "recipe":
        monkeypatch.setattr(rhythms, "SOURCES", {"recipe": training / "RECORDS"})
    elif edited == "record":
        write(training, 5, counts(99))
    else:
        (training / "RECORDS").write_text("".join(f"{name(k)}\n" for k in range(1, 24)))
    Cinc2017().load(root)
    assert len(tables(root)) == 2


def test_a_listed_record_without_any_file_is_left_out_beside_a_cache(training: Path, tmp_path: Path) -> None:
    root = DataRoot(tmp_path, cache=tmp_path / "cache")
    Cinc2017(skip_bad=True).load(root)
    with (training / "RECORDS").open("a") as list_:
        list_.write("A00099\n")
    assert "record A00099 left out, being without its file A00099.mat" in Cinc2017(skip_bad=True).load(root).notes


def test_other_labels_share_the_cache(training: Path, tmp_path: Path) -> None:
    root = DataRoot(tmp_path, cache=tmp_path / "cache")
    label(training.parent / "REFERENCE-v2.csv", "AN~O" * 6)
    assert not Cinc2017().load(root).test.y.equal(Cinc2017(labels="v2").load(root).test.y)
    assert len(tables(root)) == 1


def bare(training: Path, **variables: np.ndarray) -> None:
    savemat(training / "A00007.mat", variables)


FAULTS: Mapping[str, tuple[object, str]] = {
    "fewer samples": (lambda at: write(at, 7, counts(7), samples=401), "hea states 401 samples, A00007.mat holds 400"),
    "another rate": (lambda at: write(at, 7, counts(7), rate=250), "sampled at 250 Hz; expected 300 Hz"),
    "another gain": (lambda at: write(at, 7, counts(7), gain="200/mV"), "gain 200/mV; expected 16 bits, 1000/mV"),
    "another unit": (lambda at: write(at, 7, counts(7), gain="1000/uV"), "gain 1000/uV; expected 16 bits, 1000/mV"),
    "another format": (lambda at: write(at, 7, counts(7), form="212"), "stored as format 212"),
    "another title": (lambda at: write(at, 7, counts(7), title="A00008"), "describes A00008 in A00008.mat"),
    "segments": (lambda at: (at / "A00007.hea").write_text("A00007/2 1 300 400\nb 200\nc 200"), "into 2 segments"),
    "two signals": (
        lambda at: (at / "A00007.hea").write_text("A00007 2 300 400\n" + "A00007.mat 16 1000/mV\n" * 2),
        "describes 2 signals; expected 1",
    ),
    "no signal": (lambda at: (at / "A00007.hea").write_text("A00007 0 300 400\n"), "describes A00007 in no file"),
    "no gain": (lambda at: write(at, 7, counts(7), gain="0/mV"), "gain not stated; expected 16 bits, 1000/mV"),
    "no voltage": (lambda at: write(at, 7, counts(7), gain="1000/mmHg"), "stored in mmHg; expected V, mV, uV or nV"),
    "no header": (lambda at: (at / "A00007.hea").write_text("what?"), "A00007.hea is no WFDB header"),
    "constant": (lambda at: write(at, 7, np.full(400, 3, np.int16)), "constant: its first 400 samples are all 3"),
    "empty": (lambda at: write(at, 7, np.zeros(0, np.int16)), "empty: A00007.mat holds no sample"),
    "nothing": (lambda at: (at / "A00007.mat").write_bytes(b""), "scipy cannot read val in A00007.mat"),
    "noise": (lambda at: (at / "A00007.mat").write_bytes(counts(7).tobytes()), "scipy cannot read val in A00007.mat"),
    "another name": (lambda at: bare(at, signal=counts(7)[None]), "scipy cannot read val in A00007.mat"),
    "two rows": (lambda at: bare(at, val=counts(7).reshape(2, 200)), r"int16 \(2, 200\); expected one row of numbers"),
    "text": (lambda at: bare(at, val=np.array(["abc"])), "expected one row of numbers"),
    "not a number": (lambda at: bare(at, val=np.array([[1, 2, np.nan]])), "sample 2 of A00007.mat is not a number"),
    "lost": (lambda at: bare(at, val=np.array([[1, -32768]])), "sample 1 of A00007.mat is not a number"),
    "half": (lambda at: bare(at, val=np.array([[1, 0.5]])), "sample 1 of A00007.mat is 0.5; expected whole counts"),
    "huge": (lambda at: bare(at, val=np.array([[1e9, 2]])), "sample 0 of A00007.mat is 1000000000.0; expected whole"),
    "unknown label": (lambda at: relabel(at, "A00007,X"), "labelled 'X' in REFERENCE-v3.csv; expected one of A, N"),
    "no label": (lambda at: relabel(at, ""), "not labelled in REFERENCE-v3.csv"),
    "no comma": (lambda at: relabel(at, "A00007"), "labelled '' in REFERENCE-v3.csv"),
    "three columns": (lambda at: relabel(at, "A00007,O,O"), "labelled 'O,O' in REFERENCE-v3.csv"),
    "listed twice": (lambda at: listed(at, "A00007"), "named 2 times in RECORDS"),
    "two labels": (lambda at: relabel(at, "A00007,O\nA00007,O"), "labelled twice in REFERENCE-v3.csv"),
}  # fmt: skip


def listed(training: Path, more: str) -> None:
    with (training / "RECORDS").open("a") as names:
        names.write(f"{more}\n")


def relabel(training: Path, text: str) -> None:
    path = training.parent / "REFERENCE-v3.csv"
    path.write_text(path.read_text().replace("A00007,O", text))


@pytest.mark.parametrize("case", FAULTS)
def test_a_damaged_record_is_an_error_that_names_it_and_may_be_left_out(
    case: str, training: Path, root: DataRoot
) -> None:
    damage, fault = FAULTS[case]
    assert callable(damage)
    damage(training)
    with pytest.raises(DataError, match=rf"^cinc2017: record A00007 is .*{fault}.*skip_bad=true\)\.$"):
        Cinc2017().load(root)
    task = Cinc2017(skip_bad=True).load(root)
    (note,) = (note for note in task.notes if "left out, being" in note)
    assert note.startswith("record A00007 ") and "only 23 of 8528 records" in task.notes
    assert 7 not in [*task.train.ids, *task.val.ids]


HEADERS = {
    "comment first": "# exported by our PACS\n{record}\n{signal}\n",
    "empty line first": "\n{record}\n{signal}\n",
    "mark": "\ufeff{record}\n{signal}\n",
    "mark and comment": "\ufeff# Gerät\n\n{record}\n# between\n{signal}\n# behind",
    "carriage returns": "{record}\r\n{signal}\r\n",
    "tabs": "{tabs}\n{signal}\n",
    "no length": "A00007 1 300\n{signal}\n",
    "length 0": "A00007 1 300 0\n{signal}\n",
    "counter": "A00007 1 300/300(0) 400 05:05:15 1/05/2000\n{signal}\n",
    "small letters": "a00007 1 300 400\na00007.mat 16+24 1000/mV\n",
    "no unit": "{record}\nA00007.mat 16+24 1000 16 0\n",
    "microvolts": "{record}\nA00007.mat 16+24 1/uV 16 0\n",
    "volts": "{record}\nA00007.mat 16+24 1000000/V 16 0\n",
    "baseline": "{record}\nA00007.mat 16+24 1000(0)/mV 16 0\n",
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_is_read_by_the_rules_of_its_format(case: str, training: Path) -> None:
    record, signal = "A00007 1 300 400 05:05:15 1/05/2000", "A00007.mat 16+24 1000/mV 16 0 -127 0 0 ECG"
    text = HEADERS[case].format(record=record, signal=signal, tabs=record.replace(" ", "\t"))
    (training / "A00007.hea").write_bytes(text.encode())
    row = read(training, 7)
    assert row["fault"] == b"" and row["counts"][:400].tolist() == counts(7).tolist()


LISTS: dict[str, Callable[[str], bytes]] = {
    "mark": lambda text: text.encode("utf-8-sig"),
    "mark of utf-16": lambda text: text.encode("utf-16"),
    "carriage returns": lambda text: text.replace("\n", "\r\n").encode(),
    "blank lines": lambda text: f"\n{text}\n \n".encode(),
    "spaces": lambda text: text.replace("\n", " \n").replace(",", " , ").encode(),
    "no end": lambda text: text.rstrip().encode(),
    "quotes": lambda text: "".join(f'"{line}"\n'.replace(",", '","') for line in text.splitlines()).encode(),
    "mark and quotes": lambda text: "".join(f'"{line}"\n'.replace(",", '","') for line in text.splitlines()).encode(
        "utf-8-sig"
    ),
}


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("head", ["", "data_source,class\n"])
def test_lists_and_labels_are_read_as_editors_leave_them(
    case: str, head: str, training: Path, root: DataRoot, whole: DataRoot
) -> None:
    home = training.parent
    for path in (training / "RECORDS", home / "validation" / "RECORDS", home / "REFERENCE-v3.csv"):
        start = head if path.suffix == ".csv" else ""
        path.write_bytes(LISTS[case](start + path.read_text()))
    task, same = Cinc2017().load(root), Cinc2017().load(whole)
    assert task.notes == same.notes
    for mine, theirs in ((task.train, same.train), (task.val, same.val), (task.test, same.test)):
        assert mine.ids.equal(theirs.ids) and mine.y.equal(theirs.y) and mine.x.equal(theirs.x)


def test_another_header_row_is_refused(training: Path, root: DataRoot) -> None:
    path = training.parent / "REFERENCE-v3.csv"
    path.write_text(f"record,label\n{path.read_text()}")
    with pytest.raises(DataError, match=r"REFERENCE-v3.csv holds 'record,label'; expected a record and its label"):
        Cinc2017().load(root)


def test_a_line_without_end_is_no_csv(training: Path, root: DataRoot) -> None:
    (training.parent / "REFERENCE-v3.csv").write_text("A" * 200_000)
    with pytest.raises(DataError, match=r"^cinc2017: REFERENCE-v3.csv is no CSV file \(field larger"):
        Cinc2017().load(root)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("ending", rhythms.ENDINGS)
def test_a_missing_file_is_named_and_its_record_may_be_left_out(
    ending: str, listed: bool, training: Path, root: DataRoot
) -> None:
    (training / f"A00007{ending}").unlink()
    if not listed:
        (training / "RECORDS").unlink()
    with pytest.raises(DataError, match=rf"^cinc2017: A00007\{ending} is missing in .*skip_bad=true\)\.$"):
        Cinc2017().files(root)
    notes = Cinc2017(skip_bad=True).load(root).notes
    assert f"record A00007 left out, being without its file A00007{ending}" in notes


def test_a_file_that_leads_nowhere_may_be_left_out_with_its_record(training: Path, root: DataRoot) -> None:
    (training / "A00007.mat").unlink()
    (training / "A00007.mat").symlink_to(training / "gone.mat")
    assert "record A00007 left out, being without its file A00007.mat" in Cinc2017(skip_bad=True).load(root).notes


def test_a_labelled_record_without_files_is_named_where_nothing_lists_it(training: Path, root: DataRoot) -> None:
    (training / "RECORDS").unlink()
    for ending in rhythms.ENDINGS:
        (training / f"A00007{ending}").unlink()
    assert "records labelled but not here: A00007" in Cinc2017().load(root).notes
    for number in range(8, 17):
        for ending in rhythms.ENDINGS:
            (training / f"{name(number)}{ending}").unlink()
    more = ", ".join(map(name, range(7, 15)))
    assert f"records labelled but not here: {more}, ... (10 in all)" in Cinc2017().load(root).notes


def test_sound_records_are_the_same_whether_bad_ones_may_be_skipped(whole: DataRoot) -> None:
    strict, lenient = Cinc2017().load(whole), Cinc2017(skip_bad=True).load(whole)
    assert lenient.notes == strict.notes and lenient.train.x.equal(strict.train.x)


@pytest.mark.parametrize("left", range(0, 820, 41))
def test_a_file_cut_short_is_an_error(left: int, training: Path, root: DataRoot) -> None:
    file = training / "A00007.mat"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(DataError, match=r"^cinc2017: record A00007 is damaged.*\.$"):
        Cinc2017().load(root)


def test_checksum_and_initial_value_are_not_looked_at(training: Path, root: DataRoot) -> None:
    header = training / "A00007.hea"
    header.write_text(header.read_text().replace("-127 0 0", "999 77 0"))
    assert 7 in Cinc2017(seed=1).load(root).train.ids.tolist() + Cinc2017(seed=1).load(root).val.ids.tolist()


@pytest.mark.parametrize("text", ["", "100\n", "\xff\xfe"])
def test_a_list_of_records_that_is_none_is_an_error(text: str, training: Path, root: DataRoot) -> None:
    (training / "RECORDS").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"RECORDS (names|is empty).*\.$"):
        Cinc2017().load(root)


def test_a_validation_set_that_lists_a_record_twice_is_an_error_or_skipped(training: Path, root: DataRoot) -> None:
    (path,) = (path for path in training.parent.rglob("RECORDS") if path.parent.name == "validation")
    first = path.read_text().splitlines()[0]
    path.write_text(path.read_text().rstrip("\n") + f"\n{first}\n")
    with pytest.raises(
        DataError, match=rf"^cinc2017: record {first} is named 2 times in RECORDS of the validation set"
    ):
        Cinc2017().load(root)
    assert Cinc2017(skip_bad=True).load(root).test.ids.tolist().count(int(first[1:])) == 1


def test_labels_that_are_no_table_are_an_error(training: Path, root: DataRoot) -> None:
    relabel(training, "A00007;O")
    with pytest.raises(DataError, match=r"REFERENCE-v3.csv holds 'A00007;O'; expected a record and its label"):
        Cinc2017().load(root)


def test_labels_of_all_records_must_be_those_of_the_version(
    training: Path, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecgbench_plugins.datasets.cinc2017.RECORDS", 24)
    monkeypatch.setattr(rhythm_files, "COUNTS", {"v2": (6, 6, 6, 6)})
    with pytest.raises(DataError, match=r"REFERENCE-v3.csv holds labels v2; expected v3\."):
        Cinc2017(split="han").load(root)


def test_a_split_that_shares_a_recording_is_refused(
    training: Path, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 25):
        write(training, number, counts(number % 4))
    monkeypatch.setattr("ecgbench_plugins.datasets.cinc2017._single", lambda content, sound: sound)
    with pytest.raises(DataError, match="a test record equals a training record"):
        Cinc2017(split="han").load(root)


def test_a_split_without_test_records_is_an_error(training: Path, root: DataRoot) -> None:
    (training.parent / "validation" / "RECORDS").write_text("A08000\n")
    with pytest.raises(DataError, match="split=holdout leaves no record to test on"):
        Cinc2017().load(root)


RUN = ("run", "--model", "linear", "--defense", "none[epochs=1]", "--attack", "identity", "--eps", "0.1")


def test_a_run_may_skip_bad_records_and_names_them_in_the_record(training: Path, tmp_path: Path) -> None:
    (training / "A00007.hea").unlink()
    refused = ecgbench(tmp_path, *RUN, "--dataset", "cinc2017", ECGBENCH_DATA=str(tmp_path))
    assert refused.code == DataError.exit_code and "A00007.hea is missing" in sentence(refused)
    answer = ecgbench(
        tmp_path, *RUN, "--dataset", "cinc2017", "--skip-bad-records", "--json", ECGBENCH_DATA=str(tmp_path)
    )
    (record,) = answer.records
    assert record["dataset"] == "cinc2017[skip_bad=true]"
    assert "record A00007 left out, being without its file A00007.hea" in record["notes"]


@pytest.mark.parametrize("zipped", [True, False])
def test_the_path_of_the_recordings_is_the_folder_of_all_their_files(zipped: bool, tmp_path: Path) -> None:
    home = (unzipped if zipped else tree)(tmp_path).parent
    assert ecgbench(tmp_path, "data", "path", "cinc2017", ECGBENCH_DATA=str(tmp_path)).out == f"{home}\n"


def test_a_grid_may_skip_bad_records() -> None:
    cells = unfold((Grid(model=("linear",), attack=("identity",), dataset=("cinc2017",)),), discover())
    assert [cell.dataset for cell in skipping_bad(cells, discover())] == [Cinc2017(skip_bad=True)]


def test_bad_records_cannot_be_skipped_where_a_dataset_knows_no_such_thing(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, *RUN, "--dataset", "synthetic-beats", "--skip-bad-records")
    assert answer.code == EcgbenchError.exit_code
    assert "damaged recordings of synthetic-beats cannot be skipped" in sentence(answer)
