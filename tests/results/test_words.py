"""Names of a record: known, plain, canonical, and what was run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ecgbench.results.record import Record
from ecgbench.results.words import faults_of_words
from tests.made_up_rows import catalog, made_up, provenance_of, row

ROW = row(made_up(["0", "01"]), dataset="synthetic-beats", attack="pgd20")
HONEST, MADE = ROW.record, provenance_of(ROW)
FAILED = row(attack="powerline[cycles=0.2]").record


def faults(record: Record = HONEST, /, **words: Any) -> list[str]:
    return list(faults_of_words(msgspec.structs.replace(record, **words), catalog()))


def test_the_words_of_a_run_have_no_fault() -> None:
    assert faults() == [] == faults(FAILED)


@pytest.mark.parametrize("words", ["str\u0456ct", "pgd20\u200b", "pgd20\n", "pgd20 \u202e"])
def test_names_that_only_look_known(words: str) -> None:
    assert f"attack is {words!a}; expected plain ASCII." in faults(attack=words)
    assert faults(FAILED, attack=words) != []


@pytest.mark.parametrize(
    ("kind", "words"), [("attack", "strictest"), ("defense", "unbreakable[eps=1]"), ("threat", "linfty")]
)
def test_names_that_nobody_knows(kind: str, words: str) -> None:
    (fault,) = faults(**{kind: words})
    assert f"{kind} {words!r} is not known here, nor another distribution's:" in fault


@pytest.mark.parametrize("words", ["pgd20[]", "pgd20[steps=20]", " pgd20"])
def test_another_spelling_of_the_same(words: str) -> None:
    assert any("as it is always written, 'pgd20'" in fault for fault in faults(attack=words))


def test_what_another_distribution_offers_may_be_unknown_here() -> None:
    strange = MADE.identity | {"attack": {"class": "powerline.Hum", "fields": {}}}
    provenance = msgspec.structs.replace(MADE, identity=strange)
    assert faults(attack="powerline", provenance=provenance) == []
    assert faults(attack="pgd20", provenance=provenance) == ["attack is 'pgd20'; its provenance names another one."]


def test_a_failed_row_may_name_what_is_not_installed_but_no_unknown_threat() -> None:
    assert faults(FAILED, threat="linfty") != [] and faults(FAILED, attack="a]b") != []


def test_a_provenance_that_is_silent_about_a_known_name() -> None:
    silent = msgspec.structs.replace(MADE, identity={k: v for k, v in MADE.identity.items() if k != "attack"})
    assert faults(provenance=silent) == ["attack is 'pgd20'; its provenance names another one."]
