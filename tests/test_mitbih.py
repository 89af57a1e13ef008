"""MIT-BIH beats cut from small records of our own, whose beats are known in closed form."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgbench.dataroot import DataRoot
from ecgbench.errors import DataError, EcgbenchError
from ecgbench_plugins.datasets import beats, kaggle, mitbih
from ecgbench_plugins.datasets.mitbih import MitBih

SECOND = 360
ALL = "NLReAVF/Qj"  # one of every class and more


def write(folder: Path, name: str, peaks: Iterable[int], symbols: str, seconds: int = 60, mv: float = 1.0) -> None:
    """A record whose first channel is a cosine of 1 Hz and `mv` mV; the second is flat."""
    folder.mkdir(parents=True, exist_ok=True)
    time = np.arange(seconds * SECOND) / SECOND
    signal = np.stack([mv * np.cos(2 * np.pi * time), np.zeros_like(time)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb calls what pandas is about to drop
        import wfdb

        wfdb.wrsamp(
            name, fs=360, units=["mV"] * 2, sig_name=["MLII", "V1"], p_signal=signal, fmt=["212"] * 2,
            adc_gain=[200.0] * 2, baseline=[1024] * 2, write_dir=str(folder),
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


def cut(folder: Path, peaks: Iterable[int], symbols: str, mv: float = 1.0) -> np.ndarray:
    write(folder, "100", peaks, symbols, mv=mv)
    return beats.cut_all(folder, ["100"])


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
    with pytest.raises(DataError, match="record 100 is flat after the beat at sample 360"):
        cut(tmp_path, [360, 720], "NN", mv=0.0)


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
        monkeypatch.setattr(beats, "SOURCE", tmp_path / "RECORDS")
    else:
        write(tmp_path, "100", [360, 720], "NN", seconds=4)
    MitBih().load(root)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2


def test_missing_records_are_an_error_that_ends_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"or run: ecgbench data get mitbih$"):
        MitBih().load(DataRoot(tmp_path))


@pytest.mark.parametrize("ending", [".dat", ".hea", ".atr"])
def test_a_missing_file_of_a_record_is_named(ending: str, tmp_path: Path) -> None:
    (tree(tmp_path) / f"118{ending}").unlink()
    with pytest.raises(DataError, match=rf"118\{ending} is missing .*ecgbench data get mitbih$"):
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
    with pytest.raises(DataError, match=r"^record 118 is .*\.$"):
        MitBih().load(DataRoot(tmp_path))


def test_a_header_cut_anywhere_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    whole = cut(tmp_path, range(SECOND, 9 * SECOND, SECOND), "N" * 8)
    header = (tmp_path / "100.hea").read_bytes()
    for left in range(0, len(header), 6):
        (tmp_path / "100.hea").write_bytes(header[:left])
        with suppress(DataError):
            assert beats.cut_all(tmp_path, ["100"]).tobytes() == whole.tobytes()


@pytest.mark.parametrize("ending", [".dat", ".hea", ".atr"])
def test_a_file_of_noise_is_an_error_that_names_the_record(ending: str, tmp_path: Path) -> None:
    file = tree(tmp_path) / f"118{ending}"
    file.write_bytes(np.random.default_rng(0).bytes(file.stat().st_size))
    with pytest.raises(DataError, match=r"^record 118 is .*\.$"):
        MitBih().load(DataRoot(tmp_path))


def test_a_sample_that_is_not_a_number_is_an_error(tmp_path: Path) -> None:
    file = tree(tmp_path) / "118.dat"
    file.write_bytes(b"\x00\x08" + file.read_bytes()[2:])  # -2048, by which format 212 marks a lost sample
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
    with pytest.raises(DataError, match="record 118 is sampled at 250 Hz; expected 360 Hz"):
        MitBih().load(DataRoot(tmp_path))


def test_48_records_with_other_counts_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mitbih, "RECORDS", 3)
    with pytest.raises(DataError, match=r"beats of N, S, V, F, Q; expected \(90589, 2779, 7236, 803, 8039\)"):
        MitBih().load(DataRoot(tree(tmp_path)))


def rows(labels: Sequence[int], length: int = 100) -> np.ndarray:
    """Beats 1, ..., 1/length and their padding, with labels."""
    table = np.zeros((len(labels), 188))
    table[:, :length] = np.linspace(1, 1 / length, length)
    table[:, 187] = labels
    return table


def published(folder: Path) -> DataRoot:
    np.savetxt(folder / kaggle.FILES[0], rows([0] * 60 + [1] * 20 + [2, 3, 4] * 10), delimiter=",")
    np.savetxt(folder / kaggle.FILES[1], rows([0] * 12 + [1] * 4 + [2, 3, 4] * 2), delimiter=",")
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
    assert task.notes == ("intra-patient",) and task.skip_unpredicted


def test_the_published_files_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = published(tmp_path)
    first = MitBih(source="csv").load(root)
    monkeypatch.setattr(kaggle, "read", lambda path: np.zeros((0, 188), np.float32))
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
    (tmp_path / kaggle.FILES[1]).unlink()
    with pytest.raises(DataError, match=r"mitbih_test\.csv is missing .* set ECGBENCH_DATA"):
        MitBih(source="csv").load(root)


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
        ("", "expected rows of 187 samples"),
    ],
)
def test_a_row_that_is_no_beat_is_an_error_that_names_file_and_line(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "mitbih_train.csv").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=rf"^mitbih_train\.csv.*{fault}"):
        kaggle.read(tmp_path / "mitbih_train.csv")
