"""An ensemble of planes: each network is trained on its plane alone, the head is a logistic regression."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import frozen
from ecgbench.evaluation.sweep import Sweep
from ecgbench.testing import check_defense
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.datasets.synthetic_knee import SyntheticKnee
from ecgbench_plugins.defenses.augmentation import Augmented
from ecgbench_plugins.defenses.fgsm_augmentation import FGSMAugmentation
from ecgbench_plugins.defenses.plane_ensemble import PlaneEnsemble, defenses
from ecgbench_plugins.models.mrnet import SmallMRNet
from ecgbench_plugins.models.mrnet_ensemble import Ensemble, MRNetEnsemble, of_plane
from tests.volumes import decoded

RNG = RandomStream(("train", 0))
MODEL = MRNetEnsemble(each=SmallMRNet(widths=(4, 4)))
SHORT = Augmented(epochs=2)


@cache
def task() -> Task:
    return SyntheticKnee(exams=40, plane="all").load(DataRoot())


@cache
def fitted() -> Ensemble:
    torch.manual_seed(0)
    module = PlaneEnsemble(each=SHORT).fit(MODEL.build(task()), task(), RNG, Checkpoint())
    assert isinstance(module, Ensemble)
    return module


def test_every_network_is_trained_on_its_plane_alone() -> None:
    torch.manual_seed(0)
    begun = MODEL.build(task())
    assert isinstance(begun, Ensemble)
    for plane, network in enumerate(begun.networks):
        alone = SHORT.fit(network, of_plane(task(), plane), RNG.fold_in("plane", plane), Checkpoint())
        for ours, expected in zip(fitted().networks[plane].parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, expected)


def test_the_head_is_a_logistic_regression_on_the_training_samples_as_they_are() -> None:
    rows = task().train[:]
    with torch.no_grad():
        seen = fitted().probabilities(rows.x, rows.mask)
        answer = fitted()(rows.x, rows.mask)[:, 0]
    expected = LogisticRegression().fit(seen.double().numpy(), rows.y.numpy()).decision_function(seen.double().numpy())
    torch.testing.assert_close(answer, torch.from_numpy(expected).float(), atol=1e-4, rtol=1e-4)


def test_an_attack_perturbs_all_planes_at_once_and_no_padding() -> None:
    victim = frozen(fitted(), task().outputs)
    rows = task().test[:4]
    answer = victim.predict(rows.x, rows, RNG)
    delta = Sweep(FGSM(), victim, task(), Threat("linf"), (0.01,), RNG).perturb(replace(rows, y=answer), 0.01).delta
    padding = ~rows.mask.expand_as(rows.x)
    assert not delta[padding].any() and bool(delta.abs().amax((1, 3, 4, 5)).gt(0.0099).all())


@pytest.mark.parametrize("each", [SHORT, FGSMAugmentation(epochs=2, base=Augmented(epochs=1))])
def test_it_keeps_its_promises(each: Augmented | FGSMAugmentation) -> None:
    check_defense(PlaneEnsemble(each=each), MODEL, decoded(task()))


def test_the_ensemble_of_the_base_comes_first() -> None:
    assert defenses() == {"plane-ensemble": PlaneEnsemble()} and PlaneEnsemble().base is None
    base = PlaneEnsemble(each=FGSMAugmentation(base=SHORT)).base
    assert base == PlaneEnsemble(each=SHORT)


def test_other_tasks_and_networks_are_refused() -> None:
    alone = SyntheticKnee(exams=40).load(DataRoot())
    assert "it trains a network for each plane; samples of synthetic-knee" in str(PlaneEnsemble().unfit(alone))
    one_class = replace(task(), val=task().val.select((task().val.y == 1).nonzero()[:, 0]))
    assert "it selects by AUROC" in str(PlaneEnsemble().unfit(one_class)) and PlaneEnsemble().unfit(task()) is None
    with pytest.raises(EcgbenchError, match="a Network was given to plane-ensemble; expected model mrnet-ensemble"):
        PlaneEnsemble().fit(SmallMRNet().build(alone), alone, RNG, Checkpoint())
