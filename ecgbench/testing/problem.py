"""A linear victim and samples whose distance to the next class is known: what an attack must find, and no more."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from math import prod

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from ecgbench.core.data import Samples, Task
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.trial import Trial, Watch
from ecgbench.core.victim import Victim

ROWS = 32
HALVINGS = 48
FAR = 1e3  # beyond every critical size that these problems have


class LinearVictim(Module):
    """logits = W x + b, in float64 inside, so that a row's float32 logits are the same in any batch.

    `differentiated` says whether it was ever called for a gradient with respect to x.
    """

    offset: Tensor

    def __init__(self, weight: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.weight = Parameter(weight)
        self.register_buffer("offset", offset)
        self.differentiated = False

    def forward(self, x: Tensor) -> Tensor:
        self.differentiated |= torch.is_grad_enabled() and x.requires_grad
        return (x.flatten(1).double() @ self.weight.double().T + self.offset).float()


@dataclass(frozen=True, eq=False)
class Problem:
    """Samples of a linear victim, each right when clean; `task.test` is what is attacked.

    `critical` (n,) is the smallest size, in the unit of `threat`, at which a perturbation makes each row adversarial:
    exact for mask and bounds. About 7 rows of 10 can be adversarial at `eps`.
    """

    module: LinearVictim
    task: Task
    threat: Threat
    eps: float
    critical: Tensor

    def __str__(self) -> str:
        goal = f" target={self.threat.target}" if self.threat.target else ""
        return f"{self.threat.norm}{goal}, samples {self.task.shape}, {len(self.task.classes)} classes"

    def with_target(self, target: str) -> Problem:
        """The same problem with a class to reach; `critical` then has no meaning."""
        return replace(self, threat=replace(self.threat, target=target))

    def trial(
        self,
        *,
        rows: Tensor | None = None,
        eps: float | None = None,
        watch: Watch = "first",
        gradients: bool = True,
        training: bool = False,
        surrogate: bool = False,
    ) -> Trial:
        """A trial on copies of everything; `training` leaves the weights trainable, as inside a training.

        `surrogate` adds a second victim, near the first one.
        """
        batch = self.task.test[torch.arange(ROWS) if rows is None else rows]  # an index by tensor copies
        return Trial.begin(
            Victim(deepcopy(self.module).eval().requires_grad_(training)),
            batch,
            self.threat.ball(batch, self.eps if eps is None else eps, self.task.bounds),
            self.threat.goal(batch.y, self.task.outputs),
            RandomStream(("victim", 0)),
            watch=watch,
            gradients_allowed=gradients,
            surrogate=self._sibling() if surrogate else None,
            rate=self.task.rate,
        )

    def _sibling(self) -> Victim:
        weight = self.module.weight.detach()
        noise = RandomStream(("sibling",)).normal(torch.arange(len(weight)), weight.shape[1:])
        return Victim(
            LinearVictim(weight + 0.1 * weight.std() * noise, self.module.offset).eval().requires_grad_(False)
        )


@cache
def linear_problem(
    norm: Norm = "linf",
    shape: tuple[int, ...] = (1, 187),
    classes: int = 5,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    seed: int = 0,
) -> Problem:
    """Uniform samples inside `bounds`, or z-scored ones without; masked at their end, eps in a physical unit."""
    rng = RandomStream(("linear problem", *shape, classes, seed))
    weight = rng.fold_in("weight").normal(torch.arange(classes), (prod(shape),)) * 3 / prod(shape) ** 0.5
    middle = 0.0 if bounds is None else sum(bounds) / 2
    module = LinearVictim(weight, -middle * weight.sum(1)).eval()
    ids = 7 * torch.arange(ROWS) + 3
    free = 0.6 + 0.4 * rng.fold_in("mask").uniform(ids, ())
    mask = torch.arange(shape[-1]) < (free * shape[-1]).view(-1, *[1] * len(shape))
    if bounds is None:
        x = rng.fold_in("x").normal(ids, shape)
    else:
        x = bounds[0] + (bounds[1] - bounds[0]) * rng.fold_in("x").uniform(ids, shape)
    x = x * mask
    with torch.no_grad():
        y = module(x).argmax(1)
    samples = Samples.of(x, y, mask=mask, ids=ids, scale=0.5 + rng.fold_in("scale").uniform(ids, ()))
    names = tuple("ABCDEFGHIJ"[:classes])
    task = Task("linear problem", names, samples, samples, samples, bounds, physical="mV", synthetic=True)
    threat = Threat(norm, unit="mV")
    critical = critical_size(module, task, threat)
    return Problem(module, task, threat, float(critical.quantile(0.7)), critical)


def critical_size(module: LinearVictim, task: Task, threat: Threat) -> Tensor:
    """The smallest size that makes each test sample adversarial, in the unit of `threat`: (n,), inf where none does.

    Toward one rival the best point of each size is clip(t * d, low, high), d the difference of their weights
    (its sign for L-inf); its gain grows with t, so t is found by halving. Then the nearest rival counts.
    """
    samples = task.test
    walls = threat.ball(samples, torch.inf, task.bounds)
    low, high = (wall.expand_as(samples.x).flatten(1)[:, None].double() for wall in (walls.low, walls.high))
    weight = module.weight.detach().double()
    pull = weight - weight[samples.y][:, None]  # (n, classes, d)
    clean = samples.x.flatten(1).double() @ weight.T + module.offset
    gap = clean.gather(1, samples.y[:, None]) - clean
    direction = pull.sign() if threat.norm == "linf" else pull

    def reached(t: Tensor) -> Tensor:
        return (direction * t[:, :, None]).clamp(low, high)

    below, above = torch.zeros_like(gap), torch.full_like(gap, FAR)
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        enough = (reached(middle) * pull).sum(2) >= gap
        above, below = torch.where(enough, middle, above), torch.where(enough, below, middle)
    point = reached(above)
    size = point.abs().amax(2) if threat.norm == "linf" else point.norm(dim=2)
    hopeless = (point * pull).sum(2) < gap
    own = torch.arange(len(weight)) == samples.y[:, None]
    size = torch.where(hopeless | own, torch.inf, size).amin(1).float()
    return size if threat.unit == "native" else size * samples.scale
