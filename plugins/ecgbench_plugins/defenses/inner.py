"""The attack inside a training: unwatched, on a module that is in training between the steps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench import Attack, Batch, EcgbenchError, RandomStream, Task, Threat, Trial, delta_of, evaluating


def perturbation(
    module: Module, batch: Batch, attack: Attack, threat: Threat, eps: float, task: Task, rng: RandomStream
) -> Tensor:
    """What `attack` does in eval mode to each row inside `threat` at `eps`: (n, *shape), without a gradient.

    Rows that the threat leaves alone (of its target, or of no source class) are not perturbed.
    """
    ball = threat.ball(batch, eps, task.bounds)
    goal = threat.goal(batch.y, task.outputs)
    rows = goal.eligible.nonzero().squeeze(1)
    if not len(rows):
        return torch.zeros_like(batch.x)
    whole = len(rows) == len(batch)
    with evaluating(module) as victim:
        trial = Trial.begin(
            victim, batch, ball, goal, rng.fold_in("victim"), watch="never", draws=attack.eot, rate=task.rate
        )
        delta = delta_of(attack, trial if whole else trial[rows], rng.fold_in("attack"))
    return delta if whole else torch.zeros_like(batch.x).index_copy(0, rows, delta)


def check_untargeted(threat: Threat) -> None:
    """Raises EcgbenchError where a threat has a direction that the defense cannot follow."""
    if threat.target is not None:
        raise EcgbenchError(f"target={threat.target} given; expected a threat without a target: all ways count here.")
