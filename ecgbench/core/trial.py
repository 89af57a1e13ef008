"""One victim x batch x ball x goal under attack: all that an attack is given.

A trial answers, counts and, while it watches, remembers the first adversarial perturbation of every row.
Sub-trials (`trial[rows]`, `trial.remaining()`) share its memory. State is kept by row, never by sample id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Batch, take
from ecgbench.core.errors import ContractError
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Goal
from ecgbench.core.victim import Victim, chunks

HUGE = 1e15  # stands for an infinite gradient: squares of a hundred million of them still have a finite sum
Watch = Literal["first", "last", "never"]
Loss = Callable[[Tensor, Goal], Tensor]
"""Logits (n, classes) and the goal of each row -> (n,), the larger the nearer to adversarial."""


@dataclass(frozen=True, slots=True)
class ValueAndGrad:
    """The loss of each row, `value` (n,), and its `gradient` (n, *shape)."""

    value: Tensor
    gradient: Tensor

    def __getitem__(self, rows: Tensor) -> ValueAndGrad:
        return ValueAndGrad(take(self.value, rows), take(self.gradient, rows))


class Memory:
    """What a trial has seen, by row: adversarial, the perturbation that did it, by which component, at what cost.

    `forwards` and `gradients` count samples, not calls. `draw` numbers the forwards, for randomised victims. `rough`
    marks rows of which a gradient was not finite at some point. Only the methods write; `spoiled` says whether somebody
    else did.
    """

    def __init__(self, batch: Batch) -> None:
        n, device = len(batch), batch.x.device
        self.is_adversarial = torch.zeros(n, dtype=torch.bool, device=device)
        self.delta = torch.zeros_like(batch.x)
        self.by = torch.zeros(n, dtype=torch.int64, device=device)
        self.components = [""]
        self.forwards = torch.zeros(n, dtype=torch.int64, device=device)
        self.gradients = torch.zeros(n, dtype=torch.int64, device=device)
        self.rough = torch.zeros(n, dtype=torch.bool, device=device)
        self.draw = 0
        self._seen: dict[str, tuple[Tensor, int]] = {}
        self._foreign: str | None = None
        for name in ("is_adversarial", "delta", "by", "forwards", "gradients", "rough"):
            self._close(name)

    @property
    def spoiled(self) -> str | None:
        """Which part somebody else wrote into, or put in its place."""
        for name in self._seen:
            self._open(name)
        return self._foreign

    def add(self, name: Literal["forwards", "gradients"], rows: Tensor, times: int) -> None:
        """Count `times` more for each of `rows`."""
        self._open(name).index_add_(0, rows, torch.full_like(rows, times))
        self._close(name)

    def remember(self, rows: Tensor, delta: Tensor, component: str) -> None:
        """These rows are adversarial at `delta`, found by `component`."""
        for name, value in (("is_adversarial", True), ("delta", delta), ("by", self.component(component))):
            self._open(name)[rows] = value
            self._close(name)

    def roughen(self, rows: Tensor) -> None:
        """A gradient of these rows was not finite."""
        self._open("rough")[rows] = True
        self._close("rough")

    def _open(self, name: str) -> Tensor:
        """A part to write into; remembers if it is not as it was left."""
        tensor, version = self._seen[name]
        if getattr(self, name) is not tensor or tensor._version != version:
            self._foreign = self._foreign or name
        return tensor

    def _close(self, name: str) -> None:
        tensor = self._seen[name][0] if name in self._seen else getattr(self, name)
        self._seen[name] = (tensor, tensor._version)

    def component(self, name: str) -> int:
        """The number that stands for `name` in `by`."""
        if name not in self.components:
            self.components.append(name)
        return self.components.index(name)


@dataclass(frozen=True)
class Trial:
    """One victim x batch x ball x goal under attack.

    `watch` says which points count as found: "first", every point the victim is asked about; "last", only those an
    attack presents by `submit`; "never" (inside a training), none, and no row counts as adversarial.

    `surrogate` is the second victim of an attack that asked for one. `by` names the component now at work. A
    randomised victim is asked `draws` times for one answer, whose logits are the mean: gradients are then those of
    an expectation (Athalye et al. 2018, section 4.2). Each draw is counted. `rate` is the samples' sampling rate in
    Hz, None where it is unknown or means nothing.
    """

    victim: Victim
    batch: Batch
    ball: Ball
    goal: Goal
    rng: RandomStream
    memory: Memory
    rows: Tensor
    watch: Watch = "first"
    surrogate: Victim | None = None
    by: str = ""
    gradients_allowed: bool = True
    draws: int = 1
    rate: float | None = None

    @classmethod
    def begin(
        cls,
        victim: Victim,
        batch: Batch,
        ball: Ball,
        goal: Goal,
        rng: RandomStream,
        *,
        watch: Watch = "first",
        surrogate: Victim | None = None,
        gradients_allowed: bool = True,
        draws: int = 1,
        rate: float | None = None,
    ) -> Trial:
        """A trial with nothing seen yet; `rng` feeds a randomised victim, not the attack."""
        return cls(
            victim=victim,
            batch=batch,
            ball=ball,
            goal=goal,
            rng=rng,
            memory=Memory(batch),
            rows=torch.arange(len(batch), device=batch.x.device),
            watch=watch,
            surrogate=surrogate,
            gradients_allowed=gradients_allowed,
            draws=draws if victim.takes_rng else 1,
            rate=rate,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Tensor) -> Trial:
        return replace(
            self,
            batch=self.batch[rows],
            ball=self.ball[rows],
            goal=self.goal[rows],
            rows=self.rows[rows],
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.batch.x.shape[1:])

    @property
    def is_adversarial(self) -> Tensor:
        """Which of these rows are adversarial, (n,) bool."""
        return self.memory.is_adversarial[self.rows]

    def remaining(self) -> Trial:
        """The rows that are not adversarial yet: the sub-trial of a further restart or component."""
        return self[(~self.is_adversarial).nonzero().squeeze(1)]

    def named(self, component: str) -> Trial:
        """The same trial, what becomes adversarial from now on recorded under `component`."""
        return replace(self, by=component)

    def toward(self, rival: Tensor) -> Trial:
        """The same trial for a loss over pairs: `rival` (n,) is the other class of each row."""
        return replace(self, goal=replace(self.goal, rival=rival))

    def rivals(self) -> Tensor:
        """The other classes of each row, likeliest when clean first: (n, classes - 1); one forward."""
        return self.goal.outputs.rivals(self.logits(torch.zeros_like(self.batch.x)), self.goal)

    def toward_each(self, rivals: Tensor) -> Trial:
        """Every row k times in succession, once toward each of its `rivals` (n, k): a trial of n k rows.

        To the memory these are one row, so a row that is adversarial toward one rival is adversarial.
        """
        rows = torch.arange(len(self), device=rivals.device).repeat_interleave(rivals.shape[1])
        return self[rows].toward(rivals.flatten())

    def best(self, delta: Tensor) -> Tensor:
        """The remembered perturbation of adversarial rows, `delta` (n, *shape) of the others."""
        adversarial = self.is_adversarial
        if not bool(adversarial.any()):
            return delta
        return torch.where(adversarial.view(-1, *[1] * len(self.shape)), self.memory.delta[self.rows], delta)

    def logits(self, delta: Tensor) -> Tensor:
        """Logits (n, classes) at `delta` (n, *shape), without autograd."""
        with torch.no_grad():
            logits = self._forward(delta)
            self._remember(logits, delta, "first")
            return logits

    def submit(self, delta: Tensor) -> Tensor:
        """Present `delta` (n, *shape) as an answer: which rows are adversarial there, (n,) bool; one forward."""
        if self.watch == "never":
            return torch.zeros_like(self.is_adversarial)
        with torch.no_grad():
            return self._remember(self._forward(delta), delta, self.watch)

    def probe(self, delta: Tensor, directions: Tensor, length: Tensor, loss: Loss) -> Tensor:
        """The loss (n, k) of every row at `delta + length * directions[j]`, without autograd; k answers a row.

        `delta` (n, *shape), `directions` (k, *shape), `length` (n, ...), broadcastable to delta. Probes may
        leave the ball and are never remembered; a randomised victim draws the same for all. Bounded memory.
        """
        k, values = len(directions), delta.new_empty(len(self), len(directions))
        self._count("forwards", k)
        draws = self._next_draws()
        with torch.no_grad():
            for rows in chunks(torch.arange(len(self), device=delta.device), (k, *self.shape)):
                part = self.batch[rows]
                start = (part.x + take(delta, rows)).unsqueeze(1)
                x = torch.addcmul(start, take(length, rows).unsqueeze(1), directions).flatten(0, 1)
                logits = self._mean(x, _repeated(part, k, x), draws)
                values.index_copy_(0, rows, loss(logits, self.goal[rows.repeat_interleave(k)]).view(-1, k))
        return values

    def gradient(self, delta: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """One answer, one gradient: which rows are adversarial at `delta`, (n,) bool, and dloss/ddelta.

        Raises ContractError for an attack that said it needs scores only.
        """
        hit, grad = self.value_and_grad(delta, loss)
        return hit, grad.gradient

    def value_and_grad(self, delta: Tensor, loss: Loss) -> tuple[Tensor, ValueAndGrad]:
        """The same with the loss of each row beside its gradient.

        The gradient is 0 where the victim gives none, and finite: NaN becomes 0, infinity a large number.
        """
        if not self.gradients_allowed:
            raise ContractError("an attack with access 'score'", "no gradient to be asked for", "one")
        point = delta.detach().requires_grad_()
        with torch.enable_grad():
            logits = self._forward(point)
            value = loss(logits, self.goal)
            gradient = _gradient(value.sum(), point)
        self._count("gradients")
        return self._remember(logits.detach(), delta, "first"), ValueAndGrad(value.detach(), self._finite(gradient))

    def differentiable_logits(self, delta: Tensor) -> Tensor:
        """Logits (n, classes) at `delta` (n, *shape), with autograd, for a library's own loop; calls are counted.

        A trial of one row takes any number of its variants, (m, *shape) -> (m, classes), and remembers the
        first adversarial one. Raises ContractError for another number of rows.
        """
        trial = self[torch.zeros(len(delta), dtype=torch.int64, device=delta.device)] if len(self) == 1 else self
        logits = trial._answer(trial.batch.x + delta)
        if trial is self:
            self._remember(logits.detach(), delta.detach(), "first")
        elif self.watch == "first":
            at = trial.goal.met_by(logits.detach(), trial.batch.y) & trial.ball.contains(delta.detach())
            one = at.nonzero()[:1].squeeze(1)
            trial[one]._remember(logits[one].detach(), delta[one].detach(), "first")
        return logits

    def module(self) -> Module:
        """The victim as `module(x) -> logits`, for a library's own loop that owns its steps; calls are counted.

        Rows are known by their place: every call must bring all rows of the trial, in order. A loop that
        picks rows itself works on `trial[rows]`, or is refused with a ContractError.
        """
        return _VictimModule(self)

    def _answer(self, x: Tensor) -> Tensor:
        """Logits of `x`, row for row, the forward and any later gradient counted."""
        if len(x) != len(self):
            raise ContractError("an attack of another library", f"batches of {len(self)} rows", f"{len(x)}")
        if torch.is_grad_enabled() and x.requires_grad:
            if not self.gradients_allowed:
                raise ContractError("an attack with access 'score'", "no autograd through the victim", "one")
            x.register_hook(self._given)
        self._count("forwards")
        logits = self._mean(x, self.batch, self._next_draws())
        if torch.is_grad_enabled() and x.requires_grad and not logits.requires_grad:
            logits = logits + 0.0 * x.flatten(1).sum(1, keepdim=True)  # a gradient of 0 where there is none
        return logits

    def _given(self, gradient: Tensor) -> Tensor:
        """What a foreign loop gets for a gradient that it asked for."""
        self._count("gradients")
        return self._finite(gradient)

    def _finite(self, gradient: Tensor) -> Tensor:
        """`gradient` (n, *shape) with 0 for NaN and +-HUGE for infinities; such rows are remembered as rough."""
        if isfinite(float(gradient.sum())):
            return gradient
        odd = ~torch.isfinite(gradient).flatten(1).all(1)
        self.memory.roughen(self.rows[odd])
        return gradient.nan_to_num(0.0, HUGE, -HUGE)

    def _forward(self, delta: Tensor) -> Tensor:
        self._count("forwards")
        return self._mean(self.batch.x + delta, self.batch, self._next_draws())

    def _mean(self, x: Tensor, batch: Batch, draws: Sequence[RandomStream]) -> Tensor:
        """Logits (n, classes), the mean over the draws."""
        if len(draws) == 1:
            return self.victim.logits(x, batch, draws[0])
        return torch.stack([self.victim.logits(x, batch, draw) for draw in draws]).mean(0)

    def _next_draws(self) -> Sequence[RandomStream]:
        if not self.victim.takes_rng:
            return (self.rng,)
        self.memory.draw += self.draws
        return [self.rng.fold_in(number) for number in range(self.memory.draw - self.draws + 1, self.memory.draw + 1)]

    def _count(self, what: Literal["forwards", "gradients"], times: int = 1) -> None:
        """Add the samples of `times` answers, every draw of them, unless nobody watches."""
        if self.watch != "never":
            self.memory.add(what, self.rows, times * self.draws)

    def _remember(self, logits: Tensor, delta: Tensor, watch: Watch) -> Tensor:
        """Which rows are adversarial now, if this trial watches so; new ones inside their ball are remembered."""
        if self.watch != watch:
            return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
        hit = self.goal.met_by(logits, self.batch.y)
        if bool(hit.any()):
            at = hit.nonzero().squeeze(1)
            at = at[self.ball[at].contains(delta[at])]
            hit = torch.zeros_like(hit).index_fill(0, at, True)
            at = at[~self.memory.is_adversarial[self.rows[at]]]
            self.memory.remember(self.rows[at], delta[at], self.by)
        return hit


def _gradient(value: Tensor, point: Tensor) -> Tensor:
    """D value / d point; 0 where `value` does not depend on it."""
    if not value.requires_grad:
        return torch.zeros_like(point)
    (gradient,) = torch.autograd.grad(value, point, allow_unused=True)
    return torch.zeros_like(point) if gradient is None else gradient


def _repeated(batch: Batch, k: int, x: Tensor) -> Batch:
    """`x` (n k, *shape), k points of each row of `batch` in succession; a single row is not copied."""
    parts = (batch.y, batch.mask, batch.ids, batch.scale)
    return Batch(x, *(part.unsqueeze(1).expand(-1, k, *part.shape[1:]).flatten(0, 1) for part in parts))


class _VictimModule(Module):
    """A trial that looks like the bare module."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        trial = self.trial
        logits = trial._answer(x)
        trial._remember(logits.detach(), x.detach() - trial.batch.x, "first")
        return logits
