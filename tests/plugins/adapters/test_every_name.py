"""Every attack of three libraries by name: it runs on signals and keeps the rules, or says in a sentence why not."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest
import torch

from ecgbench.core.interfaces import Attack
from ecgbench.core.threat import Norm
from ecgbench.evaluation.lending import module_change
from ecgbench.testing.problem import Problem
from ecgbench.testing.traces import fresh_generators
from tests.plugins.adapters.library_names import AIMED, REFUSED, RUN, SHAPES
from tests.plugins.adapters.library_world import RANGE, RNG, attack, catalog, free_rows, mild, trial_of

LIBRARIES = ("torchattacks", "foolbox", "art")
NOT_OFFERED = {"MultiAttack", "Attack", "EvasionAttack"}
BOTH: tuple[Norm, ...] = ("linf", "l2")
NAMES = [(f"{library}.{name}", text) for library in LIBRARIES for name, text in RUN[library].items()]
SHAPED = [(*each, shape) for each in NAMES for shape in SHAPES if (each[0], shape) != ("torchattacks.JSMA", (1, 9000))]


def fit(of: Attack, shape: tuple[int, ...], target: str | None, native: bool = False) -> list[Problem]:
    """The problems of this shape, with and without bounds, that the attack can run on."""
    problems = [mild(norm, shape, bounds, target, native=native) for norm in BOTH for bounds in (RANGE, None)]
    return [problem for problem in problems if of.unfit(problem.task, problem.threat) is None]


@pytest.mark.parametrize(("name", "text", "shape"), SHAPED, ids=str)
def test_an_attack_runs_by_name_and_leaves_no_trace(name: str, text: str, shape: tuple[int, ...]) -> None:
    of = attack(f"{name}[{text}]")
    problems = fit(of, shape, "A" if name in AIMED else None)
    assert problems
    for problem in problems:
        trial = trial_of(problem, of, free_rows(problem, 2))
        before = problem.trial().victim.module
        with fresh_generators() as moved:
            delta = of.perturb(trial, RNG)
            assert moved() is None
        assert bool(trial.ball.contains(delta).all())
        assert module_change(trial.victim.module, before) is None
        assert bool((delta[~trial.batch.mask.expand_as(delta)] == 0).all())


@pytest.mark.parametrize(("name", "text"), NAMES, ids=str)
def test_an_answer_is_fixed_by_what_the_attack_says(name: str, text: str) -> None:
    """By the sample, which then may stand in any batch, or by the chunk, whose rows may stand in any order."""
    of = attack(f"{name}[{text}]")
    assert of.determinism != "none"
    for problem in fit(of, (1, 187), "A" if name in AIMED else None, native=True):
        rows = free_rows(problem, 5)
        again = rows.flip(0)[:2] if of.determinism == "sample" else rows.flip(0)
        first, second = (of.perturb(trial_of(problem, of, each), RNG) for each in (rows, again))
        assert torch.allclose(first.flip(0)[: len(again)], second, rtol=0, atol=1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_attack_that_cannot_run_says_why_in_one_sentence(library: str) -> None:
    for name, word in REFUSED[library].items():
        of = attack(f"{library}.{name}")
        problems = [mild(norm, target=target) for norm in BOTH for target in (None, "A")]
        reasons = [str(of.unfit(problem.task, problem.threat)) for problem in problems]
        assert all(re.fullmatch(r"(torchattacks|foolbox|art)\.[^\n]{20,}\.", reason) for reason in reasons)
        assert any(word in reason for reason in reasons)


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_attack_of_an_installed_library_is_forgotten(library: str) -> None:
    module = {"foolbox": "foolbox.attacks", "art": "art.attacks.evasion"}.get(library, library)
    there = importlib.import_module(module)
    offered = {type(value).__name__ for name, value in catalog().values("attack").items() if name.startswith(library)}
    classes = {each.__name__ for _, each in inspect.getmembers(there, inspect.isclass)}
    assert classes - NOT_OFFERED - offered == set()
    named = {type(attack(f"{library}.{name}")).__name__ for name in {**RUN[library], **REFUSED[library]}}
    left = {name for name in offered - named if attack(f"{library}.{name}").unfit(mild().task, mild().threat) is None}
    assert left == set()


def test_pairs_of_many_values_are_refused_before_they_fill_the_memory() -> None:
    problem = mild("l2", (1, 9000))
    reason = attack("torchattacks.JSMA").unfit(problem.task, problem.threat)
    assert reason == "torchattacks.JSMA compares all pairs of values, of 2048 at most; a sample here has 9000."


def test_an_image_meets_the_attacks_made_for_images() -> None:
    problem = mild(shape=(3, 8, 8), native=True)
    for name in ("DIFGSM[steps=2]", "TIFGSM[steps=2]", "PIFGSM[num_iter_set=2]", "PIFGSMPP[num_iter_set=2]"):
        of = attack(f"torchattacks.{name}")
        assert of.unfit(problem.task, problem.threat) is None
        delta = of.perturb(trial_of(problem, of), RNG)
        assert bool(problem.trial().ball.contains(delta).all()) and float(delta.abs().amax()) > 0
