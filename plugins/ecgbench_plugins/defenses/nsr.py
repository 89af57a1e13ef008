"""The defenses of the noise-to-signal-ratio study that add terms to a loss on clean samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy

from ecgbench import Batch, Checkpoint, Defense, EcgbenchError, RandomStream, Schedule, Task, Victim, hookimpl, train
from ecgbench_plugins.defenses.penalties import (
    active_margin,
    input_gradient,
    jacobian_frobenius,
    jacobian_l1,
    log_ratio,
    own,
    right,
    squared_error,
    squared_ratio,
    summed_margin,
)
from ecgbench_plugins.defenses.recipe import Mechanisms, Recipe, coded, convolutional

Terms = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits z (n, classes), the samples x they came from, with gradient where it is asked for, y (n,) -> the loss."""


@dataclass(frozen=True)
class Penalised(Schedule, Defense):
    """A loss on clean logits and, maybe, their gradient to the sample; one forward serves all its terms.

    `recipe`: "code" is the study's training as its published code has it, with unit norms and the rest of
    `recipe`; "text" as the paper writes it; "plain" the loss as coded and nothing else.
    """

    recipe: Recipe = "plain"

    @abstractmethod
    def terms(self, module: Module) -> Terms:
        """The loss for this module."""

    @property
    def differentiates(self) -> bool:
        """Whether the loss needs the gradient to the sample."""
        return True

    def mechanisms(self, module: Module) -> Mechanisms:
        """What the recipe does beside the loss."""
        return coded(self.recipe)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        terms, differentiates = self.terms(model), self.differentiates
        before_forward, hooks = self.mechanisms(model).begin(model)

        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            before_forward()
            x = batch.x.detach().requires_grad_() if differentiates else batch.x
            return terms(Victim(module).logits(x, batch, step), x, batch.y)

        return train(model, task, loss, self, rng, checkpoint, hooks)


@dataclass(frozen=True)
class SquaredError(Penalised):
    """Mean of ||z - onehot(y)||^2, with `margin` also the margin term; "mse" and "mse-margin" of Ma and Liang 2020.

    The margin term averages 1 - z_y + z_j over active pairs of correctly classified samples (plain and code), or
    sums it over all j for each of them (text).
    """

    margin: bool = False

    @property
    def differentiates(self) -> bool:
        return False

    def terms(self, module: Module) -> Terms:
        margin = _margin(self.recipe)
        return lambda z, x, y: squared_error(z, y) + margin(z, y) if self.margin else squared_error(z, y)


@dataclass(frozen=True)
class NSR1(Penalised):
    """mse-margin + `weight` R1, which draws w_y to x / x.x; Ma and Liang 2020, eq. 4 and 13, gamma 1: their "loss1".

    R1 bounds the noise-to-signal ratio of a net without biases: recipes text and code train without them.
    """

    weight: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_weight(self.weight)

    def mechanisms(self, module: Module) -> Mechanisms:
        return Mechanisms(biases=False) if self.recipe == "text" else coded(self.recipe, biases=False)

    def terms(self, module: Module) -> Terms:
        margin, weight = _margin(self.recipe), self.weight

        def terms(z: Tensor, x: Tensor, y: Tensor) -> Tensor:
            w = input_gradient(own(z, y), x)
            return squared_error(z, y) + margin(z, y) + weight * squared_ratio(w, x.flatten(1), right(z, y))

        return terms


@dataclass(frozen=True)
class NSR2(Penalised):
    """mse-margin + `weight` R2, the log of 1 + noise over signal; Ma and Liang 2020, eq. 9 and 16: their "loss2".

    R2 = log(1 + `eps` ||w_y||_1 / |z_y|), 0.01 added below the line unless recipe=text; `eps` in the unit of x. The
    paper has weight 0.5; the code that was published later 0.4 for the MLP and 0.3 for the CNN.
    """

    weight: float = 0.5
    eps: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_weight(self.weight)
        _check_weight(self.eps)

    def terms(self, module: Module) -> Terms:
        margin, weight, eps = _margin(self.recipe), self.weight, self.eps
        floor = 1e-12 if self.recipe == "text" else 0.01  # a logit may be exactly 0

        def terms(z: Tensor, x: Tensor, y: Tensor) -> Tensor:
            z_y = own(z, y)
            ratio = log_ratio(input_gradient(z_y, x), z_y, right(z, y), eps, floor)
            return squared_error(z, y) + margin(z, y) + weight * ratio

        return terms


@dataclass(frozen=True)
class Jacobian(Penalised):
    """Cross-entropy + `weight` times a norm of the Jacobian dz/dx; "jacob" of Ma and Liang 2020.

    `norm` "l1": the mean over samples and positions of sum_c |dz_c/dx_i|, as coded; "frobenius": the root mean
    square over samples of ||dz/dx||_F, Jakubovitz and Giryes 2018, whom the paper cites. None stands for the
    recipe's: l1, for recipe=text frobenius. `weight` None: with l1 that of the code, 0.9 and for a convolutional net
    0.7; with frobenius, where no source gives one for such signals, 0.1.
    """

    weight: float | None = None
    norm: Literal["l1", "frobenius"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_weight(self.weight)

    def mechanisms(self, module: Module) -> Mechanisms:
        return coded(self.recipe, decay=True)

    def terms(self, module: Module) -> Terms:
        entries = (self.norm or ("frobenius" if self.recipe == "text" else "l1")) == "l1"
        of_code = 0.7 if convolutional(module) else 0.9
        weight = self.weight if self.weight is not None else of_code if entries else 0.1
        size = jacobian_l1 if entries else jacobian_frobenius
        return lambda z, x, y: cross_entropy(z, y) + weight * size(z, x)


def _margin(recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor]:
    return summed_margin if recipe == "text" else active_margin


def _check_weight(weight: float | None) -> None:
    if weight is not None and not 0 < weight < float("inf"):
        raise EcgbenchError(f"{weight} given; expected a number above 0.")


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {
        "mse": SquaredError(),
        "mse-margin": SquaredError(margin=True),
        "nsr1": NSR1(),
        "nsr2": NSR2(),
        "nsr": NSR2(),
        "jacobian": Jacobian(),
    }
