"""The real MIT-BIH records against what is published about the beats made from them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError
from ecgbench_plugins.datasets import mitbih
from ecgbench_plugins.datasets.mitbih import MitBih

HOME = os.environ.get("ECGBENCH_DATA")
pytestmark = [pytest.mark.real, pytest.mark.skipif(HOME is None, reason="ECGBENCH_DATA is not set")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    root = DataRoot(Path(HOME or ""), cache=tmp_path_factory.mktemp("cache"))
    try:
        MitBih().files(root)
    except DataError as error:
        pytest.skip(str(error))
    return root


@pytest.fixture(scope="module")
def drawn(root: DataRoot) -> Task:
    for how in ("records", "cache"):
        start = time.perf_counter()
        task = MitBih().load(root)
        print(f"mitbih from {how}: {time.perf_counter() - start:.2f} s")  # noqa: T201
    return task


@pytest.fixture(scope="module")
def by_patient(root: DataRoot) -> Task:
    return MitBih(split="inter-patient").load(root)


def test_all_records_together_give_the_published_beats(drawn: Task) -> None:
    y = torch.cat([part.y for part in (drawn.train, drawn.val, drawn.test)])
    assert y.bincount().tolist() == [90589, 2779, 7236, 803, 8039]
    assert len(y) == 109446


def test_the_parts_of_the_random_split_have_the_published_sizes(drawn: Task) -> None:
    assert drawn.test.y.bincount().tolist() == [18118, 556, 1448, 162, 1608]
    assert [len(drawn.train), len(drawn.val), len(drawn.test)] == [70043, 17511, 21892]
    ids = torch.cat([part.ids for part in (drawn.train, drawn.val, drawn.test)])
    assert ids.sort().values.equal(torch.arange(109446))


def test_the_weights_of_the_test_set_are_the_published_repeats(drawn: Task) -> None:
    for label, (full, more) in enumerate([(1, 0), (32, 326), (12, 742), (111, 136), (11, 430)]):
        weight = drawn.test.weight[drawn.test.y == label]
        assert weight[:more].eq(full + 1).all() and weight[more:].eq(full).all()
    assert drawn.test.weight.sum() == 90590


def test_the_padding_is_that_of_windows_of_10_s(drawn: Task) -> None:
    mask = torch.cat([part.mask for part in (drawn.train, drawn.val, drawn.test)])
    assert 1 - mask.float().mean().item() == pytest.approx(0.376, abs=0.001)
    assert mask.sum(2).float().median() == 112


def test_beats_span_0_to_1_and_a_few_mv(drawn: Task) -> None:
    assert drawn.test.x.amax(2).eq(1).all() and drawn.test.x.amin(2).eq(0).all()
    assert 1.5 < drawn.test.scale.median() < 2.5
    assert drawn.test.scale.min() > 0.1 and drawn.test.scale.max() < 12


def test_no_patient_is_in_two_parts_of_the_inter_patient_split(by_patient: Task) -> None:
    groups = [set(part.group.tolist()) for part in (by_patient.train, by_patient.val, by_patient.test)]  # type: ignore[union-attr]
    assert [len(group) for group in groups] == [17, 4, 22]
    assert len(set.union(*groups)) == 43


def test_every_class_is_in_every_part_of_the_inter_patient_split(by_patient: Task) -> None:
    counts = [part.y.bincount().tolist() for part in (by_patient.train, by_patient.val, by_patient.test)]
    assert counts == [[35897, 612, 2983, 383], [8314, 203, 607, 30], [44238, 1836, 3221, 388]]


def test_the_random_split_shares_its_patients(drawn: Task) -> None:
    assert set(drawn.test.group.tolist()) == set(drawn.train.group.tolist())  # type: ignore[union-attr]
    assert len(set(drawn.test.group.tolist())) == mitbih.RECORDS - 1  # type: ignore[union-attr]


def test_the_notes_name_first_signals_and_every_beat_that_is_cut_or_left_out(drawn: Task) -> None:
    assert drawn.notes[2:] == (
        "first signal of each record: MLII, but V5 in 102, 104 and 114",
        "48 beats left out, the last of each record, as in the published rows",
        "6 beats cut where the record ends, in 100, 113, 116, 117, 210 and 213",
        "1133 of 109446 beats cut at 187 samples",
    )


def test_a_lead_is_the_same_signal_wherever_it_stands_in_the_record(root: DataRoot, drawn: Task) -> None:
    task = MitBih(lead="MLII").load(root)
    assert "records without lead MLII left out: V5, V2 in 102 and 104" in task.notes
    parts = [[whole.train, whole.val, whole.test] for whole in (task, drawn)]
    record = [torch.cat([part.group for part in some]) for some in parts]  # type: ignore[misc]
    span = [torch.cat([part.scale for part in some]) for some in parts]
    assert len(record[0]) == 105032 and set(record[1].tolist()) - set(record[0].tolist()) == {102, 104}
    for number in (100, 114):
        mine, firsts = (scale[group == number].sort().values for scale, group in zip(span, record, strict=True))
        assert mine.equal(firsts) == (number == 100)  # the first signal of 114 is V5


def test_records_without_their_list_are_the_same_beats(root: DataRoot, drawn: Task, tmp_path: Path) -> None:
    folder = tmp_path / "mitdb"
    folder.mkdir()
    for name, path in MitBih().files(root).items():
        if name != "RECORDS":
            (folder / name).symlink_to(path)
    task = MitBih().load(DataRoot(tmp_path))
    assert task.notes == drawn.notes and task.test.x.equal(drawn.test.x)
