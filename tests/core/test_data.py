"""Batches, splits and tasks: subsets keep every field together, and what cannot be is refused at once."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Batch, Samples, Task
from ecgbench.core.errors import DataError


def samples(n: int = 6, **parts: Any) -> Samples:
    given = {"x": torch.arange(n * 8.0).view(n, 2, 4), "y": torch.arange(n) % 3, **parts}
    return Samples.of(**given)


def task(test: Samples, **parts: Any) -> Task:
    return Task("toy", ("a", "b", "c"), test, test, test, **parts)


@pytest.mark.parametrize(
    "rows", [torch.tensor([4, 0]), torch.tensor([True, False, False, False, True, True]), slice(1, 3)]
)
def test_rows_subset_every_field(rows: Tensor | slice) -> None:
    whole = samples(group=torch.arange(6) * 2, weight=torch.rand(6), ids=torch.arange(6) + 10, scale=torch.rand(6))
    part = whole[rows]
    assert isinstance(part, Samples)
    for name in ("x", "y", "mask", "ids", "scale", "group", "weight"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[rows])


def test_a_split_without_groups_stays_without() -> None:
    assert samples()[torch.tensor([1])].group is None
    assert samples().to("cpu").group is None


def test_what_is_left_out_means_everything_equal_and_free() -> None:
    made = samples(n=4)
    assert made.mask.all() and made.mask.shape == (4, 1, 1)
    assert made.ids.tolist() == [0, 1, 2, 3]
    assert made.scale.tolist() == made.weight.tolist() == [1, 1, 1, 1]
    assert len(made) == 4


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"y": torch.zeros(6)}, "y has type torch.float32; expected torch.int64."),
        ({"x": torch.zeros(6, 2, 4, dtype=torch.float64)}, "x has type torch.float64; expected torch.float32."),
        ({"mask": torch.ones(6, 2, 4)}, "mask has type torch.float32; expected torch.bool."),
        ({"x": torch.zeros(5, 2, 4)}, "x has 5 rows for 6 labels."),
        ({"ids": torch.arange(7)}, "ids has 7 rows for 6 labels."),
        ({"group": torch.zeros(6)}, "group has type torch.float32; expected torch.int64."),
        ({"mask": torch.ones(6, 4, dtype=torch.bool)}, "mask of shape (6, 4) does not fit x (6, 2, 4)."),
        ({"scale": torch.ones(6, 4)}, "scale of shape (6, 4) does not fit x (6, 2, 4)."),
        ({"scale": torch.ones(6, 1, 3)}, "scale of shape (6, 1, 3) does not fit x (6, 2, 4)."),
        ({"mask": torch.ones(6, 1, 3, dtype=torch.bool)}, "mask of shape (6, 1, 3) does not fit x (6, 2, 4)."),
    ],
)
def test_parts_that_disagree_are_refused_with_a_sentence(parts: dict[str, Any], fault: str) -> None:
    with pytest.raises(DataError, match=re.escape(fault)):
        samples(**parts)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_value_that_is_not_finite_is_refused_and_its_sample_named(value: float) -> None:
    x = torch.zeros(6, 2, 4)
    x[4, 1, 2] = value
    with pytest.raises(DataError, match="sample 104 holds a value that is not finite"):
        samples(x=x, ids=torch.arange(6) + 100)


def test_a_scale_may_differ_by_feature_and_follows_its_rows() -> None:
    made = samples(scale=torch.rand(6, 2, 1))
    assert made.scaled_by_feature and not samples().scaled_by_feature
    assert not samples(scale=torch.rand(6, 1, 1)).scaled_by_feature
    assert torch.equal(made[torch.tensor([4, 1])].scale, made.scale[[4, 1]])


def test_large_finite_values_are_accepted() -> None:
    assert len(samples(x=torch.full((6, 2, 4), 3e38))) == 6


@pytest.mark.parametrize("y", [[0, 1, 3, 0, 0, 0], [0, -1, 2, 0, 0, 0]])
def test_a_label_outside_the_classes_is_refused(y: list[int]) -> None:
    with pytest.raises(DataError, match=re.escape("toy train: a label lies outside 0..2.")):
        task(samples(y=torch.tensor(y)))


def test_a_signal_outside_the_stated_range_is_refused() -> None:
    assert task(samples(), bounds=(0.0, 47.0)).shape == (2, 4)
    with pytest.raises(DataError, match=re.escape("a signal leaves the stated range (0.0, 46.0): sample 5 by 1.")):
        task(samples(), bounds=(0.0, 46.0))


def test_a_limited_task_keeps_the_proportions_of_its_classes() -> None:
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)[torch.randperm(100, generator=torch.Generator().manual_seed(0))]
    for n in (10, 20, 50, 90):
        counts = task(samples(100, y=y)).limited(n).test.y.bincount(minlength=3)
        assert counts.tolist() == [n * 6 // 10, n * 3 // 10, n // 10]


def test_a_limited_task_takes_the_same_samples_in_any_order_of_the_split() -> None:
    made = samples(50, y=torch.arange(50) % 3, ids=torch.arange(50) * 3)
    shuffled = made[torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    chosen = [set(task(split).limited(17).test.ids.tolist()) for split in (made, shuffled)]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 17


def test_a_larger_limit_keeps_the_samples_of_a_smaller_one_of_each_class() -> None:
    made = task(samples(60, y=torch.arange(60) % 3))
    assert set(made.limited(12).test.ids.tolist()) <= set(made.limited(30).test.ids.tolist())


def test_a_limit_leaves_order_training_and_larger_tasks_alone() -> None:
    made = task(samples(30, y=torch.arange(30) % 3))
    ids = made.limited(10).test.ids
    assert torch.equal(ids, ids.sort().values)
    assert made.limited(10).train is made.train
    assert made.limited(None) is made and made.limited(30) is made


def test_some_of_each_class_are_drawn_by_their_ids_and_count_once_each() -> None:
    y, ids = torch.arange(600) % 3 // 2, torch.arange(600) * 7
    made = task(samples(600, y=y, ids=ids, weight=torch.rand(600)))
    few = made.some_of_each(20)
    assert few.test.y.bincount().tolist() == [20, 20] and few.test.weight.unique().tolist() == [1.0]
    assert "at most 20 samples of each class" in few.weighting
    shuffled = task(made.test[torch.randperm(600)]).some_of_each(20).test
    assert set(shuffled.ids.tolist()) == set(few.test.ids.tolist())
    assert 1000 < few.test.ids.double().mean() < 3200  # from all over the split, not its beginning
    assert set(made.some_of_each(10).test.ids.tolist()) < set(few.test.ids.tolist())
    assert len(made.some_of_each(10**6).test) == 600 and made.some_of_each(0) is made


def test_a_batch_is_a_value_that_replace_changes_in_one_field() -> None:
    batch = Batch(**{field.name: getattr(samples(), field.name) for field in fields(Batch)})
    assert torch.equal(replace(batch, x=batch.x + 1).y, batch.y)


def test_names_of_features_are_as_many_as_the_last_axis_is_long() -> None:
    assert task(samples(), features=("a", "b", "c", "d")).features == ("a", "b", "c", "d")
    with pytest.raises(DataError, match=r"^toy train: 4 features in x; 3 are named\.$"):
        task(samples(), features=("a", "b", "c"))
