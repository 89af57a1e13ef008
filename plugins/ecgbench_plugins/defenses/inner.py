"""The attack inside a training: unwatched, on a module that is in training between the steps."""

from __future__ import annotations

from torch import Tensor
from torch.nn import Module

from ecgbench.data import Batch, Task
from ecgbench.interfaces import Attack
from ecgbench.keyed import Keyed
from ecgbench.threat import Threat
from ecgbench.trial import Trial
from ecgbench.victim import evaluating


def perturbation(
    module: Module, batch: Batch, attack: Attack, threat: Threat, eps: float, task: Task, rng: Keyed
) -> Tensor:
    """What `attack` does in eval mode to each row inside `threat` at `eps`: (n, *shape), without a gradient."""
    ball = threat.around(batch, eps, task.bounds)
    aim = threat.aim(batch.y, task.classes)
    with evaluating(module) as victim:
        trial = Trial.begin(victim, batch, ball, aim, rng.at("victim"), watch="never", draws=attack.eot, rate=task.rate)
        return attack.perturb(trial, rng.at("attack")).detach()
