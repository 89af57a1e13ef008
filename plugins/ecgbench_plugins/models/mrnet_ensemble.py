"""Three planes of one knee: a network for each, and a logistic regression on what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import Linear, Module, ModuleList

from ecgbench import Model, Samples, Signals, Task, hookimpl
from ecgbench_plugins.models.mrnet import SmallMRNet


@dataclass(frozen=True)
class MRNetEnsemble(Model):
    """A network `each` for every plane of x (n, slices, planes, channels, height, width): one logit.

    The logit is linear in the probabilities that the networks give, as in Bien et al. 2018 (PLoS Med 15(11) e1002699);
    `plane-ensemble` trains it so. An attack meets the whole: it perturbs all planes at once.
    """

    default_dataset: ClassVar[str] = "synthetic-knee[plane=all]"
    each: Model = SmallMRNet()

    def unfit(self, task: Task) -> str | None:
        if len(task.shape) != 5:
            wanted = "(slices, planes, channels, height, width)"
            return f"mrnet-ensemble reads {wanted}; this dataset's samples have shape {task.shape}."
        return self.each.unfit(of_plane(task, 0))

    def build(self, task: Task) -> Module:
        return Ensemble([self.each.build(of_plane(task, plane)) for plane in range(task.shape[1])])


class Ensemble(Module):
    """x (n, slices, planes, channels, height, width) and mask -> one logit (n, 1).

    `networks` read one plane each and give one logit; `head` is linear in their probabilities.
    """

    takes_mask = True

    def __init__(self, networks: list[Module]) -> None:
        super().__init__()
        self.networks = ModuleList(networks)
        self.head = Linear(len(networks), 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.probabilities(x, mask))

    def probabilities(self, x: Tensor, mask: Tensor) -> Tensor:
        """Of every plane's network: (n, planes)."""
        mask = mask.expand(-1, -1, x.shape[2], *mask.shape[3:])
        found = [network(x[:, :, plane], mask[:, :, plane]) for plane, network in enumerate(self.networks)]
        return torch.cat(found, 1).sigmoid()


def of_plane(task: Task, plane: int) -> Task:
    """The task of one plane alone, at position `plane` of the second axis; what is decoded on access stays so."""
    train, val, test = (_samples(part, plane) for part in (task.train, task.val, task.test))
    return replace(task, train=train, val=val, test=test)


def _samples(samples: Samples, plane: int) -> Samples:
    mask = samples.mask.expand(-1, -1, samples.x.shape[2], *samples.mask.shape[3:])[:, :, plane]
    signals = None if samples.signals is None else OnePlane(samples.signals, plane)
    return replace(samples, x=samples.x[:, :, plane], mask=mask, signals=signals)


@dataclass(frozen=True, eq=False)
class OnePlane:
    """The plane at position `plane` of signals (length, planes, *rest)."""

    source: Signals
    plane: int

    @property
    def shape(self) -> tuple[int, ...]:
        n, length, _, *rest = self.source.shape
        return (n, length, *rest)

    @property
    def lengths(self) -> Tensor:
        return self.source.lengths

    @property
    def span(self) -> tuple[float, float]:
        return self.source.span

    def read(self, rows: Tensor) -> Tensor:
        return self.source.read(rows)[:, :, self.plane].contiguous()


@hookimpl
def models() -> Mapping[str, Model]:
    return {"mrnet-ensemble": MRNetEnsemble()}
