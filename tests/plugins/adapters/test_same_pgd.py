"""Without a random start, PGD is the same attack here and in three libraries, sample by sample."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from ecgbench.core.data import Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.victim import Victim, frozen
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Protocol, Sweep
from ecgbench.runs.zoo import CHECKPOINTS, load_victim
from ecgbench_plugins.datasets.mitbih import MitBih
from ecgbench_plugins.models.mlp import MLP
from tests.plugins.adapters.library_world import attack, waves

Signals = Literal["waves", "beats"]
HOME = os.environ.get("ECGBENCH_DATA")
ROOT = Path(__file__).parents[3]
PUBLISHED = "mitbih-mlp-none-seed0"
LAST = Protocol(success="last", sweep="independent")
EPS = {
    ("waves", "linf", False): 0.05,
    ("waves", "linf", True): 0.5,
    ("waves", "l2", False): 0.8,
    ("waves", "l2", True): 5.0,
    ("beats", "linf", False): 0.015,
    ("beats", "linf", True): 0.2,
    ("beats", "l2", False): 0.15,
    ("beats", "l2", True): 2.0,
}
"""By signals, norm, and whether they are z-scored."""
OURS = "pgd[start=zero,steps=20]"
THEIRS = {
    ("torchattacks", "linf"): "torchattacks.PGD[random_start=false,steps=20,alpha={step}]",
    ("torchattacks", "l2"): "torchattacks.PGDL2[random_start=false,steps=20,alpha={step},eps_for_division=1e-30]",
    ("foolbox", "linf"): "foolbox.LinfPGD[random_start=false,steps=20,rel_stepsize=0.1]",
    ("foolbox", "l2"): "foolbox.L2PGD[random_start=false,steps=20,rel_stepsize=0.1]",
    ("art", "linf"): "art.PGD[max_iter=20,eps_step={step}]",
    ("art", "l2"): "art.PGD[max_iter=20,eps_step={step}]",
}
"""torchattacks adds 1e-10 to the norm of each gradient of a mean loss: 14 of 200 real beats, whose loss is saturated,
would stand still. It is a parameter of theirs."""
by_library = pytest.mark.parametrize("library", ["torchattacks", "foolbox", "art"])
by_norm = pytest.mark.parametrize("norm", ["linf", "l2"])
by_scale = pytest.mark.parametrize("scored", [False, True], ids=["unit", "z-scored"])
by_target = pytest.mark.parametrize("target", [None, 1], ids=["untargeted", "targeted"])


@cache
def beats(scored: bool) -> Task:
    """40 real test beats of each class, in [0, 1] or z-scored beat by beat, and 400 of each to train on."""
    try:
        task = MitBih().load(DataRoot(Path(HOME or "")))
    except DataError as error:
        pytest.skip(str(error))
    train, test = balanced(task.train, 400), balanced(task.test, 40)
    if not scored:
        return replace(task, train=train, val=train, test=test)
    return replace(task, train=z_scored(train), val=z_scored(train), test=z_scored(test), bounds=None)


def balanced(samples: Samples, each: int) -> Samples:
    """The first `each` samples of every class, the classes in turn."""
    rows = [(samples.y == label).nonzero().squeeze(1)[:each] for label in samples.y.unique()]
    return samples[torch.stack(rows, 1).flatten()]


def z_scored(samples: Samples) -> Samples:
    return replace(samples, x=(samples.x - samples.x.mean(2, keepdim=True)) / samples.x.std(2, keepdim=True))


def task_of(signals: Signals, scored: bool) -> Task:
    return waves(scored) if signals == "waves" else beats(scored)


@cache
def victim(signals: Signals, scored: bool) -> Victim:
    """The published victim for real beats as they are, else one that learns for a second."""
    if signals == "beats" and not scored:
        return frozen(load_victim(PUBLISHED, ROOT / CHECKPOINTS))
    task = task_of(signals, scored)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = MLP().build(task)
        optimizer = torch.optim.Adam(module.parameters(), 1e-3)
        for step in range(300):
            batch = task.train[torch.arange(64 * step, 64 * step + 64) % len(task.train)]
            optimizer.zero_grad()
            cross_entropy(module(batch.x), batch.y).backward()
            optimizer.step()
    return frozen(module)


@cache
def outcomes(text: str, norm: Norm, signals: Signals, scored: bool, target: int | None) -> Outcomes:
    task, eps = task_of(signals, scored), EPS[signals, norm, scored]
    goal = None if target is None else task.classes[target]
    threat = Threat(norm, mask=False, target=goal)
    return Sweep(attack(text), victim(signals, scored), task, threat, (eps,), RandomStream((0,)), LAST).run(
        Checkpoint()
    )


def check_agreement(library: str, norm: Norm, signals: Signals, scored: bool, target: int | None) -> None:
    """Own PGD and that of `library` do the same to 199 of 200 samples, of which some fall and some stand."""
    step = f"{0.1 * EPS[signals, norm, scored]:.6g}"
    ours = outcomes(OURS, norm, signals, scored, target)
    theirs = outcomes(THEIRS[library, norm].format(step=step), norm, signals, scored, target)
    assert len(ours.y) == 200 and 10 <= ours.adversarial.sum() <= 190
    assert np.sum(ours.adversarial != theirs.adversarial) <= 1
    assert np.sum(ours.predicted != theirs.predicted) <= 1


@by_target
@by_scale
@by_norm
@by_library
def test_own_pgd_and_theirs_agree_on_199_of_200_samples(
    library: str, norm: Norm, scored: bool, target: int | None
) -> None:
    check_agreement(library, norm, "waves", scored, target)


@pytest.mark.real
@pytest.mark.skipif(HOME is None, reason="ECGBENCH_DATA is not set")
@by_target
@by_scale
@by_norm
@by_library
def test_they_agree_on_199_of_200_real_beats(library: str, norm: Norm, scored: bool, target: int | None) -> None:
    check_agreement(library, norm, "beats", scored, target)
