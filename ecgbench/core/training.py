"""The one training loop: batches by row numbers, resumable after every epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import cos, isfinite, nan, pi
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam, Adamax, Optimizer

from ecgbench.core.data import Batch, Samples, Task
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.precision import in_bf16, reduced
from ecgbench.core.progress import Checkpoint, Epoch, State
from ecgbench.core.random import RandomStream
from ecgbench.core.victim import chunks, evaluating

TrainingLoss = Callable[[Module, Batch, RandomStream], Tensor]
"""module in train mode, batch, randomness of this step -> mean loss."""
ValidationScore = Callable[[Module, Samples, RandomStream], float]
"""module, validation samples, randomness of this epoch -> how good it is, the larger the better."""

RECALIBRATION_BATCHES = 16  # batches
CURVE = "curve"  # in what a training keeps: loss and score of every epoch, (epochs, 2), NaN where none was taken
BF16 = "bf16"  # in what a training keeps: whether it runs in bfloat16


@dataclass(frozen=True)
class Schedule:
    """How a module is trained; a defense that trains by the common loop is one of these.

    `balanced` batches hold every class equally often: each class is tiled to the size of the largest one and
    dealt in turn (Ma and Liang 2020, as coded). `keep` is the epoch whose weights are kept: the "last", or the
    "best" by balanced accuracy on validation; `patience` > 0 stops after so many epochs without a better one.
    `cosine_lr` lets `lr` fall from epoch to epoch along half a cosine, of which the last is the last step above 0
    (Loshchilov and Hutter 2017, eq. 5). `recalibrate_batchnorm` takes the statistics of batch normalisation anew
    after every epoch, see the function; modules without it are not touched.
    """

    epochs: int = 50
    batch: int = 128
    lr: float = 1e-3
    optimizer: Literal["adamax", "adam"] = "adamax"
    balanced: bool = True
    keep: Literal["last", "best"] = "last"
    patience: int = 0
    cosine_lr: bool = False
    recalibrate_batchnorm: bool = True

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or self.lr <= 0 or self.patience < 0:
            raise EcgbenchError(
                f"epochs={self.epochs}, batch={self.batch}, lr={self.lr}, patience={self.patience} given; "
                "expected epochs and batch of 1 or more, lr above 0 and patience of 0 or more."
            )

    def rate(self, epoch: int) -> float:
        """The learning rate of epoch number `epoch`, from 0."""
        return self.lr * (1 + cos(pi * epoch / self.epochs)) / 2 if self.cosine_lr else self.lr


class Hook:
    """What a recipe does to the weights beside the loss and the optimizer's step; this one does nothing.

    It is made for one module and one training; the hooks of a training are called in the order given.
    """

    def state(self) -> State:
        """The tensors that cross an epoch: kept with the weights, and written back into after a kill."""
        return {}

    def begin_epoch(self, epoch: int, rng: RandomStream) -> None:
        """Before the first batch of epoch number `epoch`, from 0; `rng` is this hook's in this epoch."""

    def after_backward(self, optimizer: Optimizer) -> None:
        """Between the gradient and the step."""

    def after_step(self, optimizer: Optimizer) -> None:
        """After the step; the gradient is still there."""


def train(
    module: Module,
    task: Task,
    loss: TrainingLoss,
    schedule: Schedule,
    rng: RandomStream,
    checkpoint: Checkpoint,
    hooks: Sequence[Hook] = (),
    score: ValidationScore | None = None,
) -> Module:
    """Train `module` in place on `task.train` and give it back in train mode off (eval).

    After every epoch `score` is taken on validation. Without one it is balanced accuracy, taken only where the
    schedule chooses by it.

    Torch's own randomness (dropout) runs in a fork of the generator, whose state is kept with the weights, so
    a killed training ends with the same weights as an undisturbed one. Losses and hooks of a `MixedPrecision`
    module may run in bfloat16, what is taken of its statistics and on validation never does. Raises EcgbenchError
    where the loss is not finite.
    """
    device = next(module.parameters()).device
    samples = task.train.to(device).unweighted()
    run = _Run(
        module,
        schedule,
        (Adamax if schedule.optimizer == "adamax" else Adam)(module.parameters(), schedule.lr),
        hooks,
    )
    if score is None and (schedule.keep == "best" or schedule.patience > 0):
        score = balanced_accuracy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.fold_in("torch").seed)
        kept = checkpoint.load()
        if kept is None:
            first = epoch_order(samples.y, schedule.balanced, rng.fold_in("precision"))[: schedule.batch]
            run.bf16 = in_bf16(module, samples[first], checkpoint)
        else:
            run.resume(kept)
        while not run.finished:
            with reduced(module, run.bf16):
                mean = _epoch(run, samples, loss, rng.fold_in("epoch", run.epoch))
            if schedule.recalibrate_batchnorm:
                recalibrate_batchnorm(module, samples, rng.fold_in("settle", run.epoch))
            found = None if score is None else score(module, task.val.to(device), rng.fold_in("validation"))
            run.close_epoch(mean, found)
            checkpoint.save(run.state())
            checkpoint.report(Epoch(run.epoch, schedule.epochs, mean, found))
    return run.chosen().eval()


def _epoch(run: _Run, samples: Batch, loss: TrainingLoss, rng: RandomStream) -> float:
    for group in run.optimizer.param_groups:
        group["lr"] = run.schedule.rate(run.epoch)
    order = epoch_order(samples.y, run.schedule.balanced, rng.fold_in("order"))
    for number, hook in enumerate(run.hooks):
        hook.begin_epoch(run.epoch, rng.fold_in("hook", number))
    run.module.train()
    total = torch.zeros((), device=samples.y.device)
    for step, rows in enumerate(order.split(run.schedule.batch)):
        value = loss(run.module, samples[rows], rng.fold_in("step", step))
        run.optimizer.zero_grad()
        value.backward()
        for hook in run.hooks:
            hook.after_backward(run.optimizer)
        run.optimizer.step()
        for hook in run.hooks:
            hook.after_step(run.optimizer)
        total += value.detach() * len(rows)
    mean = float(total) / len(order)
    if not isfinite(mean):
        raise EcgbenchError(
            f"the training loss is {mean} in epoch {run.epoch + 1}; expected a finite number: try a smaller lr."
        )
    return mean


def recalibrate_batchnorm(module: Module, samples: Batch, rng: RandomStream) -> None:
    """Take the statistics of batch normalisation anew, from up to 16 batches of 64 samples, all else in eval mode.

    While dropout is on, its noise goes into these statistics, and at test time signals are narrower than they say (Li
    et al. 2019, arXiv 1801.05134); anew by the mean over batches: Wu and Johnson 2021 (arXiv 2105.07576), section 3.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not norms:
        return
    order = epoch_order(samples.y, False, rng)[: RECALIBRATION_BATCHES * 64]
    pieces = [piece for piece in order.split(64) if len(piece) == 64] or [order]
    found = [[torch.zeros_like(value) for value in _statistics(norm)] for norm in norms]
    kept = [norm.momentum for norm in norms]
    with evaluating(module) as victim, torch.no_grad():
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        for number, piece in enumerate(pieces):
            batch = samples[piece]
            victim.logits(batch.x, batch, rng.fold_in("draw", number))
            for norm, sums in zip(norms, found, strict=True):
                for value, total in zip(_statistics(norm), sums, strict=True):
                    total.add_(value / len(pieces))
    for norm, sums, momentum in zip(norms, found, kept, strict=True):
        norm.momentum = momentum
        for value, mean in zip(_statistics(norm), sums, strict=True):
            value.copy_(mean)


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """The live running mean and variance."""
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, norm.running_var


def epoch_order(y: Tensor, balanced: bool, rng: RandomStream) -> Tensor:
    """Row numbers of one epoch: a permutation, or, balanced, (largest class x classes) rows dealt in turn.

    Balanced: classes in a random order, each class permuted and repeated to the size of the largest, one
    sample of each class after the other. Classes without a sample are passed over.
    """
    generator = rng.generator()
    if not balanced:
        return torch.randperm(len(y), generator=generator).to(y.device)
    labels = y.cpu()
    present = labels.unique()
    largest = int(labels.bincount().max())
    turns = torch.arange(largest)
    dealt = []
    for label in present[torch.randperm(len(present), generator=generator)]:
        rows = (labels == label).nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=generator)]
        dealt.append(rows[turns % len(rows)])
    return torch.stack(dealt, 1).flatten().to(y.device)


def balanced_accuracy(module: Module, samples: Samples, rng: RandomStream) -> float:
    """Mean recall over the classes present."""
    with evaluating(module) as victim:
        rows = torch.arange(len(samples), device=samples.y.device)
        batches = (samples[piece] for piece in chunks(rows, tuple(samples.x.shape[1:])))
        parts = [victim.predict(batch.x, batch, rng) for batch in batches]
    right = torch.cat(parts) == samples.y
    return float(torch.stack([right[samples.y == label].double().mean() for label in samples.y.unique()]).mean())


class _Run:
    """A training under way: what is kept after every epoch."""

    def __init__(self, module: Module, schedule: Schedule, optimizer: Optimizer, hooks: Sequence[Hook]) -> None:
        self.module, self.schedule, self.optimizer, self.hooks = module, schedule, optimizer, hooks
        self.epoch, self.best_score, self.best_epoch = 0, float("-inf"), 0
        self.best: dict[str, Tensor] = {}
        self.curve: list[tuple[float, float]] = []
        self.bf16 = False

    @property
    def finished(self) -> bool:
        stale = self.epoch - self.best_epoch
        return self.epoch >= self.schedule.epochs or 0 < self.schedule.patience <= stale

    def close_epoch(self, loss: float, score: float | None) -> None:
        """Count the epoch; remember its weights if they are the best so far."""
        self.epoch += 1
        self.curve.append((loss, nan if score is None else score))
        if score is not None and score > self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
            if self.schedule.keep == "best":
                self.best = copy.deepcopy(self.module.state_dict())

    def chosen(self) -> Module:
        """The module with the weights the schedule asks for."""
        if self.schedule.keep == "best":
            self.module.load_state_dict(self.best)
        return self.module

    def state(self) -> State:
        """Weights, optimizer, hooks, generator and counters, as tensors."""
        state = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        state |= self._hooked()
        state |= {f"best.{name}": value for name, value in self.best.items()}
        for number, parameter in enumerate(self.optimizer.param_groups[0]["params"]):
            for name, value in self.optimizer.state[parameter].items():
                state[f"optimizer.{number}.{name}"] = value
        state[CURVE] = torch.tensor(self.curve, dtype=torch.float64)
        state[BF16] = torch.tensor(self.bf16)
        state["generator"] = torch.random.get_rng_state()
        state["counters"] = torch.tensor([self.epoch, self.best_epoch, self.best_score], dtype=torch.float64)
        return state

    def resume(self, state: State) -> None:
        """Go on from `state`, in its precision."""
        self.module.load_state_dict(_below(state, "module."))
        self.best = _below(state, "best.")
        for number, parameter in enumerate(self.optimizer.param_groups[0]["params"]):
            kept = _below(state, f"optimizer.{number}.")
            self.optimizer.state[parameter] = {
                name: value.to(parameter.device) if value.ndim else value for name, value in kept.items()
            }
        for name, tensor in self._hooked().items():
            tensor.copy_(state[name])
        torch.random.set_rng_state(state["generator"])
        epoch, best_epoch, best_score = state["counters"].tolist()
        self.epoch, self.best_epoch, self.best_score = int(epoch), int(best_epoch), best_score
        self.curve = [(loss, score) for loss, score in state[CURVE].tolist()]
        self.bf16 = bool(state[BF16])

    def _hooked(self) -> State:
        """The live tensors of all hooks."""
        named = (hook.state().items() for hook in self.hooks)
        return {f"hook.{number}.{name}": value for number, parts in enumerate(named) for name, value in parts}


def _below(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
