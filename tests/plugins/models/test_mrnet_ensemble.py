"""A network for each plane: what the whole says, what it looks at, and which tasks it can serve."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.interfaces import Model
from ecgbench.core.random import RandomStream
from ecgbench.core.victim import Victim
from ecgbench.testing import check_model
from ecgbench.testing.tasks import small_task
from ecgbench_plugins.datasets.synthetic_knee import SyntheticKnee
from ecgbench_plugins.models.mrnet import MRNet, SmallMRNet
from ecgbench_plugins.models.mrnet_ensemble import Ensemble, MRNetEnsemble, models, of_plane

RNG = RandomStream(("forward", 0))
PLANES = ("axial", "coronal", "sagittal")


@cache
def task() -> Task:
    return SyntheticKnee(exams=40, plane="all").load(DataRoot())


@cache
def built() -> Ensemble:
    torch.manual_seed(0)
    module = MRNetEnsemble().build(task())
    assert isinstance(module, Ensemble)
    return module.eval()


def test_the_hook_offers_it_and_it_keeps_its_promises() -> None:
    assert models() == {"mrnet-ensemble": MRNetEnsemble()}
    check_model(MRNetEnsemble(each=SmallMRNet(widths=(4, 4))), task())


def test_the_logit_is_linear_in_the_probabilities_of_networks_that_see_one_plane_each() -> None:
    batch = task().test[:4]
    said = []
    for number, (plane, network) in enumerate(zip(PLANES, built().networks, strict=True)):
        alone = SyntheticKnee(exams=40, plane=plane).load(DataRoot()).test[:4]  # type: ignore[arg-type]
        said.append(Victim(network).answers(alone.x, alone, RNG)[:, 1].sigmoid() * built().head.weight[0, number])
    expected = torch.stack(said).sum(0) + built().head.bias
    found = Victim(built()).answers(batch.x, batch, RNG)[:, 1]
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)


def test_a_gradient_reaches_every_plane_and_no_padded_slice() -> None:
    batch = task().test[:4]
    x = batch.x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Victim(built()).logits(x, batch, RNG)[:, 1].sum(), x)
    padding = ~batch.mask.expand_as(x)
    assert bool(gradient.flatten(3).any(3).any(1).all()) and bool(padding.any()) and not gradient[padding].any()


@pytest.mark.parametrize("decoded", [False, True])
def test_the_task_of_one_plane_is_that_of_the_set_of_this_plane(decoded: bool) -> None:
    for number, plane in enumerate(PLANES):
        alone = SyntheticKnee(exams=40, plane=plane).load(DataRoot())  # type: ignore[arg-type]
        given = task().blind() if decoded else task()
        seen = of_plane(given, number)
        assert seen.shape == alone.shape and torch.equal(seen.train.y, alone.train.y)
        for rows in (slice(0, 3), torch.tensor([5, 1])):
            found, expected = seen.train[rows], alone.train[rows]
            assert torch.equal(found.x, expected.x) and torch.equal(found.mask, expected.mask)


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (
            MRNetEnsemble(),
            small_task((2, 1, 8, 8), 2),
            "mrnet-ensemble reads (slices, planes, channels, height, width)",
        ),
        (MRNetEnsemble(), small_task((2, 3, 2, 8, 8), 2), "mrnet-small reads (slices, 1 or 3 channels, height, width)"),
        (MRNetEnsemble(each=MRNet()), small_task((2, 3, 1, 8, 8), 2), "mrnet needs slices of 63 x 63 or more"),
        (MRNetEnsemble(), small_task((2, 3, 1, 8, 8), 3), "mrnet-small has one logit for two classes"),
        (SmallMRNet(), small_task((2, 3, 1, 8, 8), 2), "this dataset's samples have shape (2, 3, 1, 8, 8)"),
    ],
)
def test_samples_of_another_kind_are_refused(model: Model, given: Task, said: str) -> None:
    assert said in str(model.unfit(given))
