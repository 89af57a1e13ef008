"""What the command line prints fits 80 columns, and nothing of it is lost."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ecgbench.cli.layout import WIDTH, across, entry, fold

WORDS = st.lists(st.text("ab,[]=", min_size=1, max_size=120), min_size=1, max_size=12).map(" ".join)


def bare(text: str) -> str:
    return re.sub(r"\s", "", text)


@given(WORDS, st.sampled_from(["", "  ", " " * 22]))
def test_folded_text_fits_and_keeps_every_character_in_order(text: str, hanging: str) -> None:
    lines = fold(text, hanging).split("\n")
    assert all(len(line) <= WIDTH for line in lines) and bare("".join(lines)) == bare(text)
    assert all(line.startswith(hanging) and line.strip() for line in lines[1:])


def test_a_selector_is_broken_behind_a_comma_and_only_where_it_is_too_long() -> None:
    short = "none[epochs=3,batch=16]"
    assert fold(f"{'x' * 70} {short}") == f"{'x' * 70}\n    {short}"
    long = f"none[{','.join(f'parameter{n}={n}' for n in range(9))}]"
    assert all(line.endswith(",") for line in fold(long).split("\n")[:-1])


@given(st.text("abc", min_size=1, max_size=40), WORDS)
def test_an_entry_has_its_text_in_a_column(name: str, text: str) -> None:
    first, *rest = entry(name, text).split("\n")
    assert first.startswith(f"  {name}") and all(line.startswith(" " * 22) for line in rest)
    assert bare(entry(name, text)) == bare(name + text)


SIZES = st.lists(st.tuples(st.text("12.", min_size=1, max_size=9), st.integers(1, 14)), min_size=1, max_size=14)


@given(SIZES)
def test_columns_that_do_not_fit_go_below_with_their_labels(sizes: list[tuple[str, int]]) -> None:
    columns = [(title, ["7" * width, "8" * width]) for title, width in sizes]
    lines = across("eps", columns, ["ACC", "F1"], "  ").split("\n")
    assert all(len(line) <= WIDTH for line in lines)
    found = {
        name: [cell for line in lines if line.split()[0] == name for cell in line.split()[1:]]
        for name in ("eps", "ACC", "F1")
    }
    assert found == {
        "eps": [title for title, _ in sizes],
        "ACC": ["7" * width for _, width in sizes],
        "F1": ["8" * width for _, width in sizes],
    }
