"""The synthetic knees: the form of the real ones, fixed to the byte, three planes of one phantom."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.signals import ByteSignals
from ecgbench.core.threat import Threat
from ecgbench.core.victim import frozen
from ecgbench.evaluation.sweep import Sweep
from ecgbench.testing import check_dataset
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.datasets import synthetic_knee
from ecgbench_plugins.datasets.synthetic_knee import KINDS, RATES, SyntheticKnee, datasets
from tests.volumes import LargestSlice

PARTS = ("train", "val", "test")
PLANES = ("axial", "coronal", "sagittal")
TASKS = ("abnormal", "acl", "meniscus")


@cache
def load(**parameters: Any) -> Task:
    return SyntheticKnee(**{"exams": 80, **parameters}).load(DataRoot())


def every(task: Task) -> tuple[Tensor, Tensor]:
    """Labels of all exams by their ids."""
    parts = [getattr(task, part) for part in PARTS]
    return torch.cat([samples.ids for samples in parts]), torch.cat([samples.y for samples in parts])


def bytes_of(task: Task) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for part in PARTS:
        signals = getattr(task, part).signals
        assert isinstance(signals, ByteSignals)
        found += signals.arrays
    return found


def digest(task: Task) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in bytes_of(task))).hexdigest()


def test_the_hook_offers_the_set_and_the_kit_has_nothing_to_say() -> None:
    assert datasets() == {"synthetic-knee": SyntheticKnee()}
    check_dataset(SyntheticKnee(exams=80, plane="axial", task="acl"))


def test_a_volume_is_12_to_24_slices_of_64_by_64_in_8_bits_and_padding() -> None:
    task = load()
    assert task.shape == (24, 1, 64, 64) and task.bounds == (0.0, 1.0) and task.synthetic
    arrays = bytes_of(task)
    assert {array.dtype for array in arrays} == {np.dtype(np.uint8)} and not any(a.flags.writeable for a in arrays)
    assert {len(array) for array in arrays} == set(range(12, 25))
    one = task.test[:3]
    assert one.lengths is not None
    assert torch.equal(one.mask.sum((1, 2, 3, 4)), one.lengths) and not one.x[~one.mask.expand_as(one.x)].any()


def test_splits_have_their_sizes_and_the_published_shares_of_labels() -> None:
    for name in TASKS:
        task = load(exams=200, task=name)
        assert [len(getattr(task, part)) for part in PARTS] == [120, 30, 50]
        for part in PARTS:
            samples: Samples = getattr(task, part)
            assert int(samples.y.sum()) == round(RATES[name] * len(samples))
        assert every(task)[0].tolist() == list(range(200))


def test_whoever_has_a_tear_is_abnormal_and_planes_agree_on_labels() -> None:
    labels = {name: every(load(task=name))[1] for name in TASKS}
    assert not (labels["acl"] > labels["abnormal"]).any() and not (labels["meniscus"] > labels["abnormal"]).any()
    assert (labels["acl"] * labels["meniscus"]).any() and (labels["acl"] != labels["meniscus"]).any()
    for plane in PLANES:
        assert torch.equal(every(load(plane=plane))[1], labels["abnormal"])


def test_the_seed_fixes_every_byte_and_the_task_none() -> None:
    assert digest(load()) == digest(SyntheticKnee(exams=80).load(DataRoot())) == digest(load(task="acl"))
    assert len({digest(load()), digest(load(seed=1)), digest(load(plane="axial"))}) == 3


def test_planes_are_slices_of_one_phantom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise, a lesion that is seen in one plane is at the same place in the others."""
    monkeypatch.setattr(synthetic_knee, "NOISE", 0.0)
    monkeypatch.setattr(synthetic_knee, "SLICES", (64, 64))
    monkeypatch.setattr(synthetic_knee, "REACH", 1.0)
    label = {"abnormal": True, "acl": True, "meniscus": False}
    axial, coronal, sagittal = (
        synthetic_knee._volume(label, plane, 0, 5) for plane in ("axial", "coronal", "sagittal")
    )
    assert np.array_equal(axial, np.moveaxis(coronal, 0, 1)) and np.array_equal(axial, np.moveaxis(sagittal, 0, 2))


def test_all_planes_are_the_three_series_side_by_side() -> None:
    whole = load(plane="all")
    check_dataset(SyntheticKnee(exams=40, plane="all"))
    assert whole.shape == (24, 3, 1, 64, 64)
    batch = whole.val[:]
    for number, plane in enumerate(PLANES):
        alone = load(plane=plane).val[:]
        assert torch.equal(batch.x[:, :, number], alone.x) and torch.equal(batch.y, alone.y)
        assert torch.equal(batch.mask[:, :, number], alone.mask)
    assert batch.lengths is not None and torch.equal(batch.mask.flatten(2).any(2).sum(1), batch.lengths)


@pytest.mark.parametrize("name", TASKS)
def test_a_label_adds_its_lesion_and_changes_nothing_else(name: str) -> None:
    label = dict.fromkeys(TASKS, False)
    without, having = (
        synthetic_knee._volume(given, "coronal", 0, 7).astype(int) for given in (label, {**label, name: True})
    )
    added, low = having - without, min(KINDS[name].heights)
    assert (added <= 1).all() if low < 0 else (added >= -1).all()
    assert 0 < (np.abs(added) > 10).mean() < 0.2
    assert abs(added).max() > 0.3 * min(abs(height) for height in KINDS[name].heights)


def test_knees_without_a_label_have_faint_lesions_too() -> None:
    """Half of them of each kind: what is added differs from exam to exam, and from nothing."""
    label = dict.fromkeys(TASKS, False)
    counts = [len(synthetic_knee._lesions(label, np.random.default_rng(seed))) for seed in range(200)]
    assert set(counts) == {0, 1, 2, 3} and 1.2 < np.mean(counts) < 1.8


@pytest.mark.parametrize(("name", "value"), [("exams", 39), ("seed", -1)])
def test_parameters_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(EcgbenchError, match=f"{name}={value} given; expected"):
        replace(SyntheticKnee(), **{name: value})


def test_fgsm_on_a_linear_victim_is_the_closed_form_and_leaves_the_padding() -> None:
    """Every slice counts: the logit moves by eps times the sum of |w| over the places that bounds leave room in."""

    class EverySlice(LargestSlice):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return (self.scores(x) * mask.flatten(2).any(2)).sum(1, keepdim=True)

        def scores(self, x: Tensor) -> Tensor:
            return (x * self.weight).sum((-3, -2, -1)) - self.offset

    task = load()
    weight = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0)) / 400
    rows = task.test[:]
    victim = EverySlice(weight, 0.0).eval()
    with torch.no_grad():
        clean = victim(rows.x, rows.mask)
    y = (clean[:, 0] > 0).long()
    task, eps = replace(task, test=replace(task.test, y=y)), 0.01
    sweep = Sweep(FGSM(), frozen(victim), task, Threat("linf"), (eps,), RandomStream((0,)))
    found = sweep.run(Checkpoint())
    side = torch.where(y == 1, -1.0, 1.0).view(-1, 1, 1, 1, 1) * weight.sign()
    best = (rows.x + eps * side).clamp(0, 1) - rows.x
    with torch.no_grad():
        moved = victim(rows.x + best * rows.mask, rows.mask)[:, 0]
    assert found.adversarial[0].mean() > 0.2 and np.array_equal(found.adversarial[0], ((moved > 0).long() != y).numpy())
    delta = sweep.perturb(task.test[:4], eps).delta
    torch.testing.assert_close(delta, (best * rows.mask)[:4])
