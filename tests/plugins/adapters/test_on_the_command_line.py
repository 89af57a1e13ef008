"""Attacks of other libraries as a person meets them: what is told of them, what a record says, how they are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import ecgbench as package
from tests.command_line import TINY, ecgbench

RUN = ("run", "-q", *TINY, "--limit", "20", "--eps", "0.05", "--json")


def record(home: Path, attack: str, *more: str) -> dict[str, Any]:
    (found,) = ecgbench(home, *RUN, "--attack", attack, *more).records
    return found


# what is told


def test_info_tells_what_fixes_an_answer(tmp_path: Path) -> None:
    said = ecgbench(tmp_path, "info", "torchattacks.PGD").out
    assert "Access: gradient. Determinism: chunk, an answer is fixed by the seed and the chunk that" in said
    assert 'library = "torchattacks 3.5.1"' in said
    own = ecgbench(tmp_path, "info", "spsa").out
    assert "Access: score. Determinism: sample, an answer is fixed by the seed and the sample." in own
    assert "Determinism" not in ecgbench(tmp_path, "info", "mlp").out


@pytest.mark.parametrize(
    ("attack", "state"),
    [
        ("torchattacks.PGD[steps=2]", "chunk"),
        ("torchattacks.FGSM", "sample"),
        ("transfer[attack=torchattacks.PGD[steps=2]]", "chunk"),
    ],
)
def test_a_record_says_what_fixes_its_outcomes_and_which_library_made_them(
    tmp_path: Path, attack: str, state: str
) -> None:
    found = record(tmp_path, attack)
    assert (found["status"], found["attack"], found["determinism"]) == ("ok", attack, state)
    assert found["provenance"]["versions"]["torchattacks"] == "3.5.1"


def test_the_record_of_an_own_attack_names_no_library(tmp_path: Path) -> None:
    found = record(tmp_path, "fgsm")
    assert found["determinism"] == "sample"
    assert set(found["provenance"]["versions"]) == {
        *("ecgbench", "python", "torch", "numpy", "scipy", "cpu", "precision")
    }


def test_evaluate_says_the_same() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 3))
    x, y = torch.rand(12, 1, 24), torch.arange(12) % 3
    found = package.evaluate(module, x, y, eps=[0.05], attack="torchattacks.PGD[steps=2]")
    assert found.determinism == "chunk" and found.provenance is not None
    assert found.provenance.versions["torchattacks"] == "3.5.1"


# how they are refused


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        ("torchattacks.pgd", "no attack is named 'torchattacks.pgd'; did you mean 'torchattacks.PGD'?"),
        ("TorchAttacks.PGD", "did you mean 'torchattacks.PGD'?"),
        ("torchattacks.NoSuch", "no attack is named 'torchattacks.NoSuch'; known: torchattacks.APGD, torch"),
        ("torchattacks", "no attack is named 'torchattacks'; known: torchattacks.APGD, torch"),
        ("foolbox.L0FMN", "did you mean 'foolbox.L0FMNAttack'?"),
        ("foolbox..PGD", "did you mean 'foolbox.PGD'?"),
        ("art.HopSkipJump[max_itr=1]", "art.HopSkipJump has no parameter 'max_itr'; did you mean 'max_iter'?"),
        ("art.PGD[decay=big]", "art.PGD: decay expects a number or none; got big."),
        ("art.PGD[eps_step=0]", "is refused: eps_step=0 given; expected a size above 0."),
        ("art.PGD[targeted=true]", "art.PGD has no parameter 'targeted'; known: decay, eps_step, library, max_iter,"),
        ("torchattacks.PGD[steps=-1]", "is refused: steps=-1 given; expected 1 or more."),
        ("torchattacks.PGD[steps=2.5]", "torchattacks.PGD: steps expects a whole number; got 2.5."),
        ('torchattacks.PGD[library="torchattacks 3.4"]', "torchattacks 3.4 given; installed is torchattacks 3.5.1."),
    ],
)
def test_a_selector_that_cannot_be_is_answered_in_one_sentence(tmp_path: Path, attack: str, words: str) -> None:
    answer = ecgbench(tmp_path, *RUN, "--attack", attack)
    assert answer.code == 2 and not answer.out
    assert answer.err.startswith("error: ") and words in answer.err and answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("attack", "threat", "words"),
    [
        ("foolbox.L0FMNAttack", "linf", "foolbox.L0FMNAttack cannot run here: foolbox cannot reduce L0 norms yet."),
        ("foolbox.L2PGD", "linf", "is made for l2; this threat is linf."),
        ("foolbox.GenAttack", "linf", "foolbox.GenAttack can only aim at a target; expected a threat with one."),
        ("art.DeepFool", "l2[target=V]", "art.DeepFool cannot aim at a target; expected a threat without one."),
        (
            "art.SquareAttack",
            "linf",
            "works on images (channels, height, width); samples here have the shape (1, 187).",
        ),
        ("torchattacks.TIFGSM", "linf", "torchattacks.TIFGSM works on square images of 3 channels; samples here"),
        ("torchattacks.Square", "l2", "draws squares in l2 and needs images"),
    ],
)
def test_an_attack_that_does_not_fit_is_a_skipped_row_with_its_sentence(
    tmp_path: Path, attack: str, threat: str, words: str
) -> None:
    found = record(tmp_path, attack, "--threat", threat)
    assert found["status"] == "skipped" and words in found["error"] and not found["scores"]


@pytest.mark.parametrize(
    ("attack", "threat", "words"),
    [
        ("torchattacks.APGD[loss=foo]", "linf", "ValueError: unknown loss"),
        ("art.UniversalPerturbation[attacker=nope]", "linf", "NotImplementedError: nope attack not supported"),
        ("foolbox.EADAttack[decision_rule=foo]", "l2", "ValueError: invalid decision rule"),
    ],
)
def test_an_attack_of_theirs_that_raises_is_a_failed_row(tmp_path: Path, attack: str, threat: str, words: str) -> None:
    answer = ecgbench(tmp_path, *RUN, "--attack", attack, "--attack", "fgsm", "--threat", threat)
    failed, good = answer.records
    kind, _, message = words.partition(": ")
    assert (failed["status"], failed["scores"]) == ("failed", [])
    named = f"{kind} in attack {attack}, "
    assert failed["error"].startswith(named) and re.search(rf"\.py line \d+: {message}$", failed["error"])
    assert good["status"] == "ok" and answer.code == 3
