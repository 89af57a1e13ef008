"""What several attacks leave of a published victim, each alone and all together."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest

from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.evaluation.sweep import Sweep
from ecgbench.evaluation.union import Attacked, alone, attacked, union
from ecgbench_plugins.attacks.strict import Strict
from tests.command_line import ecgbench
from tests.problems import linear_problem, reach

NAME = "synthetic-beats-beats-200-linear-none-epochs-1-seed0"


def test_an_attack_leaves_what_the_closed_form_leaves_and_its_parts_found_the_others() -> None:
    problem = linear_problem(3, (1, 20), n=100)
    sweep = Sweep(Strict("quick"), problem.victim, problem.task, Threat("linf"), (0.05,), RandomStream(("attack", 0)))
    run = attacked("strict", sweep)
    assert run.robust.tolist() == (reach(problem, Threat("linf"), 0.05) < 0).tolist()
    assert sum(run.parts.values()) == (~run.robust).sum() and "apgd-ce" in run.parts and run.seconds > 0


def test_the_union_is_robust_where_every_attack_fails() -> None:
    runs = [
        Attacked("one", np.array([True, True, False, False]), 1.0, {}),
        Attacked("other", np.array([True, False, False, True]), 2.0, {}),
    ]
    assert union(runs).tolist() == [True, False, False, False]
    assert alone(runs) == [1, 1]
    assert alone(runs[:1]) == [2]


def test_the_command_prints_each_attack_and_the_union(published: tuple[Path, Path]) -> None:
    home, checkpoints = published
    options = ("--leaderboard", str(checkpoints.parent), "-e", "0.05", "--per-class", "4")
    answer = ecgbench(
        home, "union", NAME, *options, "-a", "identity", "-a", "apgd-margin", "-a", "strict[budget=quick]"
    )
    assert answer.code == 0, answer.err
    table = takewhile(bool, answer.out.splitlines()[4:])
    figures = {line.split("  ")[0]: line.split() for line in table}
    assert list(figures) == ["identity", "apgd-margin", "strict[budget=quick]", "union"]
    together = min(float(words[1]) for words in figures.values())
    assert float(figures["union"][1]) == together
    assert float(figures["identity"][2]) == pytest.approx(float(figures["identity"][1]) - together)


def test_an_attack_that_does_not_fit_is_left_out_by_name(published: tuple[Path, Path]) -> None:
    home, checkpoints = published
    options = ("--leaderboard", str(checkpoints.parent), "-e", "0.05", "-t", "l2", "--per-class", "4")
    answer = ecgbench(home, "union", NAME, *options, "-a", "pgd[update=adamax]", "-a", "apgd")
    assert answer.code == 0 and "pgd[update=adamax] is left out: update=adamax is a rule of signs" in answer.err
    assert "pgd" not in answer.out.replace("apgd", "")


def test_a_victim_that_is_not_published_is_an_unknown_name(published: tuple[Path, Path]) -> None:
    home, checkpoints = published
    answer = ecgbench(
        home, "union", NAME.replace("seed0", "seed1"), "--leaderboard", str(checkpoints.parent), "-e", "0.1"
    )
    assert answer.code == 2 and f"did you mean '{NAME}'?" in answer.err


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home and the checkpoints of a small victim that was published there."""
    home = tmp_path_factory.mktemp("home")
    words = ("--dataset", "synthetic-beats[beats=200]", "--model", "linear", "--defense", "none[epochs=1]")
    results = home / "leaderboard" / "results"
    answer = ecgbench(
        home, "run", *words, "--attack", "identity", "--eps", "0.1", "--results", str(results), "--victims"
    )
    assert answer.code == 0, answer.err
    return home, results.parent / "checkpoints"
