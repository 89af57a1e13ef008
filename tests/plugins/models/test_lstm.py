"""The recurrent victim: what it reads out, along which axis it steps, and how it standardises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softmax

from ecgbench.core.data import Samples, Task
from ecgbench.core.interfaces import Model
from ecgbench.testing.tasks import small_task
from ecgbench_plugins.models.lstm import Network, Recurrent, models, statistics

TASK = small_task((48, 18), 2)
X = TASK.test.x[:6]


def built(model: Model, task: Task = TASK) -> Network:
    torch.manual_seed(0)
    module = model.build(task).eval()
    assert isinstance(module, Network)
    return module


def by_hand(module: Network, x: Tensor, axis: str, readout: str) -> Tensor:
    """The logits from the layer's outputs at every step, as the studies describe them; dense 32 and ReLU."""
    steps = (x - module.mean) / module.deviation
    if axis == "features":
        steps = steps.transpose(1, 2)
    output = module.body(steps)[0]
    half = output.shape[2] // 2
    backward = output[:, 0, half:] if readout == "final" else output[:, -1, half:]
    read = torch.tanh(torch.cat([output[:, -1, :half], backward], 1))
    hidden = torch.relu(read @ module.dense.weight.T + module.dense.bias)
    return hidden @ module.head.weight.T + module.head.bias


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("readout", ["final", "last-position"])
@pytest.mark.parametrize("axis", ["time", "features"])
def test_logits_are_those_of_the_two_directions_read_out(
    cell: Literal["lstm", "gru"], readout: Literal["final", "last-position"], axis: Literal["time", "features"]
) -> None:
    module = built(Recurrent(cell=cell, readout=readout, axis=axis))
    torch.testing.assert_close(module(X), by_hand(module, X, axis, readout))


def test_the_steps_go_along_the_axis_that_is_named() -> None:
    assert built(Recurrent()).body.input_size == 18
    assert built(Recurrent(axis="features")).body.input_size == 48


def test_at_the_last_position_the_backward_direction_has_seen_the_last_step_only() -> None:
    module = built(Recurrent(readout="last-position"))
    half = slice(module.body.hidden_size, None)
    other = X.clone()
    other[:, :-1] = 1 - other[:, :-1]
    states, changed = module._states(X), module._states(other)
    torch.testing.assert_close(states[:, half], changed[:, half])
    assert not torch.allclose(states, changed)


def test_each_feature_is_standardised_by_the_training_split_alone() -> None:
    x = torch.tensor([[[1.0, 5.0], [3.0, 5.0]], [[5.0, 5.0], [7.0, 5.0]]])
    mean, deviation = statistics(x)
    assert mean.tolist() == [4.0, 5.0]
    assert deviation.tolist() == pytest.approx([5**0.5, 1.0])  # the second never changes
    ours = built(Recurrent(), replace(TASK, test=TASK.test[:0]))
    theirs = built(Recurrent(), replace(TASK, val=TASK.test, test=TASK.val))
    assert torch.equal(ours.mean, theirs.mean) and torch.equal(ours.deviation, theirs.deviation)


def test_another_unit_of_a_feature_changes_no_logit() -> None:
    slope, offset = torch.linspace(0.2, 5, 18), torch.linspace(-2, 2, 18)

    def in_other_units(samples: Samples) -> Samples:
        return replace(samples, x=samples.x * slope + offset)

    train, val, test = (in_other_units(part) for part in (TASK.train, TASK.val, TASK.test))
    other = built(Recurrent(), replace(TASK, bounds=None, train=train, val=val, test=test))
    torch.testing.assert_close(other(X * slope + offset), built(Recurrent())(X), rtol=1e-4, atol=1e-5)


def test_double_softmax_gives_probabilities_to_the_training_and_logits_to_everyone_else() -> None:
    plain, double = built(Recurrent(dropout=0.0)), built(Recurrent(dropout=0.0, double_softmax=True))
    torch.testing.assert_close(double(X), plain(X))
    torch.testing.assert_close(double.train()(X), softmax(plain.train()(X), 1))


def test_the_layer_stays_in_train_mode_and_the_dropout_does_not() -> None:
    module = built(Recurrent())
    assert module.body.training and not module.dropout.training
    torch.nn.Sequential(module.train()).eval()
    assert module.body.training and not module.dropout.training and not module.training


def test_a_loss_on_the_gradient_can_be_trained_on() -> None:
    module = built(Recurrent(hidden=4)).train()
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[:, 0].sum(), x, create_graph=True)
    gradient.square().sum().backward()
    slope = module.body.all_weights[0][0].grad
    assert slope is not None and slope.abs().sum() > 0


def test_presets_are_those_of_the_two_studies() -> None:
    offered = models()
    assert set(offered) == {"lstm", "gru", "lstm-sun2018", "lstm-aa"}
    assert isinstance(built(offered["gru"]).body, torch.nn.GRU)
    assert built(offered["lstm-sun2018"]).body.input_size == 48
    tuned = built(offered["lstm-aa"])
    assert (tuned.dropout.p, tuned.dense.out_features, tuned.body.input_size) == (0.303, 64, 18)


def test_samples_of_another_shape_are_refused() -> None:
    assert Recurrent().unfit(TASK) is None
    assert Recurrent(cell="gru").unfit(small_task((3, 8, 8))) == (
        "gru reads (time, features); this dataset's samples have shape (3, 8, 8)."
    )


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"dense": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_a_parameter_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected hidden and dense of 1 or more"):
        replace(Recurrent(), **wrong)
