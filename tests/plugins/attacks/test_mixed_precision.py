"""A search in bfloat16 finds what is adversarial in float32 and nothing else, or is the attack itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import Linear, Module

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.losses import cross_entropy
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream, stream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial, Watch
from ecgbench.core.victim import Victim
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep
from ecgbench.registry.catalog import discover
from ecgbench.testing import check_attack
from ecgbench_plugins.attacks import mixed_precision
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.attacks.mixed_precision import MixedPrecision, RoughVictim
from ecgbench_plugins.attacks.noise import Noise
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.transfer import Transfer
from tests.problems import random_mlp

LINF = Threat("linf")
TASK, VICTIM = random_mlp(200)
PLAIN = PGD(steps=10)


@pytest.fixture(autouse=True)
def with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch computes in bfloat16 on every processor; whether fast is not tested here."""
    monkeypatch.setattr(mixed_precision, "unsupported", lambda device: None)
    monkeypatch.setattr(mixed_precision, "speedup", lambda trial: 2.0)
    mixed_precision.JUDGED.clear()


def trial(victim: Victim = VICTIM, watch: Watch = "first", eps: float = 0.05) -> Trial:
    batch = TASK.test.copy()
    goal = LINF.goal(batch.y, TASK.outputs)
    return Trial.begin(
        victim, batch, LINF.ball(batch, eps, TASK.bounds), goal, RandomStream((0, "victim")), watch=watch
    )


def outcomes(attack: MixedPrecision | PGD) -> Outcomes:
    return Sweep(attack, VICTIM, TASK, LINF, (0.02, 0.05), stream("attack")).run(Checkpoint())


@pytest.mark.parametrize("attack", [PGD(steps=20), FGSM()])
def test_it_keeps_the_contract(attack: PGD | FGSM) -> None:
    check_attack(MixedPrecision(attack, "bf16"), shapes=((1, 40),))


def test_gradients_are_rough_and_what_is_adversarial_is_so_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[torch.dtype] = set()
    whole = Linear.forward

    def forward(layer: Linear, x: Tensor) -> Tensor:
        found = whole(layer, x)
        seen.add(found.dtype)
        return found

    monkeypatch.setattr(Linear, "forward", forward)
    given = trial()
    delta = MixedPrecision(PLAIN, "bf16").perturb(given, RandomStream((0, "attack")))
    assert seen == {torch.bfloat16, torch.float32}
    with torch.no_grad():
        wrong = VICTIM.module(given.batch.x + given.best(delta)).argmax(1) != given.batch.y
    assert torch.equal(wrong, given.is_adversarial) and 0 < int(wrong.sum()) < len(wrong)


def test_no_point_counts_as_adversarial_by_rounding() -> None:
    """A module whose bfloat16 turns its predictions round: without a second look who is right would be adversarial."""

    class Rounds(Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = VICTIM.module(x)
            sign = -100 if torch.is_autocast_enabled("cpu") else 1
            return sign * logits.float()

    given = trial(RoughVictim(Rounds(), TASK.outputs))
    hit, _ = given.gradient(torch.zeros_like(given.batch.x), cross_entropy)
    with torch.no_grad():
        wrong = VICTIM.module(given.batch.x).argmax(1) != given.batch.y
    assert bool(hit.any()) and not bool((hit & ~wrong).any())


def test_logits_that_are_replaced_keep_a_gradient() -> None:
    victim, exact = RoughVictim(VICTIM.module, TASK.outputs), VICTIM.module
    batch = replace(TASK.test, y=(TASK.test.y + 1) % 3)
    x = batch.x.clone().requires_grad_()
    logits = victim.logits(x, batch, stream("attack"))
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    (asked,) = victim.asked_again
    rows = torch.isin(batch.ids, asked)
    with torch.no_grad():
        assert torch.equal(logits[rows], exact(batch.x[rows])) and not torch.equal(logits, exact(batch.x))
    (expected,) = torch.autograd.grad(exact(x).sum(), x)
    assert bool(rows.any()) and float((gradient - expected).norm() / expected.norm()) < 0.1


def test_it_finds_about_what_the_attack_finds_in_float32() -> None:
    rough, exact = outcomes(MixedPrecision(PLAIN, "bf16")), outcomes(PLAIN)
    robust = [(found.predicted == found.y).mean(1) for found in (rough, exact)]
    assert abs(robust[0] - robust[1]).max() <= 0.02 and 0 < robust[1].min() < robust[1].max() < 1
    assert rough.components.tolist() == ["", "bf16"]


@pytest.mark.parametrize("watch", ["first", "never"])
def test_a_second_look_is_counted(watch: Watch) -> None:
    given = trial(watch=watch)
    MixedPrecision(PLAIN, "bf16").perturb(given, RandomStream((0, "attack")))
    plain = given.memory.forwards - given.memory.gradients
    assert (plain[given.is_adversarial] >= 1).all() and bool(plain.any()) == (watch == "first")


@pytest.mark.parametrize("times", [1.7, 1.8])
def test_auto_is_the_attack_itself_where_bfloat16_is_not_worth_it(
    times: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixed_precision, "speedup", lambda trial: times)
    found, plain = outcomes(MixedPrecision(PLAIN, "auto")), outcomes(PLAIN)
    assert found.components.tolist() == ["", "bf16" if times > 1.75 else "float32"]
    assert times > 1.75 or all(
        (getattr(found, name) == getattr(plain, name)).all() for name in ("predicted", "size", "forwards", "gradients")
    )


@pytest.mark.parametrize("missing", [True, False], ids=["no bfloat16", "wrong kernels"])
def test_where_bfloat16_cannot_be_it_is_refused_and_auto_does_without(
    missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing:
        monkeypatch.setattr(mixed_precision, "unsupported", lambda device: "this processor has no bfloat16")
    else:
        monkeypatch.setattr(mixed_precision, "LOGITS", 1e-9)
    with pytest.raises(EcgbenchError, match=r"search=bf16 is refused: .*; expected search=auto"):
        MixedPrecision(PLAIN, "bf16").perturb(trial(), RandomStream((0, "attack")))
    assert outcomes(MixedPrecision(PLAIN, "auto")).components.tolist() == ["", "float32"]


def test_speed_and_errors_are_measured_once_for_a_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Trial] = []
    monkeypatch.setattr(mixed_precision, "speedup", lambda given: asked.append(given) or 2.0)  # type: ignore[func-returns-value]
    monkeypatch.setattr("ecgbench.core.victim.CHUNK_BYTES", 4 * 24 * 50)
    outcomes(MixedPrecision(PLAIN, "auto"))
    assert len(asked) == 1


@pytest.mark.parametrize("attack", [Noise(), Transfer()])
def test_an_attack_that_asks_the_victim_for_no_gradient_is_refused(attack: Noise | Transfer) -> None:
    with pytest.raises(ValueError, match="asks the victim itself for gradients"):
        MixedPrecision(attack)


def test_it_is_named_in_a_selector() -> None:
    found = discover().resolve("attack", "mixed-precision[attack=pgd20,search=bf16]")
    assert found == MixedPrecision(PGD(steps=20, rel_step=0.25), "bf16")
    assert found.longer() == MixedPrecision(PGD(steps=40, rel_step=0.25), "bf16")
