"""The synthetic stays: the form of icu2012, fixed to the byte, neither trivial nor hopeless."""

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
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ecgbench.core.data import Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench_plugins.datasets.icu_features import OPEN_DATA
from ecgbench_plugins.datasets.synthetic_icu import COURSES, SyntheticIcu, datasets
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.lstm import Recurrent

PARTS = ("train", "val", "test")
PLACE = {feature.name: place for place, feature in enumerate(OPEN_DATA)}


def load(**parameters: object) -> Task:
    return SyntheticIcu(**parameters).load(DataRoot())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def task() -> Task:
    return load()


@pytest.fixture(scope="module")
def observed() -> Task:
    return load(attackable="observed")


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


def auroc(train: tuple[np.ndarray, Samples], test: tuple[np.ndarray, Samples]) -> float:
    """Of a lightly regularised logistic regression of some features (n, k)."""
    fitted = LogisticRegression(C=0.01, max_iter=500).fit(train[0], train[1].y.numpy())
    return float(roc_auc_score(test[1].y.numpy(), fitted.decision_function(test[0])))


def shares(task: Task, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of observed hours of every training stay, and whether there is one."""
    seen = task.train.mask[..., PLACE[name]].float().mean(1)
    return seen, seen > 0


# the form


def test_the_hook_offers_the_set_under_its_name() -> None:
    assert datasets() == {"synthetic-icu": SyntheticIcu()}


def test_a_row_is_48_hours_of_18_named_measurements_in_0_to_1(task: Task, samples: Samples) -> None:
    assert task.shape == (48, 18) and task.features == tuple(COURSES)
    assert (task.classes, task.bounds, task.synthetic) == (("survived", "died"), (0.0, 1.0), True)
    assert samples.x.min() == 0 and samples.x.max() == 1 and samples.x.dtype == torch.float32


def test_the_set_needs_no_files_and_no_download() -> None:
    assert SyntheticIcu().files(DataRoot()) == {} and SyntheticIcu.remote is None


def test_12_percent_died_in_every_part(samples: Samples) -> None:
    assert float(samples.y.float().mean()) == pytest.approx(0.12, abs=0.5 / len(samples))


def test_no_stay_is_in_two_parts_and_the_shares_are_60_15_and_25_percent(task: Task) -> None:
    assert [len(getattr(task, part)) for part in PARTS] == [1800, 450, 750]
    assert torch.cat([getattr(task, part).ids for part in PARTS]).equal(torch.arange(3000))


def test_scales_are_of_the_size_that_is_known_of_patients(task: Task) -> None:
    span = dict(zip(task.features, task.train.scale[0, 0].tolist(), strict=True))
    known = {"K": 2.1, "pH": 0.24, "Na": 16, "HR": 60, "SBP": 75, "DBP": 45, "Temp": 2.8, "HCO3": 15, "BUN": 69}
    assert all(0.5 < span[name] / wanted < 1.5 for name, wanted in known.items())


# fixed to the byte


def test_the_bytes_are_the_same_whatever_the_global_generators_did(task: Task) -> None:
    np.random.seed(5)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert digest(load()) == digest(task)
    assert torch.equal(before, torch.get_rng_state())
    assert np.random.get_state()[1][0] == 5  # type: ignore[index]


def test_the_bytes_are_the_same_in_another_process() -> None:
    code = "from tests.plugins.datasets.test_synthetic_icu import digest, load; print(digest(load(stays=200)))"
    path = os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])
    other = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=other, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == digest(load(stays=200))


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"stays": 201}, {"inputs": "values-observed"}, {"attackable": "observed"}], ids=str
)
def test_every_parameter_changes_the_data(change: dict[str, object]) -> None:
    assert digest(load(**{"stays": 200, **change})) != digest(load(stays=200))


@pytest.mark.parametrize("wrong", [{"stays": 199}, {"seed": -1}], ids=str)
def test_a_parameter_out_of_range_is_one_sentence(wrong: dict[str, int]) -> None:
    with pytest.raises(EcgbenchError, match=r"^synthetic-icu: \w+=\S+ given; expected [^.]+\.$"):
        load(**wrong)


@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_set_has_deaths_and_every_feature_in_every_part(seed: int) -> None:
    small = load(stays=200, seed=seed)
    assert all(getattr(small, part).y.sum() > 0 for part in PARTS)
    assert (small.train.scale > 0).all()


# what is missing


def test_vital_signs_are_there_most_of_the_time_and_tests_a_few_times_a_day(observed: Task) -> None:
    fill = observed.train.mask.float().mean((0, 1))
    assert all(fill[PLACE[name]] > 0.8 for name in ("HR", "SBP", "DBP"))
    assert all(0.05 < fill[PLACE[name]] < 0.2 for name in ("K", "Na", "BUN", "pH"))
    assert fill[PLACE["Albumin"]] < 0.05


def test_some_tests_are_never_made_in_many_stays(observed: Task) -> None:
    never = {name: 1 - float(shares(observed, name)[1].float().mean()) for name in observed.features}
    assert 0.2 < never["pH"] < 0.4 and 0.4 < never["Lactate"] < 0.6 and 0.5 < never["Albumin"] < 0.7
    assert max(never[name] for name in ("HR", "SBP", "Temp", "K", "Na")) < 0.03


def test_vital_signs_have_gaps_of_hours_on_end_in_half_of_the_stays(observed: Task) -> None:
    seen = observed.train.mask[..., [PLACE[name] for name in ("HR", "SBP", "Temp")]].any(2).float()
    longest = torch.stack([1 - torch.nn.functional.max_pool1d(seen[:, None], 3, 1)[:, 0]]).amax((0, 2))
    assert 0.3 < float(longest.mean()) < 0.6


def test_what_is_measured_tells_of_death_but_does_not_decide_it(observed: Task) -> None:
    drawn, _ = shares(observed, "K")
    _, lactate = shares(observed, "Lactate")
    died = observed.train.y == 1
    assert drawn[died].mean() > 1.05 * drawn[~died].mean()
    assert lactate[died].float().mean() > lactate[~died].float().mean() + 0.05
    seen = [(part.mask.float().mean(1).numpy(), part) for part in (observed.train, observed.test)]
    assert 0.6 < auroc(*seen) < 0.8


# how hard it is


def test_a_linear_model_is_between_chance_and_certainty(task: Task) -> None:
    flat = [(part.x.flatten(1).numpy(), part) for part in (task.train, task.test)]
    assert 0.7 < auroc(*flat) < 0.88


def test_trends_tell_more_than_the_first_day_alone(task: Task) -> None:
    def score(last: int) -> float:
        parts = (task.train, task.test)
        return auroc(
            *(
                (part.x[:, :last].reshape(len(part), last // 8, 8, 18).mean(2).flatten(1).numpy(), part)
                for part in parts
            )
        )

    assert score(48) > score(8) + 0.03


@pytest.mark.slow
def test_the_default_training_of_an_lstm_neither_guesses_nor_knows() -> None:
    """50 epochs overfit these 1,800 stays; what is left is what a run without parameters shows."""
    task = load()
    torch.manual_seed(0)
    module = Standard().fit(Recurrent().build(task), task, RandomStream(("training",)), Checkpoint())
    with torch.no_grad():
        score = module(task.test.x).diff(dim=1).squeeze(1)
    assert 0.75 < roc_auc_score(task.test.y.numpy(), score.numpy()) < 0.9
