"""TRADES and the warm-up of adversarial training: the loss by its formula, eps by its schedule."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy, softmax

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Attack, Defense
from ecgbench.core.progress import Checkpoint, Epoch
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import frozen
from ecgbench.evaluation.sweep import Sweep
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.defenses.adaptive import Adaptive
from ecgbench_plugins.defenses.adaptive import defenses as adversarial
from ecgbench_plugins.defenses.ibp import IBP
from ecgbench_plugins.defenses.inner import perturbation
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.defenses.ramp import Ramp
from ecgbench_plugins.defenses.trades import Trades, divergence
from ecgbench_plugins.models.mlp import MLP
from tests.problems import KilledError, MemoryCheckpoint, blobs

TASK = blobs()
RNG = RandomStream(("train", 0))


def fresh() -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MLP(widths=(16, 8)).build(TASK)


def test_the_divergence_is_that_of_kullback_and_leibler_from_the_clean_distribution() -> None:
    """From (1/2, 1/2) to (1/4, 3/4): (log 2 + log 2/3) / 2; from (1, 0) to (1/4, 3/4): log 4."""
    clean, attacked = torch.tensor([[0.0, 0.0], [99.0, 0.0]]), torch.tensor([[0.0, log(3)], [0.0, log(3)]])
    expected = [(log(2) + log(2 / 3)) / 2, log(4)]
    assert divergence(clean, attacked).tolist() == pytest.approx(expected, rel=1e-5)


def test_rows_that_a_threat_leaves_alone_are_not_perturbed_in_a_training() -> None:
    threat = Threat("linf", source_classes=("0",), target="1")
    delta = perturbation(fresh(), TASK.train, PGD(steps=2), threat, 0.2, TASK, RNG)
    attacked = delta.flatten(1).any(1)
    assert attacked.equal(TASK.train.y == 0)
    alone = perturbation(fresh(), TASK.train[TASK.train.y == 0], PGD(steps=2), threat, 0.2, TASK, RNG)
    assert delta[attacked].equal(alone)
    assert not perturbation(fresh(), TASK.train[TASK.train.y == 1], PGD(steps=2), threat, 0.2, TASK, RNG).any()


@pytest.mark.parametrize("defense", [Trades, IBP])
def test_a_defense_without_a_direction_refuses_a_target(defense: type[Trades | IBP]) -> None:
    with pytest.raises(EcgbenchError, match="expected a threat without a target"):
        defense(threat=Threat("linf", target="1"))


@pytest.mark.parametrize("beta", [1.0, 6.0])
def test_the_loss_is_cross_entropy_and_beta_times_the_divergence(beta: float) -> None:
    module, checkpoint, met = fresh(), MemoryCheckpoint(), []

    def note(module: Module, given: tuple[Tensor], answer: Tensor) -> None:
        if module.training:
            met.append((given[0].detach(), answer.detach()))

    module.register_forward_hook(note)
    Trades(beta=beta, eps=0.3, epochs=1, batch=10_000, balanced=False).fit(module, TASK, RNG, checkpoint)
    (x, clean), (near, attacked) = met
    y = TASK.train.y[(x[:, None] == TASK.train.x[None]).flatten(2).all(2).int().argmax(1)]
    p, q = softmax(clean, 1), softmax(attacked, 1)
    expected = cross_entropy(clean, y) + beta * (p * (p / q).log()).sum(1).mean()
    told = checkpoint.told[0]
    assert isinstance(told, Epoch) and told.loss == pytest.approx(float(expected), rel=1e-5)
    assert 0.299 < float((near - x).abs().max()) <= 0.3 * (1 + 1e-5)


def test_the_attack_finds_points_of_larger_divergence_than_noise_does() -> None:
    module = fresh()
    x, eps, met = TASK.train.x, 0.5, []
    clean = module(x).detach()
    noise = divergence(clean, module(x + eps * (2 * torch.rand_like(x) - 1).sign())).mean()
    module.register_forward_pre_hook(lambda module, given: met.append(given[0]) if module.training else None)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    Trades(eps=eps, epochs=1, batch=10_000, balanced=False).fit(module, TASK, RNG, Checkpoint())
    module.load_state_dict(before)
    assert divergence(module(met[0]), module(met[1])).mean() > 3 * noise


def test_the_share_of_a_ramp_grows_in_equal_steps_after_its_wait() -> None:
    def shares(ramp: Ramp, epochs: int = 6) -> list[float]:
        found = []
        for epoch in range(epochs):
            ramp.begin_epoch(epoch, RNG)
            found.append(ramp.share)
        return found

    assert shares(Ramp(4)) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert shares(Ramp(2, wait=3)) == [0, 0, 0, 0.5, 1, 1]
    assert shares(Ramp(0)) == [1] * 6 and shares(Ramp(0, wait=2)) == [0, 0, 1, 1, 1, 1]


@dataclass(frozen=True)
class Noted(Attack):
    """Notes the eps of every ball it is given."""

    met: list[float] = field(default_factory=list)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        self.met.append(float(trial.ball.eps.max()))
        return torch.zeros_like(trial.batch.x)


@pytest.mark.parametrize("dies_at", [None, 1])
def test_adversarial_training_warms_up_epoch_by_epoch_even_when_resumed(dies_at: int | None) -> None:
    attack, checkpoint = Noted(), MemoryCheckpoint(dies_at=dies_at)
    defense = Adaptive(attack=attack, eps=0.4, warmup=4, epochs=6, batch=10_000)
    if dies_at:
        with pytest.raises(KilledError):
            defense.fit(fresh(), TASK, RNG, checkpoint)
        del attack.met[1:]
    defense.fit(fresh(), TASK, RNG, MemoryCheckpoint(checkpoint.state))
    assert attack.met == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_trades_warms_up_too() -> None:
    module, met = fresh(), []
    module.register_forward_pre_hook(lambda module, given: met.append(given[0]) if module.training else None)
    Trades(eps=0.4, warmup=4, epochs=1, batch=10_000).fit(module, TASK, RNG, Checkpoint())
    assert float((met[1] - met[0]).abs().max()) == pytest.approx(0.1, rel=1e-5)


def test_the_attack_inside_madry_can_cross_the_ball_and_that_of_the_study_cannot() -> None:
    madry, adv = (adversarial()[name] for name in ("madry", "adversarial-nsr"))
    assert isinstance(madry, Adaptive) and isinstance(adv, Adaptive)
    assert madry.clean == 0 and (madry.attack.reach(0.3) or 0) >= 2 * 0.3
    assert adv.clean == 0.5 and adv.attack.reach(0.3) == pytest.approx(0.1) and not adv.threat.mask


def robust(defense: Defense, eps: float) -> float:
    trained = defense.fit(fresh(), TASK, RNG, Checkpoint())
    attack = PGD(steps=20, rel_step=0.25, loss="margin")
    outcomes = Sweep(attack, frozen(trained), TASK, Threat("linf"), (eps,), RNG).run(Checkpoint())
    return float(np.mean(outcomes.predicted[0] == outcomes.y))


def test_the_strong_baselines_raise_robust_accuracy() -> None:
    eps, few = 0.8, {"epochs": 10, "batch": 64, "lr": 1e-2}
    standard = robust(Standard(**few), eps)  # type: ignore[arg-type]
    for defense in (Adaptive(clean=0.0, warmup=3), Trades(warmup=3)):
        assert robust(replace(defense, eps=eps, **few), eps) > standard + 0.05  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [{"eps": 0.0}, {"beta": 0.0}, {"steps": 0}, {"rel_step": -1.0}])
def test_a_trades_training_that_cannot_be_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(EcgbenchError, match="expected steps of 1 or more"):
        Trades(**parts)


@pytest.mark.parametrize("defense", [Trades(), Adaptive()])
def test_a_negative_warm_up_is_refused(defense: Trades | Adaptive) -> None:
    with pytest.raises(EcgbenchError, match="a warm-up of -1 epochs given; expected 0 or more"):
        replace(defense, warmup=-1)
