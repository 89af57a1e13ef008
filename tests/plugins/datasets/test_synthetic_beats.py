"""The synthetic beats: the form of the real ones, fixed to the byte, neither trivial nor hopeless."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import EcgbenchError
from ecgbench_plugins.datasets.mcsharry import QRS, P, R, T, Waves
from ecgbench_plugins.datasets.synthetic_beats import SHARES, SyntheticBeats, datasets

PARTS = ("train", "val", "test")


def load(**parameters: float) -> Task:
    return SyntheticBeats(**parameters).load(DataRoot())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def task() -> Task:
    return load()


@pytest.fixture(params=PARTS)
def samples(task: Task, request: pytest.FixtureRequest) -> Samples:
    part: Samples = getattr(task, request.param)
    return part


def digest(task: Task) -> str:
    total = hashlib.sha256()
    for part in PARTS:
        for field in fields(Samples):
            value = getattr(getattr(task, part), field.name)
            total.update(b"" if value is None else value.contiguous().numpy().tobytes())
    return total.hexdigest()


def valid_ends(samples: Samples) -> tuple[Tensor, Tensor]:
    low = samples.x.masked_fill(~samples.mask, torch.inf).amin((1, 2))
    return low, samples.x.masked_fill(~samples.mask, -torch.inf).amax((1, 2))


def balanced(predicted: Tensor, y: Tensor) -> float:
    return float(np.mean([(predicted[y == k] == k).float().mean().item() for k in y.unique()]))


def binned_score(task: Task, train: Tensor, test: Tensor) -> float:
    """Balanced test accuracy of the likeliest class in each of 16 bins of one number."""
    edges = torch.quantile(train.double(), torch.linspace(0, 1, 17, dtype=torch.float64)[1:-1])
    table = torch.zeros(16, 5)
    weight = 1 / torch.bincount(task.train.y).float()
    table.index_put_((torch.bucketize(train.double(), edges), task.train.y), weight[task.train.y], True)
    return balanced(table.argmax(1)[torch.bucketize(test.double(), edges)], task.test.y)


# the form


def test_the_hook_offers_the_set_under_its_name() -> None:
    assert datasets() == {"synthetic-beats": SyntheticBeats()}


def test_a_row_is_187_samples_of_one_lead_at_125_hz(task: Task, samples: Samples) -> None:
    assert task.shape == (1, 187)
    assert task.rate == 125
    assert samples.x.shape == samples.mask.shape == (len(samples), 1, 187)
    assert (samples.x.dtype, samples.mask.dtype) == (torch.float32, torch.bool)
    samples.check()


def test_the_task_says_that_it_is_synthetic_and_split_by_patient(task: Task) -> None:
    assert task.synthetic
    assert task.notes == ("synthetic", "inter-patient")
    assert (task.classes, task.bounds, task.unit, task.physical) == (tuple("NSVFQ"), (0.0, 1.0), "1", "mV")


def test_the_set_needs_no_files_and_no_download() -> None:
    assert SyntheticBeats().files(DataRoot()) == {}
    assert SyntheticBeats.remote is None


def test_the_mask_is_false_exactly_on_the_padding_behind_the_beat(samples: Samples) -> None:
    length = samples.mask.sum((1, 2))
    assert torch.equal(samples.mask[:, 0], torch.arange(187) < length[:, None])
    assert not samples.x[~samples.mask].any()
    assert 50 < length.min() < length.float().mean() - 10
    assert length.max() <= 187


def test_the_least_and_largest_value_of_a_beat_are_exactly_0_and_1(samples: Samples) -> None:
    low, high = valid_ends(samples)
    assert (low == 0).all()
    assert (high == 1).all()


def test_scale_turns_a_beat_into_whole_steps_of_5_microvolts(samples: Samples) -> None:
    steps = samples.x * samples.scale[:, None, None] * 200
    assert (samples.scale > 0.1).all()
    assert 0.5 < samples.scale.median() < 4  # mV
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)


# who is where


def test_no_patient_is_in_two_parts(task: Task) -> None:
    train, val, test = (set(getattr(task, part).group.tolist()) for part in PARTS)
    assert not (train & val or train & test or val & test)
    assert train | val | test == set(range(500))


def test_about_60_15_and_25_percent_are_for_training_validation_and_test(task: Task) -> None:
    assert [len(getattr(task, part)) for part in PARTS] == [6000, 1500, 2500]


def test_no_sample_number_occurs_twice(task: Task) -> None:
    ids = torch.cat([getattr(task, part).ids for part in PARTS])
    assert torch.equal(ids.sort().values, torch.arange(10_000))


def test_every_part_has_the_stated_class_shares(samples: Samples) -> None:
    found = torch.bincount(samples.y, minlength=5) / len(samples)
    torch.testing.assert_close(found, torch.tensor(list(SHARES.values())), rtol=0, atol=1 / len(samples))


@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_set_has_every_class_in_every_part(seed: int) -> None:
    small = load(beats=100, seed=seed)
    assert all(len(getattr(small, part).y.unique()) == 5 for part in PARTS)
    assert sum(len(getattr(small, part)) for part in PARTS) == 100


def test_beats_of_one_patient_are_more_alike_than_those_of_two(task: Task) -> None:
    test = task.test[task.test.y == 0]
    assert test.group is not None
    same = test.group[:-1] == test.group[1:]
    apart = (test.x[:-1, :, :60] - test.x[1:, :, :60]).square().mean((1, 2))
    assert apart[same].mean() < 0.7 * apart[~same].mean()


# fixed to the byte


def test_the_bytes_are_the_same_whatever_the_global_generators_did(task: Task) -> None:
    np.random.seed(5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert digest(load()) == digest(task)
    assert torch.equal(before, torch.get_rng_state())
    assert np.random.get_state()[1][0] == 5  # type: ignore[index]


def test_the_bytes_are_the_same_in_another_process() -> None:
    code = "from tests.plugins.datasets.test_synthetic_beats import digest, load; print(digest(load(beats=500)))"
    path = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    other = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=other, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == digest(load(beats=500))


@pytest.mark.parametrize("change", [{"seed": 1}, {"beats": 501}, {"noise": 0.03}], ids=str)
def test_every_parameter_changes_the_data(change: dict[str, float]) -> None:
    assert digest(load(**{"beats": 500, **change})) != digest(load(beats=500))


def test_noise_is_the_white_noise_in_millivolts() -> None:
    smooth, rough = (load(beats=1000, noise=noise).train for noise in (0.0, 0.1))
    tail = slice(30, 50)  # between QRS and T of most beats
    bend = [(s.x * s.scale[:, None, None])[..., tail].diff(n=2).abs().median() for s in (smooth, rough)]
    assert bend[0] < 0.015
    assert 0.08 < bend[1] / 6**0.5 / 0.6745 < 0.12


@pytest.mark.parametrize("wrong", [{"beats": 99}, {"seed": -1}, {"noise": -0.1}], ids=str)
def test_a_parameter_out_of_range_is_one_sentence(wrong: dict[str, float]) -> None:
    with pytest.raises(EcgbenchError, match=r"^synthetic-beats: \w+=\S+ given; expected [^.]+\.$"):
        load(**wrong)


# neither trivial nor hopeless


def test_a_linear_classifier_is_better_than_chance_and_far_from_perfect(task: Task) -> None:
    def design(x: Tensor) -> Tensor:
        return torch.cat([x.flatten(1), torch.ones(len(x), 1)], 1).double()

    weight = (1 / torch.bincount(task.train.y).double())[task.train.y].sqrt()[:, None]
    wanted = torch.nn.functional.one_hot(task.train.y).double()
    fitted = torch.linalg.lstsq(weight * design(task.train.x), weight * wanted, driver="gelsd").solution
    assert 0.45 < balanced((design(task.test.x) @ fitted).argmax(1), task.test.y) < 0.70


def test_neighbours_among_other_patients_tell_most_beats_apart(task: Task) -> None:
    nearest = torch.cdist(task.test.x.flatten(1), task.train.x.flatten(1)).argmin(1)
    assert 0.60 < balanced(task.train.y[nearest], task.test.y) < 0.95


def test_the_length_of_the_padding_says_nothing_of_the_class(task: Task) -> None:
    train, test = (s.mask.sum((1, 2)) for s in (task.train, task.test))
    assert binned_score(task, train, test) < 0.25


def test_no_single_sample_decides_the_class(task: Task) -> None:
    train, test = task.train.x[:, 0], task.test.x[:, 0]
    assert max(binned_score(task, train[:, place], test[:, place]) for place in range(0, 187, 2)) < 0.55


# the waves


def test_a_typical_beat_is_the_closed_form_of_the_model() -> None:
    phase = np.linspace(-np.pi, np.pi, 301)
    angle, strength, width = (
        np.radians([-70, -15, 0, 15, 100]), np.array([1.2, -5, 30, -7.5, 0.75]), np.array([0.25, 0.1, 0.1, 0.1, 0.4])
    )  # fmt: skip
    bells = np.exp(-((phase[:, None] - angle) ** 2) / (2 * width**2))
    exact = (strength * width**2 * bells).sum(1) / 0.3
    np.testing.assert_allclose(Waves.typical(np.ones(1)).trace(phase[None])[0], exact, atol=1e-12)


def test_a_trace_of_many_beats_is_that_of_each_alone() -> None:
    rr = np.linspace(0.5, 1.2, 600)
    phase = np.linspace(-1, 3, 600 * 7).reshape(600, 7)
    one = np.concatenate([Waves.typical(rr[[row]]).trace(phase[[row]]) for row in range(600)])
    np.testing.assert_array_equal(Waves.typical(rr).trace(phase), one)


def test_a_change_touches_its_own_waves_and_leaves_the_original() -> None:
    waves = Waves.typical(np.ones(2))
    changed = waves.changed(QRS, width=np.array([2.0, 3.0])).changed(P, height=0.0)
    np.testing.assert_allclose((changed.width / waves.width)[:, R], [[2.0], [3.0]])
    np.testing.assert_array_equal(changed.width[:, T], waves.width[:, T])
    assert not changed.height[:, P].any()
    assert waves.height[:, P].all()


def test_where_chooses_between_two_hearts_beat_by_beat() -> None:
    slow, fast = Waves.typical(np.ones(2)), Waves.typical(np.full(2, 0.5))
    mixed = slow.where(np.array([True, False]), fast)
    np.testing.assert_array_equal(mixed.width, [slow.width[0], fast.width[1]])
