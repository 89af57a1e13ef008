"""The attack inside a training: unwatched, on a module that is in training between the steps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.data import Batch, Task
from ecgbench.errors import EcgbenchError
from ecgbench.interfaces import Attack, delta_of
from ecgbench.keyed import Keyed
from ecgbench.threat import Threat
from ecgbench.trial import Trial
from ecgbench.victim import evaluating


def perturbation(
    module: Module, batch: Batch, attack: Attack, threat: Threat, eps: float, task: Task, rng: Keyed
) -> Tensor:
    """What `attack` does in eval mode to each row inside `threat` at `eps`: (n, *shape), without a gradient.

    Rows that the threat leaves alone (of its target, or of no source class) are not perturbed.
    """
    ball = threat.around(batch, eps, task.bounds)
    aim = threat.aim(batch.y, task.classes)
    rows = aim.free.nonzero().squeeze(1)
    if not len(rows):
        return torch.zeros_like(batch.x)
    whole = len(rows) == len(batch)
    with evaluating(module) as victim:
        trial = Trial.begin(victim, batch, ball, aim, rng.at("victim"), watch="never", draws=attack.eot, rate=task.rate)
        delta = delta_of(attack, trial if whole else trial[rows], rng.at("attack"))
    return delta if whole else torch.zeros_like(batch.x).index_copy(0, rows, delta)


def check_untargeted(threat: Threat) -> None:
    """Raises EcgbenchError where a threat has a direction that the defense cannot follow."""
    if threat.target is not None:
        raise EcgbenchError(f"target={threat.target} given; expected a threat without a target: all ways count here.")
