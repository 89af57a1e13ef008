"""The workflows for submissions run no code of a pull request, and have nothing that could be taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"
NAMES = ("submission.yml", "submission-with-plugin.yml")


@pytest.mark.parametrize("name", NAMES)
def test_the_token_can_only_read_and_no_secret_is_in_reach(name: str) -> None:
    text = (WORKFLOWS / name).read_text(encoding="utf-8")
    assert re.findall(r"^permissions:\n  (.*)$", text, re.MULTILINE) == ["contents: read"]
    assert text.count("permissions:") == 1 and "pull_request_target" not in text
    assert not re.search(r"secrets\.\w", text) and text.count("persist-credentials: false") == text.count(
        "actions/checkout@"
    )


@pytest.mark.parametrize("name", NAMES)
def test_no_word_of_others_is_put_into_a_script(name: str) -> None:
    text = (WORKFLOWS / name).read_text(encoding="utf-8")
    scripts = re.findall(r"run: (?:\|\n((?:          .*\n)+)|(.*)\n)", text)
    assert scripts and not any("${{" in script for pair in scripts for script in pair)


def test_what_is_installed_is_that_of_the_base_branch() -> None:
    text = (WORKFLOWS / "submission.yml").read_text(encoding="utf-8")
    first, second = re.findall(r"ref: (.*)\n(?: +path: (.*)\n)?", text)
    assert "base.sha" in first[0] and not first[1] and "head.sha" in second[0] and second[1] == ".submitted"
    assert not re.search(r"\.submitted.*(install|make|python)|--plugin|cd \.submitted", text)
