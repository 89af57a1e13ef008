"""Samples that are decoded on access: the same rows as in memory, and only those that were asked for."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Samples, Task
from ecgbench.core.errors import DataError
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.signals import ByteSignals
from ecgbench.core.threat import Threat
from ecgbench.core.training import Schedule, train
from ecgbench.evaluation.lending import batch_change
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.linear import LinearClassifier
from tests.volumes import counting, volumes

ROWS = [torch.tensor([4, 0, 4]), torch.arange(12) % 5 == 2, slice(3, 7), torch.tensor([], dtype=torch.int64)]


def in_memory(samples: Samples) -> Samples:
    """The same split with every row decoded."""
    return samples[:]


@pytest.mark.parametrize("rows", ROWS)
def test_rows_are_those_of_the_split_in_memory(rows: Tensor | slice) -> None:
    lazy = volumes(12)
    got, expected = lazy[rows], in_memory(lazy)[rows]
    assert got.signals is None and batch_change(got, expected) is None


def test_values_are_eighths_of_bytes_and_padding_is_zero_and_shut() -> None:
    arrays = [np.full((length, 2, 2), 51, np.uint8) for length in (1, 3)]
    samples = Samples.of(ByteSignals(arrays, (2, 2), 4), torch.tensor([0, 1]))
    assert samples.x.is_meta and samples.x.shape == (2, 4, 2, 2)
    one = samples[:]
    assert one.x[:, :, 0, 0].tolist() == [[pytest.approx(0.2), 0, 0, 0], [pytest.approx(0.2)] * 3 + [0]]
    assert one.mask[:, :, 0, 0].tolist() == [[True, False, False, False], [True, True, True, False]]
    assert one.present is not None and torch.equal(one.present, one.mask)


@pytest.mark.parametrize("rows", [torch.tensor([4, 0]), torch.arange(12) > 8])
def test_selected_rows_stay_undecoded(rows: Tensor) -> None:
    whole, reads = counting(12)
    part = whole.select(rows)
    assert not reads and part.signals is not None and part.x.is_meta
    assert batch_change(part[:], in_memory(whole)[rows]) is None
    again = part.select(torch.tensor([1]))
    assert batch_change(again[:], in_memory(whole)[rows][torch.tensor([1])]) is None


def test_splits_are_compared_by_what_they_decode_to() -> None:
    one, other = volumes(12), volumes(12)
    assert batch_change(one, other) is None
    assert batch_change(one, volumes(12, seed=1)) == "another signals"
    assert batch_change(in_memory(one), one) is not None


def test_no_threat_reaches_the_padding() -> None:
    rows = volumes(12)[:]
    closed = ~rows.mask.expand_as(rows.x)
    for mask in (True, False):
        ball = Threat("linf", mask=mask).ball(rows, 0.1, (0.0, 1.0))
        delta = ball.project(torch.ones_like(rows.x))
        assert closed.any() and not delta[closed].any() and delta[~closed].all()


def test_a_mask_within_a_sample_may_be_open_to_a_threat_and_its_padding_not() -> None:
    lazy = volumes(12)
    mask = torch.ones(12, 1, 5, 4, dtype=torch.bool)
    mask[..., 0] = False
    rows = Samples.of(lazy.signals, lazy.y, mask=mask)[:]  # type: ignore[arg-type]
    free = Threat("linf", mask=False).ball(rows, 0.1).project(torch.ones_like(rows.x))
    kept = Threat("linf").ball(rows, 0.1).project(torch.ones_like(rows.x))
    present = rows.present
    assert present is not None and torch.equal(free != 0, present.expand_as(rows.x))
    assert torch.equal(kept != 0, present & mask)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"arrays": [np.zeros((0, 5, 4), np.uint8)]}, "sample 0 has the length 0; expected 1 to 6."),
        ({"arrays": [np.zeros((9, 5, 4), np.uint8)]}, "sample 0 has the length 9; expected 1 to 6."),
        ({"span": (0.0, float("nan"))}, "signals have the span (0.0, nan); expected two finite numbers."),
    ],
)
def test_signals_that_cannot_be_are_refused(change: dict[str, Any], fault: str) -> None:
    class Spanned(ByteSignals):
        span = change.get("span", (0.0, 1.0))

    arrays = change.get("arrays", [np.zeros((2, 5, 4), np.uint8)])
    with pytest.raises(DataError, match=re.escape(fault)):
        Samples.of(Spanned(arrays, (5, 4), 6), torch.tensor([0]))


def test_signals_of_another_shape_or_type_are_refused_when_read() -> None:
    class Doubled(ByteSignals):
        def read(self, rows: Tensor) -> Tensor:
            return super().read(rows).double()

    samples = Samples.of(Doubled([np.zeros((2, 5, 4), np.uint8)], (5, 4), 6), torch.tensor([0]))
    with pytest.raises(DataError, match=re.escape("torch.float64 were read; expected (1, 6, 5, 4) float32.")):
        samples[:]


@pytest.mark.parametrize(("shape", "kind"), [((2, 5, 4), np.int16), ((2, 5, 5), np.uint8), ((3, 5, 4), np.uint8)])
def test_an_array_that_has_become_another_is_refused_when_read(shape: tuple[int, ...], kind: type) -> None:
    kept = [np.zeros((2, 5, 4), np.uint8)]
    samples = Samples.of(ByteSignals(kept, (5, 4), 6), torch.tensor([0]))
    kept[0] = np.zeros(shape, kind)
    with pytest.raises(DataError, match=re.escape("expected uint8 (2, 5, 4).")):
        samples[:]


def test_bounds_narrower_than_the_span_are_refused() -> None:
    split = volumes(12)
    with pytest.raises(DataError, match=re.escape("signals span (0.0, 1.0); the stated range is (0.0, 0.5).")):
        Task("toy", ("a", "b"), split, split, split, bounds=(0.0, 0.5))


# what is decoded


def test_a_task_is_made_cut_and_lent_without_decoding_anything() -> None:
    samples, reads = counting(12)
    task = Task("toy", ("a", "b"), samples, samples, samples, bounds=(0.0, 1.0))
    small = task.limited(6).some_of_each(2).blind()
    assert task.shape == small.shape == (6, 5, 4) and len(small.test) == 0 and not reads
    assert len(task.limited(6).test) == 6 and len(task.limited(6, "val").val) == 6 and not reads
    assert samples.to("cpu").signals is samples.signals and not reads


def test_a_training_reads_one_batch_at_a_time_and_learns_what_it_learns_in_memory() -> None:
    lazy, reads = counting(12)
    weights = []
    for split in (lazy, in_memory(volumes(12))):
        task = Task("toy", ("a", "b"), split, split, split, bounds=(0.0, 1.0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = LinearClassifier().build(task)
        reads.clear()
        schedule = replace(Standard(), epochs=3, batch=5, balanced=False, keep="best")
        made = schedule.fit(module, task, RandomStream(("train", 0)), Checkpoint())
        weights.append(torch.cat([value.flatten() for value in made.state_dict().values()]))
        if split is lazy:
            first, *rest = reads
            assert first == 5  # asked in which precision it trains
            assert rest == [5, 5, 2, 12] * 3  # three batches, and validation in one chunk
    assert torch.equal(*weights)


def test_the_training_loop_takes_no_group_or_weight_to_the_loss() -> None:
    lazy = volumes(12)
    seen: list[Tensor] = []

    def loss(module: torch.nn.Module, batch: Any, rng: RandomStream) -> Tensor:
        seen.append(batch.ids)
        return module(batch.x).square().mean()

    task = Task("toy", ("a", "b"), lazy, lazy, lazy, bounds=(0.0, 1.0))
    train(LinearClassifier().build(task), task, loss, Schedule(epochs=1, batch=12), RandomStream((0,)), Checkpoint())
    assert len(seen) == 1 or torch.cat(seen).unique().tolist() == lazy.ids.tolist()
