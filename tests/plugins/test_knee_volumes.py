"""Attacks on volumes leave the padding; the clamp of the MRNet study is an effect, its perturbation is none."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import Conv2d, Module
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import LBFGS

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
from ecgbench_plugins.defenses.fgsm_augmentation import FGSMAugmentation
from ecgbench_plugins.models.mrnet import Network, SmallMRNet
from tests.volumes import knee_task

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


@cache
def blobs() -> Task:
    return SyntheticKnee(exams=160, task="acl").load(DataRoot())


@cache
def detector() -> Network:
    """Means of 5 x 5 pixels above six grey values from 108 to 233, pooled as MRNet pools; its head is fitted."""
    module = SmallMRNet(widths=(6,)).build(blobs())
    assert isinstance(module, Network)
    first = module.features[0]
    assert isinstance(first, Conv2d) and first.bias is not None
    with torch.no_grad():
        first.weight.fill_(1 / 75)
        first.bias.copy_(-torch.linspace(0.5, 3.0, 6))
    first.requires_grad_(False)
    train = blobs().train[:]
    module.head.requires_grad_(False)
    optimizer = LBFGS(module.head.requires_grad_().parameters(), lr=1.0, max_iter=60, line_search_fn="strong_wolfe")
    seen: list[Tensor] = []
    with torch.no_grad():
        hook = module.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        module(train.x, train.mask)
        hook.remove()
    scale = seen[0].std(0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        z = module.head(seen[0] / scale)[:, 0]
        loss = binary_cross_entropy_with_logits(z, train.y.float()) + 0.01 * module.head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        module.head.weight.div_(scale)
    return module


def swept(module: Module) -> Outcomes:
    victim = frozen(module, blobs().outputs)
    return Sweep(FGSM(), victim, blobs(), Threat("linf"), EPS, RNG).run(Checkpoint())


def test_the_clamp_changes_the_auroc_at_eps_0_and_fgsm_of_the_studys_size_does_not() -> None:
    plain, clamped = swept(detector()), swept(Clamped(detector()))
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
