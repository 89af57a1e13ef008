"""What the code of the noise-to-signal-ratio study does beside its losses, piece by piece and whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Conv1d, Flatten, Linear, Module, ReLU, Sequential
from torch.optim import SGD

from ecgbench.core.data import Batch
from ecgbench.core.interfaces import Defense, Model
from ecgbench.core.progress import Checkpoint, Epoch
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.training import Hook, Schedule, train
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.defenses.adaptive import Adaptive
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.defenses.nsr import NSR1, NSR2, Jacobian, SquaredError
from ecgbench_plugins.defenses.recipe import (
    Decay,
    Mechanisms,
    Revival,
    SecondStep,
    clear_biases,
    convolutional,
    kept_in_norm,
    layers_of,
    normalise,
)
from ecgbench_plugins.models.cnn import CNN
from ecgbench_plugins.models.mlp import MLP
from tests.problems import KilledError, MemoryCheckpoint, blobs

TASK = blobs(n=240, shape=(1, 16))
RNG = RandomStream(("train", 0))
SMALL_MLP, SMALL_CNN = MLP(widths=(8, 6)), CNN(width=4, blocks=2)
ADV = Adaptive(attack=PGD(steps=2, abs_step=0.01), threat=Threat("linf", mask=False), eps=0.1)
METHODS: dict[str, Any] = {
    "ce": Standard(),
    "mse": SquaredError(),
    "mse-margin": SquaredError(margin=True),
    "nsr1": NSR1(),
    "nsr2": NSR2(),
    "jacobian": Jacobian(),
    "adv": ADV,
}


def built(model: Model, seed: int = 0) -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model.build(TASK)


def linear(weight: list[list[float]], bias: list[float]) -> Linear:
    layer = Linear(len(weight[0]), len(weight))
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return layer


def sizes(layer: Any) -> Tensor:
    return layer.weight.detach().flatten(1).norm(dim=1)


def biases(module: Module) -> list[Tensor]:
    return [value for name, value in module.state_dict().items() if name.endswith("bias")]


def names(module: Module, layers: Any) -> list[str]:
    return [name for name, part in module.named_modules() if any(part is layer for layer in layers)]


# which layers


def test_of_the_mlp_all_layers_but_the_head_are_kept_in_norm() -> None:
    module = built(MLP())
    assert names(module, kept_in_norm(module)) == ["1", "3", "5", "7"]
    assert names(module, layers_of(module)) == ["1", "3", "5", "7", "8"] and not convolutional(module)


@pytest.mark.parametrize("layout", ["conv1d", "conv2d"])
def test_of_the_cnn_the_head_is_kept_in_norm_and_the_last_block_is_not(layout: str) -> None:
    module = CNN(width=4, layout=layout).build(blobs(n=60, shape=(1, 187)))
    blocks = [f"{layer}.{block}" for layer in ("first", "second") for block in range(4)]
    assert names(module, kept_in_norm(module)) == ["stem", *blocks, "narrow", "head"] and convolutional(module)


def test_of_another_net_all_layers_but_the_last_are_kept_in_norm() -> None:
    module = Sequential(Conv1d(1, 2, 3), Sequential(Conv1d(2, 2, 3), ReLU()), Flatten(), Linear(24, 5), Linear(5, 3))
    assert names(module, kept_in_norm(module)) == ["0", "1.0", "3"]
    assert kept_in_norm(Linear(3, 2)) == []


# unit norms


def test_a_kernel_and_its_bias_are_divided_by_the_norm_of_the_kernel() -> None:
    layer = linear([[3.0, 4.0], [0.0, -0.5], [0.0, 0.0]], [10.0, 4.0, 1e-40])
    normalise([layer])
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[0.6, 0.8], [0.0, -1.0], [0.0, 0.0]]))
    torch.testing.assert_close(layer.bias.detach()[:2], torch.tensor([2.0, 8.0]))
    assert bool(layer.bias.isfinite().all())


def test_the_kernel_of_a_convolution_is_all_that_feeds_one_channel() -> None:
    layer = Conv1d(4, 3, 5)
    before = layer.weight.detach().clone()
    normalise([layer, Conv1d(1, 1, 3, bias=False)])
    torch.testing.assert_close(sizes(layer), torch.ones(3))
    torch.testing.assert_close(layer.weight.detach() * before.flatten(1).norm(dim=1).view(3, 1, 1), before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", [SMALL_MLP, SMALL_CNN])
def test_each_method_updates_at_unit_norm_where_the_code_does(method: str, model: Model) -> None:
    """All but cross-entropy and adversarial training of an MLP; an attack meets the weights before they are normed."""
    module = built(model)
    kept, met = kept_in_norm(module), dict[bool, list[float]]({True: [], False: []})

    def note(module: Module, given: object) -> None:
        met[module.training].append(float((torch.cat([sizes(layer) for layer in kept]) - 1).abs().max()))

    module.register_forward_pre_hook(note)
    defense = replace(METHODS[method], recipe="code", epochs=1, batch=64)
    defense.fit(module, TASK, RNG, Checkpoint())
    normed = method not in ("ce", "adv") or model is SMALL_CNN
    assert (max(met[True]) < 1e-6) == normed
    if method == "adv":
        assert max(met[False]) > 1e-4
    assert normed or max(met[True]) > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_every_method_starts_from_unit_norms_and_no_bias_in_all_layers(method: str) -> None:
    module, first = built(SMALL_MLP), []
    module.register_forward_pre_hook(lambda module, given: first.append(_start(module)))
    replace(METHODS[method], recipe="code", epochs=1).fit(module, TASK, RNG, Checkpoint())
    for size, bias in first[0]:
        torch.testing.assert_close(size, torch.ones_like(size))
        assert not bias.any()


def _start(module: Module) -> list[tuple[Tensor, Tensor]]:
    return [(sizes(layer), bias.clone()) for layer, bias in zip(layers_of(module), biases(module), strict=True)]


# dead kernels


def with_gradient(layer: Linear, gradient: list[list[float]]) -> Linear:
    layer.weight.grad = torch.tensor(gradient)
    return layer


def test_a_kernel_without_a_gradient_all_epoch_begins_the_next_one_afresh() -> None:
    layer = linear([[3.0, 4.0], [5.0, 6.0], [7.0, 8.0]], [1.0, 2.0, 3.0])
    hook, optimizer = Revival([layer]), SGD(layer.parameters(), 0.1)
    hook.begin_epoch(0, RNG.fold_in(0))
    for gradient in ([[0.0, 0.0], [0.0, 0.0], [0.0, -1e-30]], [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]):
        with_gradient(layer, gradient)
        hook.after_step(optimizer)
    hook.begin_epoch(1, RNG.fold_in(1))
    assert layer.weight[[0, 2]].tolist() == [[3.0, 4.0], [7.0, 8.0]]
    assert float(sizes(layer)[1]) == pytest.approx(1) and layer.bias.tolist() == [1.0, 0.0, 3.0]


def test_every_epoch_counts_anew_and_draws_anew() -> None:
    layer = linear([[3.0, 4.0]], [1.0])
    hook, optimizer, drawn = Revival([layer]), SGD(layer.parameters(), 0.1), []
    with_gradient(layer, [[1.0, 0.0]])
    for epoch, lives in enumerate([True, False, False, True]):
        hook.begin_epoch(epoch, RNG.fold_in(epoch))
        drawn.append(layer.weight.detach().clone())
        with_gradient(layer, [[float(lives), 0.0]])
        hook.after_step(optimizer)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2]) and not torch.equal(drawn[2], drawn[3])


def test_nothing_is_revived_before_the_first_epoch() -> None:
    layer = linear([[3.0, 4.0]], [1.0])
    Revival([layer]).begin_epoch(0, RNG)
    assert layer.weight.tolist() == [[3.0, 4.0]] and layer.bias.tolist() == [1.0]


def half_dead() -> Module:
    """Its second hidden unit is silent on every sample."""
    body = linear(torch.eye(16)[:4].tolist(), [0.0, -100.0, 0.0, 0.0])
    return Sequential(Flatten(), body, ReLU(), linear(torch.eye(4)[:3].tolist(), [0.0, 0.0, 0.0]))


def plain(module: Module, batch: Batch, step: RandomStream) -> Tensor:
    return torch.nn.functional.cross_entropy(module(batch.x), batch.y)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_training_killed_at_any_epoch_revives_the_same_kernels(epoch: int) -> None:
    def trained(checkpoint: Checkpoint) -> Module:
        module = half_dead()
        hooks = [Hook(), Revival(kept_in_norm(module))]
        return train(module, TASK, plain, Schedule(epochs=3, lr=1e-2), RNG, checkpoint, hooks)

    killed, whole = MemoryCheckpoint(dies_at=epoch), trained(Checkpoint())
    with pytest.raises(KilledError):
        trained(killed)
    assert whole.state_dict()["1.bias"][1] > -1
    assert same(trained(MemoryCheckpoint(killed.state)), whole)


def same(one: Module, other: Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


# decay, two steps, no biases


def test_decay_shrinks_every_tensor_by_hand_arithmetic() -> None:
    """At lr 0.1: 1 - .1 * .02 = .998, times 1 - .1 * .03 = .995006; -2 -> -1.998 -> -1.992006; 0 stays."""
    layer = linear([[1.0, -2.0]], [0.0])
    Decay(l1=0.02, l2=0.03).after_backward(SGD(layer.parameters(), 0.1))
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[0.995006, -1.992006]]))
    assert layer.bias.tolist() == [0.0]


def test_decay_reaches_biases_and_leaves_what_is_not_trained() -> None:
    layer = linear([[1.0, 1.0]], [2.0])
    layer.weight.requires_grad_(False)
    Decay().after_backward(SGD(layer.parameters(), 0.1))
    assert layer.weight.tolist() == [[1.0, 1.0]] and 1.99 < layer.bias.item() < 2


class Steady(Module):
    """Its one weight always has the gradient 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight.expand(len(x), 3)


@pytest.mark.parametrize(
    ("hooks", "end"),
    [
        ([], 0.9),
        ([SecondStep()], 0.8),
        ([Decay(l1=0.0, l2=0.5)], 0.95 - 0.1),  # decayed before the step: 1 * (1 - .1 * .5) - .1
        ([Decay(l1=0.0, l2=0.5), SecondStep()], 0.95 - 0.2),  # decayed once, stepped twice
    ],
)
def test_an_update_is_backward_then_decay_then_the_steps(hooks: list[Hook], end: float) -> None:
    """Adamax on a steady gradient moves by lr a step."""
    once = Schedule(epochs=1, batch=10_000, lr=0.1)
    module = train(Steady(), TASK, lambda module, batch, step: module(batch.x).mean(), once, RNG, Checkpoint(), hooks)
    assert module.state_dict()["weight"].item() == pytest.approx(end, abs=1e-6)


class Listening(Hook):
    """Notes the streams it is given."""

    def __init__(self, met: list[RandomStream]) -> None:
        self.met = met

    def begin_epoch(self, epoch: int, rng: RandomStream) -> None:
        self.met.append(rng)


def test_every_hook_draws_from_a_path_of_its_own_in_every_epoch() -> None:
    met = list[RandomStream]()
    train(Steady(), TASK, plain, Schedule(epochs=2, batch=10_000), RNG, Checkpoint(), [Listening(met), Listening(met)])
    assert len(set(met)) == 4 and not {RNG.fold_in("epoch", epoch) for epoch in range(2)} & set(met)


@pytest.mark.parametrize(("model", "steps"), [(SMALL_MLP, 1), (SMALL_CNN, 2)])
def test_adversarial_training_as_coded_steps_twice_on_a_convolutional_net_only(model: Model, steps: int) -> None:
    """The first steps of Adamax move every weight that has a gradient by lr each; decay is a hundredth of that."""
    module, heads = built(model), []
    module.register_forward_pre_hook(lambda module, given: heads.append(biases(module)[-1].clone()))
    replace(ADV, recipe="code", epochs=1, batch=10_000).fit(module, TASK, RNG, Checkpoint())
    moved = (biases(module)[-1] - heads[0]).abs()
    torch.testing.assert_close(moved, torch.full((3,), steps * 1e-3), rtol=0.03, atol=0)


@pytest.mark.parametrize("recipe", ["text", "code"])
@pytest.mark.parametrize("model", [SMALL_MLP, SMALL_CNN])
def test_nsr1_trains_without_biases_in_text_and_code(model: Model, recipe: Any) -> None:
    trained = NSR1(recipe=recipe, epochs=2).fit(built(model), TASK, RNG, Checkpoint())
    assert not torch.cat(biases(trained)).any()


def test_nsr1_plain_trains_its_biases() -> None:
    start = built(SMALL_MLP)
    clear_biases(layers_of(start))
    trained = NSR1(epochs=1).fit(start, TASK, RNG, Checkpoint())
    assert all(bias.any() for bias in biases(trained))


def test_biases_are_cleared_and_frozen_where_asked() -> None:
    layer = linear([[3.0, 4.0]], [5.0])
    clear_biases([layer, Linear(2, 2, bias=False)])
    assert layer.bias.tolist() == [0.0]
    assert [part.requires_grad for part in layer.parameters()] == [True, True]
    clear_biases([layer], freeze=True)
    assert [part.requires_grad for part in layer.parameters()] == [True, False]


# the whole


EXPECTED = {  # unit norms, decay, second step, biases; MLP then CNN
    "ce": ((False, True, False, True), (True, True, False, True)),
    "mse": ((True, False, False, True), (True, False, False, True)),
    "mse-margin": ((True, False, False, True), (True, False, False, True)),
    "nsr1": ((True, False, False, False), (True, False, False, False)),
    "nsr2": ((True, False, False, True), (True, False, False, True)),
    "jacobian": ((True, True, False, True), (True, True, False, True)),
    "adv": ((False, False, False, True), (True, True, True, True)),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("model", "column"), [(SMALL_MLP, 0), (SMALL_CNN, 1)])
def test_the_mechanisms_of_each_method_are_those_of_the_code(
    method: str, model: Model, column: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Mechanisms] = []
    begin = Mechanisms.begin

    def noted(mechanisms: Mechanisms, module: Module) -> Any:
        begun.append(mechanisms)
        return begin(mechanisms, module)

    monkeypatch.setattr(Mechanisms, "begin", noted)
    replace(METHODS[method], recipe="code", epochs=1).fit(built(model), TASK, RNG, Checkpoint())
    (used,) = begun
    assert (used.unit_norm, used.decay, used.second_step, used.biases) == EXPECTED[method][column]
    assert used.start and used.revival


@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_other_than_the_code_leaves_the_weights_to_the_loss(method: str) -> None:
    module = built(SMALL_MLP)
    before, first = [sizes(layer) for layer in layers_of(module)], []
    module.register_forward_pre_hook(lambda module, given: first.append([sizes(one) for one in layers_of(module)]))
    replace(METHODS[method], epochs=1).fit(module, TASK, RNG, Checkpoint())
    assert all(torch.equal(now, then) for now, then in zip(first[0], before, strict=True))


@pytest.mark.parametrize(("model", "share"), [(SMALL_MLP, 1.0), (SMALL_CNN, 0.5)])
def test_adversarial_training_as_coded_weighs_both_losses_fully_on_an_mlp(model: Model, share: float) -> None:
    module, answers = built(model), []
    checkpoint = MemoryCheckpoint()

    def note(module: Module, given: object, answer: Tensor) -> None:
        if module.training:
            answers.append(answer.detach())

    module.register_forward_hook(note)
    rows = TASK.train[torch.arange(60)]
    task = replace(TASK, train=rows)
    replace(ADV, recipe="code", epochs=1, batch=60, balanced=False).fit(module, task, RNG, checkpoint)
    order = rows.y[torch.randperm(60, generator=RNG.fold_in("epoch", 0).fold_in("order").generator())]
    both = sum(float(torch.nn.functional.cross_entropy(answer, order)) for answer in answers)
    told = checkpoint.told[0]
    assert len(answers) == 2 and isinstance(told, Epoch) and told.loss == pytest.approx(share * both, rel=1e-5)


@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_as_coded_killed_at_any_epoch_ends_with_the_same_weights(method: str, epoch: int) -> None:
    defense: Defense = replace(METHODS[method], recipe="code", epochs=3, batch=100)
    model = SMALL_CNN if method in ("ce", "adv") else SMALL_MLP
    killed = MemoryCheckpoint(dies_at=epoch)
    with pytest.raises(KilledError):
        defense.fit(built(model), TASK, RNG, killed)
    resumed = defense.fit(built(model), TASK, RNG, MemoryCheckpoint(killed.state))
    assert same(resumed, defense.fit(built(model), TASK, RNG, Checkpoint()))
