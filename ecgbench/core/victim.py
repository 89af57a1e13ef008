"""A trained module as attacks and metrics meet it: in eval mode, asked for logits, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Batch
from ecgbench.core.outputs import SINGLE_LABEL, Outputs
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Goal

CHUNK_BYTES = 3 << 18


@dataclass(frozen=True)
class Victim:
    """A module and how to call it.

    The module maps x (n, *shape) to logits (n, classes), or to something that `outputs` reads as such. The module may
    ask for the mask (`takes_mask = True`, called `module(x, mask)`) or for a random stream and sample ids
    (`takes_rng = True`, called with `rng=` a `RandomStream` that is new at every forward, and `ids=`).
    """

    module: Module
    outputs: Outputs = SINGLE_LABEL
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
        return self.outputs.read(self.output(x.clone(), batch, rng), x, self.name)

    def output(self, x: Tensor, batch: Batch, rng: RandomStream) -> object:
        """What the module itself returns for `x`, or for what remains for a tensor, such as an interval."""
        args = (x, batch.mask.clone()) if self.takes_mask else (x,)
        return self.module(*args, rng=rng, ids=batch.ids.clone()) if self.takes_rng else self.module(*args)

    def answers(self, x: Tensor, batch: Batch, rng: RandomStream, draws: int = 15) -> Tensor:
        """What the prediction is read from, (n, classes): the logits; of a randomised module the log-odds of the votes
        of `draws` draws, rows of NaN where a draw has a logit that is not finite. No label is looked at.
        """
        with torch.no_grad():
            if not self.takes_rng:
                return self.logits(x, batch, rng)
            return self.outputs.pooled([self.logits(x, batch, rng.fold_in("draw", draw)) for draw in range(draws)])

    def predict(self, x: Tensor, batch: Batch, rng: RandomStream, goal: Goal | None = None) -> Tensor:
        """Prediction (n,) for `x` in place of `batch.x`."""
        return self.outputs.predict(self.answers(x, batch, rng), batch.y, goal)


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


def frozen(module: Module, outputs: Outputs = SINGLE_LABEL) -> Victim:
    """The module as a victim for good: eval mode, weights without gradients."""
    return Victim(module.eval().requires_grad_(False), outputs)


def chunks(rows: Tensor, shape: tuple[int, ...]) -> list[Tensor]:
    """`rows` (n,) in pieces of a fixed number of bytes of signal, so results do not depend on the machine."""
    row_bytes = 4 * max(1, int(torch.Size(shape).numel()))
    return list(rows.split(max(1, CHUNK_BYTES // row_bytes))) if len(rows) else []
