"""Retraining on attacked exams: which are visited, what is done to them, and the control."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Linear, Module
from torch.nn.functional import cross_entropy

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Attack
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.registry.catalog import discover
from ecgbench.testing import check_defense
from ecgbench.testing.tasks import small_task
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.transfer import Transfer
from ecgbench_plugins.defenses.fgsm_augmentation import FGSMAugmentation, defenses
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.mrnet import SmallMRNet
from tests.volumes import decoded, knee_task

TASK = knee_task()
RNG = RandomStream(("train", 0))
SUMS = {round(float(x.sum()), 3): row for row, x in enumerate(TASK.train[:].x)}


@dataclass(frozen=True)
class Push(Attack):
    """Adds eps wherever it may; remembers whom it met."""

    met: list[Tensor] = field(default_factory=list, compare=False)

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        self.met.append(trial.batch.ids.clone())
        return trial.ball.project(trial.batch.x * 0 + trial.ball.eps)


class Seen(Module):
    """One logit, from the mean; remembers what it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Linear(1, 1)
        self.trained_on: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.trained_on.append(x.detach().clone())
        return self.head(x.flatten(1).mean(1, keepdim=True))


def fitted(**parts: Any) -> tuple[Seen, Push]:
    push, module = Push(), Seen()
    given = {"epochs": 3, "batch": 4, "share": 0.5, "eps": 0.1, "attack": push, "keep": "last", **parts}
    FGSMAugmentation(**given).fit(module, TASK, RNG, Checkpoint())
    return module, push


def visited(x: Tensor) -> list[int]:
    return [SUMS[round(float(each.sum()), 3)] for each in x]


def test_an_epoch_visits_a_share_of_the_exams_drawn_anew() -> None:
    module, _ = fitted(eps=0.0, share=0.3)
    epochs = [visited(torch.cat(module.trained_on[at : at + 2])) for at in (0, 2, 4)]
    assert len(module.trained_on) == 6
    assert all(len(rows) == len(set(rows)) == int(0.3 * 24) for rows in epochs)
    assert len({frozenset(rows) for rows in epochs}) == 3


def test_all_are_visited_at_a_share_of_one() -> None:
    module, _ = fitted(eps=0.0, share=1.0, epochs=1)
    assert sorted(visited(torch.cat(module.trained_on))) == list(range(24))


def test_everything_shown_is_attacked_and_padding_is_not() -> None:
    module, push = fitted(epochs=1, share=1.0)
    ids = torch.cat(push.met)
    clean = TASK.train[ids]
    torch.testing.assert_close(torch.cat(module.trained_on), clean.x + 0.1 * clean.mask)


def test_the_control_takes_the_same_steps_on_the_same_exams_and_never_attacks() -> None:
    control, push = fitted(eps=0.0)
    attacked, _ = fitted(eps=0.001)
    assert not push.met and len(control.trained_on) == len(attacked.trained_on)
    for ours, theirs in zip(control.trained_on, attacked.trained_on, strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.001001, rtol=0)


def test_mixed_with_clean_half_of_the_loss_is_on_the_same_exams_unperturbed() -> None:
    module, _ = fitted(mix_clean=True, epochs=1)
    for attacked, clean in zip(module.trained_on[::2], module.trained_on[1::2], strict=True):
        assert set(visited(clean)) <= set(range(24))
        assert float((attacked - clean).amax()) == pytest.approx(0.1)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_the_studys_clamp_leaves_grey_values_of_58_to_108(eps: float) -> None:
    module, push = fitted(clamp="study", eps=eps, epochs=1, share=1.0)
    shown = 255 * torch.cat(module.trained_on)
    assert float(shown.min()) == pytest.approx(58.09, abs=1e-3) and float(shown.max()) == pytest.approx(
        107.82, abs=1e-3
    )
    assert bool(push.met) is (eps > 0)


def test_the_clamp_is_the_studys_own_line() -> None:
    """clamp(x + eps sign, 0, 1) of standardised x, their eps in standard deviations."""
    x, sign, eps = torch.rand(50), torch.randn(50).sign(), 0.3
    theirs = (((255 * x - 58.09) / 49.73) + eps * sign).clamp(0, 1)
    ours = FGSMAugmentation(clamp="study")._clamped(x + eps * 49.73 / 255 * sign)
    torch.testing.assert_close((255 * ours - 58.09) / 49.73, theirs)


def test_a_clean_half_is_not_clamped() -> None:
    module, _ = fitted(clamp="study", mix_clean=True, epochs=1)
    assert all(set(visited(clean)) for clean in module.trained_on[1::2])


def test_another_attack_can_be_nested() -> None:
    found = discover().resolve("defense", "fgsm-augmentation[attack=pgd20,eps=0.02,mix_clean=yes]")
    assert isinstance(found, FGSMAugmentation) and found.attack == PGD(steps=20, rel_step=0.25) and found.mix_clean


def test_an_attack_meets_the_network_in_eval_mode_on_one_logit_and_moves_its_loss_up() -> None:
    torch.manual_seed(0)
    module = SmallMRNet(widths=(16,)).build(TASK)
    defense, batch = FGSMAugmentation(eps=0.02), TASK.train[:8]
    delta = defense._perturb(module, batch, TASK, RNG)
    with torch.no_grad():
        z = [module(x, batch.mask) for x in (batch.x, batch.x + delta)]
    clean, attacked = (cross_entropy(torch.cat([0 * each, each], 1), batch.y, reduction="none") for each in z)
    assert float((attacked - clean).mean()) > 1e-4 and float((attacked > clean).float().mean()) > 0.8
    assert not delta[~batch.mask.expand_as(delta)].any() and float(delta.abs().max()) == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize("parts", [{}, {"eps": 0.0, "augment": True}, {"clamp": "study", "mix_clean": True}])
def test_the_defense_keeps_its_promises(parts: dict[str, Any]) -> None:
    base = Standard(epochs=1)
    check_defense(FGSMAugmentation(epochs=3, base=base, **parts), SmallMRNet(widths=(4,)), decoded(TASK))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"eps": -0.1}, "expected eps of 0 or more"),
        ({"share": 0.0}, "share above 0 and at most 1"),
        ({"share": 1.1}, "share above 0 and at most 1"),
        ({"balanced": True}, "expected neither"),
        ({"recalibrate_batchnorm": True}, "expected neither"),
    ],
)
def test_parameters_out_of_range_are_refused(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(EcgbenchError, match=said):
        replace(FGSMAugmentation(), **parts)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, None),
        ({"share": 0.04}, "share=0.04 of 24 training samples is none"),
        ({"attack": Transfer()}, "a training has no second victim"),
        ({"threat": Threat("linf", unit="mV")}, "the threat that this defense trains against does not fit volumes"),
    ],
)
def test_what_does_not_fit_the_task_is_refused(parts: dict[str, Any], said: str | None) -> None:
    found = FGSMAugmentation(**parts).unfit(TASK)
    assert found is None if said is None else said in str(found)
    assert "two classes" in str(FGSMAugmentation().unfit(small_task((1, 187), 3)))


def test_the_preset_holds_the_studys_values() -> None:
    study = defenses()["fgsm-augmentation-study"]
    assert isinstance(study, FGSMAugmentation)
    assert (study.lr, study.batch, study.share, study.eps, study.clamp) == (1e-6, 1, 0.06, 1e-5, "study")
    assert study.threat == Threat("linf", bounds=False, unit="SD") and study.augment
