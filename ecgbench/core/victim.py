"""A trained module as attacks and metrics meet it: in eval mode, asked for logits, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Batch
from ecgbench.core.outputs import read_logits
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Goal

CHUNK_BYTES = 3 << 18


@dataclass(frozen=True)
class Victim:
    """A module and how to call it.

    The module maps x (n, *shape) to logits (n, classes), or to something that `read_logits` reads as such; `classes` is
    their number, None where it is not known. The module may ask for the mask (`takes_mask = True`, called `module(x,
    mask)`) or for a random stream and sample ids (`takes_rng = True`, called with `rng=` a `RandomStream` that is new
    at every forward, and `ids=`).
    """

    module: Module
    classes: int | None = None
    takes_mask: bool = field(init=False)
    takes_rng: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes_mask", bool(getattr(self.module, "takes_mask", False)))
        object.__setattr__(self, "takes_rng", bool(getattr(self.module, "takes_rng", False)))

    @property
    def name(self) -> str:
        """What errors call the module."""
        return str(getattr(self.module, "called", type(self.module).__name__))

    @property
    def device(self) -> torch.device:
        """Where the module's weights are."""
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    def logits(self, x: Tensor, batch: Batch, rng: RandomStream) -> Tensor:
        """Logits (n, classes) of `x` in place of `batch.x`; `rng` is used by a randomised module only.

        The module gets copies: it may work in place on its input. Raises ContractError where it returns something else.
        """
        return read_logits(self.output(x.clone(), batch, rng), x, self.classes, self.name)

    def output(self, x: Tensor, batch: Batch, rng: RandomStream) -> object:
        """What the module itself returns for `x`, or for what remains for a tensor, such as an interval."""
        args = (x, batch.mask.clone()) if self.takes_mask else (x,)
        return self.module(*args, rng=rng, ids=batch.ids.clone()) if self.takes_rng else self.module(*args)

    def answers(self, x: Tensor, batch: Batch, rng: RandomStream, draws: int = 15) -> Tensor:
        """What the class is read from, (n, classes): the logits; of a randomised module the votes of `draws` draws.

        A draw votes for the class of its largest logit, for each of them where several are equal. Rows of NaN where
        a draw has a logit that is not finite. No label is looked at.
        """
        with torch.no_grad():
            if not self.takes_rng:
                return self.logits(x, batch, rng)
            return sum(
                (_votes(self.logits(x, batch, rng.fold_in("draw", draw))) for draw in range(draws)), torch.zeros(())
            )

    def predict(self, x: Tensor, batch: Batch, rng: RandomStream, goal: Goal | None = None) -> Tensor:
        """Predicted class (n,) of `x` in place of `batch.x`, see `classes`."""
        return predicted_classes(self.answers(x, batch, rng), batch.y, goal)


def predicted_classes(answers: Tensor, y: Tensor, goal: Goal | None = None) -> Tensor:
    """Predicted class of each row, (n, classes) -> (n,); -1 where an answer, or a difference of two, is not finite.

    Where the largest answers are equal, the class that is worst for the victim counts: the one that `goal` is to
    reach, else any but the true class `y` (n,). So a sample is right only if its class is above every other.
    """
    gaps = answers.amax(1, keepdim=True) - answers
    if isfinite(float(gaps.sum())) and int(gaps.count_nonzero()) == gaps.numel() - len(gaps):
        return gaps.argmin(1)
    rank = torch.ones_like(gaps).scatter_(1, (goal.label if goal is not None and goal.untargeted else y)[:, None], 0.5)
    if goal is not None and not goal.untargeted:
        rank.scatter_(1, goal.label[:, None], 2.0)
    predicted = torch.where(gaps == 0, rank, 0.0).argmax(1)
    return torch.where(torch.isfinite(gaps).all(1), predicted, -1)


def _votes(logits: Tensor) -> Tensor:
    gaps = logits.amax(1, keepdim=True) - logits
    return torch.where(torch.isfinite(gaps).all(1, keepdim=True), (gaps == 0).to(gaps.dtype), torch.nan)


@contextmanager
def evaluating(module: Module) -> Iterator[Victim]:
    """The module as a victim in eval mode; every submodule's own mode comes back afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield Victim(module)
    finally:
        for part, mode in modes:
            part.training = mode


def frozen(module: Module, classes: int | None = None) -> Victim:
    """The module as a victim for good: eval mode, weights without gradients."""
    return Victim(module.eval().requires_grad_(False), classes)


def chunks(rows: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    """`rows` (n,) in pieces of a fixed number of bytes of signal, so results do not depend on the machine."""
    row_bytes = 4 * max(1, int(torch.Size(shape).numel()))
    return list(rows.split(max(1, CHUNK_BYTES // row_bytes))) if len(rows) else []
