"""Costly checks: each is raised by what was planted for it, none by an honest victim under a thorough attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from problems import Written, blobs, generators, linear_problem, random_mlp
from torch import Tensor
from torch.nn import Flatten, Linear, Module, ReLU, Sequential

from ecgbench.audit import Audit
from ecgbench.checks import Check
from ecgbench.data import Task
from ecgbench.interfaces import Attack
from ecgbench.journal import Journal
from ecgbench.keyed import Keyed
from ecgbench.record import OF_AUDITS
from ecgbench.sweep import Sweep
from ecgbench.threat import Norm, Threat
from ecgbench.trial import Trial
from ecgbench.verification import BY_EFFECT
from ecgbench.victim import Victim, frozen
from ecgbench_plugins.attacks.identity import Identity
from ecgbench_plugins.attacks.noise import Noise
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.defenses.none import Standard

CODES = ["BATCHDEP", "MASKEDGRAD", "UNBOUNDED", "LOSSSAT", "TARGETED", "NOTCONV", "BB>WB", "ACTIVE-TEST"]
THOROUGH = PGD(steps=60, loss="targeted-margin", restarts=2)
EPS = 0.3


def sweep_of(attack: Attack, task: Task, victim: Victim, threat: Threat | None = None, seed: int = 0) -> Sweep:
    return Sweep(attack, victim, task, threat or Threat("linf"), (EPS,), Keyed((seed, "attack")))


def audited(sweep: Sweep, twin: Victim | None = None) -> dict[str, Check]:
    return {check.code: check for check in Audit(sweep, sweep.run(Journal()), EPS, twin).run()}


def raised(sweep: Sweep, twin: Victim | None = None) -> list[str]:
    return [code for code, check in audited(sweep, twin).items() if check.raised]


@cache
def trained(seed: int = 0) -> tuple[Task, Module]:
    """A small honest network."""
    task = blobs(1800, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Sequential(Flatten(), Linear(16, 32), ReLU(), Linear(32, 3))
    return task, Standard(epochs=8, batch=64, lr=1e-2).fit(module, task, Keyed(("train", seed)), Journal())


def behind(inner: Callable[[Tensor], Tensor] = lambda x: x, outer: Callable[[Tensor], Tensor] = lambda z: z) -> Victim:
    """The trained network behind a function of its input and before one of its logits."""
    return frozen(Sequential(Written(inner), trained()[1], Written(outer)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_honest_victim_under_a_thorough_attack_raises_nothing(seed: int, norm: Norm) -> None:
    task, module = trained(seed)
    found = audited(sweep_of(THOROUGH, task, frozen(module), Threat(norm), seed))
    assert list(found) == CODES
    assert not [code for code, check in found.items() if check.raised]


def test_a_linear_victim_raises_nothing() -> None:
    problem = linear_problem(3, (1, 20), 600)
    assert raised(sweep_of(THOROUGH, replace(problem.task, bounds=None), problem.victim)) == []


def test_every_code_is_known_to_board_and_verification() -> None:
    from ecgbench.board import CHECKS

    assert OF_AUDITS in CODES and {*CODES, "TRANSFER"} <= set(CHECKS) & BY_EFFECT


def test_rounding_of_the_signal_hides_the_gradient_and_falls_to_the_twin() -> None:
    task, module = trained()
    found = audited(sweep_of(THOROUGH, task, behind(lambda x: (x * 4).round() / 4)), frozen(module))
    assert {"MASKEDGRAD", "UNBOUNDED", "TRANSFER", "ACTIVE-TEST"} <= {code for code, c in found.items() if c.raised}
    assert found["TRANSFER"].effect > 0.05


def test_logits_times_a_thousand_starve_the_cross_entropy() -> None:
    task, _ = trained()
    scaled = behind(outer=lambda z: 1000 * z)
    assert "LOSSSAT" in raised(sweep_of(PGD(start="zero"), task, scaled))
    assert "LOSSSAT" not in raised(sweep_of(THOROUGH, task, scaled))


def test_a_victim_that_centres_its_batch_is_company() -> None:
    assert "BATCHDEP" in raised(sweep_of(THOROUGH, trained()[0], behind(lambda x: x - 0.1 * x.mean(0))))


@dataclass(frozen=True)
class Halting(Attack):
    """PGD on every second sample; the others are left alone until it is asked to go on for longer."""

    patience: int = 1

    def longer(self) -> Attack:
        return replace(self, patience=2 * self.patience)

    def perturb(self, trial: Trial, rng: Keyed) -> Tensor:
        chosen = (trial.batch.ids % 2 < self.patience).nonzero().squeeze(1)
        delta = torch.zeros_like(trial.batch.x)
        if len(chosen):
            delta[chosen] = THOROUGH.perturb(trial[chosen], rng)
        return delta


def test_an_attack_that_more_steps_make_stronger_has_not_converged() -> None:
    task, module = trained()
    found = audited(sweep_of(Halting(), task, frozen(module)))
    assert found["NOTCONV"].raised and found["NOTCONV"].effect > 0.02


def test_an_attack_on_nobody_is_beaten_by_all_the_others() -> None:
    task, module = trained()
    found = audited(sweep_of(Identity(), task, frozen(module)), frozen(module))
    assert {"TARGETED", "BB>WB", "TRANSFER", "ACTIVE-TEST"} <= {code for code, check in found.items() if check.raised}


def test_the_effect_of_the_targeted_check_is_what_a_targeted_attack_finds() -> None:
    task, module = trained()
    whole = sweep_of(THOROUGH, task, frozen(module)).run(Journal())
    found = audited(sweep_of(Identity(), task, frozen(module)))["TARGETED"]
    assert found.effect == pytest.approx(float(whole.fallen[0].mean()), abs=0.05)


def test_noise_misses_what_was_planted() -> None:
    task, module = trained()
    assert "ACTIVE-TEST" in raised(sweep_of(Noise(), task, frozen(module)))


def test_a_victim_without_any_gradient_is_audited_by_what_needs_none() -> None:
    task, _ = trained()
    found = audited(sweep_of(Noise(), task, behind(lambda x: x.detach())))
    assert found["BB>WB"].raised and "no gradient" in found["MASKEDGRAD"].note


def test_without_a_twin_nothing_is_transferred() -> None:
    task, module = trained()
    assert "TRANSFER" not in audited(sweep_of(THOROUGH, task, frozen(module)))


def test_an_audit_leaves_outcomes_victim_and_generators_alone() -> None:
    task, module = trained()
    sweep = sweep_of(PGD(steps=5), task, frozen(module))
    outcomes = sweep.run(Journal())
    before = {name: value.copy() for name, value in outcomes.arrays().items()}
    weights, states = {name: value.clone() for name, value in module.state_dict().items()}, generators()
    Audit(sweep, outcomes, EPS, frozen(module)).run()
    assert all(np.array_equal(value, before[name]) for name, value in outcomes.arrays().items())
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert generators() == states


def test_an_audit_does_not_depend_on_the_order_of_the_split() -> None:
    task, module = trained()
    order = torch.randperm(len(task.test), generator=torch.Generator().manual_seed(0))
    one, other = (
        audited(sweep_of(PGD(steps=2, rel_step=0.3), made, frozen(module)))
        for made in (task, replace(task, test=task.test[order]))
    )
    for code in ("TARGETED", "NOTCONV", "UNBOUNDED", "LOSSSAT"):
        assert one[code].effect == pytest.approx(other[code].effect, abs=1e-6)


def test_where_nobody_stands_nothing_is_raised() -> None:
    task, victim = random_mlp(60)
    clean = victim.module(task.test.x).argmax(1)
    wrong = replace(task, bounds=None, test=replace(task.test, y=(clean + 1) % 3))
    assert raised(sweep_of(THOROUGH, wrong, victim)) == []


def test_a_targeted_sweep_is_audited_by_its_own_goal() -> None:
    task, module = trained()
    threat = Threat("linf", source=("0",), target="2")
    honest = PGD(steps=100, loss="margin", restarts=2)
    assert raised(sweep_of(honest, task, frozen(module), threat)) == []
    assert "TARGETED" in raised(sweep_of(Identity(), task, frozen(module), threat))
