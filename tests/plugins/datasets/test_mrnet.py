"""MRNet's tree, made of volumes of our own: read as it lies, padded and decoded exam by exam, faults by name."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError, EcgbenchError
from ecgbench.core.signals import ByteSignals
from ecgbench.testing import check_dataset
from ecgbench_plugins.datasets.mrnet import STUDY, MRNet, datasets

TRAIN, VALID = 12, 4
PLANES = ("axial", "coronal", "sagittal")


def volume(exam: int, plane: str) -> np.ndarray:
    """1 to 3 slices of noise, other for each exam and plane."""
    draw = np.random.default_rng((exam, PLANES.index(plane)))
    return draw.integers(0, 256, (1 + exam % 3, 256, 256), dtype=np.uint8)


def tree(home: Path) -> Path:
    base = home / "MRNet-v1.0"
    for part, exams in (("train", range(TRAIN)), ("valid", range(TRAIN, TRAIN + VALID))):
        for plane in PLANES:
            (base / part / plane).mkdir(parents=True)
            for exam in exams:
                np.save(base / part / plane / f"{exam:04d}.npy", volume(exam, plane))
        for number, task in enumerate(("abnormal", "acl", "meniscus"), 2):
            (base / f"{part}-{task}.csv").write_text(
                "".join(f"{exam:04d},{int(exam % number == 0)}\n" for exam in exams)
            )
    return base


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    home = tmp_path_factory.mktemp("knees")
    tree(home)
    return DataRoot(home)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tree(tmp_path)


def test_the_hook_offers_the_set_and_the_kit_has_nothing_to_say(whole: DataRoot) -> None:
    assert datasets() == {"mrnet": MRNet()}
    check_dataset(MRNet(), whole)
    check_dataset(MRNet(plane="axial", task="acl", channels=3), whole)


@pytest.mark.parametrize("plane", PLANES)
def test_volumes_are_what_the_files_hold(whole: DataRoot, plane: str) -> None:
    task = MRNet(plane=plane).load(whole)  # type: ignore[arg-type]
    assert task.shape == (3, 1, 256, 256) and task.bounds == (0.0, 1.0)
    for samples in (task.train, task.val, task.test):
        for row in range(len(samples)):
            one = samples[row : row + 1]
            given = volume(int(one.ids), plane)
            assert torch.equal(one.x[0, : len(given), 0], torch.from_numpy(given.astype(np.float32) / np.float32(255)))
            assert not one.x[0, len(given) :].any() and not one.mask[0, len(given) :].any()
            assert one.mask[0, : len(given)].all() and int(one.lengths) == len(given)  # type: ignore[arg-type]
    every = torch.cat([samples.ids for samples in (task.train, task.val, task.test)])
    assert every.sort().values.tolist() == list(range(TRAIN + VALID))


def test_labels_are_those_of_the_task(whole: DataRoot) -> None:
    for number, name in enumerate(("abnormal", "acl", "meniscus"), 2):
        task = MRNet(task=name).load(whole)  # type: ignore[arg-type]
        for samples in (task.train, task.val, task.test):
            assert torch.equal(samples.y, (samples.ids % number == 0).long())


def test_validation_is_drawn_from_train_in_each_class_and_the_test_set_is_valid(whole: DataRoot) -> None:
    drawn = [MRNet(seed=seed).load(whole) for seed in (0, 1)]
    for task in drawn:
        assert task.val.y.bincount().tolist() == [1, 1] and len(task.train) == TRAIN - 2
        assert task.test.ids.tolist() == list(range(TRAIN, TRAIN + VALID))
        assert task.val.ids.max() < TRAIN
    assert drawn[0].val.ids.tolist() != drawn[1].val.ids.tolist()


def test_the_studys_split_chooses_and_tests_on_the_same_exams_and_says_so(whole: DataRoot) -> None:
    task = MRNet(split="study").load(whole)
    assert task.val.ids.tolist() == task.test.ids.tolist() and len(task.train) == TRAIN and STUDY in task.notes


def test_all_planes_are_the_three_series_side_by_side(whole: DataRoot, base: Path) -> None:
    check_dataset(MRNet(plane="all"), whole)
    task = MRNet(plane="all", channels=3).load(whole)
    assert task.shape == (3, 3, 3, 256, 256) and task.notes[0] == "axial and coronal and sagittal series, task abnormal"
    for number, plane in enumerate(PLANES):
        alone = MRNet(plane=plane, channels=3).load(whole).test[:]  # type: ignore[arg-type]
        assert torch.equal(task.test[:].x[:, :, number], alone.x) and torch.equal(task.test.ids, alone.ids)
    names = {part.split("/")[1] for part in MRNet(plane="all").files(whole) if "/" in part}
    assert names == set(PLANES)
    (base / "train" / "axial" / "0003.npy").unlink()
    MRNet().load(DataRoot(base.parent))
    with pytest.raises(DataError, match="exam 0003 has no volume in train/axial"):
        MRNet(plane="all").load(DataRoot(base.parent))


def test_series_of_one_exam_may_differ_in_length(base: Path) -> None:
    np.save(base / "valid" / "axial" / f"{TRAIN:04d}.npy", volume(2, "axial"))
    one = MRNet(plane="all").load(DataRoot(base.parent)).test[:1]
    assert one.mask[0, :, :, 0, 0, 0].sum(0).tolist() == [3, 1 + TRAIN % 3, 1 + TRAIN % 3]
    assert int(one.lengths) == 3 and not one.x[~one.mask.expand_as(one.x)].any()  # type: ignore[arg-type]


def test_three_channels_are_equal(whole: DataRoot) -> None:
    one, three = (MRNet(channels=channels).load(whole).test[:2].x for channels in (1, 3))
    assert three.shape == (2, 3, 3, 256, 256) and torch.equal(three, one.expand_as(three))


def test_an_exam_is_mapped_when_it_is_taken_and_cannot_be_written(whole: DataRoot) -> None:
    signals = MRNet().load(whole).test.signals
    assert isinstance(signals, ByteSignals)
    array = signals.arrays[0]
    assert array.dtype == np.uint8 and not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_eps_in_standard_deviations_is_that_of_standardised_input(whole: DataRoot) -> None:
    task = MRNet().load(whole)
    threat = replace(MRNet.defaults.threat, unit="SD")
    threat.check(task.physical, task.classes)
    ball = threat.ball(task.test[:2], 0.01, task.bounds)
    torch.testing.assert_close(ball.eps.flatten(), torch.full((2,), 0.01 * 49.73 / 255))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
def test_whole_numbers_of_another_type_are_read_as_8_bits(base: Path, kind: type) -> None:
    path = base / "valid" / "sagittal" / f"{TRAIN:04d}.npy"
    np.save(path, volume(TRAIN, "sagittal").astype(kind))
    one = MRNet().load(DataRoot(base.parent)).test[:1]
    length = int(one.lengths)  # type: ignore[arg-type]
    assert torch.equal((one.x[0, :length, 0] * 255).round().byte(), torch.from_numpy(volume(TRAIN, "sagittal")))


# what is broken


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]


def saved(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, array, allow_pickle=True)


SHAPE = "{{'descr': '|u1', 'fortran_order': False, 'shape': ({}, 256, 256)}}"


def headed(text: str) -> Callable[[Path], object]:
    """A file whose header is `text`."""
    header = text.encode() + b"\n"
    return lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (saved(np.zeros((3, 256, 255), np.uint8)), "has the shape (3, 256, 255); expected slices of 256 x 256."),
        (saved(np.zeros((256, 256), np.uint8)), "has the shape (256, 256); expected slices of 256 x 256."),
        (saved(np.zeros((0, 256, 256), np.uint8)), "has 0 slices; expected 1 to 512."),
        (saved(np.full((2, 256, 256), 255.5)), "holds float64 that are no whole numbers of 0 to 255; expected 8 bits."),
        (saved(np.full((2, 256, 256), 256.0)), "holds float64 that are no whole numbers of 0 to 255"),
        (saved(np.full((2, 256, 256), -1, np.int16)), "holds int16 that are no whole numbers of 0 to 255"),
        (saved(np.full((2, 256, 256), np.nan, np.float32)), "holds float32 that are no whole numbers of 0 to 255"),
        (saved(np.zeros((2, 256, 256), complex)), "is of type complex128; expected 8 bits."),
        (saved(np.array([Bomb()], object)), "cannot be read (it holds Python objects); expected a .npy of 8 bits."),
        (lambda path: path.write_bytes(pickle.dumps(Bomb())), "cannot be read (it is a pickle of Python objects)"),
        (lambda path: path.write_bytes(b"<html>not found"), "cannot be read (it begins with b'<html>')"),
        (lambda path: path.write_bytes(b""), "cannot be read (it begins with b'')"),
        (lambda path: path.write_bytes(path.read_bytes()[:-999]), "cannot be read (cut short, or no array)"),
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "cannot be read (cut short, or no array)"),
        (lambda path: path.write_bytes(path.read_bytes() + b"more"), "has 4 bytes behind its 1 slices; expected none."),
        (headed(SHAPE.format("-1")), "cannot be read (cut short, or no array)"),
        (headed(SHAPE.format("True")), "cannot be read (cut short, or no array)"),
        (headed(SHAPE.format(2**62)), "cannot be read (cut short, or no array)"),
        (headed("(" * 9000), "cannot be read (cut short, or no array)"),
        (headed("__import__('pathlib').Path('executed').touch()"), "cannot be read (cut short, or no array)"),
        (replaced_by_a_folder, "cannot be read (Is a directory)"),
        (lambda path: path.unlink(), "exam 0003 has no volume in train/sagittal; expected one of each."),
    ],
)
def test_a_volume_that_is_none_is_refused_by_the_name_of_its_exam(
    base: Path, spoil: Callable[[Path], object], fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(base / "train" / "sagittal" / "0003.npy")
    with pytest.raises(DataError, match=re.escape(fault)) as caught:
        MRNet().load(DataRoot(base.parent))
    assert "exam 0003" in str(caught.value) and not Path("executed").exists()
    assert str(MRNet(plane="axial").load(DataRoot(base.parent)).name) == "mrnet"


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("0000,1\n0001,2\n", "line 2 of train-acl.csv is '0001,2'; expected exam,0 or exam,1."),
        ("0000,1\nx,1\n", "line 2 of train-acl.csv is 'x,1'"),
        ("0000,1,1\n", "line 1 of train-acl.csv is '0000,1,1'"),
        ("0000,1\n0000,0\n", "exam 0000 stands twice in train-acl.csv"),
        ("0000,1\n", "exam 0001 has no label in train-acl.csv"),
        ("".join(f"{exam:04d},0\n" for exam in range(TRAIN + 1)), f"exam {TRAIN:04d} has no volume in train/sagittal"),
        (b"", "exam 0000 has no label in train-acl.csv"),
        (b"\xe9,1\n", "line 1 of train-acl.csv is 'é,1'"),
        ("\N{SUPERSCRIPT THREE},1\n", "line 1 of train-acl.csv is '\N{SUPERSCRIPT THREE},1'"),
        (f"{'9' * 5000},1\n", "line 1 of train-acl.csv is '9999"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_a_sentence(base: Path, lines: str | bytes, fault: str) -> None:
    (base / "train-acl.csv").write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    with pytest.raises(DataError, match=re.escape(fault)):
        MRNet(task="acl").load(DataRoot(base.parent))


def test_a_missing_plane_list_or_tree_is_named(base: Path, tmp_path: Path) -> None:
    root = DataRoot(base.parent)
    (base / "valid" / "axial").rename(base / "valid" / "away")
    with pytest.raises(DataError, match=re.escape("valid/axial holds no volume NNNN.npy")):
        MRNet(plane="axial").files(root)
    (base / "valid-meniscus.csv").unlink()
    with pytest.raises(DataError, match=re.escape("valid-meniscus.csv is missing")):
        MRNet(task="meniscus").files(root)
    (base / "train" / "coronal" / "notes.npy").touch()
    with pytest.raises(DataError, match=re.escape("train/coronal/notes.npy is no exam")):
        MRNet(plane="coronal").files(root)
    with pytest.raises(DataError, match=re.escape("found no train-abnormal.csv")):
        MRNet().files(DataRoot(tmp_path / "nowhere"))


def test_an_exam_with_two_files_is_refused(base: Path) -> None:
    (base / "train" / "sagittal" / "3.npy").write_bytes((base / "train" / "sagittal" / "0003.npy").read_bytes())
    with pytest.raises(DataError, match=re.escape("exam 0003 lies twice in train/sagittal (0003.npy and 3.npy)")):
        MRNet().load(DataRoot(base.parent))


@pytest.mark.parametrize("name", ["\N{SUPERSCRIPT THREE}", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 30, "._0003"])
def test_a_volume_whose_name_is_no_number_is_refused(base: Path, name: str) -> None:
    (base / "train" / "sagittal" / f"{name}.npy").touch()
    with pytest.raises(DataError, match=re.escape(f"train/sagittal/{name}.npy is no exam; expected names such as")):
        MRNet().files(DataRoot(base.parent))


@pytest.mark.parametrize(("before", "after"), [(b"\n", b"\r\n"), (b",", b" , "), (b"0000", b"\xef\xbb\xbf0000")])
def test_line_ends_blanks_and_a_byte_order_mark_do_not_matter(base: Path, before: bytes, after: bytes) -> None:
    y = MRNet().load(DataRoot(base.parent)).train.y
    path = base / "train-abnormal.csv"
    path.write_bytes(path.read_bytes().replace(before, after))
    assert torch.equal(MRNet().load(DataRoot(base.parent)).train.y, y)


def test_an_exam_in_both_folders_is_refused(base: Path) -> None:
    (base / "valid" / "sagittal" / "0003.npy").write_bytes((base / "train" / "sagittal" / "0003.npy").read_bytes())
    with (base / "valid-abnormal.csv").open("a") as file:
        file.write("0003,1\n")
    with pytest.raises(DataError, match="exam 0003 is in train and in valid"):
        MRNet().load(DataRoot(base.parent))


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(EcgbenchError, match="seed=-1 is out of range"):
        MRNet(seed=-1)


def test_a_volume_that_is_gone_when_it_is_read_ends_in_a_sentence(base: Path) -> None:
    task = MRNet().load(DataRoot(base.parent))
    (base / "valid" / "sagittal" / f"{TRAIN:04d}.npy").unlink()
    with pytest.raises(DataError, match=f"exam {TRAIN:04d} cannot be read"):
        task.test[:1]


@pytest.mark.parametrize("exams", [1, 2])
def test_too_few_exams_to_draw_from_are_one_sentence(base: Path, exams: int) -> None:
    labels = base / "train-abnormal.csv"
    labels.write_text("".join(f"{exam:04d},{exam}\n" for exam in range(exams)))
    for exam in range(exams, TRAIN):
        (base / "train" / "sagittal" / f"{exam:04d}.npy").unlink()
    with pytest.raises(DataError, match=r"^mrnet: no exam is left to validate on; expected two or more of a class in "):
        MRNet().load(DataRoot(base.parent))
    assert len(MRNet(split="study").load(DataRoot(base.parent)).train) == exams
