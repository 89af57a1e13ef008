"""A study: trials in a database that any number of processes may share, be killed in, and go on from."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from ecgbench.core.errors import EcgbenchError, NotInstalledError, UnknownNameError
from ecgbench.runs.faults import Fault
from ecgbench.runs.runner import Runner
from ecgbench.tuning.evaluation import Report, value
from ecgbench.tuning.question import Question
from ecgbench.tuning.workers import Worker, begun_one_by_one, is_gone

if TYPE_CHECKING:
    import optuna
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "none")
STARTUP, WARMUP = 5, 3  # of the study: trials before a median is taken, and steps before one is given up
QUESTION, WORKER, FAULT = "question", "worker", "fault"  # what is noted of a study or a trial


class TrialError(EcgbenchError):
    """A trial has no value; the others go on."""


@dataclass(frozen=True)
class Tuning:
    """A question and its study; `say` gets one line after each trial."""

    question: Question
    study: optuna.Study
    runner: Runner
    say: Callable[[str], None] = lambda _: None
    worker: Worker = field(default_factory=Worker)

    def run(self, trials: int) -> None:
        """Go on until the study has `trials` trials, those of other processes counted; what was killed is run again."""
        with _reaching(*_of_database()), self.worker.at_work():
            self._take_up_what_is_gone()
            while len(self._counted(waiting=False)) < trials:
                trial = self._next()
                if sum(one.number < trial.number for one in self._counted(waiting=True)) >= trials:
                    self._close(trial, None)  # another process was faster with the last one
                    return
                self._run(trial)

    @property
    def finished(self) -> int:
        """How many trials are done: with a value, given up as hopeless, or refused."""
        from optuna.trial import TrialState

        return sum(trial.state != TrialState.RUNNING for trial in self._counted(waiting=False))

    def best(self) -> tuple[FrozenTrial, Mapping[str, str]]:
        """The best trial and its selectors. Raises EcgbenchError where none has a value."""
        try:
            best = self.study.best_trial
        except ValueError:
            raise EcgbenchError(f"no trial of {self.study.study_name} has a value yet: {self._last_fault()}") from None
        return best, self._selectors(best)

    def _last_fault(self) -> str:
        faults = [str(trial.user_attrs[FAULT]) for trial in self.study.trials if FAULT in trial.user_attrs]
        return faults[-1] if faults else "run some first."

    def _selectors(self, trial: FrozenTrial) -> Mapping[str, str]:
        from optuna.trial import FixedTrial

        return self.question.suggested(FixedTrial(trial.params), self.runner.catalog)

    def _next(self) -> Trial:
        """The next trial: its draws are fixed by its number and the trials before it, whoever runs it."""
        with _quiet():
            trial = self.study.ask()
        self.study.sampler = sampler(self.question.sampler, self.question.sampler_seed + trial.number)
        trial.set_user_attr(WORKER, self.worker.note())
        return trial

    def _run(self, trial: Trial) -> None:
        import optuna

        def report(step: int, so_far: float) -> None:
            trial.report(so_far, step)
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            found = self._value(trial, report)
        except optuna.TrialPruned:
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            self.say(f"trial {trial.number}: given up, no better than the median")
        except TrialError as fault:
            self._close(trial, str(fault))
            self.say(f"trial {trial.number}: {fault}")
        else:
            self.study.tell(trial, found)
            self.say(f"trial {trial.number}: {self.question.objective} {found:.6g}")

    def _value(self, trial: Trial, report: Report) -> float:
        """The value. Raises TrialError where selectors are refused, or nothing can be trained or attacked."""
        import optuna

        catalog = self.runner.catalog
        try:
            cell = self.question.cell(self.question.suggested(trial, catalog), catalog)
        except EcgbenchError as fault:
            raise TrialError(str(fault)) from fault
        try:
            found = value(self.question, cell, self.runner, report)
        except optuna.TrialPruned:
            raise
        except Exception as error:  # a plugin may raise anything; its trial failed, the others go on
            found_out = Fault(error, cell, catalog)
            raise found_out.ends_run() or TrialError(found_out.reason()) from error
        if not isfinite(found):
            raise TrialError(f"{self.question.objective} is {found}; expected a finite number.")
        return found

    def _close(self, trial: Trial, fault: str | None) -> None:
        """End a trial without a value; only one with a fault of its own counts."""
        import optuna

        if fault is not None:
            trial.set_user_attr(FAULT, fault)
        self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def _counted(self, *, waiting: bool) -> list[FrozenTrial]:
        """All trials but those that were killed or were one too many, and those still to be begun unless `waiting`."""
        from optuna.trial import TrialState

        return [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if (trial.state != TrialState.FAIL or FAULT in trial.user_attrs)
            and (waiting or trial.state != TrialState.WAITING)
        ]

    def _take_up_what_is_gone(self) -> None:
        """Trials whose process is gone are closed, and their parameters are tried again first."""
        import optuna

        for trial in self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            gone = is_gone(trial.user_attrs.get(WORKER), trial.datetime_start)
            if gone is None:
                self.say(f"trial {trial.number} is at work on {trial.user_attrs[WORKER]['host']}, or was killed there")
            elif gone:
                with _quiet(), self._alone(trial) as mine:
                    if mine:
                        self.study.enqueue_trial(trial.params)
                        self.say(f"trial {trial.number} was killed; it is run again")

    @contextmanager
    def _alone(self, trial: FrozenTrial) -> Iterator[bool]:
        """Whether it was this process that closed the trial, of several that begin at once."""
        import optuna

        try:
            self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        except (ValueError, RuntimeError, optuna.exceptions.UpdateFinishedTrialError):
            yield False
        else:
            yield True


def open_study(question: Question, url: str, name: str) -> optuna.Study:
    """The study of that name in the database `url`, made if it is not there.

    Raises EcgbenchError where the name stands for another question, or the database cannot be reached.
    """
    optuna = _optuna()
    asked, direction = question.plain(), question.goal().direction
    drawn, given_up = sampler(question.sampler, question.sampler_seed), pruner(question.pruner)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with begun_one_by_one(), _quiet(), _reaching(Exception):  # damaged tables and bad addresses raise what they like
        study = optuna.create_study(
            storage=_storage(url),
            study_name=name,
            direction=direction,
            sampler=drawn,
            pruner=given_up,
            load_if_exists=True,
        )
        kept = study.user_attrs.get(QUESTION)
        begun = kept is not None or bool(study.get_trials(deepcopy=False))
        if not begun:
            study.set_user_attr(QUESTION, asked)
    if begun and not isinstance(kept, dict):
        raise EcgbenchError(f"study {name} was not begun by ecgbench tune; expected one that was, or another --study.")
    if kept not in (None, asked):
        other = next(key for key in asked if json.dumps(kept.get(key)) != json.dumps(asked[key]))
        raise EcgbenchError(
            f"study {name} was begun with {other}={kept.get(other)!r}, and {asked[other]!r} is given; "
            "expected the same question, or another --study."
        )
    return study


@contextmanager
def _reaching(*kinds: type[Exception]) -> Iterator[None]:
    """Turns these errors of a database into one sentence."""
    try:
        yield
    except kinds as fault:
        reason = (str(getattr(fault, "orig", None) or fault).strip().splitlines() or [type(fault).__name__])[0]
        expected = "expected --storage sqlite:///FILE or postgresql://HOST/NAME"
        raise EcgbenchError(
            f"the database of the study cannot be used: {reason[:200].removesuffix('.')}; {expected}."
        ) from None


def _of_database() -> tuple[type[Exception], ...]:
    """What is raised where a database is damaged, locked or away."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    return StorageInternalError, SQLAlchemyError


def sampler(name: str, seed: int) -> BaseSampler:
    """By name; trials of other processes that are under way are taken to be poor, so that they are not met again."""
    from optuna.samplers import RandomSampler, TPESampler

    if name not in SAMPLERS:
        raise UnknownNameError("sampler", name, SAMPLERS)
    with _quiet():
        return RandomSampler(seed=seed) if name == "random" else TPESampler(seed=seed, constant_liar=True)


def pruner(name: str) -> BasePruner:
    """By name; "median" with the start-up trials and warm-up steps of the study."""
    from optuna.pruners import MedianPruner, NopPruner

    if name not in PRUNERS:
        raise UnknownNameError("pruner", name, PRUNERS)
    return NopPruner() if name == "none" else MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=WARMUP)


def _storage(url: str) -> optuna.storages.RDBStorage:
    """PostgreSQL by psycopg 3, and SQLite that waits for other writers."""
    from optuna.storages import RDBStorage

    plain = url.replace("postgresql://", "postgresql+psycopg://", 1)
    arguments = {"connect_args": {"timeout": 60}} if plain.startswith("sqlite") else {}
    return RDBStorage(plain, engine_kwargs=arguments)


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise NotInstalledError("optuna", 'install it by: pip install "ecgbench-robustness[tune]"') from None
    return optuna


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings about what Optuna calls experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
