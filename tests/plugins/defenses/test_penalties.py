"""The terms of the noise-to-signal-ratio study: by hand, and their gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log, sqrt

import pytest
import torch
from torch import Tensor
from torch.nn import Linear, Module
from torch.nn.functional import cross_entropy

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import Model
from ecgbench_plugins.defenses.nsr import NSR1, NSR2, Jacobian, Penalised, SquaredError
from ecgbench_plugins.defenses.penalties import (
    active_margin,
    input_gradient,
    jacobian_frobenius,
    jacobian_l1,
    log_ratio,
    own,
    squared_error,
    squared_ratio,
    summed_margin,
)
from ecgbench_plugins.models.cnn import CNN
from ecgbench_plugins.models.mlp import MLP
from tests.problems import blobs

TASK = blobs(shape=(1, 16))
MODELS: dict[str, Model] = {
    "mlp": MLP(widths=(12, 10, 6)),
    "cnn": CNN(width=4, blocks=1),
    "cnn1d": CNN(4, 2, layout="conv1d"),
}
DEFENSES = {
    "mse": SquaredError(),
    "mse-margin": SquaredError(margin=True),
    "mse-margin, text": SquaredError(margin=True, recipe="text"),
    "nsr1": NSR1(weight=2.0),
    "nsr2": NSR2(weight=2.0),
    "nsr2, text": NSR2(weight=2.0, recipe="text"),
    "jacobian l1": Jacobian(weight=2.0),
    "jacobian frobenius": Jacobian(weight=2.0, norm="frobenius"),
}


def double(model: Model) -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return model.build(TASK).double()


def value(defense: Penalised, module: Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return defense.terms(module)(module(x), x, y)


# gradients


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", DEFENSES)
def test_the_gradient_of_every_loss_is_the_slope_that_finite_differences_find(name: str, model: str) -> None:
    """Along a random direction of all weights, in float64; 24 samples, about half of them right."""
    module, defense = double(MODELS[model]), DEFENSES[name]
    x = TASK.train.x[:24].double()
    y = torch.where(torch.arange(24) < 12, module(x).argmax(1), TASK.train.y[:24])
    parameters = list(module.parameters())
    rng = torch.Generator().manual_seed(0)
    along = [torch.randn(p.shape, generator=rng, dtype=p.dtype) for p in parameters]
    gradients = torch.autograd.grad(value(defense, module, x, y), parameters, materialize_grads=True)
    slope = sum(float((g * v).sum()) for g, v in zip(gradients, along, strict=True))

    def moved(step: float) -> float:
        with torch.no_grad():
            for p, v in zip(parameters, along, strict=True):
                p.add_(v, alpha=step)
        found = float(value(defense, module, x, y).detach())
        with torch.no_grad():
            for p, v in zip(parameters, along, strict=True):
                p.sub_(v, alpha=step)
        return found

    assert (moved(1e-7) - moved(-1e-7)) / 2e-7 == pytest.approx(slope, rel=1e-5)


def test_the_margin_and_the_ratios_have_a_gradient_worth_checking() -> None:
    """The test above could pass on zeros."""
    module = double(MODELS["mlp"])
    x = TASK.train.x[:24].double()
    y, parts = module(x).argmax(1), list(module.parameters())
    for more, less in (("mse-margin", "mse"), ("nsr1", "mse-margin"), ("nsr2", "mse-margin")):
        term = value(DEFENSES[more], module, x, y) - value(DEFENSES[less], module, x, y)
        assert max(float(g.abs().max()) for g in torch.autograd.grad(term, parts, materialize_grads=True)) > 1e-3


def test_one_pass_over_the_batch_gives_each_sample_its_own_gradient() -> None:
    module, x, y = double(MODELS["mlp"]), TASK.train.x[:5].double().requires_grad_(), TASK.train.y[:5]
    whole = input_gradient(own(module(x), y), x)
    for row in range(5):
        alone = x[row : row + 1].detach().requires_grad_()
        torch.testing.assert_close(input_gradient(own(module(alone), y[row : row + 1]), alone)[0], whole[row])


# by hand: three samples, three classes; the first two are right, the third (class 2) is taken for class 0

Z = torch.tensor([[1.0, 0.5, -0.5], [0.25, 2.0, 1.75], [3.0, 0.0, 1.0]])
Y = torch.tensor([0, 1, 2])


def test_the_squared_error_is_summed_over_classes_and_averaged_over_samples() -> None:
    """(0 + .25 + .25) + (.0625 + 1 + 3.0625) + (9 + 0 + 0) = 13.625."""
    assert float(squared_error(Z, Y)) == pytest.approx(13.625 / 3)


def test_the_margin_as_coded_is_the_mean_over_active_pairs() -> None:
    """Lacks 1 - z_y + z_j: sample 1: .5 and -.5; sample 2: -.75 and .75; sample 3 is wrong. (.5 + .75) / 2."""
    assert float(active_margin(Z, Y)) == pytest.approx(0.625)


def test_the_margin_as_coded_does_not_fade_with_the_number_of_active_pairs() -> None:
    assert float(active_margin(Z[:1], Y[:1])) == pytest.approx(0.5)
    assert float(active_margin(10 * Z[:2], Y[:2])) == 0  # nothing lacks anything any more
    assert float(active_margin(Z[2:], Y[2:])) == 0  # nothing is right


def test_the_margin_as_written_sums_over_classes_and_counts_the_true_one() -> None:
    """Sample 1: 1 + .5; sample 2: 1 + .75; mean over the two right ones."""
    assert float(summed_margin(Z, Y)) == pytest.approx((1.5 + 1.75) / 2)


def test_the_squared_ratio_draws_the_gradient_to_the_sample_over_its_square() -> None:
    """x = (3, 4), x.x = 25: the best w is (.12, .16); w = (1, 0): .88^2 + .16^2 = .8; the second row is not counted."""
    x, w = torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [5.0, 5.0]])
    assert float(squared_ratio(w, x, torch.tensor([True, False]))) == pytest.approx(0.8)


@pytest.mark.parametrize("floor", [0.01, 0.0])
def test_the_log_ratio_is_noise_over_signal(floor: float) -> None:
    """||w||_1 = 3 and 4, |z_y| = 2 and 0.5; the third row is not counted."""
    w = torch.tensor([[1.0, -2.0], [4.0, 0.0], [9.0, 9.0]])
    z_y, rows = torch.tensor([2.0, -0.5, 1.0]), torch.tensor([True, True, False])
    expected = (log(1 + 3 / (2 + floor)) + log(1 + 4 / (0.5 + floor))) / 2
    assert float(log_ratio(w, z_y, rows, floor=floor)) == pytest.approx(expected)
    smaller = (log(1 + 0.3 / (2 + floor)) + log(1 + 0.4 / (0.5 + floor))) / 2
    assert float(log_ratio(w, z_y, rows, eps=0.1, floor=floor)) == pytest.approx(smaller)


def test_a_batch_without_a_right_row_has_no_ratio() -> None:
    none = torch.zeros(3, dtype=torch.bool)
    assert float(log_ratio(torch.ones(3, 2), torch.ones(3), none)) == 0
    assert float(squared_ratio(torch.ones(3, 2), torch.ones(3, 2), none)) == 0


def linear(weight: list[list[float]], bias: list[float]) -> Linear:
    layer = Linear(len(weight[0]), len(weight))
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
    return layer


NET = linear([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0]], [0.0, 1.0, 0.0])
X = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # logits (2, 2, 0) and (-2, 1, 3)


def test_the_norms_of_the_jacobian_of_a_linear_net_are_those_of_its_weight() -> None:
    """|entries| sum to 6.5 and are averaged over 2 positions; squares sum to 14.25."""
    x = X.clone().requires_grad_()
    assert float(jacobian_l1(NET(x), x).detach()) == pytest.approx(6.5 / 2)
    assert float(jacobian_frobenius(NET(x), x).detach()) == pytest.approx(sqrt(14.25))


def test_the_losses_of_a_linear_net_by_hand() -> None:
    """Classes (1, 2). Sample 1 ties with class 0, is taken for it and so wrong; sample 2 is right, z_y = 3.

    Errors: (4 + 1 + 0) + (4 + 1 + 4) = 14, mean 7. Lacks of sample 2: 1 - 3 - 2 and 1 - 3 + 1, none active. w_y of
    sample 2 is (0, 3), x / x.x is (0, 1): R1 = 4; R2 = log(1 + 3 / 3.01).
    """
    y = torch.tensor([1, 2])
    found = {name: float(value(defense, NET, X, y).detach()) for name, defense in DEFENSES.items()}
    ce = float(cross_entropy(NET(X), y).detach())
    assert found == pytest.approx(
        {
            "mse": 7,
            "mse-margin": 7,
            "mse-margin, text": 7 + 1,
            "nsr1": 7 + 2 * 4,
            "nsr2": 7 + 2 * log(1 + 3 / 3.01),
            "nsr2, text": 7 + 1 + 2 * log(1 + 3 / 3),
            "jacobian l1": ce + 2 * 3.25,
            "jacobian frobenius": ce + 2 * sqrt(14.25),
        },
        rel=1e-5,
    )


def test_a_logit_of_exactly_zero_breaks_no_gradient_of_the_ratio_as_written() -> None:
    module, y = linear([[0.0, 0.0], [-1.0, 0.0], [-1.0, -1.0]], [0.0, 0.0, 0.0]), torch.tensor([0, 1])
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    value(NSR2(recipe="text"), module, x, y).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())


# what a recipe says of the loss


def weight_of(defense: Jacobian, model: str, norm: Callable[[Tensor, Tensor], Tensor]) -> float:
    module, x, y = double(MODELS[model]), TASK.train.x[:9].double().requires_grad_(), TASK.train.y[:9]
    z = module(x)
    return float((defense.terms(module)(z, x, y) - cross_entropy(z, y)).detach() / norm(z, x).detach())


@pytest.mark.parametrize(("model", "weight"), [("mlp", 0.9), ("cnn", 0.7)])
def test_the_jacobian_has_the_weight_and_norm_of_its_recipe_unless_given(model: str, weight: float) -> None:
    assert weight_of(Jacobian(recipe="code"), model, jacobian_l1) == pytest.approx(weight)
    assert weight_of(Jacobian(), model, jacobian_l1) == pytest.approx(weight)
    assert weight_of(Jacobian(recipe="text"), model, jacobian_frobenius) == pytest.approx(0.1)
    assert weight_of(Jacobian(recipe="text", norm="l1", weight=3), model, jacobian_l1) == pytest.approx(3)


def test_the_weights_of_the_ratios_are_those_of_the_paper() -> None:
    assert (NSR1().weight, NSR2().weight, NSR2().eps) == (0.2, 0.5, 1.0)


@pytest.mark.parametrize("weight", [0.0, -1.0, torch.inf, torch.nan])
@pytest.mark.parametrize("defense", [NSR1(), NSR2(), Jacobian()])
def test_a_weight_that_cannot_be_is_refused(defense: NSR1 | NSR2 | Jacobian, weight: float) -> None:
    with pytest.raises(EcgbenchError, match=r"expected a number above 0|weight expects a number"):
        replace(defense, weight=weight)
