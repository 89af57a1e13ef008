"""Names are short, unique on their page, and fall back to the selector."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgbench.core.errors import StoreError
from ecgbench.leaderboard.titles import FILE, Titles, listed, read_titles

TITLES = Titles(
    defense={"trades": "TRADES", "none": "undefended", "madry[eps=1]": "Madry"},
    words={"mask=false": "padding in reach"},
)


def test_a_selector_alone_has_its_title() -> None:
    assert TITLES.names("defense", ["trades[eps=0.1,epochs=25]"]) == {"trades[eps=0.1,epochs=25]": "TRADES"}


def test_what_others_have_in_common_is_left_out() -> None:
    both = ["trades[eps=0.1,epochs=25]", "trades[eps=0.2,epochs=25]"]
    assert list(TITLES.names("defense", both).values()) == ["TRADES, eps 0.1", "TRADES, eps 0.2"]
    assert TITLES.names("defense", ["none", "none[mask=false]"]) == {
        "none": "undefended",
        "none[mask=false]": "undefended, padding in reach",
    }


def test_an_exact_title_wins_and_an_unknown_name_is_itself() -> None:
    assert TITLES.names("defense", ["madry[eps=1]", "ibp[eps=2]"]) == {"madry[eps=1]": "Madry", "ibp[eps=2]": "ibp"}


def test_what_is_no_selector_is_itself() -> None:
    assert TITLES.names("model", ["my model (v2)"]) == {"my model (v2)": "my model (v2)"}


def test_names_that_would_be_alike_are_the_selectors() -> None:
    alike = Titles(defense={"a": "same", "b": "same"})
    assert alike.names("defense", ["a", "b"]) == {"a": "a", "b": "b"}


@given(st.sets(st.sampled_from(["a", "b", "a[x=1]", "a[x=2]", "a[x=1,y=2]", "b[x=1]", "c[z=(1,2)]", "?"]), min_size=1))
def test_names_of_a_page_are_unique(selectors: set[str]) -> None:
    names = Titles(defense={"a": "A", "b": "A"}).names("defense", selectors)
    assert set(names) == selectors and len(set(names.values())) == len(selectors)


def test_only_names_that_differ_from_their_selector_are_listed() -> None:
    assert listed({"a[x=1]": "A", "b": "b"}) == [("A", "a[x=1]")]


def test_a_leaderboard_without_titles_has_none(tmp_path: Path) -> None:
    assert read_titles(tmp_path) == Titles()


@pytest.mark.parametrize("text", ["defense = 3", "[odd]", "[defense]\na = 1", "["])
def test_a_damaged_file_of_titles_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(StoreError, match=r"titles\.toml is no file of titles"):
        read_titles(tmp_path)
