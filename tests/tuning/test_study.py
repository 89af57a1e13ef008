"""A study is killed and goes on, is shared by processes, and its best trial can be had again."""

from __future__ import annotations

import shlex
import signal
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import EcgbenchError
from ecgbench.registry.catalog import discover
from ecgbench.runs.runner import Runner
from ecgbench.storage.store import Store
from ecgbench.tuning import Question, Tuning, open_study
from ecgbench.tuning.workers import Worker, is_gone
from tests.command_line import BEATS, Answer, ecgbench, finished, spawn

TOY = str(Path(__file__).with_name("toy.py"))
SEARCH = ("--search", "defense.gain=0.01..10:log")
TUNE = ("tune", "--model", "linear", "--dataset", BEATS, "--defense", "toy", *SEARCH, "--plugin", TOY)


def study(home: Path) -> optuna.Study:
    (only,) = optuna.get_all_study_names(f"sqlite:///{home / 'tuning.db'}")
    return optuna.load_study(study_name=only, storage=f"sqlite:///{home / 'tuning.db'}")


def tuned(home: Path, *options: str, **variables: str) -> Answer:
    return ecgbench(home, *TUNE, *options, TOYS=str(home / "toys"), **variables)


def asked(home: Path) -> list[list[str]]:
    """Process and gain of every training that began."""
    return [line.split() for line in (home / "toys").read_text().splitlines()]


def values(home: Path) -> list[float | None]:
    return [trial.value for trial in study(home).trials if trial.state == TrialState.COMPLETE]


def test_a_study_killed_at_its_eighth_trial_goes_on_at_the_eighth(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert tuned(whole, "--trials", "12").code == 0
    killed = spawn(tmp_path, *TUNE, "--trials", "12", TOYS=str(tmp_path / "toys"), KILL_AT="8")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    before = asked(tmp_path)
    assert len(before) == 8 and len(values(tmp_path)) == 7
    answer = tuned(tmp_path, "--trials", "12")
    assert answer.code == 0 and "trial 7 was killed; it is run again" in answer.err
    after = asked(tmp_path)
    assert after[:8] == before and len(after) == 8 + 5 and len(values(tmp_path)) == 12
    assert after[8][1] == before[7][1], "the killed trial was not the first to be run again"
    assert values(tmp_path)[:8] == values(whole)[:8]
    again = tuned(tmp_path, "--trials", "12")
    assert again.code == 0 and asked(tmp_path) == after and again.out == answer.out


def test_two_processes_share_a_study_and_never_run_the_same_trial(tmp_path: Path) -> None:
    toys = str(tmp_path / "toys")
    workers = [spawn(tmp_path, *TUNE, "--trials", "10", TOYS=toys, PAUSE="0.3") for _ in range(2)]
    answers = [finished(worker) for worker in workers]
    assert [answer.code for answer in answers] == [0, 0], answers
    begun = asked(tmp_path)
    assert len(begun) == len(values(tmp_path)) == 10
    assert len({gain for _, gain in begun}) == 10
    assert len({process for process, _ in begun}) == 2


def test_the_selectors_that_are_printed_have_the_best_value(tmp_path: Path) -> None:
    answer = tuned(tmp_path, "--trials", "5", "--objective", "balanced-accuracy")
    summary, command = answer.out.splitlines()
    best = study(tmp_path).best_trial
    assert summary == f"best of 5 trials: trial {best.number}, balanced-accuracy {best.value:.6g} on validation"
    words = shlex.split(command)
    defense = words[words.index("--defense") + 1]
    only = ("--defense", defense, "--search", "defense.wrong=false", "--study", "again", "--trials", "1")
    assert (
        ecgbench(
            tmp_path, *TUNE[:5], *TUNE[9:], *only, "--objective", "balanced-accuracy", TOYS=str(tmp_path / "t")
        ).code
        == 0
    )
    again = optuna.load_study(study_name="again", storage=f"sqlite:///{tmp_path / 'tuning.db'}")
    assert again.best_value == best.value
    assert ecgbench(tmp_path, *words[1:], "--attack", "identity", "--plugin", TOY).code == 0


def test_an_attack_is_tuned_on_validation_and_its_command_runs(tmp_path: Path) -> None:
    victim = ("--model", "linear", "--dataset", "synthetic-icu[stays=200]", "--defense", "none[epochs=1]", "--eps", "1")
    search = ("--search", "attack.step=0.1..1", "--attack", "ista[steps=5]", "--objective", "sparse-small-max")
    answer = ecgbench(tmp_path, "tune", *victim, *search, "--trials", "2", "--limit", "10")
    assert answer.code == 0, answer.err
    words = shlex.split(answer.out.splitlines()[1])
    assert "ista[step=" in words[words.index("--attack") + 1] and words[words.index("--eps") + 1] == "1"
    rows = ecgbench(tmp_path, "results", "show", "--json").records
    assert {row["protocol"] for row in rows} == {"standard[split=val]"} and {row["n"] for row in rows} == {10}


def test_hopeless_trials_are_given_up_between_folds(tmp_path: Path) -> None:
    answer = tuned(tmp_path, "--trials", "12", "--folds", "5", "--sampler", "random")
    assert answer.code == 0
    pruned = [trial for trial in study(tmp_path).trials if trial.state == TrialState.PRUNED]
    assert pruned and all(trial.intermediate_values and 4 not in trial.intermediate_values for trial in pruned)
    assert len(study(tmp_path).trials) == 12 and "given up, no better than the median" in answer.err


def test_trials_that_fail_are_counted_and_named_and_the_others_go_on(tmp_path: Path) -> None:
    answer = tuned(tmp_path, "--search", "defense.wrong=true|false", "--trials", "8")
    assert answer.code == 0
    failed = [trial for trial in study(tmp_path).trials if trial.state == TrialState.FAIL]
    assert failed and len(study(tmp_path).trials) == 8
    assert answer.err.count("RuntimeError in defense toy") == len(failed)
    nothing = tuned(tmp_path, "--search", "defense.wrong=true|yes", "--trials", "2", "--study", "none")
    assert nothing.code != 0 and "no trial of none has a value yet: RuntimeError in defense toy" in nothing.err


def test_a_name_stands_for_one_question(tmp_path: Path) -> None:
    assert tuned(tmp_path, "--trials", "1", "--study", "mine").code == 0
    other = tuned(tmp_path, "--trials", "1", "--study", "mine", "--seed", "1")
    assert other.code != 0 and "study mine was begun with seed=0, and 1 is given" in other.err


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--sampler", "grid"), "no sampler is named 'grid'"),
        (("--pruner", "hyperband"), "no pruner is named 'hyperband'"),
        (("--storage", "sqlite:////no/such/folder/x.db"), "the database of the study cannot be used"),
        (("--storage", "postgresql://127.0.0.1:port/x"), "the database of the study cannot be used"),
        (("--storage", "nonsense"), "the database of the study cannot be used"),
        (("--storage", "mysql://nowhere/x"), "expected --storage sqlite:///FILE or postgresql://HOST/NAME"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(tmp_path: Path, options: tuple[str, ...], fault: str) -> None:
    answer = tuned(tmp_path, *options)
    assert answer.code != 0 and fault in answer.err and "Traceback" not in answer.err
    assert not (tmp_path / "toys").exists()


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("drop table studies", "the database of the study cannot be used: "),
        ("update alembic_version set version_num='none'", "the database of the study cannot be used: "),
        (
            "update study_user_attributes set value_json='[1]'",
            "study mine was not begun by ecgbench tune; expected one",
        ),
        ("delete from study_user_attributes", "study mine was not begun by ecgbench tune; expected one"),
    ],
)
def test_a_study_that_is_damaged_or_of_others_is_refused_in_a_sentence(tmp_path: Path, damage: str, fault: str) -> None:
    question = Question(model="linear", search=("defense.lr=0.1..1",), objective="loss")
    url = f"sqlite:///{tmp_path}/db"
    open_study(question, url, "mine").ask()
    with closing(sqlite3.connect(tmp_path / "db")) as database, database:
        database.execute(damage)
    with pytest.raises(EcgbenchError) as refused:
        open_study(question, url, "mine")
    assert str(refused.value).startswith(fault)


def test_a_database_that_breaks_while_a_study_runs_ends_it_in_a_sentence(tmp_path: Path) -> None:
    question = Question(model="linear", search=("defense.lr=0.1..1",), objective="loss")
    url = f"sqlite:///{tmp_path}/db"
    study = open_study(question, url, "mine")
    with closing(sqlite3.connect(tmp_path / "db")) as database, database:
        database.execute("drop table trials")
    with pytest.raises(EcgbenchError, match="the database of the study cannot be used"):
        Tuning(question, study, Runner(discover(), DataRoot(), Store(tmp_path / "store"))).run(1)


def test_a_live_process_is_left_alone_and_a_gone_one_is_not() -> None:
    worker, now = Worker(), datetime.now()
    with worker.at_work():
        assert is_gone(worker.note(), now) is False
    assert is_gone(worker.note(), now) is None and is_gone(worker.note(), now - timedelta(days=2)) is True
    assert is_gone({"host": "elsewhere", "lock": str(worker.lock)}, now - timedelta(days=2)) is None
    assert is_gone(None, now) is False and is_gone(None, now - timedelta(minutes=2)) is True
