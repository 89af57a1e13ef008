"""Retraining: who is drawn, who is attacked and when, and what the loss weighs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Attack
from ecgbench.core.progress import Checkpoint, Epoch
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.registry.catalog import discover
from ecgbench_plugins.attacks.transfer import Transfer
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.defenses.retraining import Retraining, class_weights, composed, share_of_each
from ecgbench_plugins.models.mlp import MLP
from tests.problems import KilledError, MemoryCheckpoint, blobs

TASK = blobs()
RNG = RandomStream(("train", 0))


@dataclass(frozen=True)
class Push(Attack):
    """Adds eps everywhere; remembers the rows it met and the weights it met them with."""

    met: list[tuple[Tensor, float]] = field(default_factory=list, compare=False)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        weights = sum(float(part.detach().sum()) for part in trial.victim.module.parameters())
        self.met.append((trial.batch.ids.clone(), weights))
        return trial.ball.project(trial.batch.x * 0 + trial.ball.eps)


def fresh() -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MLP(widths=(16, 8)).build(TASK)


def retraining(**parts: Any) -> Retraining:
    return Retraining(**{"epochs": 3, "eps": 0.1, "attack": Push(), **parts})


def test_the_set_holds_so_many_rows_of_each_class_drawn_by_the_path() -> None:
    drawn = composed(TASK.train, 20, RNG)
    assert drawn.y.bincount().tolist() == [20, 20, 20] and drawn.ids.tolist() == list(range(60))
    again, other = composed(TASK.train, 20, RNG), composed(TASK.train, 20, RNG.fold_in("other"))
    assert torch.equal(drawn.x, again.x) and not torch.equal(drawn.x, other.x)
    assert len(composed(TASK.train, 0, RNG)) == len(TASK.train)


def test_a_share_of_each_class_is_drawn_and_nobody_of_none() -> None:
    y = torch.tensor([0] * 10 + [1] * 5 + [-1] * 7)
    chosen = share_of_each(y, 0.5, RNG)
    assert y[chosen].bincount().tolist() == [5, 3] and len(set(chosen.tolist())) == 8
    assert len(share_of_each(y, 1.0, RNG)) == 15
    assert len(share_of_each(torch.full((4,), -1), 0.5, RNG)) == 0


def test_classes_weigh_as_the_study_computes_them() -> None:
    y = torch.tensor([0] * 300 + [1] * 300 + [2] * 300 + [3] * 46)
    assert class_weights(y, 4).tolist() == pytest.approx([0.788333] * 3 + [5.141304])
    assert class_weights(torch.tensor([0, 0]), 2).tolist() == [0.5, 1.0]


def test_examples_made_once_meet_the_weights_of_the_base_alone() -> None:
    push = Push()
    base = sum(float(part.detach().sum()) for part in fresh().parameters())
    retraining(attack=push, threat=Threat("linf", source_classes=("1",), target="0")).fit(
        fresh(), TASK, RNG, Checkpoint()
    )
    assert {weights for _, weights in push.met[:1]} == {base}
    assert len({weights for _, weights in push.met}) == 4  # then a look at validation after each of three epochs


def test_examples_of_each_epoch_meet_the_weights_of_the_moment() -> None:
    push = Push()
    retraining(attack=push, examples="each-epoch").fit(fresh(), TASK, RNG, Checkpoint())
    assert len({weights for _, weights in push.met}) == 4
    assert len(push.met) >= 6


def test_only_what_the_threat_aims_at_is_attacked_and_half_of_it() -> None:
    push = Push()
    retraining(attack=push, per_class=20, threat=Threat("linf", source_classes=("1",), target="0")).fit(
        fresh(), TASK, RNG, Checkpoint()
    )
    ids = push.met[0][0]
    assert len(ids) == 10 and composed(TASK.train, 20, RNG.fold_in("draw")).y[ids].unique().tolist() == [1]


class Seen(Module):
    """A victim that remembers what it was trained on; its one weight decides between two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained_on: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.trained_on.append(x.detach().clone())
        lead = x.flatten(1).mean(1) + self.weight
        return torch.stack([-lead, lead, lead * 0 - 9], 1)


def whole_batches(**parts: Any) -> tuple[Seen, Retraining, Any, list[Any]]:
    """A module retrained for one epoch in one batch, its defense, the rows it was given, and what was told."""
    defense, module = retraining(epochs=1, batch=10_000, balanced=False, **parts), Seen()
    told: list[Any] = []
    defense.fit(module, TASK, RNG, Checkpoint(told.append))
    return module, defense, composed(TASK.train, defense.per_class, RNG.fold_in("draw")), told


@pytest.mark.parametrize("examples", ["once", "each-epoch"])
def test_training_meets_the_attacked_rows_attacked_and_the_others_clean(examples: Any) -> None:
    push = Push()
    module, _, rows, _ = whole_batches(attack=push, per_class=20, examples=examples, attacked=0.5)
    attacked = torch.zeros(len(rows), dtype=torch.bool)
    attacked[push.met[0][0]] = True
    expected = rows.x + 0.1 * attacked.view(-1, 1, 1)
    (seen,) = module.trained_on
    order = torch.cdist(expected.flatten(1), seen.flatten(1)).argmin(1)
    assert attacked.sum() == 30 and sorted(order.tolist()) == list(range(60))
    torch.testing.assert_close(seen[order], expected, rtol=0, atol=1e-6)


def test_the_loss_weighs_each_row_by_its_class() -> None:
    none = Threat("linf", source_classes=("2",), target="0")
    for weighted in (False, True):
        module, _, rows, told = whole_batches(weighted=weighted, threat=none, attacked=1.0)
        weight = class_weights(rows.y, 3)[rows.y] if weighted else torch.ones(len(rows))
        with torch.no_grad():
            module.weight.zero_()
            x = rows.x + 0.1 * (rows.y == 2).view(-1, 1, 1)
            each = torch.nn.functional.cross_entropy(module.eval()(x), rows.y, reduction="none")
        assert told[0].loss == pytest.approx(float((weight * each).mean()), rel=1e-5)


def test_the_score_of_an_epoch_is_the_recall_of_the_attacked_classes_under_attack() -> None:
    module, _, _, told = whole_batches(threat=Threat("linf", source_classes=("0",), target="1"), eps=0.5)
    (epoch,) = told
    of = TASK.val[TASK.val.y == 0]
    with torch.no_grad():
        attacked, clean = (float((module.eval()(of.x + eps).argmax(1) == 0).float().mean()) for eps in (0.5, 0.0))
    assert isinstance(epoch, Epoch) and epoch.score == pytest.approx(attacked) and attacked < clean


@pytest.mark.parametrize("examples", ["once", "each-epoch"])
def test_a_killed_retraining_ends_with_the_same_weights(examples: Any) -> None:
    defense = retraining(examples=examples)
    killed = MemoryCheckpoint(dies_at=1)
    with pytest.raises(KilledError):
        defense.fit(fresh(), TASK, RNG, killed)
    resumed = defense.fit(fresh(), TASK, RNG, MemoryCheckpoint(killed.state)).state_dict()
    whole = defense.fit(fresh(), TASK, RNG, Checkpoint()).state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())


def test_the_study_is_a_selector_each_and_both_start_from_their_base() -> None:
    catalog = discover(())
    once, anew = (catalog.resolve("defense", name) for name in ("static-study", "adaptive-study[base=none[epochs=2]]"))
    assert isinstance(once, Retraining) and isinstance(anew, Retraining)
    assert (once.per_class, once.epochs, once.lr, once.eps, once.examples) == (300, 75, 1e-4, 0.2, "once")
    assert (anew.epochs, anew.examples, anew.base) == (150, "each-epoch", Standard(epochs=2))
    assert once.threat == anew.threat == Threat("linf", source_classes=("A",), target="N")
    assert once.attack == catalog.resolve("attack", "pgd-cinc-study")
    assert anew.attack == catalog.resolve("attack", "pgd-cinc-study[steps=10]")


def test_what_a_retraining_cannot_be_made_on_is_said_before_its_base_is_trained() -> None:
    study = discover(()).resolve("defense", "static-study")
    assert isinstance(study, Retraining)
    assert "does not fit toy: no class is named 'A'" in str(study.unfit(replace(TASK, name="toy")))
    assert Retraining(attack=Transfer()).unfit(TASK) is not None and Retraining().unfit(TASK) is None


@pytest.mark.parametrize("parts", [{"eps": 0.0}, {"attacked": 0.0}, {"attacked": 1.5}, {"per_class": -1}])
def test_a_retraining_that_cannot_be_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(EcgbenchError, match="expected eps above 0"):
        replace(Retraining(), **parts)
