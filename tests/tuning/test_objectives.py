"""The value of a trial, worked out by hand, and folds that share no patient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from ecgbench.core.data import Samples
from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.testing.tasks import small_task
from ecgbench.tuning.folds import fold_numbers, folds
from ecgbench.tuning.objectives import OBJECTIVES, judged, objective
from tests.made_up_rows import made_up

LOGITS = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).round(decimals=1)
Y = (torch.arange(40) % 3 == 0).long()


def found() -> Outcomes:
    """Samples 1 and 3 are adversarial; 2 is, too, but was wrong when clean."""
    outcomes = made_up(["123"], clean="2", n=4, eps=(1.0,))
    l0, l1, size = np.array([[9, 2, 5, 4]]), np.array([[9.0, 0.5, 9.0, 2.0]]), np.array([[1.0, 0.25, 1.0, 0.8]])
    return replace(outcomes, l0=l0.astype(np.int32), l1=l1.astype(np.float32), size=size.astype(np.float32))


def value(name: str) -> float:
    return judged(objective(name), found(), (5, 2), "linf")


def test_sums_over_successes_are_those_of_the_study() -> None:
    assert value("sparsity") == pytest.approx(0.8 + 0.6)
    assert value("sparse-small") == pytest.approx(0.8 / 0.5 + 0.6 / 2.0)
    assert value("sparse-small-max") == pytest.approx(0.8 / 0.25 + 0.6 / 0.8)
    assert (value("fewer-than-2"), value("fewer-than-3"), value("fewer-than-5")) == (0, 1, 2)
    assert value("robust-accuracy") == 0.25
    nothing = made_up([""], n=4, eps=(1.0,))
    assert all(judged(objective(name), nothing, (5, 2), "linf") == 0 for name in ("sparsity", "sparse-small-max"))


def test_the_largest_change_is_known_under_linf_alone() -> None:
    with pytest.raises(EcgbenchError, match="expected threat linf, got l2"):
        judged(objective("sparse-small-max"), found(), (5, 2), "l2")


def test_trainings_are_judged_as_scikit_learn_does() -> None:
    probabilities = LOGITS.double().softmax(1).numpy()
    each = {name: one.of_training for name, one in OBJECTIVES.items() if one.of_training is not None}
    assert each["loss"](LOGITS, Y) == pytest.approx(log_loss(Y, probabilities))
    assert each["auroc"](LOGITS, Y) == pytest.approx(roc_auc_score(Y, (LOGITS[:, 1] - LOGITS[:, 0])))
    assert each["balanced-accuracy"](LOGITS, Y) == pytest.approx(balanced_accuracy_score(Y, LOGITS.argmax(1)))
    for logits, y in ((torch.zeros(3, 3), torch.arange(3)), (torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))):
        with pytest.raises(EcgbenchError, match="expected two, both of them there"):
            each["auroc"](logits, y)


def test_folds_part_the_training_split_and_keep_groups_together() -> None:
    task = small_task(classes=2)
    held_out = []
    for fold in folds(task, 4, 0):
        assert fold.train.group is not None and fold.val.group is not None
        assert set(fold.train.group.tolist()).isdisjoint(fold.val.group.tolist())
        assert len(fold.train) + len(fold.val) == len(task.train) and fold.test is task.test
        held_out += fold.val.ids.tolist()
    assert sorted(held_out) == sorted(task.train.ids.tolist())


def test_classes_are_dealt_out_evenly() -> None:
    y = (torch.arange(103) % 10 == 0).long()
    samples = Samples.of(torch.zeros(103, 1, 4), y)
    number = fold_numbers(samples, 5, seed=1)
    dead, all_of_them = number[y == 1].bincount(minlength=5), number.bincount(minlength=5)
    assert int(dead.max() - dead.min()) <= 1 and int(all_of_them.max() - all_of_them.min()) <= 2
    assert not torch.equal(number, fold_numbers(samples, 5, seed=2))
