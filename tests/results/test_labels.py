"""What rows say of their samples is what their dataset says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from ecgbench.core.data import Samples, Task
from ecgbench.core.errors import StoreError
from ecgbench.core.threat import Threat
from ecgbench.evaluation.sweep import STANDARD, Protocol
from ecgbench.results.labels import Stated, labels_path, read_labels, write_labels
from ecgbench.results.published import Published
from tests.made_up_rows import made_up, outcomes_of, row


def task(n: int = 10) -> Task:
    y = torch.arange(n) % 2
    test = Samples.of(torch.zeros(n, 1, 3), y, group=torch.arange(n) % 5)
    said: dict[str, Any] = {"notes": ("intra-patient",), "weighting": "every beat counts once", "physical": "mV"}
    return Task("beats", ("N", "V"), test[:0], test[:4], test, **said)


TASK = task()
HONEST = row(made_up(["0", "01"], groups=5), unit="1")


def faults(one: Published = HONEST, protocol: Protocol = STANDARD, of: Task = TASK) -> list[str]:
    return list(Stated(one.record, outcomes_of(one), of, Threat("linf"), protocol, 0.1).faults())


def stated(**facts: Any) -> Published:
    return replace(HONEST, record=msgspec.structs.replace(HONEST.record, **facts))


def test_an_honest_row_says_what_its_dataset_says() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    "facts",
    [
        {"notes": ()},
        {"notes": ("inter-patient",)},
        {"unit": "mV"},
        {"n": 9},
        {"headline": 0.2},
        {"synthetic": True},
        {"classes": ("N", "S")},
        {"weighting": "as we like"},
        {"skip_unpredicted": True},
        {"challenge": ("N",)},
    ],
)
def test_a_fact_that_its_dataset_does_not_state(facts: dict[str, Any]) -> None:
    ((name, _),) = facts.items()
    assert [fault.partition(" ")[0] for fault in faults(stated(**facts))] == [name]


@pytest.mark.parametrize("name", ["ids", "y", "weight", "group"])
def test_samples_that_its_dataset_does_not_have(name: str) -> None:
    array = getattr(outcomes_of(HONEST), name).copy()
    array[3] = array[4]
    other = replace(HONEST, outcomes=replace(outcomes_of(HONEST), **{name: array + (name == "weight") * np.float32(1)}))
    assert faults(other) == [f"{name} of the samples are not those of its dataset."]


def test_parts_of_a_split_are_told_from_the_whole() -> None:
    few = TASK.some_of_each(2).test
    assert few.group is not None
    made = made_up(["0", "01"], n=4, groups=2)
    part = replace(made, ids=few.ids.numpy(), y=few.y.numpy().astype(np.int16), group=few.group.numpy())
    rules, said = Protocol(per_class=2), "at most 2 samples of each class count, drawn by their ids, each once"
    assert faults(row(part, unit="1", weighting=said), protocol=rules) == []
    assert "n is 4; its dataset says 10." in faults(row(part, unit="1"))


def test_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_labels(TASK, "beats", "data", tmp_path)
    read = read_labels("beats", "data", tmp_path)
    assert read is not None and faults(of=read) == [] and read_labels("beats", "other", tmp_path) is None
    assert read.some_of_each(2).test.ids.equal(TASK.some_of_each(2).test.ids)


@pytest.mark.parametrize("content", [b"{", b"{}", None])
def test_damaged_labels_are_a_fault(tmp_path: Path, content: bytes | None) -> None:
    path = write_labels(TASK, "beats", "data", tmp_path)
    if content is None:
        path.with_suffix(".npz").write_bytes(b"PK")
    else:
        path.write_bytes(content)
    with pytest.raises(StoreError, match="holds no readable labels"):
        read_labels("beats", "data", tmp_path)


def test_labels_of_another_dataset_under_this_name_are_a_fault(tmp_path: Path) -> None:
    path = write_labels(TASK, "beats", "data", tmp_path)
    for ending in (".json", ".npz"):
        path.with_suffix(ending).rename(labels_path("other", "data", tmp_path).with_suffix(ending))
    with pytest.raises(StoreError, match="is of 'beats'"):
        read_labels("other", "data", tmp_path)
