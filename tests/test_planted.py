"""A planted adversarial example is there, and nowhere nearer."""

from __future__ import annotations

import pytest
import torch
from problems import random_mlp
from torch import Tensor

from ecgbench.keyed import Keyed
from ecgbench.planted import DEPTH, Planted, plant
from ecgbench.threat import Norm, Threat
from ecgbench.victim import Victim

RNG = Keyed(("plant",))


def planted(norm: Norm, eps: float) -> tuple[Victim, Planted, Tensor]:
    task, victim = random_mlp(80)
    batch = task.test
    ball, aim = Threat(norm).around(batch, eps), Threat(norm).aim(batch.y, task.classes)
    heads = plant(victim, batch, ball, RNG)
    return victim, Planted(victim, batch, aim, heads), heads.valid


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.5)])
def test_the_clean_sample_keeps_its_class_and_most_rows_have_a_plant(norm: Norm, eps: float) -> None:
    _, module, valid = planted(norm, eps)
    assert float(valid.float().mean()) > 0.9
    logits = module(module.batch.x, rng=RNG, ids=module.batch.ids)
    assert torch.equal(logits.argmax(1)[valid], module.leave[valid])


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.5)])
def test_fresh_points_deep_inside_seldom_cross_the_new_head(norm: Norm, eps: float) -> None:
    _, module, valid = planted(norm, eps)
    ball = Threat(norm).around(module.batch, eps)
    draws = [ball.sample(module.batch.ids, tuple(module.batch.x.shape[1:]), Keyed((n,))) for n in range(20)]
    crossed = [
        module(module.batch.x + DEPTH * draw, rng=RNG, ids=module.batch.ids).argmax(1) == module.reach for draw in draws
    ]
    assert float(torch.stack(crossed)[:, valid].float().mean()) < 0.05


def test_rows_are_told_apart_by_their_ids_in_any_order() -> None:
    _, module, _ = planted("linf", 0.1)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    whole = module(module.batch.x, rng=RNG, ids=module.batch.ids)
    part = module(module.batch.x[order], rng=RNG, ids=module.batch.ids[order])
    assert torch.allclose(part, whole[order], atol=1e-5)


def test_a_victim_whose_logits_do_not_move_has_no_plant() -> None:
    task, _ = random_mlp(20)
    still = Victim(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 3)).requires_grad_(False))
    still.module[1].weight.zero_()  # type: ignore[index,operator,union-attr]
    ball = Threat("linf").around(task.test, 0.1)
    assert not bool(plant(still, task.test, ball, RNG).valid.any())
