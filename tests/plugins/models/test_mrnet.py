"""Networks over slices: what they hold, what padding and equal channels change, and which weights they begin with."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Conv2d, Module

from ecgbench.core.data import Samples, Task
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Model
from ecgbench.core.random import RandomStream
from ecgbench.core.signals import ByteSignals
from ecgbench.core.victim import Victim
from ecgbench.testing import check_model
from ecgbench.testing.tasks import small_task
from ecgbench_plugins.models import mrnet
from ecgbench_plugins.models.mrnet import MRNet, Network, SmallMRNet, models
from tests.volumes import knee_task

RNG = RandomStream(("forward", 0))
LENGTHS = (1, 4, 2)


@cache
def exams(side: int = 64, channels: int = 1) -> Samples:
    """Exams of 1, 4 and 2 slices of noise."""
    draw = np.random.default_rng(0)
    arrays = [np.repeat(draw.integers(0, 256, (n, 1, side, side)).astype(np.uint8), channels, 1) for n in LENGTHS]
    return Samples.of(ByteSignals(arrays, (channels, side, side), max(LENGTHS)), torch.tensor([0, 1, 0]))


def task(samples: Samples) -> Task:
    return Task("slices", ("no", "yes"), samples, samples, samples, bounds=(0.0, 1.0))


def built(model: Model, samples: Samples) -> Network:
    torch.manual_seed(0)
    module = model.build(task(samples)).eval()
    assert isinstance(module, Network)
    return module


def logits(module: Module, samples: Samples, x: Tensor | None = None) -> Tensor:
    batch = samples[:]
    with torch.set_grad_enabled(x is not None):
        return Victim(module).logits(batch.x if x is None else x, batch, RNG)[:, 1]


def test_mrnet_holds_the_published_number_of_parameters() -> None:
    module = built(MRNet(), exams())
    assert sum(each.numel() for each in module.features.parameters()) == 2_469_696
    assert sum(each.numel() for each in module.head.parameters()) == 257


@pytest.mark.parametrize("model", [SmallMRNet(), SmallMRNet(widths=(3,)), MRNet()])
def test_the_logit_of_an_exam_is_that_of_a_plain_loop_over_it(model: Model) -> None:
    """One exam at a time, three equal channels, no padding, as the public baseline runs it."""
    samples = exams()
    module = built(model, samples)
    signals = samples.signals
    assert isinstance(signals, ByteSignals)
    for row, array in enumerate(signals.arrays):
        images = (torch.from_numpy(array.astype(np.float32)) - 58.09) / 49.73
        alone = module.head(module.features(images.expand(-1, 3, -1, -1)).mean((2, 3)).amax(0))
        torch.testing.assert_close(logits(module, samples)[row], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", [SmallMRNet(), MRNet()])
def test_an_exam_alone_and_padded_in_a_batch_has_one_logit(model: Model) -> None:
    module = built(model, exams())
    together = logits(module, exams())
    for row, length in enumerate(LENGTHS):
        one = exams()[row : row + 1]
        short = replace(one, x=one.x[:, :length], mask=one.mask[:, :length])
        alone = Victim(module).answers(short.x, short, RNG)[0, 1]
        assert abs(float(alone - together[row])) <= 1e-5


@pytest.mark.parametrize("rows", [slice(0, 3), slice(1, 2)])
def test_slices_that_run_in_pieces_give_the_same_logits_and_gradients(
    monkeypatch: pytest.MonkeyPatch, rows: slice
) -> None:
    module, found = built(SmallMRNet(), exams()), []
    for pixels in (mrnet.PIXELS, 1, 2 * 64 * 64):
        monkeypatch.setattr(mrnet, "PIXELS", pixels)
        x = exams()[rows].x.requires_grad_()
        answer = module(x, exams()[rows].mask)
        found.append((answer, *torch.autograd.grad(answer.sum(), x)))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_padding_is_not_looked_at_and_has_no_gradient() -> None:
    module, batch = built(SmallMRNet(), exams()), exams()[:]
    padding = ~batch.mask.expand_as(batch.x)
    x = torch.where(padding, 9.0, batch.x).requires_grad_()
    torch.testing.assert_close(logits(module, exams(), x), logits(module, exams()))
    (gradient,) = torch.autograd.grad(logits(module, exams(), x).sum(), x)
    assert not gradient[padding].any() and gradient[~padding].any()


def test_a_mask_of_pixels_or_of_nothing_leaves_every_slice_in() -> None:
    module, batch = built(SmallMRNet(), exams()), exams()[1:2]
    whole = module(batch.x, batch.mask)
    pixels = torch.ones(1, 1, 1, 1, 64, dtype=torch.bool)
    pixels[..., 32:] = False
    torch.testing.assert_close(module(batch.x, pixels), whole)
    torch.testing.assert_close(module(batch.x, torch.zeros_like(batch.mask)), whole)


@pytest.mark.parametrize("model", [SmallMRNet(), MRNet()])
def test_three_equal_channels_are_one(model: Model) -> None:
    module = built(model, exams())
    torch.testing.assert_close(logits(module, exams(channels=3)), logits(module, exams()), atol=1e-5, rtol=1e-5)


def test_three_channels_are_seen_each_by_itself() -> None:
    module, batch = built(SmallMRNet(), exams(channels=3)), exams(channels=3)[:]
    other = batch.x.clone()
    other[:, :, 0] = 1 - other[:, :, 0]
    assert not torch.allclose(logits(module, exams(channels=3), other), logits(module, exams(channels=3)))


@pytest.mark.parametrize("name", ["mrnet", "mrnet-small"])
def test_models_keep_their_promises_on_volumes(name: str) -> None:
    check_model(models()[name], knee_task(64))


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (SmallMRNet(), small_task((3, 8, 8), 2), "mrnet-small reads (slices, 1 or 3 channels, height, width)"),
        (SmallMRNet(), small_task((2, 2, 8, 8), 2), "samples have shape (2, 2, 8, 8)"),
        (SmallMRNet(), small_task((2, 1, 8, 8), 3), "mrnet-small has one logit for two classes; this dataset has 3."),
        (MRNet(), small_task((2, 1, 64, 62), 2), "mrnet needs slices of 63 x 63 or more; this dataset's are 64 x 62."),
    ],
)
def test_samples_of_another_kind_are_refused(model: Model, given: Task, said: str) -> None:
    assert said in str(model.unfit(given))


def test_widths_below_one_are_refused() -> None:
    with pytest.raises(EcgbenchError, match="expected at least one, all of them 1 or more"):
        SmallMRNet(widths=(8, 0))


def test_weights_are_those_of_the_file_and_no_other_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {f"features.{name}": torch.randn_like(value) for name, value in mrnet.alexnet().state_dict().items()}
    path = tmp_path / "alexnet.pth"
    torch.save({**theirs, "classifier.6.bias": torch.zeros(1000)}, path)
    with pytest.raises(EcgbenchError, match=r"has the SHA-256 .*expected torchvision's alexnet-owt-7be5be79.pth, 7be5"):
        MRNet(weights=str(path)).build(task(exams()))
    monkeypatch.setattr(mrnet, "ALEXNET_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    first = built(MRNet(weights=str(path)), exams()).features[0]
    assert isinstance(first, Conv2d) and torch.equal(first.weight, theirs["features.0.weight"])
    path.write_bytes(b"no weights")
    monkeypatch.setattr(mrnet, "ALEXNET_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(EcgbenchError, match="is no file of weights"):
        MRNet(weights=str(path)).build(task(exams()))
    with pytest.raises(EcgbenchError, match="cannot be read"):
        MRNet(weights=str(tmp_path / "nowhere.pth")).build(task(exams()))
