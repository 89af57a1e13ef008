"""Contracts for plugin authors: what each kind of plugin promises, checked in seconds and without recordings.

    from ecgbench.testing import check_attack

    def test_contract():
        check_attack(MyAttack())

The promises are listed in `ATTACK_PROMISES`, `DATASET_PROMISES`, `MODEL_PROMISES` and `DEFENSE_PROMISES`, in
the order in which they are checked; each has a `name` and a `text`.
"""

from __future__ import annotations

from ecgbench.testing.attacks import ATTACK_PROMISES, check_attack
from ecgbench.testing.datasets import DATASET_PROMISES, check_dataset
from ecgbench.testing.defenses import DEFENSE_PROMISES, check_defense
from ecgbench.testing.models import MODEL_PROMISES, check_model
from ecgbench.testing.problem import LinearVictim, Problem, critical_size, linear_problem
from ecgbench.testing.promise import BrokenPromiseError, Promise
from ecgbench.testing.tasks import SmallModel, small_task

__all__ = [
    "ATTACK_PROMISES",
    "DATASET_PROMISES",
    "DEFENSE_PROMISES",
    "MODEL_PROMISES",
    "BrokenPromiseError",
    "LinearVictim",
    "Problem",
    "Promise",
    "SmallModel",
    "check_attack",
    "check_dataset",
    "check_defense",
    "check_model",
    "critical_size",
    "linear_problem",
    "small_task",
]
