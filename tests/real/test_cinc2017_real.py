"""The real recordings of the challenge against what was measured on them."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat

from ecgbench.core.data import Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError
from ecgbench_plugins.datasets import rhythms
from ecgbench_plugins.datasets.cinc2017 import Cinc2017
from ecgbench_plugins.datasets.headers import read_header
from ecgbench_plugins.datasets.rhythm_files import read_names

HOME = os.environ.get("ECGBENCH_DATA")
pytestmark = [pytest.mark.real, pytest.mark.skipif(HOME is None, reason="ECGBENCH_DATA is not set")]
EQUAL = {227: 1176, 2656: 3123}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    root = DataRoot(Path(HOME or ""), cache=tmp_path_factory.mktemp("cache"))
    try:
        Cinc2017().files(root)
    except DataError as error:
        pytest.skip(str(error))
    return root


@pytest.fixture(scope="module")
def files(root: DataRoot) -> dict[str, Path]:
    return dict(Cinc2017().files(root))


@pytest.fixture(scope="module")
def held_out(root: DataRoot) -> Task:
    for how in ("records", "cache"):
        start = time.perf_counter()
        task = Cinc2017().load(root)
        print(f"cinc2017 from {how}: {time.perf_counter() - start:.2f} s")  # noqa: T201
    return task


def val(path: Path) -> np.ndarray:
    signal: np.ndarray = loadmat(path)["val"][0]
    return signal


def every(task: Task, field: str) -> torch.Tensor:
    return torch.cat([getattr(part, field) for part in (task.train, task.val, task.test)])


def test_all_records_are_there_as_published(files: dict[str, Path]) -> None:
    total = hashlib.sha256()
    names = sorted(name for name in files if name.endswith(".mat"))
    for name in names:
        total.update(files[name].read_bytes())
    assert len(names) == 8528
    assert total.hexdigest() == "c6c7397bff51625ad07413fa212ffa110de2499b1f22f3f6a57b97b0888c87a7"


@pytest.mark.parametrize(
    ("labels", "counts"),
    [("original", [771, 5154, 2557, 46]), ("v2", [738, 5050, 2456, 284]), ("v3", [758, 5076, 2415, 279])],
)
def test_each_version_of_the_labels_has_its_counts(labels: str, counts: list[int], root: DataRoot) -> None:
    task = Cinc2017(labels=labels, split="han").load(root)  # type: ignore[arg-type]
    assert every(task, "y").bincount().tolist() == counts
    assert f"labels {labels}" in task.notes and not any("only" in note for note in task.notes)


def test_headers_are_read_as_wfdb_reads_them(files: dict[str, Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb calls what pandas is about to drop
        import wfdb

        for name in [f"A{number:05d}" for number in range(1, 8529, 85)]:
            theirs, ours = wfdb.rdheader(str(files[f"{name}.hea"])[:-4]), read_header(files[f"{name}.hea"])
            (signal,) = ours.signals
            assert (ours.record, ours.rate, ours.length) == (theirs.record_name, theirs.fs, theirs.sig_len)
            assert (signal.per_mv, signal.baseline, signal.unit) == (1000, theirs.baseline[0], theirs.units[0])


@pytest.mark.parametrize("below", ["training2017", "training"])
def test_the_unzipped_files_and_folders_of_a_thousand_are_the_same(
    below: str, files: dict[str, Path], held_out: Task, tmp_path: Path
) -> None:
    training = tmp_path / below
    for name, path in files.items():
        if name.startswith("A"):
            place = training / (name[:3] if below == "training" else "")
            place.mkdir(parents=True, exist_ok=True)
            (place / name).symlink_to(path)
    validation = tmp_path / ("validation" if below == "training" else "sample2017/validation")
    validation.mkdir(parents=True)
    (validation / "RECORDS").symlink_to(files["validation"])
    if below == "training":
        (training / "RECORDS").write_text(
            "".join(f"{name[:3]}/{name[:-4]}\n" for name in files if name.endswith(".mat"))
        )
        (tmp_path / "REFERENCE-v3.csv").symlink_to(files["labels"])
    else:
        labels = files["labels"].read_text().replace("\n", "\r\n")
        (training / "REFERENCE.csv").write_bytes(f"\ufeff{labels}".encode())
    task = Cinc2017().load(DataRoot(tmp_path))
    assert task.notes == held_out.notes
    assert task.test.x.equal(held_out.test.x) and task.train.ids.equal(held_out.train.ids)


def test_the_test_set_is_the_validation_set_of_the_challenge(held_out: Task, files: dict[str, Path]) -> None:
    names = sorted(read_names(files["validation"])[0])
    assert [f"A{id_:05d}" for id_ in held_out.test.ids] == names
    assert held_out.test.y.bincount().tolist() == [47, 148, 65, 40]


def test_the_validation_signals_are_those_of_the_training_set(files: dict[str, Path]) -> None:
    copies = sorted(files["validation"].parent.glob("A*.mat"))
    if not copies:
        pytest.skip("the copies of the validation set's signals are not here")
    assert len(copies) == 300
    assert all(np.array_equal(val(copy), val(files[copy.name])) for copy in copies)


def test_no_test_record_and_no_equal_of_one_is_in_training(held_out: Task) -> None:
    pool = {*held_out.train.ids.tolist(), *held_out.val.ids.tolist()}
    assert len(held_out.train) + len(held_out.val) == len(pool) == 8226
    assert not pool & set(held_out.test.ids.tolist())
    assert set(range(1, 8529)) - pool - set(held_out.test.ids.tolist()) == {1176, 3123}
    seen = [{row.numpy().tobytes() for row in part.x} for part in (held_out.train, held_out.val, held_out.test)]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 8526
    assert "left out of training, being equal to another record: A01176, A03123" in held_out.notes


def test_a_tenth_of_each_class_of_the_pool_validates(held_out: Task) -> None:
    pool = torch.cat([held_out.train.y, held_out.val.y]).bincount()
    assert pool.tolist() == [711, 4926, 2350, 239]
    assert held_out.val.y.bincount().tolist() == [round(n / 10) for n in pool.tolist()]


def test_the_two_pairs_of_equal_records_are_found_and_there_are_no_others(root: DataRoot) -> None:
    task = Cinc2017(split="study").load(root)
    assert len(task.train) + len(task.val) == 8528
    place = {id_: row for row, id_ in enumerate(task.train.ids.tolist())}
    for one, other in EQUAL.items():
        assert task.train.x[place[one]].equal(task.train.x[place[other]])
    signals = {row.numpy().tobytes() for part in (task.train, task.val) for row in part.x}
    assert len(signals) == 8526
    assert task.notes[0].startswith("leaking: ")


def test_the_split_of_han_has_the_published_sizes_and_no_equal_record_outside_training(root: DataRoot) -> None:
    task = Cinc2017(split="han").load(root)
    assert task.test.y.bincount().tolist() == [84, 509, 229, 31]
    assert len(task.train) + len(task.val) == 7675
    assert {*EQUAL, *EQUAL.values()} < set(task.train.ids.tolist())


def test_z_scores_are_the_counts_of_the_files_exactly(held_out: Task, files: dict[str, Path]) -> None:
    for part in (held_out.val, held_out.test):
        for row in range(len(part)):
            visible = val(files[f"A{int(part.ids[row]):05d}.mat"])[: rhythms.SAMPLES].astype(float)
            n = len(visible)
            again = part.x[row, 0, :n].double() * part.scale[row].double() * 1000 + visible.mean()
            assert np.array_equal(again.round().numpy(), visible)
            assert not part.x[row, 0, n:].any() and int(part.mask[row].sum()) == n


def test_what_is_seen_has_mean_0_and_deviation_1(held_out: Task) -> None:
    x, n = held_out.train.x.flatten(1), held_out.train.mask.flatten(1).sum(1)
    assert torch.allclose(x.sum(1) / n, torch.zeros(len(x)), atol=1e-5)
    assert torch.allclose((x.square().sum(1) / n).sqrt(), torch.ones(len(x)), atol=1e-5)


def test_an_eps_of_a_fifth_is_some_36_microvolts(root: DataRoot) -> None:
    parts: list[Samples] = [getattr(Cinc2017(split="han").load(root), name) for name in ("train", "val", "test")]
    size = 200 * torch.cat([part.scale for part in parts])
    assert size.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist() == pytest.approx([17.8, 35.6, 92.7], abs=0.1)
    length = torch.cat([part.mask.flatten(1).sum(1) for part in parts])
    assert int(length.min()) == 2714 and int((length < 9000).sum()) == 967
