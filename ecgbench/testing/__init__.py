"""Contracts for plugin authors: what each kind of plugin promises, checked in seconds and without recordings.

    from ecgbench.testing import check_attack

    def test_contract():
        check_attack(MyAttack())

The promises are listed in `ATTACK_PROMISES`, `DATASET_PROMISES`, `MODEL_PROMISES` and `DEFENSE_PROMISES`, in
the order in which they are checked; each has a `name` and a `text`.
"""

from __future__ import annotations

from ecgbench.testing.attacks import ATTACK_PROMISES, check_attack
from ecgbench.testing.problem import LinearVictim, Problem, critical_size, linear_problem
from ecgbench.testing.promise import BrokenPromiseError, Promise

