"""The residual network of the CinC 2017 challenge is the published one, and the fast form changes no value."""

from __future__ import annotations

import copy
from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Conv1d, Module
from torch.nn.functional import max_pool1d, pad, relu

from ecgbench.core.data import Samples, Task
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.precision import GRADIENTS, LOGITS, errors, in_bf16, reduced, wrong
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.training import recalibrate_batchnorm
from ecgbench_plugins.models.resnet34 import TRUNCATED, Block, Network, ResNet34, dropped

SMALL = ResNet34(width=2)
TIME = 515  # 515 -> 257 -> 128 ...: two poolings drop a sample
X = torch.randn(19, 1, TIME, generator=torch.Generator().manual_seed(0))


def task(*shape: int) -> Task:
    rows = Samples.of(torch.zeros(0, *shape), torch.zeros(0, dtype=torch.int64))
    return Task("rows", tuple("ANO~"), rows, rows, rows)


def network(model: ResNet34 = SMALL, time: int = TIME, leads: int = 1) -> Network:
    """Every weight and statistic is random, so that none can be left out unseen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = model.build(task(leads, time))
        for layer in module.modules():
            if isinstance(layer, Conv1d):
                assert layer.bias is not None
                layer.bias.data.normal_(0, 0.1)
            if isinstance(layer, BatchNorm1d):
                assert layer.running_mean is not None and layer.running_var is not None
                layer.weight.data.uniform_(0.5, 1.5)
                layer.bias.data.normal_(0, 0.1)
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
    assert isinstance(module, Network)
    return module.eval()


def built(model: ResNet34, task: Task) -> Network:
    module = model.build(task)
    assert isinstance(module, Network)
    return module


def blocks(net: Network) -> list[Block]:
    return [block for block in net.blocks if isinstance(block, Block)]


def plain(net: Network, x: Tensor) -> Tensor:
    """The published network without dropout, layer by layer, from the same weights."""

    def same(layer: Module | None, signal: Tensor) -> Tensor:
        assert layer is not None
        return layer(pad(signal, (7, 8)))

    signal = relu(net.norm(same(net.stem, x)))
    for number, block in enumerate(blocks(net)):
        main = same(block.first, relu(block.before(signal)) if block.before is not None else signal)
        main = same(block.second, relu(block.between(main)))
        if number in (5, 9, 13):
            assert block.shortcut is not None
            signal = block.shortcut(signal)
        if number in (0, 2, 4, 6, 8, 10, 12, 14):
            main, signal = max_pool1d(main, 2), max_pool1d(signal, 2)
        signal = main + signal
    return net.head(relu(net.last(signal)).permute(0, 2, 1).flatten(1))


@pytest.mark.parametrize("n", [37, 64])
def test_settled_statistics_are_of_the_rows_given_and_of_no_repeated_one(n: int) -> None:
    net, x = (
        network(),
        torch.randn(n, 1, TIME, generator=torch.Generator().manual_seed(1)) + torch.arange(n)[:, None, None],
    )
    recalibrate_batchnorm(net, Samples.of(x, torch.zeros(n, dtype=torch.int64)), RandomStream(("settle",)))
    with torch.no_grad():
        signal = net.stem(pad(x, (7, 8)))
    assert net.norm.running_mean is not None and net.norm.running_var is not None
    torch.testing.assert_close(net.norm.running_mean, signal.mean((0, 2)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(net.norm.running_var, signal.var((0, 2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("width", "time", "values"),
    [(16, 9000, 843_780), (64, 9000, 13_316_100), (16, 18_000, 852_740), (64, 18_000, 13_351_940)],
)
def test_the_number_of_values_is_the_published_one(width: int, time: int, values: int) -> None:
    with torch.device("meta"):
        net = ResNet34(width=width).build(task(1, time))
    state = {name: value.numel() for name, value in net.state_dict().items() if "num_batches" not in name}
    assert sum(state.values()) == values
    assert sum(each.numel() for each in net.parameters()) == values - 150 * width
    assert state["head.weight"] + state["head.bias"] == 4 * (time // 256 * 4 * width) + 4
    assert sum(isinstance(layer, Conv1d) for layer in net.modules()) == 36
    assert sum(isinstance(layer, BatchNorm1d) for layer in net.modules()) == 33


def test_the_default_holds_841380_trainable_values_of_which_8964_are_in_the_head() -> None:
    with torch.device("meta"):
        net = ResNet34().build(task(1, 9000))
    assert sum(each.numel() for each in net.parameters()) == 841_380
    assert sum(value.numel() for name, value in net.named_parameters() if name.startswith("head")) == 8_964


def test_channels_and_length_after_each_block_are_the_published_ones() -> None:
    trace: list[tuple[int, int]] = []
    with torch.device("meta"):
        net = built(ResNet34(), task(1, 9000)).eval()
        for block in blocks(net):
            block.register_forward_hook(lambda _, __, signal: trace.append((signal.shape[1], signal.shape[3])))
        net(torch.empty(1, 1, 9000))
    lengths = [4500, 4500, 2250, 2250, 1125, 1125, 562, 562, 281, 281, 140, 140, 70, 70, 35, 35]
    channels = [16] * 5 + [32] * 4 + [48] * 4 + [64] * 3
    assert trace == list(zip(channels, lengths, strict=True))


def answered(net: Network, kind: torch.dtype, leads: int) -> list[tuple[Tensor, Tensor]]:
    """Logits and input gradient of the network and of the plain one, for 17 rows."""
    x = X[:17].repeat(1, leads, 1).cumsum(1).to(kind).requires_grad_()
    answers = (net(x), plain(net, x))
    return [(answer.detach(), torch.autograd.grad(answer.square().sum(), x)[0]) for answer in answers]


@pytest.mark.parametrize("leads", [1, 2])
def test_logits_and_input_gradients_are_those_of_the_plain_network(leads: int) -> None:
    fast, slow = answered(network(leads=leads).double(), torch.float64, leads)
    assert float(slow[0].std(0).min()) > 0.01
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("leads", [1, 2])
def test_in_float32_logits_and_input_gradients_differ_by_rounding_alone(leads: int) -> None:
    (logits, gradient), (expected, steepness) = answered(network(leads=leads), torch.float32, leads)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert float((gradient - steepness).norm() / steepness.norm()) < 1e-3


@pytest.mark.parametrize("n", [2, 17, 19])
def test_training_sees_the_statistics_of_the_rows_given_and_of_no_repeated_one(n: int) -> None:
    net = network(ResNet34(width=2, dropout=0.0)).double().train()
    other = copy.deepcopy(net)
    x = X[:n].double()
    answers = net(x), plain(other, x)
    torch.testing.assert_close(*answers)
    kept = [{k: v for k, v in each.state_dict().items() if "num_batches" not in k} for each in (net, other)]
    torch.testing.assert_close(*kept)
    weights = [list(each.parameters()) for each in (net, other)]
    oracle = [torch.autograd.grad(a.square().sum(), w) for a, w in zip(answers, weights, strict=True)]
    torch.testing.assert_close(*oracle)


@pytest.mark.parametrize("n", [1, 3, 16])
def test_a_row_is_answered_alike_in_any_number_of_rows(n: int) -> None:
    net = network().double()
    torch.testing.assert_close(net(X.double())[:n], net(X[:n].double()))


def test_no_row_is_no_answer() -> None:
    assert network()(X[:0]).shape == (0, 4)


def test_running_statistics_move_by_a_hundredth_and_epsilon_is_a_thousandth() -> None:
    net = network(ResNet34(width=2))
    assert net.norm.running_mean is not None
    before = net.norm.running_mean.clone()
    entering = net.stem(pad(X, (7, 8))).detach()
    net.train()(X)
    torch.testing.assert_close(net.norm.running_mean, 0.99 * before + 0.01 * entering.mean((0, 2)))
    assert {layer.eps for layer in net.modules() if isinstance(layer, BatchNorm1d)} == {1e-3}


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_dropout_keeps_the_stated_share_and_the_mean(share: float) -> None:
    torch.manual_seed(0)
    kept = dropped(torch.ones(40, 7, 1, 333), share)
    n, exact = kept.numel(), round(share * 256) / 256
    assert kept.unique().tolist() == [0.0, pytest.approx(1 / (1 - exact))]
    assert float((kept > 0).double().mean()) == pytest.approx(1 - exact, abs=4 * sqrt(share * (1 - share) / n))
    assert float(kept.double().mean()) == pytest.approx(1, abs=4 * sqrt(share / (1 - share) / n))


def test_dropout_of_a_half_keeps_a_value_doubled() -> None:
    signal = X.unsqueeze(2)
    kept = dropped(signal, 0.5)
    assert torch.equal(kept[kept != 0], 2 * signal[kept != 0])


def test_dropout_draws_for_each_value_by_itself() -> None:
    torch.manual_seed(0)
    kept = dropped(torch.ones(40, 7, 1, 333).to(memory_format=torch.channels_last), 0.5) - 1
    for pair in (kept[1:] * kept[:-1], kept[:, 1:] * kept[:, :-1], kept[..., 1:] * kept[..., :-1]):
        assert abs(float(pair.mean())) < 4 / sqrt(pair.numel())
    assert kept.is_contiguous(memory_format=torch.channels_last)


def test_dropout_is_fixed_by_the_seed_and_lets_through_the_gradient_of_what_it_keeps() -> None:
    signal = torch.randn(3, 2, 1, 11, requires_grad=True)
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append(dropped(signal, 0.5))
    assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])
    (gradient,) = torch.autograd.grad(answers[0].sum(), signal)
    assert torch.equal(gradient, 2.0 * (answers[0] != 0))


def test_a_module_drops_while_it_trains_and_only_then() -> None:
    net = network()
    assert torch.equal(net(X), net(X))
    net.train()
    assert not torch.equal(net(X), net(X))


def test_convolutions_begin_from_a_cut_normal_of_variance_two_over_fan_in() -> None:
    torch.manual_seed(0)
    net = built(ResNet34(), task(1, 512))
    for block in blocks(net):
        weight = block.second.weight.detach()
        spread = sqrt(2 / (16 * weight.shape[1]))
        assert float(weight.var()) == pytest.approx(spread**2, rel=0.05)
        assert abs(float(weight.mean())) < 4 * spread / sqrt(weight.numel())
        assert 1.95 < float(weight.abs().max()) / (spread / TRUNCATED) <= 2
        assert block.second.bias is not None and not block.second.bias.any()


def test_shortcuts_and_head_begin_uniform_after_glorot() -> None:
    torch.manual_seed(0)
    net = built(ResNet34(), task(1, 9000))
    shortcut = blocks(net)[13].shortcut
    assert shortcut is not None
    for weight in (shortcut.weight.detach(), net.head.weight.detach()):
        limit = sqrt(6 / (weight.shape[0] + weight.shape[1]))
        assert 0.99 * limit < float(weight.abs().max()) <= limit
        assert float(weight.var()) == pytest.approx(limit**2 / 3, rel=0.1)


def test_the_normal_cut_at_two_has_the_deviation_that_is_divided_by() -> None:
    normal = torch.distributions.Normal(0, 1)
    two = torch.tensor(2.0, dtype=torch.float64)
    inside = 2 * float(normal.cdf(two)) - 1
    assert sqrt(1 - 4 * float(normal.log_prob(two).exp()) / inside) == pytest.approx(TRUNCATED, rel=1e-12)


@pytest.mark.parametrize("shape", [(512,), (1, 2, 512), (1, 255)])
def test_what_cannot_be_read_is_refused_in_a_sentence(shape: tuple[int, ...]) -> None:
    reason = ResNet34().unfit(task(*shape))
    assert reason is not None and reason.endswith(".") and str(shape[-1]) in reason


def test_the_shortest_signal_read_has_256_samples() -> None:
    assert ResNet34().unfit(task(1, 256)) is None
    assert network(time=256)(X[..., :256]).shape == (19, 4)


@pytest.mark.parametrize(("field", "value"), [("width", 0), ("dropout", -0.1), ("dropout", 1.0), ("dropout", 0.999)])
def test_a_field_out_of_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field}={value}"):
        ResNet34(**{field: value})


def rows(n: int = 19) -> Samples:
    return Samples.of(X[:n], torch.arange(n) % 4)


@pytest.mark.parametrize("width", [2, 16])
def test_bf16_trains_where_it_is_right_and_is_refused_where_it_is_not(width: int) -> None:
    """On some processors bfloat16 convolutions of fewer than 16 channels are wrong."""
    net = network(ResNet34(width=width, precision="bf16"))
    found = errors(net, rows())
    right = found["logits"] <= LOGITS and max(found.values()) <= GRADIENTS
    assert (wrong(net, rows()) is None) == right
    if right:
        assert min(found.values()) > 1e-4
        assert in_bf16(net, rows(), Checkpoint())
    else:
        with pytest.raises(
            EcgbenchError, match=r"^precision=bf16 is refused: .* expected precision=float32 or auto\.$"
        ):
            in_bf16(net, rows(), Checkpoint())


def test_bf16_convolves_in_bfloat16_inside_a_training_and_answers_in_float32_outside() -> None:
    net = network(ResNet34(width=2, precision="bf16", dropout=0.0))
    exact = copy.deepcopy(net)
    kinds: list[torch.dtype] = []
    net.blocks[3].register_forward_hook(lambda _, __, signal: kinds.append(signal.dtype))
    for mode in (True, False):
        with reduced(net):
            assert net.train(mode)(X).dtype == torch.float32
        exact.load_state_dict(net.state_dict())
        assert torch.equal(net(X), exact.train(mode)(X))
    assert kinds == [torch.bfloat16, torch.float32] * 2
    with reduced(net):
        net.train()(X).square().sum().backward()
    assert {each.dtype for each in net.parameters()} == {torch.float32}
    assert {None if each.grad is None else each.grad.dtype for each in net.parameters()} == {torch.float32}


def test_the_default_takes_what_suits_the_machine() -> None:
    assert ResNet34().precision == "auto" and network(ResNet34(width=2)).precision == "auto"
