"""What every attack promises, asked of it on linear victims whose robustness is known exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from types import MappingProxyType, NoneType

import torch
from torch import Tensor

from ecgbench.core.interfaces import Attack, Defense
from ecgbench.core.losses import margin
from ecgbench.core.threat import TOLERANCE
from ecgbench.evaluation.lending import batch_change, module_change
from ecgbench.testing.problem import ROWS
from ecgbench.testing.promise import Promise, examine, odd, unfit_everywhere, value
from ecgbench.testing.runs import AttackCase, Run
from ecgbench.testing.tasks import SHAPES
from ecgbench.testing.traces import fresh_generators

CLOSE = 1e-6  # between a row's perturbations in different batches
REACH, SHARE = 0.8, 0.95  # of eps, of the rows: what a strong attack finds
RISING = 0.9  # of the rows: how many come nearer to a target


def check_attack(
    attack: Attack, *, expected: Mapping[str, str] = MappingProxyType({}), shapes: Sequence[tuple[int, ...]] = SHAPES
) -> None:
    """Hold an attack to `ATTACK_PROMISES` on samples of `shapes`, with 2 and 5 classes, in both norms.

    `expected` names the promises it cannot keep, each with the reason; what it says it is `unfit` for is left
    out. Takes seconds. Raises BrokenPromiseError (a ContractError) with the first promise broken.
    """
    examine(AttackCase(attack, tuple(shapes)), ATTACK_PROMISES, expected)


Fault = Callable[[Run], Tensor]
"""Which rows of a run are at fault: (n,) bool."""


def interface(case: AttackCase) -> str | None:
    """access, minimal, surrogate, unfit and reach as `ecgbench.core.interfaces.Attack` has them; fit for something."""
    attack = case.plugin
    if attack.access not in ("gradient", "score"):
        return f"access {attack.access!r}"
    reach = attack.reach(0.1)
    if reach is not None and not (isfinite(reach) and reach >= 0):
        return f"reach(0.1) = {reach!r}"
    fault = odd("minimal", attack.minimal, bool) or odd("surrogate", attack.surrogate, NoneType, Defense)
    return fault or unfit_everywhere([attack.unfit(problem.task, problem.threat) for problem in case.problems])


def access(case: AttackCase) -> str | None:
    """No gradient asked for if access is "score"."""
    if case.plugin.access != "score":
        return None
    return "autograd through the victim" if any(run.module.differentiated for run in case.runs) else None


def shape(case: AttackCase) -> str | None:
    """A perturbation in the shape and type of x."""
    for run in case.runs:
        delta, x = run.delta, run.trial.batch.x
        if delta.shape != x.shape or delta.dtype != x.dtype:
            return f"{tuple(delta.shape)} {delta.dtype} on {run.problem}"
    return None


def finite(case: AttackCase) -> str | None:
    """Finite values only."""
    return _where(case.runs, lambda run: ~torch.isfinite(run.answer).flatten(1).all(1), "NaN or infinity")


def inside(case: AttackCase) -> str | None:
    """A size of at most eps (1 + 1e-5) in the norm of the threat, with the eps of each row."""
    for run in case.runs:
        size, eps = run.trial.ball.size(run.answer), run.trial.ball.eps.flatten()
        if bool((size > eps * (1 + TOLERANCE)).any()):
            if float((run.answer - run.trial.batch.x).abs().amax()) <= float(eps.amax()):
                return f"what looks like x + delta instead of delta on {run.problem}"
            return f"{float((size / eps).amax()):.6g} eps on {run.problem}"
    return None


def masked(case: AttackCase) -> str | None:
    """A perturbation of exactly 0 where the mask is False."""
    return _where(case.runs, lambda run: (run.answer * ~run.trial.batch.mask).flatten(1).any(1), "another value")


def bounded(case: AttackCase) -> str | None:
    """A signal x + delta inside the bounds of the task."""
    limited = (run for run in case.runs if run.problem.task.bounds is not None)
    return _where(limited, lambda run: ~run.trial.ball.contains(run.answer), "a signal outside")


def zero(case: AttackCase) -> str | None:
    """The perturbation 0 where eps is 0."""
    still = (case.play(run.problem, eps=0.0) for run in case.first)
    return _where(still, lambda run: (run.answer != 0).flatten(1).any(1), "another")


def generators(case: AttackCase) -> str | None:
    """Every draw from the `rng`, none from the global generators of torch, numpy and python."""
    with fresh_generators() as moved:
        for run in case.first:
            case.play(run.problem)
        return moved()


def repeatable(case: AttackCase) -> str | None:
    """The same perturbation from the same `rng`."""
    with fresh_generators(salt=1):
        again = [case.play(run.problem) for run in case.first]
    for run, other in zip(case.first, again, strict=True):
        if not torch.equal(run.answer, other.answer):
            return f"another one on {run.problem}"
    return None


def untouched(case: AttackCase) -> str | None:
    """signals, weights, buffers, train modes, requires_grad and .grad left as they were."""
    problems = [run.problem for run in case.first]
    for run in [*map(case.play, problems), *map(case.unwatched, problems)]:
        before = run.problem.trial(training=run.trial.watch == "never")
        change = module_change(run.module, before.victim.module) or batch_change(run.trial.batch, before.batch)
        if change:
            return change
    return None


def order(case: AttackCase) -> str | None:
    """The same perturbation for a row wherever it stands in the batch."""
    rows = torch.arange(ROWS).roll(5).flip(0)
    for run in case.first:
        moved = case.play(run.problem, rows=rows)
        gap = float((moved.answer - run.answer[rows]).abs().amax())
        if gap > CLOSE:
            return f"a difference of {gap:.2g} after permuting the rows on {run.problem}"
    return None


def alone(case: AttackCase) -> str | None:
    """The same perturbation for a row alone and in a batch."""
    for run in case.first:
        for row in (0, ROWS // 2, ROWS - 1):
            single = case.play(run.problem, rows=torch.tensor([row]))
            gap = float((single.answer[0] - run.answer[row]).abs().amax())
            if gap > CLOSE:
                return f"a difference of {gap:.2g} on {run.problem}"
    return None


def unwatched(case: AttackCase) -> str | None:
    """A perturbation inside the ball also where no row is seen to be adversarial, as inside a training."""
    blind = (case.unwatched(run.problem) for run in case.first)
    return _where(blind, lambda run: ~run.trial.ball.contains(run.answer), "one outside")


def strong(case: AttackCase) -> str | None:
    """At least 95 % of the rows made adversarial whose critical size on a linear victim is below 0.8 eps."""
    for norm in [run.problem.threat.norm for run in case.first]:
        adversarial = torch.cat([_felled(run) for run in case.runs if run.problem.threat.norm == norm])
        share = float(adversarial.float().mean())
        if share < SHARE:
            return f"{100 * share:.0f} % of {len(adversarial)} rows in {norm}"
    return None


def targeted(case: AttackCase) -> str | None:
    """With a target, another perturbation, and the target nearer in at least 90 % of the rows."""
    for run in case.first:
        goal = run.problem.with_target(run.problem.task.classes[-1])
        if case.plugin.unfit(goal.task, goal.threat) is not None:
            continue
        rows = (goal.task.test.y != len(goal.task.classes) - 1).nonzero().squeeze(1)
        toward = case.play(goal, rows=rows)
        if torch.equal(toward.answer, run.answer[rows]):
            return f"the untargeted one on {goal}"
        rise = _margin(toward, toward.answer) - _margin(toward, torch.zeros_like(toward.answer))
        share = float((rise > 0).float().mean())
        if share < RISING:
            return f"it nearer in {100 * share:.0f} % on {goal}"
    return None


def _where(runs: Iterable[Run], fault: Fault, what: str) -> str | None:
    """`what`, with the place, of the first run that has a row at fault."""
    for run in runs:
        if bool(fault(run).any()):
            return f"{what} on {run.problem}"
    return None


def _felled(run: Run) -> Tensor:
    """Of the rows that can be adversarial well inside eps, which are."""
    rows = run.problem.critical < REACH * run.problem.eps
    with torch.no_grad():
        predicted = run.module(run.trial.batch.x + run.answer).argmax(1)
    return run.trial.goal.met(predicted)[rows]


def _margin(run: Run, delta: Tensor) -> Tensor:
    with torch.no_grad():
        return margin(run.module(run.trial.batch.x + delta), run.trial.goal)


ATTACK_PROMISES: tuple[Promise[AttackCase], ...] = tuple(
    Promise(check)
    for check in (
        value,
        interface,
        access,
        shape,
        finite,
        inside,
        masked,
        bounded,
        zero,
        generators,
        repeatable,
        untouched,
        order,
        alone,
        unwatched,
        strong,
        targeted,
    )
)
