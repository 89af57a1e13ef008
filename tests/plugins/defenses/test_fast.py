"""Cheap adversarial training: what a batch is moved by, which epoch is kept, what is carried from visit to visit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Defense
from ecgbench.core.progress import Checkpoint, Epoch
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import frozen
from ecgbench.evaluation.sweep import Sweep
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.defenses.fast import Fast, Free, RobustScore
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.mlp import MLP
from tests.problems import KilledError, MemoryCheckpoint, blobs

TASK = blobs()
RNG = RandomStream(("train", 0))
FEW: dict[str, Any] = {"epochs": 10, "batch": 64, "lr": 1e-2}


def fresh() -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MLP(widths=(16, 8)).build(TASK)


def seen(module: Module) -> list[Tensor]:
    """The batches that `module` will be trained on."""
    met: list[Tensor] = []
    module.register_forward_pre_hook(lambda part, given: met.append(given[0].detach()) if part.training else None)
    return met


def clean(x: Tensor) -> tuple[Tensor, Tensor]:
    """The samples (n, 1, 16) of the training split nearest to `x`, and their labels."""
    rows = (x[:, None] - TASK.train.x[None]).flatten(2).abs().amax(2).argmin(1)
    return TASK.train.x[rows], TASK.train.y[rows]


def test_a_batch_of_fast_is_one_step_of_five_quarters_of_eps_from_a_uniform_start() -> None:
    """Before the first update: |delta| = eps where the start lay on the side of the step or within eps / 4 of 0."""
    module, eps = fresh(), 0.1
    before = {name: value.clone() for name, value in module.state_dict().items()}
    met = seen(module)
    Fast(eps=eps, epochs=1, batch=10_000, balanced=False).fit(module, TASK, RNG, Checkpoint())
    module.load_state_dict(before)
    x, y = clean(met[0])
    delta = met[0] - x
    assert float(delta.abs().max()) == pytest.approx(eps, rel=1e-4)
    at = x.clone().requires_grad_()
    cross_entropy(module.eval()(at), y).backward()
    assert at.grad is not None
    along = delta * at.grad.sign()
    share = float((along > 0.999 * eps).float().mean())
    assert 0.55 < share < 0.95  # 7/8 where the sign at the start is that at x: starts below -eps / 4 end inside
    assert float(along.mean()) > 0.5 * eps


@pytest.mark.parametrize("defense", [Fast(eps=0.5, **FEW), Free(eps=0.5, replays=2, **FEW)])
def test_the_epoch_kept_is_the_one_with_the_best_accuracy_under_attack(defense: Fast | Free) -> None:
    checkpoint = MemoryCheckpoint()
    trained = defense.fit(fresh(), TASK, RNG, checkpoint)
    scores = [told.score for told in checkpoint.told if isinstance(told, Epoch) and told.score is not None]
    assert len(scores) == 10 and len(set(scores)) > 1
    score = RobustScore(TASK, defense, RNG.fold_in("watched"))
    assert score(trained, TASK.val, RNG) == pytest.approx(max(scores))
    watched = score.watched
    answers = frozen(trained).predict(watched.x, watched, RNG)
    right = torch.stack([(answers == watched.y)[watched.y == label].double().mean() for label in range(3)]).mean()
    assert float(right) > max(scores)  # the score is taken under attack


def test_free_visits_every_batch_in_a_row_and_carries_its_perturbation() -> None:
    """Two visits: the second is moved by eps times the sign of the gradient of the first, in train mode."""
    module, eps = fresh(), 0.1
    before = {name: value.clone() for name, value in module.state_dict().items()}
    met = seen(module)
    Free(eps=eps, replays=2, epochs=1, batch=150, balanced=False).fit(module, TASK, RNG, Checkpoint())
    one, second, third = met
    first, y = clean(one)
    assert first.equal(one)  # the first visit is clean
    module.load_state_dict(before)
    at = first.clone().requires_grad_()
    cross_entropy(module.train()(at), y).backward()
    assert at.grad is not None
    assert (second - first).allclose(eps * at.grad.sign(), atol=1e-6)
    other = clean(third)[0]
    assert len(third) == 100 and not other.equal(first[:100])  # the rest of 400 rows
    assert float((third - other).abs().max()) == pytest.approx(eps, rel=1e-4)


@pytest.mark.parametrize("defense", [Fast(eps=0.3, warmup=2, **FEW), Free(eps=0.3, replays=3, **FEW)])
def test_a_killed_training_ends_with_the_same_weights(defense: Defense) -> None:
    whole = defense.fit(fresh(), TASK, RNG, Checkpoint())
    killed = MemoryCheckpoint(dies_at=4)
    with pytest.raises(KilledError):
        defense.fit(fresh(), TASK, RNG, killed)
    resumed = defense.fit(fresh(), TASK, RNG, MemoryCheckpoint(killed.state))
    for name, value in whole.state_dict().items():
        assert value.equal(resumed.state_dict()[name]), name


def robust(defense: Defense, eps: float) -> float:
    trained = defense.fit(fresh(), TASK, RNG, Checkpoint())
    attack = PGD(steps=20, rel_step=0.25, loss="margin")
    outcomes = Sweep(attack, frozen(trained), TASK, Threat("linf"), (eps,), RNG).run(Checkpoint())
    return float(np.mean(outcomes.predicted[0] == outcomes.y))


def test_both_raise_robust_accuracy() -> None:
    """By the same number of passes over the samples: an epoch of `free` is 1 / replays of one."""
    standard = robust(Standard(**FEW), 0.8)
    assert robust(Fast(eps=0.8, warmup=3, **FEW), 0.8) > standard + 0.05
    assert robust(Free(eps=0.8, replays=2, **(FEW | {"epochs": 20})), 0.8) > standard + 0.05


@pytest.mark.parametrize(
    ("defense", "parts", "reason"),
    [
        (Fast, {"eps": 0.0}, "eps=0.0 given; expected a size above 0"),
        (Free, {"eps": -1.0}, "eps=-1.0 given"),
        (Fast, {"rel_step": 0.0}, "expected a step above 0"),
        (Fast, {"watched": 0}, "1 or more samples"),
        (Fast, {"warmup": -1}, "a warm-up of -1 epochs"),
        (Free, {"replays": 0}, "replays=0, watched=50 given; expected 1 or more"),
        (Free, {"watched": 0}, "expected 1 or more"),
        (Fast, {"threat": Threat("linf", target="1")}, "a threat without a target"),
        (Free, {"threat": Threat("linf", target="1")}, "a threat without a target"),
    ],
)  # fmt: skip
def test_a_training_that_cannot_be_is_refused(defense: type[Fast | Free], parts: dict[str, Any], reason: str) -> None:
    with pytest.raises(EcgbenchError, match=reason):
        defense(**parts)
