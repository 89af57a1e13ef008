"""A trial's value: the cell is trained, or attacked on validation, and judged. Nothing here sees the test split."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from torch.nn import Module

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.interfaces import returned
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import stream
from ecgbench.core.victim import frozen
from ecgbench.evaluation.guard import guarded, named
from ecgbench.runs.cell import Cell
from ecgbench.runs.runner import Runner
from ecgbench.runs.zoo import architecture
from ecgbench.tuning.folds import folds
from ecgbench.tuning.objectives import Objective, judged, validation
from ecgbench.tuning.question import Question

Report = Callable[[int, float], None]
"""Step and the value so far; it may raise to give the trial up."""


def value(question: Question, cell: Cell, runner: Runner, report: Report) -> float:
    """What the cell is worth. Raises EcgbenchError where it cannot be trained or attacked."""
    goal = question.goal()
    if goal.attacks:
        return _attacked(goal, cell, runner)
    if question.folds > 1:
        return _folded(goal, question, cell, runner, report)
    task = runner.task(cell.dataset)
    assert goal.of_training is not None
    _check_fit(cell, runner)
    return goal.of_training(*validation(runner.victim(cell.victim).victim, task.val))


def _attacked(goal: Objective, cell: Cell, runner: Runner) -> float:
    record = runner.execute(cell)
    outcomes = runner.outcomes_of(record)
    if record.status != "ok" or outcomes is None:
        raise EcgbenchError(record.error or f"the outcomes of record {record.key[:12]} are gone.")
    return judged(goal, outcomes, runner.task(cell.dataset).shape, str(cell.threat.norm))


def _folded(goal: Objective, question: Question, cell: Cell, runner: Runner, report: Report) -> float:
    """The mean over folds; the mean so far is reported after each."""
    _check_fit(cell, runner)
    if cell.defense.base is not None:
        raise EcgbenchError(
            "a defense that starts from another's weights given; expected one that trains from scratch."
        )
    assert goal.of_training is not None
    found: list[float] = []
    for number, task in enumerate(folds(runner.task(cell.dataset), question.folds, question.seed)):
        blind = task.blind()
        with guarded(named(cell.defense, cell.model)):
            module = architecture(cell.model, cell.defense, blind, cell.seed).to(runner.device)
            rng = stream("train", cell.seed)
            module = returned(cell.defense, "fit", cell.defense.fit(module, blind, rng, Checkpoint()), Module)
        found.append(goal.of_training(*validation(frozen(module, task.outputs), task.val)))
        report(number, fmean(found))
    return fmean(found)


def _check_fit(cell: Cell, runner: Runner) -> None:
    reason = cell.unfit(runner.task(cell.dataset))
    if reason is not None:
        raise EcgbenchError(reason)
