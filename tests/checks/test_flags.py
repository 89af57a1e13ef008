"""The registry of flags agrees with the checks that raise them."""

from __future__ import annotations

import pytest

from ecgbench.checks.audit import Audit
from ecgbench.checks.cheap import CheapChecks
from ecgbench.checks.flags import BY_EFFECT, FLAGS, OF_AUDITS, OF_VICTIM, REGISTRY, UNCHECKED, Flag
from ecgbench.checks.probe import Check
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.victim import Victim
from ecgbench.evaluation.sweep import Sweep
from ecgbench.testing import linear_problem
from ecgbench_plugins.attacks.fgsm import FGSM


def test_every_check_is_of_a_flag_of_its_cost_and_every_flag_is_looked_for() -> None:
    problem = linear_problem(shape=(1, 8), classes=3)
    victim = Victim(problem.module)
    sweep = Sweep(FGSM(), victim, problem.task, problem.threat, (problem.eps,), RandomStream((0, "attack")))
    outcomes = sweep.run(Checkpoint())
    cheap = [check.code for check in CheapChecks(sweep, outcomes, problem.eps).run()]
    costly = [check.code for check in Audit(sweep, outcomes, problem.eps, victim).run()]
    assert cheap == [flag.code for flag in REGISTRY if flag.cost == "cheap" and flag is not UNCHECKED]
    assert costly == [flag.code for flag in REGISTRY if flag.cost == "costly"]
    assert set(costly) == OF_AUDITS


def test_a_flag_stands_once_and_has_a_meaning() -> None:
    assert list(FLAGS) == [flag.code for flag in REGISTRY] and all(FLAGS.values())
    assert len(FLAGS) == len(REGISTRY)


def test_the_groups_are_made_of_the_registry() -> None:
    assert {"ONECLASS", "GRAD", "MASKEDGRAD"} < OF_VICTIM and OF_VICTIM.isdisjoint({"NOOP", "TRANSFER", "unchecked"})
    assert {"NOISE", "BATCHDEP", "ACTIVE-TEST"} < BY_EFFECT and BY_EFFECT.isdisjoint({"RANDOM", "CHANCE", "unchecked"})


@pytest.mark.parametrize(("effect", "raised"), [(0.1, False), (0.11, True), (0.0, False), (float("nan"), False)])
def test_a_check_by_effect_is_raised_above_its_threshold_alone(effect: float, raised: bool) -> None:
    check = Check.by_effect(Flag("F", "a flag", "cheap", "attack", True), effect, 0.1, "tried")
    assert (check.code, check.raised, check.threshold, check.note) == ("F", raised, 0.1, "tried")
