"""MIT-BIH beats cut from small records of our own, whose beats are known in closed form."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError, EcgbenchError
from ecgbench_plugins.datasets import beats, kaggle, mitbih
from ecgbench_plugins.datasets.mitbih import MitBih
from tests.command_line import ecgbench, sentence

SECOND = 360
ALL = "NLReAVF/Qj"  # one of every class and more


def write(
    folder: Path,
    name: str,
    peaks: Iterable[int],
    symbols: str,
    seconds: int = 60,
    mv: float = 1.0,
    leads: Sequence[str] = ("MLII", "V1"),
) -> None:
    """A record whose first channel is a cosine of 1 Hz and `mv` mV; the second is flat, a third one half as large."""
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(seconds * SECOND) / SECOND
    wave = mv * np.cos(2 * np.pi * time)
    signal = np.stack([wave, np.zeros_like(time), wave / 2], axis=1)[:, : len(leads)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb calls what pandas is about to drop
        import wfdb

        wfdb.wrsamp(
            name, fs=360, units=["mV"] * len(leads), sig_name=list(leads), p_signal=signal, fmt=["212"] * len(leads),
            adc_gain=[200.0] * len(leads), baseline=[1024] * len(leads), write_dir=str(folder),
        )  # fmt: skip
        wfdb.wrann(name, "atr", np.array(list(peaks)), np.array(list(symbols)), write_dir=str(folder))


def tree(folder: Path, names: Sequence[str] = ("101", "118", "100")) -> Path:
    """Records of a minute with a beat a second, of all classes in turn."""
    for name in names:
        write(folder, name, range(SECOND, 60 * SECOND, SECOND), (ALL * 6)[:59])
    (folder / "RECORDS").write_text("\n".join(names) + "\n")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    home = tmp_path_factory.mktemp("data")
    tree(home / "mitdb", ("100", "101", "102", "118", "201", "202"))
    return DataRoot(home, cache=home / "cache")


def read(folder: Path, lead: str | None = None) -> tuple[np.ndarray, np.void]:
    """The beats of record 100, and what is reported of it."""
    files = {path.name: path for path in folder.iterdir()}
    table, report = beats.cut_all(files, ["100"], lead)
    return table, report[0]


def cut(folder: Path, peaks: Iterable[int], symbols: str, mv: float = 1.0) -> np.ndarray:
    write(folder, "100", peaks, symbols, mv=mv)
    return read(folder)[0]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_beat_is_the_cosine_from_its_peak_for_six_fifths_of_the_period(tmp_path: Path) -> None:
    table = cut(tmp_path, range(SECOND, 11 * SECOND, SECOND), "N" * 10)
    expected = np.zeros(187)
    expected[:150] = (np.cos(2 * np.pi * np.arange(150) / 125) + 1) / 2
    assert set(table["length"]) == {150}
    np.testing.assert_allclose(table["x"], np.tile(expected, (9, 1)), atol=0.01)


@pytest.mark.parametrize("mv", [0.5, 2.0])
def test_every_beat_spans_0_to_1_and_its_scale_is_the_span_in_mv(mv: float, tmp_path: Path) -> None:
    table = cut(tmp_path, range(SECOND, 11 * SECOND, SECOND), "N" * 10, mv=mv)
    inside = np.arange(187) < table["length"][:, None]
    assert (np.where(inside, table["x"], 1).min(1) == 0).all()
    assert (table["x"].max(1) == 1).all()
    np.testing.assert_allclose(table["scale"], 2 * mv, atol=0.02)


def test_the_last_annotated_beat_is_dropped_and_other_marks_are_no_beats(tmp_path: Path) -> None:
    table = cut(tmp_path, range(SECOND, 8 * SECOND, SECOND), "+NV~AF|")
    assert "".join(beats.CLASSES[label] for label in table["label"]) == "NVS"


def test_symbols_become_the_classes_of_aami(tmp_path: Path) -> None:
    symbols = "NLRejAaJSVEF/fQ"
    table = cut(tmp_path, range(SECOND, 17 * SECOND, SECOND), symbols + "N")
    assert "".join(beats.CLASSES[label] for label in table["label"]) == "NNNNNSSSSVVFQQQ"


def test_the_period_is_the_median_inside_each_window_of_10_s() -> None:
    even, slow = np.arange(0, 3600, 360), 3600 + np.array([0, 180, 900, 1620, 2340])
    period = beats._period(np.concatenate([even, slow, [7300]]))
    assert period.tolist() == [360.0] * 10 + [720.0] * 5  # the second window has intervals 180, 720, 720, 720


def test_a_beat_alone_in_its_window_has_its_own_interval_as_period() -> None:
    assert beats._period(np.array([0, 360, 3700, 9000])).tolist() == [360.0, 360.0, 5300.0]


def test_a_beat_is_cut_at_187_samples_and_where_the_record_ends(tmp_path: Path) -> None:
    table = cut(tmp_path, [0, 2 * SECOND, 59 * SECOND + 180, 59 * SECOND + 350], "NNNN")
    assert table["length"].tolist() == [187, 187, 62]


def test_a_record_of_one_beat_gives_none(tmp_path: Path) -> None:
    assert len(cut(tmp_path, [360], "N")) == 0


def test_a_flat_beat_is_an_error_that_names_record_and_sample(tmp_path: Path) -> None:
    tree(tmp_path)
    write(tmp_path, "100", [360, 720], "NN", mv=0.0)
    with pytest.raises(DataError, match=r"^mitbih: record 100 is flat after the beat at sample 360; .*skip_bad=true"):
        MitBih().load(DataRoot(tmp_path))


def test_the_mask_is_false_on_the_padding_alone(whole: DataRoot) -> None:
    test = MitBih().load(whole).test
    assert test.x.shape == test.mask.shape == (len(test), 1, 187)
    assert test.mask[:, :, :150].all() and not test.mask[:, :, 150:].any()
    assert not test.x[~test.mask].any()


def test_the_random_split_takes_a_fifth_of_each_class_and_a_fifth_of_the_rest(whole: DataRoot) -> None:
    task = MitBih().load(whole)
    total = torch.cat([task.train.y, task.val.y, task.test.y]).bincount().tolist()
    assert task.test.y.bincount().tolist() == [round(n / 5) for n in total]
    assert task.val.y.bincount().tolist() == [round((n - round(n / 5)) / 5) for n in total]
    assert task.notes[0] == "intra-patient" and "only 6 of 48 records" in task.notes
    assert task.skip_unpredicted and task.physical == "mV" and task.rate == 125.0


def test_every_beat_is_in_one_part_of_the_random_split(whole: DataRoot) -> None:
    task = MitBih().load(whole)
    ids = torch.cat([task.train.ids, task.val.ids, task.test.ids])
    assert ids.sort().values.tolist() == list(range(6 * 58))


def test_the_draw_is_fixed_by_its_seed(whole: DataRoot) -> None:
    first, again, other = (MitBih(seed=seed).load(whole).test.ids.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_an_id_is_the_same_beat_in_both_splits(whole: DataRoot) -> None:
    drawn, by_patient = MitBih().load(whole).test, MitBih(split="inter-patient").load(whole).train
    both = sorted(set(drawn.ids.tolist()) & set(by_patient.ids.tolist()))
    assert both
    for id_ in both:
        mine, theirs = drawn[drawn.ids == id_], by_patient[by_patient.ids == id_]
        assert mine.x.equal(theirs.x) and mine.y.equal(theirs.y) and mine.group == theirs.group


def test_records_201_and_202_are_one_patient(whole: DataRoot) -> None:
    task = MitBih().load(whole)
    groups = torch.cat([task.train.group, task.val.group, task.test.group])  # type: ignore[list-item]
    assert groups.unique().tolist() == [100, 101, 102, 118, 201]
    assert (groups == 201).sum() == 2 * 58


def test_the_inter_patient_split_follows_the_lists_without_paced_beats_and_201(whole: DataRoot) -> None:
    task = MitBih(split="inter-patient").load(whole)
    assert task.classes == ("N", "S", "V", "F")
    groups = [part.group.unique().tolist() for part in (task.train, task.val, task.test)]  # type: ignore[union-attr]
    assert groups == [[101], [118], [100, 201]]
    assert task.test.weight.eq(1).all() and not task.skip_unpredicted
    assert task.notes[0] == "inter-patient"


def test_the_lists_of_the_inter_patient_split_are_44_records_but_201() -> None:
    lists = (*mitbih.TRAIN, *mitbih.VALIDATION, *mitbih.TEST)
    assert len(lists) == len(set(lists)) == 43
    assert not {102, 104, 107, 217, 201} & set(lists)


def test_the_inter_patient_split_needs_records_of_every_part(tmp_path: Path) -> None:
    tree(tmp_path, ("101", "100"))
    with pytest.raises(DataError, match=r"found no beats in any of the records \(118, 124"):
        MitBih(split="inter-patient").load(DataRoot(tmp_path))


@pytest.mark.parametrize("counts", [(7, 3, 7, 1), (10, 5, 2)])
def test_weights_are_those_of_the_published_tiling(counts: tuple[int, ...]) -> None:
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    tiled = torch.zeros(len(y))
    for label in range(len(counts)):
        rows = (y == label).nonzero().flatten().tolist()
        for row in (rows * (max(counts) // len(rows) + 1))[: max(counts)]:
            tiled[row] += 1
    assert mitbih._tiled(y).tolist() == tiled.tolist()


def test_the_random_split_counts_every_class_alike(whole: DataRoot) -> None:
    test = MitBih().load(whole).test
    sums = torch.zeros(5).index_add(0, test.y, test.weight)
    assert sums.tolist() == [sums[0]] * 5


@pytest.mark.parametrize(
    "layout",
    ["", "mitdb", "files/mitdb/1.0.0", "mit-bih-arrhythmia-database-1.0.0", "physionet.org/files/mitdb/1.0.0"],
)
def test_the_records_are_found_in_every_layout(layout: str, tmp_path: Path) -> None:
    tree(tmp_path / layout, ("100",))
    assert len(MitBih().load(DataRoot(tmp_path)).train)


def test_files_are_the_list_and_three_of_each_record(whole: DataRoot) -> None:
    files = MitBih().files(whole)
    assert list(files)[:4] == ["RECORDS", "100.dat", "100.hea", "100.atr"]
    assert len(files) == 1 + 3 * 6 and all(path.is_file() for path in files.values())


def test_a_second_load_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = DataRoot(tree(tmp_path), cache=tmp_path / "cache")
    first = MitBih().load(root)
    monkeypatch.setattr(beats, "cut_all", None)
    assert MitBih().load(root).train.x.equal(first.train.x)


@pytest.mark.parametrize("edited", ["recipe", "record"])
def test_an_edited_recipe_or_record_does_not_meet_the_old_cache(
    edited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = DataRoot(tree(tmp_path), cache=tmp_path / "cache")
    MitBih().load(root)
    if edited == "recipe":
        monkeypatch.setattr(beats, "SOURCES", {"recipe": tmp_path / "RECORDS"})
    else:
        write(tmp_path, "100", [360, 720], "NN", seconds=4)
    MitBih().load(root)
    assert len(list((tmp_path / "cache").rglob("mitbih-*.npy"))) == 2 * 2


def test_missing_records_are_an_error_that_ends_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"or run: ecgbench data get mitbih$"):
        MitBih().load(DataRoot(tmp_path))


@pytest.mark.parametrize("ending", [".dat", ".hea", ".atr"])
def test_a_missing_file_of_a_record_is_named(ending: str, tmp_path: Path) -> None:
    (tree(tmp_path) / f"118{ending}").unlink()
    with pytest.raises(DataError, match=rf"118\{ending} is missing .*ecgbench data get mitbih.*skip_bad=true\)\.$"):
        MitBih().files(DataRoot(tmp_path))


@pytest.mark.parametrize("text", ["", "A00001\n", "100\n100\n", "\xff\xfe"])
def test_a_list_of_records_that_is_none_is_an_error(text: str, tmp_path: Path) -> None:
    (tree(tmp_path) / "RECORDS").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"RECORDS (names|is empty).*each once"):
        MitBih().load(DataRoot(tmp_path))


@pytest.mark.parametrize("left", [0, 1, 50, 100, -2])
@pytest.mark.parametrize("ending", [".dat", ".atr"])
def test_a_file_cut_short_is_an_error_that_names_the_record(ending: str, left: int, tmp_path: Path) -> None:
    file = tree(tmp_path) / f"118{ending}"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(DataError, match=r"^mitbih: record 118 is .*skip_bad=true\)\.$"):
        MitBih().load(DataRoot(tmp_path))


def test_a_header_cut_anywhere_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    whole = cut(tmp_path, range(SECOND, 9 * SECOND, SECOND), "N" * 8)
    header = (tmp_path / "100.hea").read_bytes()
    for left in range(0, len(header), 6):
        (tmp_path / "100.hea").write_bytes(header[:left])
        table, report = read(tmp_path)
        assert report["fault"] or table.tobytes() == whole.tobytes()


@pytest.mark.parametrize("ending", [".dat", ".hea", ".atr"])
def test_a_file_of_noise_is_an_error_that_names_the_record(ending: str, tmp_path: Path) -> None:
    file = tree(tmp_path) / f"118{ending}"
    file.write_bytes(np.random.default_rng(0).bytes(file.stat().st_size))
    with pytest.raises(DataError, match=r"^mitbih: record 118 is .*skip_bad=true\)\.$"):
        MitBih().load(DataRoot(tmp_path))


def lose(folder: Path, name: str, *samples: int) -> None:
    """Puts in -2048, by which format 212 marks a lost sample, and lets the header state no checksum."""
    content = bytearray((folder / f"{name}.dat").read_bytes())
    for at in samples:
        content[3 * at : 3 * at + 2] = bytes([0, content[3 * at + 1] & 0xF0 | 0x08])
    (folder / f"{name}.dat").write_bytes(content)
    header = folder / f"{name}.hea"
    lines = [line.split() for line in header.read_text().splitlines()]
    header.write_text("\n".join(" ".join(line[:3] if len(line) > 5 else line) for line in lines))


def test_a_sample_that_is_not_a_number_is_an_error(tmp_path: Path) -> None:
    lose(tree(tmp_path), "118", 0)
    with pytest.raises(DataError, match=r"record 118 is damaged: sample 0 of 118\.dat is not a number"):
        MitBih().load(DataRoot(tmp_path))


def test_a_changed_sample_is_found_by_the_checksum(tmp_path: Path) -> None:
    file = tree(tmp_path) / "118.dat"
    file.write_bytes(file.read_bytes()[:300] + b"\x11" + file.read_bytes()[301:])
    with pytest.raises(DataError, match=r"118\.dat does not have the checksum stated in 118\.hea"):
        MitBih().load(DataRoot(tmp_path))


def test_another_sampling_rate_is_an_error(tmp_path: Path) -> None:
    file = tree(tmp_path) / "118.hea"
    file.write_text(file.read_text().replace("118 2 360", "118 2 250"))
    with pytest.raises(DataError, match=r"^mitbih: record 118 is sampled at 250 Hz; expected 360 Hz"):
        MitBih().load(DataRoot(tmp_path))


ONE = "100.dat 212 200.0(1024)/mV"  # as `write` states the first signal


@pytest.mark.parametrize("gain", ["0.2(1024)/uV", "200000(1024)/V", "2e-4(1024)/nV", "0.2(1024)/µV", "200(1024)/mV"])
def test_a_signal_is_the_same_whatever_voltage_its_gain_is_written_for(gain: str, tmp_path: Path) -> None:
    before = cut(tmp_path, range(SECOND, 11 * SECOND, SECOND), "N" * 10)
    edit(tmp_path / "100.hea", ONE, f"100.dat 212 {gain}")
    assert read(tmp_path)[0].tobytes() == before.tobytes()


@pytest.mark.parametrize("gain", ["200(1024)", "200", "0(1024)/mV", "0"])
def test_without_unit_it_is_mv_and_without_gain_200_for_1_mv(gain: str, tmp_path: Path) -> None:
    tree(tmp_path)
    before = MitBih().load(DataRoot(tmp_path))
    edit(tmp_path / "118.hea", "118.dat 212 200.0(1024)/mV 12 0", f"118.dat 212 {gain} 12 1024")
    after = MitBih().load(DataRoot(tmp_path))
    assert after.train.x.equal(before.train.x) and after.test.scale.equal(before.test.scale)
    note = "not calibrated, 200 counts taken for 1 mV: records 118"
    assert (note in after.notes) == gain.startswith("0") and note not in before.notes


@pytest.mark.parametrize("unit", ["mmHg", "adu", "NU", "MV"])
def test_a_unit_that_is_no_voltage_is_an_error_that_names_record_and_unit(unit: str, tmp_path: Path) -> None:
    edit(tree(tmp_path) / "118.hea", "/mV", f"/{unit}")
    with pytest.raises(DataError, match=rf"^mitbih: record 118 is stored in {unit}; expected V, mV, uV or nV; "):
        MitBih().load(DataRoot(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "# exported\n" + text,
        lambda text: "\n\n" + text,
        lambda text: "\ufeff" + text,
        lambda text: "\ufeff# Gerät\n\n" + text.replace("\n", "\n# between\n \n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace("100 2 360 21600", "100 2 360/360(0) 21600 11:05:15 1/05/2000"),
        lambda text: text.replace("100 2 360 21600", "100 2 360"),
        lambda text: text + "# 69 M 1085 1629 x1\n# Aldomet, Inderal\n",
    ],
)
def test_a_header_is_read_by_the_rules_of_its_format(change: Callable[[str], str], tmp_path: Path) -> None:
    before = cut(tmp_path, range(SECOND, 11 * SECOND, SECOND), "N" * 10)
    header = tmp_path / "100.hea"
    after = change(header.read_text())
    assert after != header.read_text()
    header.write_bytes(after.encode())
    table, report = read(tmp_path)
    assert table.tobytes() == before.tobytes() and report["lead"] == b"MLII"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("118 2 360", "118/2 2 360", "split into 2 segments"),
        ("118 2 360", "118 0 360", "damaged: 118.hea describes no signal"),
        ("118 2 360", "118 3 360", "damaged: 118.hea states 3 signals and describes 2"),
        ("118 2 360 21600", "118 2 360 0", "damaged"),
        ("118.dat 212", "119.dat 212", "stored in 119.dat; expected its signals in 118.dat"),
        ("118.dat 212", "118.dat 212x2", "stored with 2 samples a frame and a skew of 0; expected 1 and 0"),
        ("118.dat 212", "118.dat 212:5", "stored with 1 samples a frame and a skew of 5; expected 1 and 0"),
        ("118.dat 212", "118.dat 999", "damaged or cut short: wfdb cannot read its files"),
    ],
)
def test_a_header_of_what_is_not_read_is_an_error(old: str, new: str, fault: str, tmp_path: Path) -> None:
    edit(tree(tmp_path) / "118.hea", old, new)
    with pytest.raises(DataError, match=rf"^mitbih: record 118 is {fault}.*skip_bad=true\)\.$"):
        MitBih().load(DataRoot(tmp_path))
    notes = MitBih(skip_bad=True).load(DataRoot(tmp_path)).notes
    assert any(note.startswith(f"record 118 left out, being {fault}") for note in notes)


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf101\n118\n100\n", b"101\r\n118\r\n\r\n100\r\n\r\n", b" 101 \n\n118\t\n100",
                "101\n118\n100".encode("utf-16")]
)  # fmt: skip
def test_a_list_of_records_is_read_as_editors_leave_it(content: bytes, tmp_path: Path) -> None:
    (tree(tmp_path) / "RECORDS").write_bytes(content)
    assert "only 3 of 48 records" in MitBih().load(DataRoot(tmp_path)).notes


def test_without_a_list_every_record_with_a_header_counts(tmp_path: Path) -> None:
    folder = tree(tmp_path / "mitdb")
    before = MitBih().load(DataRoot(tmp_path))
    (folder / "RECORDS").unlink()
    (folder / "x_100.hea").touch()
    after = MitBih().load(DataRoot(tmp_path))
    assert after.notes == before.notes and len(after.train) == len(before.train)


def test_a_record_that_is_listed_twice_may_be_read_once(tmp_path: Path) -> None:
    (tree(tmp_path) / "RECORDS").write_text("101\n118\n100\n118\n")
    with pytest.raises(DataError, match="RECORDS names '118' twice"):
        MitBih().load(DataRoot(tmp_path))
    task = MitBih(skip_bad=True).load(DataRoot(tmp_path))
    assert "record 118 is listed twice, and read once" in task.notes
    assert sum(map(len, (task.train, task.val, task.test))) == 3 * 58


MIXED = {"100": ("MLII", "V1", "V5"), "101": ("V5", "V1", "MLII"), "118": ("MLII", "V1", "V2"), "124": ("V5", "V2")}


@pytest.fixture
def mixed(tmp_path: Path) -> DataRoot:
    for name, leads in MIXED.items():
        write(tmp_path, name, range(SECOND, 60 * SECOND, SECOND), (ALL * 6)[:59], leads=leads)
    (tmp_path / "RECORDS").write_text("\n".join(MIXED))
    return DataRoot(tmp_path)


def scales(task: Task) -> dict[int, float]:
    """The span of the beats of each record in mV: 2 of a first signal, 1 of a third."""
    parts = (task.train, task.val, task.test)
    group = torch.cat([part.group for part in parts])  # type: ignore[misc]
    scale = torch.cat([part.scale for part in parts])
    return {int(record): round(float(scale[group == record].mean())) for record in group.unique()}


def test_the_first_signal_is_read_and_named_where_it_is_not_mlii(mixed: DataRoot) -> None:
    task = MitBih().load(mixed)
    assert scales(task) == {100: 2, 101: 2, 118: 2, 124: 2}
    assert "first signal of each record: MLII, but V5 in 101 and 124" in task.notes


def test_of_records_whose_first_signal_is_mlii_the_notes_say_so(whole: DataRoot) -> None:
    assert "first signal of each record: MLII" in MitBih().load(whole).notes


@pytest.mark.parametrize("name", ["MLII", "mlii"])
def test_a_lead_is_read_by_its_name_and_records_without_it_are_named(name: str, mixed: DataRoot) -> None:
    task = MitBih(lead=name).load(mixed)
    assert scales(task) == {100: 2, 101: 1, 118: 2}
    assert f"records without lead {name} left out: V5, V2 in 124" in task.notes
    assert "only 3 of 48 records" in task.notes and not any("first signal" in note for note in task.notes)


def test_a_lead_that_no_record_has_is_an_error_with_the_nearest_name(mixed: DataRoot) -> None:
    with pytest.raises(DataError, match=r"^mitbih: no record has a lead 'MLI'; did you mean 'MLII'\?$"):
        MitBih(lead="MLI").load(mixed)
    with pytest.raises(DataError, match=r"no record has a lead 'aVR'; known: MLII, V1, V2, V5\.$"):
        MitBih(lead="aVR", skip_bad=True).load(mixed)


def test_leads_do_not_meet_in_the_cache(mixed: DataRoot, tmp_path: Path) -> None:
    root = replace(mixed, cache=tmp_path / "cache")
    first, third = MitBih().load(root), MitBih(lead="MLII").load(root)
    assert scales(first)[101] == 2 and scales(third)[101] == 1
    assert scales(MitBih().load(root))[101] == 2


def test_a_signal_without_a_name_is_read_as_the_first(tmp_path: Path) -> None:
    folder = tree(tmp_path)
    for name in ("101", "118", "100"):
        edit(folder / f"{name}.hea", " MLII", "")
    notes = MitBih().load(DataRoot(tmp_path)).notes
    assert "first signal of each record: MLII, but unnamed in 101, 118 and 100" in notes


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no signals": (lambda at: (at / "118.dat").unlink(), "without its file 118.dat"),
    "no header": (lambda at: (at / "118.hea").unlink(), "without its file 118.hea"),
    "no marks": (lambda at: (at / "118.atr").unlink(), "without its file 118.atr"),
    "cut": (lambda at: (at / "118.dat").write_bytes(bytes(99)), "damaged or cut short: wfdb cannot read its files"),
    "cut marks": (
        lambda at: (at / "118.atr").write_bytes((at / "118.atr").read_bytes()[:-2]),
        "damaged: 118.atr stops before its end mark",
    ),
    "checksum": (
        lambda at: (at / "118.dat").write_bytes(b"\x11" + (at / "118.dat").read_bytes()[1:]),
        "damaged: 118.dat does not have the checksum stated in 118.hea",
    ),
    "beyond": (
        lambda at: write(at, "118", [360, 60 * SECOND + 7], "NN", seconds=60),
        "damaged: 118.atr marks sample 21607 of 21600",
    ),
    "rate": (lambda at: edit(at / "118.hea", "118 2 360", "118 2 250"), "sampled at 250 Hz; expected 360 Hz"),
    "unit": (lambda at: edit(at / "118.hea", "/mV", "/mmHg"), "stored in mmHg; expected V, mV, uV or nV"),
    "lost": (lambda at: lose(at, "118", *range(60 * SECOND)), "damaged: no sample of 118.dat is a number"),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_record_is_an_error_that_names_it_and_may_be_left_out(case: str, tmp_path: Path) -> None:
    damage, fault = DAMAGES[case]
    damage(tree(tmp_path))
    with pytest.raises(DataError, match=r"^mitbih: .*118.*skip_bad=true\)\.$"):
        MitBih().load(DataRoot(tmp_path))
    task = MitBih(skip_bad=True).load(DataRoot(tmp_path))
    (note,) = (note for note in task.notes if note.startswith("record "))
    assert note.startswith(f"record 118 left out, being {fault}") and str(tmp_path) not in note
    assert "only 2 of 48 records" in task.notes and set(scales(task)) == {100, 101}
    assert "2 beats left out, the last of each record, as in the published rows" in task.notes


def test_marks_that_are_not_in_order_are_an_error(tmp_path: Path) -> None:
    beat, skip = 1 << 10, 59 << 10  # annotation(5): N, and a skip of -360 samples before the second N
    words = np.array([beat | 720, skip, 0xFFFF, 0x10000 - 360, beat, 0], "<u2")
    (tree(tmp_path) / "118.atr").write_bytes(words.tobytes())
    with pytest.raises(DataError, match=r"record 118 is damaged: 118\.atr marks samples that are not in order"):
        MitBih().load(DataRoot(tmp_path))


def test_no_path_of_this_machine_stands_in_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wfdb

    real = wfdb.rdrecord

    def gone(path: str, **how: object) -> object:
        if path.endswith("118"):
            raise OSError(f"{path}.dat is gone")
        return real(path, **how)

    monkeypatch.setattr(wfdb, "rdrecord", gone)
    notes = MitBih(skip_bad=True).load(DataRoot(tree(tmp_path))).notes
    fault = "damaged or cut short: wfdb cannot read its files (OSError: /118.dat is gone)"
    assert f"record 118 left out, being {fault}" in notes


def test_records_that_are_all_damaged_leave_nothing_to_train_on(tmp_path: Path) -> None:
    for path in tree(tmp_path).glob("*.dat"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="split=random leaves no beat to train on"):
        MitBih(skip_bad=True).load(DataRoot(tmp_path))


def test_flat_beats_may_be_left_out_and_are_counted(tmp_path: Path) -> None:
    tree(tmp_path)
    write(tmp_path, "118", [360, 720, 1080], "NNN", mv=0.0)
    task = MitBih(skip_bad=True).load(DataRoot(tmp_path))
    assert "2 beats of record 118 left out, being flat" in task.notes
    assert 118 not in scales(task) and sum(map(len, (task.train, task.val, task.test))) == 2 * 58


def test_beats_on_lost_samples_may_be_left_out_and_the_others_are_as_before(tmp_path: Path) -> None:
    peaks = range(SECOND, 31 * SECOND, SECOND)
    before = cut(tmp_path, peaks, "N" * 30)
    lose(tmp_path, "100", 5 * SECOND + 100, 5 * SECOND + 101, 20 * SECOND + 180)
    after, report = read(tmp_path)
    gone = [k for k in range(29) if any(_reached(peaks[k], at) for at in (5 * SECOND + 100, 20 * SECOND + 180))]
    assert after.tobytes() == np.delete(before, gone).tobytes()
    assert (report["lost"], report["flat"], report["beats"]) == (len(gone), 0, 29 - len(gone))


def _reached(peak: int, lost: int) -> bool:
    """Whether resampling by a filter of 28.8 samples to each side smears a lost sample into the beat of 432."""
    return peak - 29 <= lost <= peak + 432 + 29


def test_beats_of_no_class_are_left_out_and_counted(tmp_path: Path) -> None:
    tree(tmp_path)
    write(tmp_path, "118", range(SECOND, 9 * SECOND, SECOND), "NBrn?+~N")
    task = MitBih().load(DataRoot(tmp_path))
    assert "4 beats of record 118 left out, being of no class (B, n, r or ?)" in task.notes
    assert sum(map(len, (task.train, task.val, task.test))) == 2 * 58 + 1


def test_every_beat_that_is_not_there_as_a_whole_is_counted(tmp_path: Path) -> None:
    write(tmp_path, "100", [0, 2 * SECOND, 59 * SECOND + 180, 59 * SECOND + 350], "NNNN")
    _, report = read(tmp_path)
    assert [int(report[name]) for name in ("beats", "last", "ended", "long")] == [3, 1, 1, 2]


def test_what_is_cut_and_left_out_stands_in_the_notes(tmp_path: Path) -> None:
    tree(tmp_path)
    write(tmp_path, "118", [0, 2 * SECOND, 59 * SECOND + 180, 59 * SECOND + 350], "NNNN")
    notes = MitBih().load(DataRoot(tmp_path)).notes
    assert {
        "3 beats left out, the last of each record, as in the published rows",
        "1 beat cut where the record ends, in 118",
        "2 of 119 beats cut at 187 samples",
    } < set(notes)


def test_the_inter_patient_split_names_the_beats_it_has_no_class_for_and_the_records_it_has_no_part_for(
    whole: DataRoot,
) -> None:
    notes = MitBih(split="inter-patient").load(whole).notes
    q = (ALL * 6)[:58].count("/") + (ALL * 6)[:58].count("Q")
    assert f"{4 * q} beats of class Q left out" in notes  # of 100, 101, 118 and 202
    assert "records of neither DS1 nor DS2 left out: 102" in notes


def test_a_run_may_skip_bad_records_and_names_them_in_the_record(tmp_path: Path) -> None:
    (tree(tmp_path / "mitdb") / "118.atr").unlink()
    run = ("run", "--model", "linear", "--defense", "none[epochs=1]", "--attack", "identity", "--eps", "0.1")
    data = str(tmp_path)
    refused = ecgbench(tmp_path, *run, "--dataset", "mitbih", ECGBENCH_DATA=data)
    assert refused.code == DataError.exit_code and "118.atr is missing" in sentence(refused)
    answer = ecgbench(tmp_path, *run, "--dataset", "mitbih", "--skip-bad-records", "--json", ECGBENCH_DATA=data)
    (record,) = answer.records
    assert record["dataset"] == "mitbih[skip_bad=true]"
    assert "record 118 left out, being without its file 118.atr" in record["notes"]


def test_48_records_with_other_counts_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mitbih, "RECORDS", 3)
    with pytest.raises(DataError, match=r"beats of N, S, V, F, Q; expected \(90589, 2779, 7236, 803, 8039\)"):
        MitBih().load(DataRoot(tree(tmp_path)))


@pytest.mark.parametrize("left", ["a record", "a beat", "a lead"])
def test_48_records_of_which_something_is_left_out_may_have_other_counts(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mitbih, "RECORDS", 4)
    folder = tree(tmp_path, ("101", "118", "100", "124"))
    if left == "a record":
        (folder / "124.dat").write_bytes(b"")
    elif left == "a beat":
        write(folder, "124", [360, 720], "NN", mv=0.0)
    else:
        write(folder, "124", [360, 720], "NN", leads=("V5",))
    task = MitBih(skip_bad=True, lead="MLII").load(DataRoot(tmp_path))
    assert sum(map(len, (task.train, task.val, task.test))) == 3 * 58


def rows(labels: Sequence[int], length: int = 100) -> np.ndarray:
    """Beats 1, ..., 1/length and their padding, with labels."""
    table = np.zeros((len(labels), 188))
    table[:, :length] = np.linspace(1, 1 / length, length)
    table[:, 187] = labels
    return table


def published(folder: Path) -> DataRoot:
    np.savetxt(folder / "mitbih_train.csv", rows([0] * 60 + [1] * 20 + [2, 3, 4] * 10), delimiter=",")
    np.savetxt(folder / "mitbih_test.csv", rows([0] * 12 + [1] * 4 + [2, 3, 4] * 2), delimiter=",")
    return DataRoot(folder, cache=folder / "cache")


def test_the_published_files_keep_their_test_rows_in_order(tmp_path: Path) -> None:
    test = MitBih(source="csv").load(published(tmp_path)).test
    assert test.y.tolist() == [0] * 12 + [1] * 4 + [2, 3, 4] * 2
    assert test.ids.tolist() == list(range(110, 132))
    assert test.weight.tolist() == [1.0] * 12 + [3.0] * 4 + [6.0] * 6


def test_the_published_files_validate_on_the_fifth_that_the_study_drew(tmp_path: Path) -> None:
    task = MitBih(source="csv").load(published(tmp_path))
    order = np.arange(110)
    np.random.RandomState(0).shuffle(order)
    assert sorted(order[88:]) == task.val.ids.tolist()
    assert sorted(order[:88]) == task.train.ids.tolist()


def test_the_published_files_know_padding_but_no_patient_and_no_mv(tmp_path: Path) -> None:
    task = MitBih(source="csv").load(published(tmp_path))
    assert task.test.mask[:, 0].sum(1).tolist() == [100] * 22
    assert task.test.group is None and task.physical is None
    assert task.notes == (
        "intra-patient",
        "mitbih_train.csv: 110 rows; published are 87554",
        "mitbih_test.csv: 22 rows; published are 21892",
    )
    assert task.skip_unpredicted


def test_the_published_files_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = published(tmp_path)
    first = MitBih(source="csv").load(root)
    monkeypatch.setattr(kaggle, "read", lambda path: pytest.fail("read again"))
    assert MitBih(source="csv").load(root).test.x.equal(first.test.x)


def test_the_published_files_have_no_patients_to_split_by() -> None:
    with pytest.raises(EcgbenchError, match="split=inter-patient needs source=wfdb"):
        MitBih(source="csv", split="inter-patient")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_an_error(seed: int) -> None:
    with pytest.raises(EcgbenchError, match="expected 0 to"):
        MitBih(seed=seed)


def test_a_missing_published_file_is_named(tmp_path: Path) -> None:
    root = published(tmp_path)
    (tmp_path / "mitbih_test.csv").unlink()
    with pytest.raises(DataError, match=r"mitbih_test\.csv is missing .* set ECGBENCH_DATA"):
        MitBih(source="csv").load(root)


@pytest.mark.parametrize("layout", ["", "mitbih", "heartbeat", "ecg-heartbeat-categorization", "archive"])
def test_the_published_files_are_found_in_every_layout(layout: str, tmp_path: Path) -> None:
    (tmp_path / layout).mkdir(exist_ok=True)
    published(tmp_path / layout)
    assert len(MitBih(source="csv").load(DataRoot(tmp_path)).test) == 22


FORMS: dict[str, Callable[[str], str]] = {
    "mark": lambda text: "\ufeff" + text,
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "blank lines": lambda text: f"\n{text}\n\n",
    "lines of blanks": lambda text: f"{text} \n\t\n",
    "spaces": lambda text: text.replace(",", " , "),
    "quotes": lambda text: '"' + text.rstrip().replace(",", '","').replace("\n", '"\n"') + '"',
    "quotes and lines of blanks": lambda text: '"' + text.rstrip().replace(",", '","').replace("\n", '"\n"') + '"\n  ',
    "no end": str.rstrip,
}


@pytest.mark.parametrize("case", FORMS)
def test_the_published_files_are_read_as_editors_leave_them(case: str, tmp_path: Path) -> None:
    before = MitBih(source="csv").load(replace(published(tmp_path), cache=None))
    for path in tmp_path.glob("*.csv"):
        path.write_bytes(FORMS[case](path.read_text()).encode())
    after = MitBih(source="csv").load(DataRoot(tmp_path))
    assert after.notes == before.notes
    assert after.train.x.equal(before.train.x) and after.test.y.equal(before.test.y)


@given(st.lists(st.floats(0, 1), min_size=187, max_size=187), st.sampled_from(["%.18e", "%r", "%.3f"]))
@settings(max_examples=30, deadline=None)
def test_a_row_is_the_same_numbers_alone_and_among_others(samples: list[float], form: str) -> None:
    cells = [form % value for value in samples]
    at_once = np.loadtxt([",".join([*cells, "1"])], np.float32, delimiter=",", ndmin=2)
    row = kaggle._row(",".join([*cells, "1"]))
    assert not isinstance(row, str) and row.tobytes() == at_once[0].tobytes()


def test_bad_rows_may_be_left_out_and_are_counted(tmp_path: Path) -> None:
    root = published(tmp_path)
    path = tmp_path / "mitbih_test.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["a," * 187 + "label", *lines[:2], lines[2] + ",1", *lines[3:]]))
    with pytest.raises(
        DataError, match=r"^mitbih: mitbih_test.csv, line 1: text where a number should be; .*=true\)\.$"
    ):
        MitBih(source="csv").load(root)
    task = MitBih(source="csv", skip_bad=True).load(root)
    assert len(task.test) == 21 and "mitbih_test.csv: 21 rows; published are 21892" in task.notes
    assert (
        "mitbih_test.csv: 2 rows left out, the first in line 1: "
        "text where a number should be; expected no header row" in task.notes
    )


def test_the_published_files_name_no_leads() -> None:
    with pytest.raises(EcgbenchError, match="name no leads; lead=V1 needs source=wfdb"):
        MitBih(source="csv", lead="V1")


LINE = ",".join(["0.5"] * 187)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (",".join(map(str, range(188))) + f"\n{LINE},1\n", "line 1: expected samples in 0..1"),
        ("a," * 187 + f"label\n{LINE},1\n", "line 1: text where a number should be"),
        (f"{LINE},1\n{LINE}\n", "line 2: 187 columns; expected 187 samples and a label"),
        (f"{LINE}\n{LINE}\n", "line 1: 187 columns"),
        (f"{LINE},1\n\n{LINE},5\n", "line 3: expected samples in 0..1 and a label in 0..4"),
        (f"{LINE},1\n{LINE},1.5\n", "line 2: expected"),
        (f"{LINE},1\nnan{LINE[3:]},1\n", "line 2: expected samples in 0..1"),
        (f"{LINE},1\n\xff\n", "line 2: 1 columns"),
        ("", "line 1: empty; expected rows of 187 samples"),
    ],
)
def test_a_row_that_is_no_beat_is_an_error_that_names_file_and_line(text: str, fault: str, tmp_path: Path) -> None:
    root = published(tmp_path)
    (tmp_path / "mitbih_train.csv").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=rf"^mitbih: mitbih_train\.csv, {fault}.*skip_bad=true\)\.$"):
        MitBih(source="csv").load(root)
