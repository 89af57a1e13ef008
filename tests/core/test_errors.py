"""An unknown name is answered with the one that was meant, or with a list short enough to read."""

from __future__ import annotations

import pytest

from ecgbench.core.errors import UnknownNameError, instead

NAMES = ["pgd", "pgd100", "fgsm", "lib.PGD", "lib.DeepFool", "lib.L0FMNAttack", "lib.LinfPGD", "other.PGD", "other.CW"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("PGD", "pgd"),
        ("pgd10", "pgd100"),
        ("fgms", "fgsm"),
        ("lib.pgd", "lib.PGD"),
        ("Lib.PGD", "lib.PGD"),
        ("lib.PDG", "lib.PGD"),
        ("lib.L0FMN", "lib.L0FMNAttack"),
        ("lib.deep", "lib.DeepFool"),
        ("libb.DeepFool", "lib.DeepFool"),
        ("other.C", "other.CW"),
    ],
)
def test_the_name_that_was_meant_is_told(given: str, meant: str) -> None:
    assert instead(given, NAMES) == f"did you mean {meant!r}?"


@pytest.mark.parametrize("given", ["other", "other.", "other.NoSuch", "OTHER.zzz"])
def test_a_library_is_answered_with_its_own_names(given: str) -> None:
    assert instead(given, NAMES) == "known: other.CW, other.PGD."


@pytest.mark.parametrize("given", ["zzzz", "nolib.NoSuch", "", "."])
def test_what_resembles_nothing_is_answered_with_all_names_a_library_being_one(given: str) -> None:
    assert instead(given, NAMES) == "known: fgsm, lib.*, other.*, pgd, pgd100."


def test_an_unknown_name_is_one_sentence() -> None:
    assert str(UnknownNameError("attack", "pdg", NAMES)) == "no attack is named 'pdg'; did you mean 'pgd'?"
    assert str(UnknownNameError("attack", "pgd", [])) == "no attack is named 'pgd'; none is known."
