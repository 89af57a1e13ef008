"""Transfer: the surrogate gives the perturbation, the victim only a verdict, and the host trains either once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ecgbench
from ecgbench.core.errors import ContractError
from ecgbench.core.progress import Epoch, Progress
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial, Watch
from ecgbench.core.victim import Victim
from ecgbench.registry.catalog import discover
from ecgbench.testing import check_attack
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.attacks.noise import Noise
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.sap import SAP
from ecgbench_plugins.attacks.spsa import SPSA
from ecgbench_plugins.attacks.transfer import Transfer
from ecgbench_plugins.defenses.none import Standard
from tests.command_line import BEATS
from tests.problems import Linear, linear_problem, size_for

RNG, THREAT = RandomStream((0, "attack")), Threat("linf")
PROBLEM = linear_problem(2, (1, 24), n=200)
EPS = size_for(PROBLEM, THREAT, 0.5)


def trial(victim: Victim, surrogate: Victim | None, *, watch: Watch = "first", problem: Linear = PROBLEM) -> Trial:
    batch = problem.task.test
    ball, goal = THREAT.ball(batch, EPS), THREAT.goal(batch.y, problem.task.outputs)
    rng = RandomStream((0, "victim"))
    return Trial.begin(victim, batch, ball, goal, rng, watch=watch, surrogate=surrogate, gradients_allowed=False)


def stranger() -> Victim:
    """A victim of other weights."""
    return linear_problem(2, (1, 24), n=200, seed=9).victim


def test_the_perturbation_is_what_the_attack_finds_on_the_surrogate() -> None:
    delta = Transfer(attack=PGD()).perturb(trial(stranger(), PROBLEM.victim), RNG)
    alone = Trial.begin(
        PROBLEM.victim,
        PROBLEM.task.test,
        THREAT.ball(PROBLEM.task.test, EPS),
        THREAT.goal(PROBLEM.task.test.y, PROBLEM.task.outputs),
        RandomStream((0, "victim")),
        watch="last",
    )
    assert torch.equal(delta, PGD().perturb(alone, RNG))


def test_the_victim_itself_decides_and_is_asked_once() -> None:
    seen = trial(stranger(), PROBLEM.victim)
    delta = Transfer().perturb(seen, RNG)
    with torch.no_grad():
        wrong = stranger().module(seen.batch.x + delta).argmax(1) != seen.batch.y
    assert torch.equal(seen.is_adversarial, wrong) and 0 < int(wrong.sum()) < 200
    assert seen.memory.forwards.tolist() == [1] * 200 and not seen.memory.gradients.any()


def test_on_its_own_source_it_is_as_strong_as_the_attack() -> None:
    seen = trial(PROBLEM.victim, PROBLEM.victim)
    Transfer().perturb(seen, RNG)
    assert float(seen.is_adversarial.float().mean()) == pytest.approx(0.5, abs=0.02)


def test_the_attack_on_the_source_hears_the_rate_of_the_signals() -> None:
    seen = replace(trial(stranger(), PROBLEM.victim), rate=1000.0)
    delta, untold = (Transfer(attack=SAP()).perturb(each, RNG) for each in (seen, replace(seen, rate=None)))
    assert torch.equal(delta, Transfer(attack=SAP(rate=1000.0)).perturb(seen, RNG)) and not torch.equal(delta, untold)


def test_the_source_is_attacked_beyond_the_first_fall() -> None:
    delta = Transfer(attack=PGD(start="zero")).perturb(trial(PROBLEM.victim, PROBLEM.victim), RNG)
    assert (delta.abs() == EPS).all()


def test_an_unwatched_trial_sees_no_fall() -> None:
    seen = trial(PROBLEM.victim, PROBLEM.victim, watch="never")
    assert Transfer().perturb(seen, RNG).any() and not seen.is_adversarial.any() and not seen.memory.forwards.any()


@pytest.mark.parametrize("attack", [PGD(steps=20), FGSM(), SPSA(steps=20, pairs=32), Noise()])
def test_any_attack_can_be_transferred(attack: PGD | FGSM | SPSA | Noise) -> None:
    expected = {"strong": "it knows nothing", "targeted": "it has no aim"} if attack == Noise() else {}
    check_attack(Transfer(attack=attack), shapes=((1, 40),), expected=expected)


def test_it_is_unfit_where_its_attack_is_and_reaches_as_far() -> None:
    attack = PGD(update="adamax", steps=7)
    assert Transfer(attack=attack).unfit(PROBLEM.task, Threat("l2")) == attack.unfit(PROBLEM.task, Threat("l2"))
    assert Transfer(attack=attack).unfit(PROBLEM.task, THREAT) is None
    assert Transfer(attack=attack).reach(0.2) == attack.reach(0.2)


def test_without_a_surrogate_it_breaks_its_contract() -> None:
    with pytest.raises(ContractError, match="expected a trial with a surrogate, got one without"):
        Transfer().perturb(trial(PROBLEM.victim, None), RNG)


def test_an_attack_that_needs_a_surrogate_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="needs no second victim itself"):
        Transfer(attack=Transfer())


def test_surrogate_and_attack_are_named_in_a_selector() -> None:
    found = discover().resolve("attack", "transfer[surrogate=none[epochs=3],attack=pgd20]")
    assert found == Transfer(surrogate=Standard(epochs=3), attack=PGD(steps=20, rel_step=0.25))


def test_the_host_trains_a_surrogate_once_and_shares_it_with_the_row_of_its_defense(tmp_path: Path) -> None:
    told: list[Progress] = []
    records = ecgbench.run(
        dataset=BEATS,
        model="linear",
        defense=("adaptive[epochs=2,attack=fgsm]", "none[epochs=3]"),
        attack=("transfer[surrogate=none[epochs=3],attack=fgsm]", "transfer[surrogate=none[epochs=3],attack=pgd20]"),
        eps=(0.1,),
        store=tmp_path,
        tell=told.append,
    )
    assert [record.status for record in records] == ["ok"] * 4
    assert sum(isinstance(each, Epoch) for each in told) == 2 + 3
    assert all(record.cost.queries == 1 and record.cost.gradients == 0 for record in records)
