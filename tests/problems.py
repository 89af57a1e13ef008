"""Problems whose answers are known, an oracle that shares no line with the code it judges, and breakable parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Flatten, Module, ReLU, Sequential

from ecgbench.core.data import Batch, Samples, Task
from ecgbench.core.progress import Checkpoint, State
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Goal, Threat
from ecgbench.core.trial import Trial, Watch
from ecgbench.core.victim import Victim, frozen
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.linear import LinearClassifier
from ecgbench_plugins.models.mlp import MLP

Array = NDArray[np.float64]
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Linear:
    """A linear victim and samples that it labels itself: `weight` (k, d), `bias` (k,), `x` and `mask` (n, d)."""

    task: Task
    victim: Victim
    weight: Array
    bias: Array
    x: Array
    mask: NDArray[np.bool_]


def linear_problem(
    classes: int = 2,
    shape: tuple[int, ...] = (1, 187),
    n: int = 2000,
    *,
    masked: bool = False,
    bounds: Bounds | None = None,
    on_bound: float = 0.0,
    scale: Tensor | None = None,
    seed: int = 0,
) -> Linear:
    """x inside (0, 1), a share `on_bound` of it on 0 or 1; a mask leaves between half and all of each sample."""
    draw, d = np.random.default_rng(seed), int(np.prod(shape))
    weight = draw.normal(size=(classes, d)).astype(np.float32).astype(float)
    x = draw.uniform(0.1, 0.9, size=(n, d))
    x = np.where(draw.random((n, d)) < on_bound, draw.integers(0, 2, size=(n, d)), x).astype(np.float32).astype(float)
    free = draw.integers(d // 2, d, size=n) if masked else np.full(n, d)
    mask = np.arange(d) < free[:, None]
    bias = (-weight @ x.mean(0)).astype(np.float32).astype(float)
    samples = Samples.of(
        torch.tensor(x, dtype=torch.float32).view(n, *shape),
        torch.tensor((x @ weight.T + bias).argmax(1)),
        mask=torch.tensor(mask).view(n, *shape),
        scale=scale,
    )
    task = task_of(samples, classes, bounds=bounds, physical=None if scale is None else "mV")
    return Linear(task, linear_victim(task, weight, bias), weight, bias, x, mask)


def linear_victim(task: Task, weight: Array, bias: Array) -> Victim:
    module = LinearClassifier().build(task)
    named = {"1.weight": weight, "1.bias": bias}
    module.load_state_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in named.items()})
    return frozen(module)


def task_of(
    test: Samples,
    classes: int,
    *,
    train: Samples | None = None,
    bounds: Bounds | None = None,
    physical: str | None = None,
) -> Task:
    """A task whose classes are called "0", "1", ...; without `train`, all three parts are `test`."""
    names = tuple(str(number) for number in range(classes))
    train = test if train is None else train
    return Task("problem", names, train, train, test, bounds=bounds, physical=physical)


def random_mlp(n: int = 400, shape: tuple[int, ...] = (1, 24), classes: int = 3, seed: int = 0) -> tuple[Task, Victim]:
    """A ReLU network with random weights, and samples of which it gets about three in four right."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = torch.rand(n, *shape)
        blank = task_of(Samples.of(x, torch.zeros(n, dtype=torch.int64)), classes, bounds=(0.0, 1.0))
        module = MLP(widths=(32, 16)).build(blank)
        for layer in module.modules():
            if isinstance(layer, torch.nn.Linear):
                torch.nn.init.normal_(layer.weight, std=layer.in_features**-0.5 * 1.5)
        victim = frozen(module)
        logits = module(x)
        last = module[-1]  # type: ignore[index]
        last.bias -= logits.mean(0)
        y = torch.where(torch.rand(n) < 0.6, module(x).argmax(1), torch.randint(classes, (n,)))
    return task_of(Samples.of(x, y), classes, bounds=(0.0, 1.0)), victim


def blobs(n: int = 600, seed: int = 0, apart: float = 1.0, classes: int = 3, shape: tuple[int, ...] = (1, 16)) -> Task:
    """Overlapping clouds round one centre per class, two thirds of them for training."""
    rng = torch.Generator().manual_seed(seed)
    centres = apart * torch.randn(classes, *shape, generator=rng)
    y = torch.randint(classes, (n,), generator=rng)
    x = centres[y] + torch.randn(n, *shape, generator=rng)
    samples = Samples.of(x, y, ids=torch.arange(n) * 7 + 3)
    return task_of(samples[2 * n // 3 :], classes, train=samples[: 2 * n // 3])


# the oracle


def reach(problem: Linear, threat: Threat, eps: float, rows: slice = slice(None)) -> Array:
    """The largest lead (n,) that any allowed perturbation gives a wrong class (or the target): above 0, a fall.

    Exact where one rival decides. Against several at once (a target among more than two classes) it is an
    upper bound, by minimax duality: below 0 it proves that the target cannot be reached.
    """
    x, mask = problem.x[rows], problem.mask[rows]
    own = problem.task.test.y.numpy()[rows]
    low, high, radius = _limits(problem.task, threat, eps, x, mask, rows)
    logits = x @ problem.weight.T + problem.bias
    if threat.target is None:
        best = np.full(len(x), -np.inf)
        for rival in range(len(problem.weight)):
            at = np.flatnonzero(own != rival)
            ahead = problem.weight[rival] - problem.weight[own[at]]
            gain = (ahead * summit(ahead, low[at], high[at], radius[at])).sum(1)
            best[at] = np.maximum(best[at], logits[at, rival] - logits[at, own[at]] + gain)
        return best
    goal = int(threat.target)
    others = [rival for rival in range(len(problem.weight)) if rival != goal]
    ahead = problem.weight[goal] - problem.weight[others]
    return _against_all(ahead, logits[:, [goal]] - logits[:, others], low, high, radius)


def _limits(
    task: Task, threat: Threat, eps: float, x: Array, mask: NDArray[np.bool_], rows: slice
) -> tuple[Array, Array, Array]:
    radius = np.full((len(x), 1), eps)
    if threat.unit != "native":
        radius = radius / task.test.scale.numpy()[rows, None].astype(float)
    low, high = np.full_like(x, -np.inf), np.full_like(x, np.inf)
    if threat.bounds and task.bounds is not None:
        low, high = task.bounds[0] - x, task.bounds[1] - x
    if threat.norm == "linf":
        low, high = np.maximum(low, -radius), np.minimum(high, radius)
        radius = np.full_like(radius, np.inf)
    if threat.mask:
        low, high = np.where(mask, low, 0.0), np.where(mask, high, 0.0)
    return low, high, radius


def summit(slope: Array, low: Array, high: Array, radius: Array) -> Array:
    """The point of box and sphere where `slope` (n, d) leads highest; `radius` (n, 1), infinite for a box alone."""
    if np.isinf(radius).all():
        return np.where(slope > 0, high, low)
    slope = np.where(low < high, slope, 0.0)
    short = radius / np.linalg.norm(slope, axis=1, keepdims=True)
    long = 1e6 * short
    for _ in range(32):
        middle = np.sqrt(short * long)
        outside = np.linalg.norm(np.clip(middle * slope, low, high), axis=1, keepdims=True) > radius
        short, long = np.where(outside, short, middle), np.where(outside, middle, long)
    return np.clip(short * slope, low, high)


def _against_all(ahead: Array, leads: Array, low: Array, high: Array, radius: Array) -> Array:
    """The smallest found of max over delta of a mean of all leads, by mirror descent over the mean's weights."""
    best = np.full(len(leads), np.inf)
    share = np.full(leads.shape, 1 / leads.shape[1])
    live = np.arange(len(leads))
    for turn in range(200):
        delta = summit(share[live] @ ahead, low[live], high[live], radius[live])
        now = leads[live] + delta @ ahead.T
        best[live] = np.minimum(best[live], (share[live] * now).sum(1))
        push = share[live] * np.exp(-now / np.abs(now).max(1, keepdims=True) * 2 / (1 + turn / 4) ** 0.5)
        share[live] = push / push.sum(1, keepdims=True)
        live = live[(best[live] > 0) & (now.min(1) <= 0)]
        if not len(live):
            break
    return best


def size_for(problem: Linear, threat: Threat, standing: float) -> float:
    """An eps at which about the share `standing` of the samples cannot fall."""
    short, long = 1e-4, 30.0
    attacked = slice(0, 200)
    free = threat.goal(problem.task.test.y[attacked], problem.task.outputs).eligible.numpy()
    for _ in range(12):
        middle = (short * long) ** 0.5
        holds = (reach(problem, threat, middle, attacked)[free] <= 0).mean() > standing
        short, long = (middle, long) if holds else (short, middle)
    return (short * long) ** 0.5


# breakable parts


class KilledError(Exception):
    """The power went off."""


class MemoryCheckpoint(Checkpoint):
    """A journal in memory, as it would come back from a disk; it dies in the act of keeping number `dies_at`."""

    def __init__(self, state: State | None = None, dies_at: int | None = None) -> None:
        self.told: list[object] = []
        super().__init__(self.told.append)
        self.state, self.dies_at, self.keeps = state, dies_at, 0

    def save(self, state: State) -> None:
        if self.keeps == self.dies_at:
            raise KilledError
        self.keeps += 1
        self.state = {name: value.clone() for name, value in state.items()}

    def load(self) -> State | None:
        return self.state


def generators() -> tuple[bytes, str]:
    """The states of torch's and NumPy's global generators."""
    return torch.random.get_rng_state().numpy().tobytes(), repr(np.random.get_state())


class Written(Module):
    """A module written down as a function of x."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@cache
def small_network(n: int, epochs: int, seed: int) -> tuple[Task, Module]:
    """Three clouds, `n` samples, and an honest network of one hidden layer trained on them."""
    task = blobs(n, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Sequential(Flatten(), torch.nn.Linear(16, 32), ReLU(), torch.nn.Linear(32, 3))
    return task, Standard(epochs=epochs, batch=64, lr=1e-2).fit(
        module, task, RandomStream(("train", seed)), Checkpoint()
    )


class Wavering(Module):
    """Says 1 instead of 0 with a chance that is the mean of x, afresh at every forward."""

    takes_rng = True

    def forward(self, x: Tensor, rng: RandomStream, ids: Tensor) -> Tensor:
        lead = x.flatten(1).mean(1) - rng.uniform(ids, ())
        return torch.stack([-lead, lead], 1)


def thresholds(levels: list[float]) -> tuple[Samples, Victim]:
    """Samples (1, 2) that leave class 0 when their first number passes their level; only that may be written."""
    x = torch.tensor([[[0.0, level]] for level in levels])
    mask = torch.tensor([[[True, False]]]).repeat(len(levels), 1, 1)
    samples = Samples.of(x, torch.zeros(len(levels), dtype=torch.int64), mask=mask)
    return samples, Victim(Written(lambda x: torch.stack([x[:, 0, 1], x[:, 0, 0]], 1)).eval())


def trial_of(
    victim: Victim, batch: Batch, threat: Threat, eps: float, *, watch: Watch = "first", gradients: bool = True
) -> Trial:
    """A trial on all rows of `batch`, untargeted, without bounds."""
    goal = Goal(batch.y, untargeted=True, eligible=torch.ones_like(batch.y, dtype=torch.bool))
    ball, rng = threat.ball(batch, eps), RandomStream((0, "victim"))
    return Trial.begin(victim, batch, ball, goal, rng, watch=watch, gradients_allowed=gradients)
