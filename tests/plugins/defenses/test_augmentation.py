"""Augmentation of images, and the training of the MRNet study's baselines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Linear, Module
from torch.nn.functional import binary_cross_entropy_with_logits

from ecgbench.core.data import Batch, Samples
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.progress import Checkpoint, Epoch
from ecgbench.core.random import RandomStream
from ecgbench.evaluation.binary import ranking
from ecgbench.testing import check_defense
from ecgbench.testing.tasks import small_task
from ecgbench_plugins.defenses.augmentation import (
    Augmentation,
    Augmented,
    auroc,
    class_weights,
    weighted_loss,
)
from ecgbench_plugins.models.mrnet import SmallMRNet
from tests.volumes import decoded, knee_task

RNG = RandomStream(("augmentation", 0))
TASK = knee_task()
STILL = Augmentation(shift=0.0, turn=0.0, mirror=False)


def images(n: int = 40, height: int = 12, width: int = 12) -> Samples:
    """Volumes of three slices, each slice the first plus its number."""
    first = torch.rand(n, 1, 1, height, width, generator=torch.Generator().manual_seed(0))
    return Samples.of(first + torch.arange(3.0).view(1, 3, 1, 1, 1), torch.zeros(n, dtype=torch.int64))


def same(a: Tensor, b: Tensor) -> Tensor:
    """Which rows agree, (n,)."""
    return torch.isclose(a, b, atol=1e-5).flatten(1).all(1)


def test_nothing_to_do_changes_nothing() -> None:
    batch = images(height=9, width=14)
    torch.testing.assert_close(STILL(batch, RNG).x, batch.x)
    assert not len(STILL(batch[:0], RNG))


def test_a_mirror_image_is_left_right_and_every_second_one() -> None:
    batch = images(200)
    found = replace(STILL, mirror=True)(batch, RNG).x
    mirrored, kept = same(found, batch.x.flip(-1)), same(found, batch.x)
    assert bool((mirrored ^ kept).all()) and 70 < int(mirrored.sum()) < 130


def test_a_shift_of_whole_pixels_is_exact_and_brings_zeros_in() -> None:
    """Drawn uniformly within the limit in both axes; every second row stays."""
    batch = images(200)
    moves = replace(STILL, shift=0.25).matrices(batch.ids, torch.Size((12, 12)), RNG)
    assert 70 < int((moves[:, :, 2] == 0).all(1).sum()) < 130
    across, up = (-moves[:, :, 2] / 2).unbind(1)
    assert 0.2 < float(across.max()) <= 0.25 and -0.25 <= float(up.min()) < -0.2
    whole = replace(batch[:1], ids=batch.ids[:1])

    class Two(Augmentation):
        def matrices(self, ids: Tensor, sides: torch.Size, rng: RandomStream) -> Tensor:
            return torch.tensor([[[1.0, 0.0, -2 * 2 / 12], [0.0, 1.0, 2 * 3 / 12]]])

    found = Two()(whole, RNG).x  # two to the right, three up
    torch.testing.assert_close(found[..., :9, 2:], whole.x[..., 3:, :10])
    assert not found[..., :2].any() and not found[..., 9:, :].any()


def test_a_turn_keeps_distances_on_slices_that_are_not_square() -> None:
    moves = replace(STILL, turn=25.0).matrices(torch.arange(300), torch.Size((10, 20)), RNG)
    pixels = torch.diag(torch.tensor([10.0, 5.0])) @ moves[:, :, :2] @ torch.diag(torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(pixels @ pixels.transpose(1, 2), torch.eye(2).expand_as(pixels))
    angle = torch.rad2deg(torch.atan2(pixels[:, 1, 0], pixels[:, 0, 0]))
    assert 23 < float(angle.max()) < 25.001 and -25.001 < float(angle.min()) < -23
    assert 110 < int((angle.abs() < 1e-4).sum()) < 190


def test_all_slices_of_a_sample_move_together_and_samples_by_their_ids() -> None:
    batch = images()
    inside = replace(batch, x=batch.x[:, :, :, 3:9, 3:9])
    found = replace(STILL, mirror=True, turn=0.0)(inside, RNG).x
    torch.testing.assert_close(found[:, 1], found[:, 0] + 1)
    torch.testing.assert_close(found[:, 2], found[:, 0] + 2)
    part = replace(STILL, mirror=True)(inside[10:20], RNG).x
    torch.testing.assert_close(part, found[10:20])


class Line(Module):
    """Log-odds are the mean of a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).mean(1, keepdim=True)


def test_auroc_is_that_of_the_metrics_ties_included() -> None:
    values = torch.tensor([0.1, 0.4, 0.4, 0.9, 0.4, 0.2])
    y = torch.tensor([0, 1, 0, 1, 1, 0])
    samples = Samples.of(values.view(-1, 1, 1), y)
    area, _ = ranking(values.double().numpy(), y.numpy() == 1, np.ones((1, 6)))
    assert auroc(Line(), samples, RNG) == pytest.approx(float(area[0])) == pytest.approx(8 / 9)
    with pytest.raises(EcgbenchError, match="samples of one class"):
        auroc(Line(), samples[torch.tensor([0, 2])], RNG)


def test_the_loss_is_the_studys_binary_cross_entropy() -> None:
    y, z = torch.tensor([0, 1, 1, 1]), torch.tensor([0.3, -1.0, 2.0, 0.1])
    weight = class_weights(y)
    assert weight.tolist() == [0.75, 0.25]
    theirs = binary_cross_entropy_with_logits(z, y.float(), weight=torch.tensor([0.75, 0.25, 0.25, 0.25]))
    torch.testing.assert_close(weighted_loss(torch.stack([0 * z, z], 1), y, weight), theirs)


def test_the_epoch_of_the_highest_auroc_is_kept() -> None:
    told: list[Any] = []
    torch.manual_seed(0)
    module = SmallMRNet(widths=(4, 8)).build(TASK)
    trained = Augmented(epochs=6, batch=8, lr=0.02, keep="best").fit(module, TASK, RNG, Checkpoint(told.append))
    scores = [each.score for each in told if isinstance(each, Epoch) and each.score is not None]
    assert auroc(trained, TASK.val, RNG) == pytest.approx(max(scores)) and min(scores) < max(scores)


def test_batches_are_augmented_where_asked_and_validation_never_is() -> None:
    class Watching(Line):
        def __init__(self) -> None:
            super().__init__()
            self.trained: list[Tensor] = []
            self.scored: list[Tensor] = []

        def forward(self, x: Tensor) -> Tensor:
            (self.trained if self.training else self.scored).append(x.detach().clone())
            return super().forward(x) + 0 * self.head.weight

    clean = {float(x.sum()) for x in TASK.train[:].x}
    for augment in (False, True):
        module = Watching()
        Augmented(epochs=1, augment=augment).fit(module, TASK, RNG, Checkpoint())
        seen = {float(x.sum()) for batch in module.trained for x in batch}
        assert (seen == clean) is not augment
        torch.testing.assert_close(torch.cat(module.scored), TASK.val[:].x)


def test_the_defense_keeps_its_promises() -> None:
    check_defense(Augmented(epochs=3, augment=True), SmallMRNet(widths=(4,)), decoded(TASK))


@pytest.mark.parametrize(
    ("augment", "task", "said"),
    [
        (True, TASK, None),
        (False, small_task((3, 8, 8), 2), None),
        (True, small_task((3, 8, 8), 2), "augmentation moves pixels, and the mask of small task differs by pixel"),
        (True, small_task((1, 187), 2), "augmentation turns images; samples of small task have shape"),
        (False, small_task((3, 8, 8), 3), "it selects by AUROC"),
        (False, replace(TASK, val=TASK.val[TASK.val.y == 0]), "samples of both to train and validate on"),
    ],
)
def test_tasks_that_it_cannot_train_on_are_refused(augment: bool, task: Any, said: str | None) -> None:
    found = Augmented(augment=augment).unfit(task)
    assert found is None if said is None else said in str(found)


def test_other_fields_of_a_batch_stay() -> None:
    batch: Batch = TASK.train[:6]
    found = Augmentation()(batch, RNG)
    assert found.mask is batch.mask and torch.equal(found.ids, batch.ids) and found.x.shape == batch.x.shape
    assert not found.x[~batch.mask.expand_as(batch.x)].any()
