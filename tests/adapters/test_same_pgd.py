"""Without a random start, PGD is the same attack here and in three libraries, sample by sample."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from foreign_world import attack, waves
from torch.nn.functional import cross_entropy

from ecgbench.journal import Journal
from ecgbench.keyed import Keyed
from ecgbench.outcomes import Outcomes
from ecgbench.sweep import Protocol, Sweep
from ecgbench.threat import Norm, Threat
from ecgbench.victim import Victim, frozen
from ecgbench_plugins.models.mlp import MLP

LAST = Protocol(success="last", sweep="independent")
EPS = {("linf", False): 0.05, ("linf", True): 0.5, ("l2", False): 0.8, ("l2", True): 5.0}
OURS = "pgd[start=zero,steps=20]"
THEIRS = {
    ("torchattacks", "linf"): "torchattacks.PGD[random_start=false,steps=20,alpha={step}]",
    ("torchattacks", "l2"): "torchattacks.PGDL2[random_start=false,steps=20,alpha={step}]",
    ("foolbox", "linf"): "foolbox.LinfPGD[random_start=false,steps=20,rel_stepsize=0.1]",
    ("foolbox", "l2"): "foolbox.L2PGD[random_start=false,steps=20,rel_stepsize=0.1]",
    ("art", "linf"): "art.PGD[max_iter=20,eps_step={step}]",
    ("art", "l2"): "art.PGD[max_iter=20,eps_step={step}]",
}


@cache
def victim(scored: bool) -> Victim:
    task = waves(scored)
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
def outcomes(text: str, norm: Norm, scored: bool, target: str | None) -> Outcomes:
    sweep = Sweep(
        attack(text),
        victim(scored),
        waves(scored),
        Threat(norm, target=target),
        (EPS[norm, scored],),
        Keyed((0,)),
        LAST,
    )
    return sweep.run(Journal())


@pytest.mark.parametrize("target", [None, "1"])
@pytest.mark.parametrize("scored", [False, True], ids=["unit", "z-scored"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("library", ["torchattacks", "foolbox", "art"])
def test_own_pgd_and_theirs_agree_on_199_of_200_samples(
    library: str, norm: Norm, scored: bool, target: str | None
) -> None:
    pytest.importorskip(library, exc_type=ImportError)
    step = f"{0.1 * EPS[norm, scored]:.6g}"
    ours = outcomes(OURS, norm, scored, target)
    theirs = outcomes(THEIRS[library, norm].format(step=step), norm, scored, target)
    assert 10 <= ours.fallen.sum() <= 190
    assert np.sum(ours.fallen != theirs.fallen) <= 1
    assert np.sum(ours.predicted != theirs.predicted) <= 1
