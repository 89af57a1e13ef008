"""The synthetic rhythms: the form of CinC 2017, fixed to the byte, neither trivial nor hopeless."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import fields
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import EcgbenchError
from ecgbench_plugins.datasets.rr_intervals import BEATS, MIDDLE, SHORTEST, Rhythm, Timing
from ecgbench_plugins.datasets.synthetic_rhythms import RHYTHMS, SHARES, SyntheticRhythms, datasets

PARTS = ("train", "val", "test")
A, N, _, NOISY = range(4)


def load(**parameters: float) -> Task:
    return SyntheticRhythms(**parameters).load(DataRoot())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def task() -> Task:
    return load()


@pytest.fixture(scope="module")
def quiet() -> Samples:
    """Strips without white noise and wander, the bursts and ~ still in."""
    return load(noise=0.0).train


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


def balanced(predicted: Tensor, y: Tensor) -> float:
    return float(np.mean([(predicted[y == k] == k).float().mean().item() for k in y.unique()]))


def linear_score(task: Task, train: Tensor, test: Tensor) -> float:
    """Balanced test accuracy of a balanced linear classifier of some features (n, k), lightly regularised."""
    mean, std = train.double().mean(0), train.double().std(0) + 1e-9
    one, other = (torch.cat([(x.double() - mean) / std, torch.ones(len(x), 1)], 1) for x in (train, test))
    weight = (1 / torch.bincount(task.train.y).double())[task.train.y][:, None]
    wanted = torch.nn.functional.one_hot(task.train.y).double()
    hessian = one.T @ (weight * one) + 0.02 * torch.eye(one.shape[1])
    fitted = torch.linalg.solve(hessian, one.T @ (weight * wanted))
    return balanced((other @ fitted).argmax(1), task.test.y)


def power(samples: Samples, low: float, high: float) -> Tensor:
    """Mean power (n,) from `low` to `high` Hz."""
    hertz = torch.fft.rfftfreq(512, 1 / 64)
    inside = (hertz >= low) & (hertz < high)
    return torch.fft.rfft(samples.x[:, 0]).abs().square()[:, inside].mean(1)


def irregularity(strip: Tensor) -> float:
    """Standard deviation over mean of the time between R peaks, the largest extremes 0.27 s apart."""
    x = strip if strip.max() > -strip.min() else -strip
    peak = (x == torch.nn.functional.max_pool1d(x[None], 35, 1, 17)[0]) & (x > 0.5 * x.max())
    rr = peak.nonzero().squeeze(1).diff().double()
    return float(rr.std() / rr.mean())


def timing(rhythm: Rhythm, n: int = 300, breathing: float = 0.03) -> Timing:
    rng = np.random.Generator(np.random.PCG64(1))
    resting = rng.uniform(0.62, 1.18, n)
    return Timing.drawn(np.full(n, rhythm.value), resting, np.full(n, breathing), rng)


def spread(rr: np.ndarray) -> np.ndarray:
    relative: np.ndarray = rr.std(1) / rr.mean(1)
    return relative


# the form


def test_the_hook_offers_the_set_under_its_name() -> None:
    assert datasets() == {"synthetic-rhythms": SyntheticRhythms()}


def test_a_row_is_8_seconds_of_one_lead_at_64_hz(task: Task, samples: Samples) -> None:
    assert task.shape == (1, 512)
    assert task.rate == 64
    assert samples.x.shape == samples.mask.shape == (len(samples), 1, 512)
    assert (samples.x.dtype, samples.mask.dtype) == (torch.float32, torch.bool)
    samples.check()


def test_the_task_says_that_it_is_synthetic_and_split_by_patient(task: Task) -> None:
    assert task.synthetic
    assert task.notes == ("synthetic", "inter-patient")
    assert (task.classes, task.bounds, task.unit, task.physical) == (tuple("ANO~"), None, "1", "mV")


def test_the_set_needs_no_files_and_no_download() -> None:
    assert SyntheticRhythms().files(DataRoot()) == {}
    assert SyntheticRhythms.remote is None


def test_the_mask_is_false_exactly_on_the_padding_at_the_end(samples: Samples) -> None:
    length = samples.mask.sum((1, 2))
    assert torch.equal(samples.mask[:, 0], torch.arange(512) < length[:, None])
    assert not samples.x[~samples.mask].any()


def test_about_11_percent_of_the_strips_are_short_of_any_class_and_none_below_30_percent() -> None:
    task = SyntheticRhythms(strips=2400).load(DataRoot())
    length = torch.cat([getattr(task, part).mask.sum((1, 2)) for part in PARTS])
    label = torch.cat([getattr(task, part).y for part in PARTS])
    short = length < 512
    assert 0.09 < short.float().mean() < 0.13
    assert 0.3 * 512 - 1 < length.min() < 0.4 * 512
    assert all(0.05 < short[label == k].float().mean() < 0.18 for k in range(4))


def test_mean_and_spread_of_what_is_visible_are_0_and_1(samples: Samples) -> None:
    n, x = samples.mask.sum((1, 2)), samples.x.double()
    zero, one = torch.zeros(len(n), dtype=torch.float64), torch.ones(len(n), dtype=torch.float64)
    torch.testing.assert_close(x.sum((1, 2)) / n, zero, rtol=0, atol=1e-7)
    torch.testing.assert_close(x.square().sum((1, 2)) / n, one, rtol=0, atol=1e-6)


def test_scale_turns_a_difference_into_whole_steps_of_5_microvolts(samples: Samples) -> None:
    steps = (samples.x.diff(dim=2) * samples.scale[:, None, None] * 200)[samples.mask[..., 1:]]
    assert (samples.scale > 0.03).all()
    assert 0.1 < samples.scale.median() < 0.3  # mV
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=2e-3)


# who is where


def test_no_patient_is_in_two_parts(task: Task) -> None:
    owners = [set(getattr(task, part).group.tolist()) for part in PARTS]
    assert not any(one & other for one, other in combinations(owners, 2))
    assert set.union(*owners) == set(range(125))


def test_60_15_and_25_percent_are_for_training_validation_and_test(task: Task) -> None:
    assert [len(getattr(task, part)) for part in PARTS] == [600, 152, 248]


def test_no_sample_number_occurs_twice(task: Task) -> None:
    ids = torch.cat([getattr(task, part).ids for part in PARTS])
    assert torch.equal(ids.sort().values, torch.arange(1000))


def test_every_part_has_the_stated_class_shares(samples: Samples) -> None:
    found = torch.bincount(samples.y, minlength=4) / len(samples)
    torch.testing.assert_close(found, torch.tensor(list(SHARES.values())), rtol=0, atol=1 / len(samples))


def test_the_shares_of_the_classes_and_of_their_rhythms_add_up_to_1() -> None:
    assert list(RHYTHMS) == list(SHARES)
    assert [sum(SHARES.values()), *(sum(shares.values()) for shares in RHYTHMS.values())] == pytest.approx([1] * 5)


@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_set_has_every_class_in_every_part(seed: int) -> None:
    small = load(strips=100, seed=seed)
    assert all(len(getattr(small, part).y.unique()) == 4 for part in PARTS)
    assert sum(len(getattr(small, part)) for part in PARTS) == 100


def test_strips_of_one_patient_are_of_more_similar_size_than_those_of_two(task: Task) -> None:
    some = task.train[task.train.y == N]
    assert some.group is not None
    same = some.group[1:] == some.group[:-1]
    apart = some.scale.log().diff().abs()
    assert apart[same].median() < 0.6 * apart[~same].median()


# fixed to the byte


def test_the_bytes_are_the_same_whatever_the_global_generators_did(task: Task) -> None:
    np.random.seed(5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert digest(load()) == digest(task)
    assert torch.equal(before, torch.get_rng_state())
    assert np.random.get_state()[1][0] == 5  # type: ignore[index]


def test_the_bytes_are_the_same_in_another_process() -> None:
    code = "from tests.plugins.datasets.test_synthetic_rhythms import digest, load; print(digest(load(strips=200)))"
    path = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    other = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=other, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == digest(load(strips=200))


@pytest.mark.parametrize("change", [{"seed": 1}, {"strips": 201}, {"noise": 0.03}], ids=str)
def test_every_parameter_changes_the_data(change: dict[str, float]) -> None:
    assert digest(load(**{"strips": 200, **change})) != digest(load(strips=200))


def test_noise_is_the_white_noise_in_millivolts(quiet: Samples) -> None:
    def bend(samples: Samples) -> float:
        some = samples[(samples.y == N) & samples.mask.all((1, 2))]
        volts = some.x * some.scale[:, None, None]
        return float(volts.diff(n=2).abs().flatten(1).median(1).values.median())

    assert bend(quiet) < 0.01
    assert 0.08 < bend(load(noise=0.1).train) / 6**0.5 / 0.6745 < 0.12


@pytest.mark.parametrize("wrong", [{"strips": 99}, {"seed": -1}, {"noise": -0.1}], ids=str)
def test_a_parameter_out_of_range_is_one_sentence(wrong: dict[str, float]) -> None:
    with pytest.raises(EcgbenchError, match=r"^synthetic-rhythms: \w+=\S+ given; expected [^.]+\.$"):
        load(**wrong)


# what tells the classes apart


def test_the_r_peaks_of_fibrillation_come_less_regularly_than_those_of_the_sinus(quiet: Samples) -> None:
    whole = quiet[quiet.mask.all((1, 2))]
    found = [np.array([irregularity(strip[0]) for strip in whole.x[whole.y == k]]) for k in (A, N)]
    assert np.median(found[0]) > 0.12 > 0.08 > np.median(found[1])
    assert 0.05 < np.mean(found[0] < 0.12) < 0.4  # and yet they overlap


def test_before_the_r_peak_the_sinus_has_a_wave_that_fibrillation_lacks(quiet: Samples) -> None:
    def p_wave(label: int) -> float:
        rows = quiet[quiet.y == label].x[:, 0]
        rows = torch.where(rows.amax(1, keepdim=True) > -rows.amin(1, keepdim=True), rows, -rows)
        strip, peak = (rows == rows.amax(1, keepdim=True)).nonzero().T
        inside = (peak > 30) & (peak < 480)
        strip, peak = strip[inside], peak[inside]
        before = rows[strip[:, None], peak[:, None] + torch.arange(-30, 0)]
        return float((before[:, 14:24].mean(1) - before[:, 4:10].mean(1)).median())

    assert p_wave(N) > p_wave(A) + 0.15


def test_noisy_strips_are_larger_and_hold_more_of_the_highest_frequencies(task: Task) -> None:
    noisy = task.train.y == NOISY
    assert task.train.scale[noisy].median() > 1.8 * task.train.scale[~noisy].median()
    high = power(task.train, 26, 33)
    assert high[noisy].median() > 4 * high[~noisy].median()


@pytest.mark.parametrize(
    ("name", "bound"), [("scale", 0.55), ("length", 0.35), ("f band", 0.55), ("six bands", 0.70), ("samples", 0.40)]
)
def test_simple_features_do_not_decide_the_class(task: Task, name: str, bound: float) -> None:
    edges = (0, 0.5, 1.5, 4, 9, 16, 33)

    def features(samples: Samples) -> Tensor:
        return {
            "scale": lambda: samples.scale.log()[:, None],
            "length": lambda: samples.mask.sum((1, 2))[:, None],
            "f band": lambda: power(samples, 4, 9).log()[:, None],
            "six bands": lambda: torch.stack([power(samples, *ends).log() for ends in pairwise(edges)], 1),
            "samples": lambda: samples.x.flatten(1),
        }[name]()

    assert 0.2 < linear_score(task, features(task.train), features(task.test)) < bound


# the rhythms


@pytest.mark.parametrize("rhythm", list(Rhythm))
def test_the_beats_cover_the_strip_wherever_the_middle_one_lies(rhythm: Rhythm) -> None:
    rr = timing(rhythm, 2000).rr
    assert rr.shape == (2000, BEATS)
    assert rr.min() > 0.15
    assert rr[:, 1 : MIDDLE + 1].sum(1).min() > 0.8 * 8 + 0.85
    assert rr[:, MIDDLE + 1 :].sum(1).min() > 0.7 * 8 + 0.55


def test_the_intervals_of_fibrillation_are_gamma_distributed_with_a_floor() -> None:
    rr = timing(Rhythm.FIBRILLATION).rr
    assert 0.15 < np.median(spread(rr)) < 0.23
    assert rr.min() == SHORTEST
    lag = [np.corrcoef(row[1:], row[:-1])[0, 1] for row in rr]
    assert abs(np.mean(lag)) < 0.06  # independent; -1/49 by the mean


def test_the_sinus_follows_the_breath_and_a_junction_does_not() -> None:
    assert np.median(spread(timing(Rhythm.SINUS, breathing=0.1).rr)) == pytest.approx(0.1 / 2**0.5, abs=0.01)
    assert spread(timing(Rhythm.JUNCTIONAL, breathing=0.1).rr).max() < 0.02


def test_flutter_beats_on_whole_numbers_of_its_waves() -> None:
    drawn = timing(Rhythm.FLUTTER)
    waves = drawn.rr * drawn.atrial[:, None]
    assert np.abs(waves - waves.round()).max() < 0.3
    assert set(np.unique(waves.round())) == {2, 3, 4}


@pytest.mark.parametrize("rhythm", list(Rhythm))
def test_beats_are_premature_in_two_rhythms_only_never_two_in_turn_and_the_middle_one_is(rhythm: Rhythm) -> None:
    early = timing(rhythm).early
    if rhythm not in (Rhythm.ATRIAL, Rhythm.VENTRICULAR):
        assert not early.any()
        return
    assert early[:, MIDDLE].all()
    assert not (early[:, 1:] & early[:, :-1]).any()
    assert 0.05 < early.mean() < 0.25


def test_the_pause_behind_a_ventricular_beat_makes_up_for_it_and_that_behind_an_atrial_one_does_not() -> None:
    pairs = {}
    for rhythm in (Rhythm.VENTRICULAR, Rhythm.ATRIAL):
        drawn = timing(rhythm, breathing=0.0)
        pairs[rhythm] = drawn.rr[:, MIDDLE : MIDDLE + 2] / drawn.usual[:, None]
        assert (pairs[rhythm][:, 0] < 0.92).all()
    np.testing.assert_allclose(pairs[Rhythm.VENTRICULAR].sum(1), 2, atol=0.12)
    assert (pairs[Rhythm.ATRIAL].sum(1) < 2).mean() > 0.95


def test_slow_and_fast_rhythms_lie_at_the_ends_of_the_range_of_the_sinus() -> None:
    slow, fast, sinus = (timing(rhythm).usual for rhythm in (Rhythm.SLOW, Rhythm.FAST, Rhythm.SINUS))
    assert fast.min() > 0.38
    assert fast.max() < 0.6 < np.quantile(sinus, 0.05)
    assert np.quantile(sinus, 0.95) < 1.2 < slow.min()
    assert slow.max() < 1.75
