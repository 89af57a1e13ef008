"""Attacks on volumes leave the padding; the clamp of the MRNet study is an effect, its perturbation is none."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import frozen
from ecgbench.evaluation.binary import binary_scores
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep
from ecgbench.registry.catalog import discover
from ecgbench.studies.gains import gains
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.datasets.synthetic_knee import SyntheticKnee
from ecgbench_plugins.defenses.augmentation import Augmented, auroc
from ecgbench_plugins.defenses.fgsm_augmentation import FGSMAugmentation
from ecgbench_plugins.models.mrnet import SmallMRNet
from tests.volumes import LargestSlice, knee_task

CATALOG = discover()
RNG = RandomStream(("attack", 0))
EPS = (0.0005, 0.001)  # of [0, 1]; the study's largest is 0.002
ATTACKS = (
    *("noise", "fgsm", "pgd[steps=3]", "pgd[loss=targeted-margin,steps=3]", "mifgsm", "apgd[steps=5]"),
    *("square[queries=30]", "spsa[pairs=4,steps=2]", "strict[budget=quick]"),
)


@pytest.mark.parametrize("selector", ATTACKS)
def test_an_attack_on_volumes_leaves_the_padding_exactly(selector: str) -> None:
    task = knee_task()
    torch.manual_seed(0)
    victim = frozen(SmallMRNet(widths=(8,)).build(task), task.outputs)
    rows = task.test[:6]
    answer = victim.predict(rows.x, rows, RNG)
    sweep = Sweep(CATALOG.resolve("attack", selector), victim, task, Threat("linf"), (0.02,), RNG)
    delta = sweep.perturb(replace(rows, y=answer), 0.02).delta
    padding = ~rows.mask.expand_as(rows.x)
    assert bool(padding.any()) and not delta[padding].any() and delta[~padding].any()


class Clamped(Module):
    """A network that sees what the study's code leaves of an exam."""

    takes_mask = True

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        seen: Tensor = self.module(FGSMAugmentation(clamp="study")._clamped(x), mask)
        return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["abnormal", "acl", "meniscus"])
def test_a_small_network_learns_the_synthetic_set_but_not_all_of_it(name: str) -> None:
    """Trained on one set, asked about 180 exams of another."""
    task, other = (SyntheticKnee(task=name, seed=seed).load(DataRoot()) for seed in (1, 2))  # type: ignore[arg-type]
    torch.manual_seed(0)
    module = Augmented().fit(SmallMRNet().build(task), task, RNG, Checkpoint())
    assert 0.75 < auroc(module, other.train, RNG) < 0.985


@cache
def blobs() -> Task:
    """The 96 training exams of a set of 160, to be attacked: the detector below is trained on none."""
    task = SyntheticKnee(exams=160, task="acl").load(DataRoot())
    return replace(task, test=task.train)


class Contrast(LargestSlice):
    """The middle of a slice above the tissue beside it, in the slice where it is most."""

    def __init__(self) -> None:
        weight = torch.zeros(1, 64, 64)
        weight[:, 28:36, 10:54] = -1 / (8 * 44)
        weight[:, 28:36, 28:36] += 1 / 64
        super().__init__(weight, 0.1)

    def scores(self, x: Tensor) -> Tensor:
        return (x * self.weight).sum((-3, -2, -1)) - self.offset


def swept(module: Module) -> Outcomes:
    victim = frozen(module, blobs().outputs)
    return Sweep(FGSM(), victim, blobs(), Threat("linf"), EPS, RNG).run(Checkpoint())


def test_the_clamp_changes_the_auroc_at_eps_0_and_fgsm_of_the_studys_size_does_not() -> None:
    plain, clamped = swept(Contrast()), swept(Clamped(Contrast()))
    effect = gains({"clamp": (clamped, plain)})["clamp"]
    assert effect.control > 0.8
    assert effect.value < -0.1 and effect.interval[1] < 0 and effect.p_value < 0.05
    scores = binary_scores(plain, blobs().outputs, 500, 0)
    assert scores is not None
    clean, *attacked = (each["ACL tear"].auroc for each in scores)
    assert clean is not None
    for estimate in attacked:
        assert estimate is not None
        assert abs(estimate.value - clean.value) < 0.02
        assert clean.interval[0] < estimate.value < clean.interval[1]
