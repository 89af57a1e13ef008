"""Interval bounds hold whatever the net answers inside the box, are exact for one layer, and train a net."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Module, Sequential
from torch.nn.functional import cross_entropy, pad

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.progress import Checkpoint, Epoch
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench_plugins.defenses.ibp import IBP
from ecgbench_plugins.defenses.intervals import Box, leads
from ecgbench_plugins.models.cnn import CNN
from ecgbench_plugins.models.linear import LinearClassifier
from ecgbench_plugins.models.mlp import MLP
from tests.problems import MemoryCheckpoint, blobs

SHAPE = (2, 32)
TASK = blobs(n=240, shape=SHAPE)
RNG = RandomStream(("train", 0))


class Residual(Module):
    """A block as other libraries write it: batch normalisation, modules throughout, an addition in place."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Sequential(nn.Conv1d(2, 2, 3, padding=1, bias=False), nn.BatchNorm1d(2), nn.LeakyReLU(0.1))
        self.head = Sequential(nn.AvgPool1d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y += x
        return self.head(torch.relu(y).contiguous())


class Averaged(Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, (2, 5), stride=(1, 2), dilation=(1, 2))
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.out(torch.tanh(self.conv(x.unsqueeze(1))).mean((2, 3)))) + 1


class Padded(Module):
    """Kernels of an even length, as resnet34 has them, and padding that is not 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(2, 2, 4), nn.Linear(76, 3)

    def forward(self, x: Tensor) -> Tensor:
        near = torch.relu(self.conv(pad(x, (1, 2), value=-1.0)))
        return self.out(pad(near, (3, 3), mode="circular").flatten(1))


NETS: dict[str, Any] = {
    "linear": lambda: LinearClassifier().build(TASK),
    "mlp": lambda: MLP(widths=(12, 8)).build(TASK),
    "cnn": lambda: CNN(width=4, blocks=2).build(TASK),
    "cnn1d": lambda: CNN(width=4, blocks=2, layout="conv1d").build(TASK),
    "residual": Residual,
    "averaged": Averaged,
    "padded": Padded,
}


def built(name: str) -> Module:
    """In float64, its normalisation as if it had been trained, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = cast(Module, NETS[name]()).double()
        for _ in range(3):
            module(3 * TASK.train.x.double() + 1)
        return module.eval()


def box_of(module: Module, x: Tensor, eps: float) -> Box:
    return cast(Box, module(cast(Tensor, Box.between(x - eps, x + eps))))


@pytest.mark.parametrize("eps", [0.01, 0.3, 3.0])
@pytest.mark.parametrize("name", NETS)
def test_the_box_holds_every_answer_inside_the_ball(name: str, eps: float) -> None:
    module, x, y = built(name), TASK.test.x[:8].double(), TASK.test.y[:8]
    box, worst = box_of(module, x, eps), leads(box_of(module, x, eps), y)
    rng = torch.Generator().manual_seed(0)
    for draw in range(60):
        noise = 2 * torch.rand(x.shape, generator=rng, dtype=x.dtype) - 1
        z = module(x + eps * (noise if draw % 2 else noise.sign()))
        assert (z >= box.low - 1e-9).all() and (z <= box.high + 1e-9).all()
        assert (z - z.gather(1, y[:, None]) <= worst + 1e-9).all()
    assert not worst.gather(1, y[:, None]).any()


@pytest.mark.parametrize("name", NETS)
def test_a_box_without_width_is_the_answer_itself(name: str) -> None:
    module, x = built(name), TASK.test.x[:8].double()
    torch.testing.assert_close(box_of(module, x, 0.0).centre, module(x))
    assert box_of(module, x, 0.0).radius.abs().max().item() < 1e-12


def test_the_bounds_of_one_linear_layer_are_reached() -> None:
    """The most that class j can be ahead: z_j - z_y + eps ||w_j - w_y||_1; of a logit alone: eps ||w_j||_1."""
    module, x, y, eps = built("linear"), TASK.test.x[:8].double(), TASK.test.y[:8], 0.3
    weight, z = module.state_dict()["1.weight"], module(x)
    box = box_of(module, x, eps)
    torch.testing.assert_close(box.radius, (eps * weight.abs().sum(1)).expand(8, 3))
    between = (weight[None] - weight[y][:, None]).abs().sum(2)
    torch.testing.assert_close(leads(box, y), z - z.gather(1, y[:, None]) + eps * between)


def test_the_difference_of_two_rows_is_bounded_tighter_than_two_logits() -> None:
    module, x, y = built("mlp"), TASK.test.x[:8].double(), TASK.test.y[:8]
    box = box_of(module, x, 0.1)
    apart = leads(Box(box.centre, box.radius), y)
    wrong = torch.ones_like(apart, dtype=torch.bool).scatter(1, y[:, None], False)
    assert (leads(box, y) < apart)[wrong].all()


def test_batch_normalisation_is_its_fixed_affine_map() -> None:
    layer = nn.BatchNorm1d(1).double().eval()
    layer.load_state_dict(
        {
            "weight": torch.tensor([-3.0]),
            "bias": torch.tensor([1.0]),
            "running_mean": torch.tensor([2.0]),
            "running_var": torch.tensor([4.0 - 1e-5]),
            "num_batches_tracked": torch.tensor(1),
        }
    )
    box = cast(Box, layer(Box(torch.tensor([[6.0]]).double(), torch.tensor([[2.0]]).double())))
    torch.testing.assert_close((box.low, box.high), (torch.tensor([[-8.0]]).double(), torch.tensor([[-2.0]]).double()))


# training


class Softened(Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.head(x.flatten(1)), 1)


class Squared(Softened):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1)).square()


@pytest.mark.parametrize(("module", "named"), [(Softened(), "softmax"), (Squared(), "square")])
def test_a_module_that_intervals_do_not_pass_is_refused_in_one_sentence(module: Module, named: str) -> None:
    with pytest.raises(EcgbenchError) as caught:
        IBP(epochs=1, wait=0).fit(module, TASK, RNG, Checkpoint())
    text = str(caught.value)
    assert f"no interval is known for '{named}'" in text and text.count(". ") == 0 and text.endswith(".")


def loss_told(defense: IBP, eps: float) -> tuple[float, float, float]:
    """The loss of the first epoch, in one batch of all samples; by hand, the two it is made of."""
    module, checkpoint = LinearClassifier().build(TASK), MemoryCheckpoint()
    weight, z = module.state_dict()["1.weight"].clone(), module(TASK.train.x).detach()
    y = TASK.train.y
    once = replace(defense, epochs=1, batch=10_000, balanced=False)
    once.fit(module, TASK, RNG, checkpoint)
    worst = z + eps * (weight[None] - weight[y][:, None]).abs().sum(2)
    told = checkpoint.told[0]
    assert isinstance(told, Epoch)
    return told.loss, float(cross_entropy(z, y)), float(cross_entropy(worst, y))


@pytest.mark.parametrize("clean", [0.0, 0.5, 0.9])
def test_the_loss_weighs_the_clean_and_the_worst_answer(clean: float) -> None:
    told, bare, worst = loss_told(IBP(eps=0.1, clean=clean, wait=0, warmup=0), 0.1)
    assert told == pytest.approx(clean * bare + (1 - clean) * worst, rel=1e-5)


def test_eps_and_the_bounds_share_of_the_loss_grow_together() -> None:
    """In the first of four epochs: eps / 4, and a quarter of the final share of a half."""
    told, bare, worst = loss_told(IBP(eps=0.4, wait=0, warmup=4), 0.1)
    assert told == pytest.approx(0.875 * bare + 0.125 * worst, rel=1e-5)
    told, bare, _ = loss_told(IBP(eps=0.4, wait=1), 0.1)
    assert told == pytest.approx(bare, rel=1e-5)


def test_what_an_attacker_may_not_touch_does_not_widen_the_bounds() -> None:
    closed = replace(TASK.train, mask=torch.zeros(len(TASK.train), 1, 1, dtype=torch.bool))
    module, checkpoint = LinearClassifier().build(TASK), MemoryCheckpoint()
    bare = float(cross_entropy(module(closed.x), closed.y).detach())
    IBP(eps=0.3, wait=0, warmup=0, epochs=1, batch=10_000, balanced=False).fit(
        module, replace(TASK, train=closed), RNG, checkpoint
    )
    told = checkpoint.told[0]
    assert isinstance(told, Epoch) and told.loss == pytest.approx(bare, rel=1e-5)


def test_a_module_without_intervals_is_refused_before_it_is_trained() -> None:
    class Sine(Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).sin()

    checkpoint = MemoryCheckpoint()
    with pytest.raises(EcgbenchError, match="no interval is known for 'sin'"):
        IBP(epochs=2, wait=1).fit(Sequential(Sine(), nn.Linear(64, 3)), TASK, RNG, checkpoint)
    assert not checkpoint.told


def test_training_on_bounds_proves_more_samples_robust() -> None:
    def proven(defense: IBP, eps: float = 0.2) -> float:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = MLP(widths=(16, 8)).build(TASK)
        trained = defense.fit(module, TASK, RNG, Checkpoint())
        worst = leads(box_of(trained, TASK.test.x, eps), TASK.test.y)
        return float((worst <= 0).all(1).double().mean())

    few = IBP(eps=0.2, epochs=8, batch=40, lr=1e-2, wait=1, warmup=4)
    assert proven(few) > proven(replace(few, wait=8)) + 0.1


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"eps": 0.0}, "expected eps above 0"),
        ({"clean": 1.0}, "expected eps above 0 and clean"),
        ({"threat": Threat("l2")}, "intervals bound linf only"),
        ({"warmup": -1}, "expected 0 or more"),
    ],
)
def test_a_training_on_bounds_that_cannot_be_is_refused(parts: dict[str, Any], why: str) -> None:
    with pytest.raises(EcgbenchError, match=why):
        IBP(**parts)
