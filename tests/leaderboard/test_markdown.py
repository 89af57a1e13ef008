"""A page becomes Markdown: links relative to it, and no name places markup."""

from __future__ import annotations

import re

import pytest

from ecgbench.leaderboard.markdown import escaped, markdown
from ecgbench.leaderboard.page import Bullets, Code, Heading, Link, Page, Paragraph, Picture, Strong, Table


def shown(*blocks: Bullets | Heading | Paragraph | Picture | Table, path: str = "README.md") -> list[str]:
    return markdown(Page(path, "Title", blocks)).splitlines()[2:]


def test_every_block_is_plain_lines() -> None:
    text = markdown(
        Page(
            "pages/a.md",
            "Title",
            (
                Heading("Part"),
                Paragraph(("see ", Strong("this"), " ", Code("a[b=1]"))),
                Bullets(("one", Link("two", "pages/b.md"))),
                Table(("name", "n"), (("a", "1"), ("", "2")), frozenset({1})),
                Picture("alt", "figures/x.svg"),
            ),
        )
    )
    assert text == (
        "# Title\n\n## Part\n\nsee **this** `a[b=1]`\n\n- one\n- [two](b.md)\n\n"
        "| name | n |\n| --- | ---: |\n| a | 1 |\n| | 2 |\n\n![alt](../figures/x.svg)\n"
    )


def test_links_are_relative_to_their_page() -> None:
    link = Paragraph(Link("x", "pages/a/b.md#part one"))
    assert shown(link) == ["[x](pages/a/b.md#part%20one)"]
    assert shown(link, path="pages/a/c.md") == ["[x](b.md#part%20one)"]
    assert shown(link, path="pages/z/c.md") == ["[x](../a/b.md#part%20one)"]


def test_names_cannot_break_a_table_or_place_markup() -> None:
    nasty = "a|b`c<script>\nd\\|[x](http://y)*\x1b"
    (row,) = shown(Table(("h",), ((nasty,),)))[2:]
    assert row == "| a\\|b\\`c&lt;script> d\\\\\\|[x]\\(http:<!-- -->//y)\\*  |"
    (link,) = shown(Paragraph(Link("a](http://y)", "pages/x y).md")))
    assert link == "[a\\]\\(http://y)](pages/x%20y%29.md)" or "](http" not in link
    assert shown(Paragraph(Code("a`b"))) == ["a\\`b"]


@pytest.mark.parametrize(
    "name",
    ["http://evil.example", "HTTPS://evil.example", "www.evil.example", "me@evil.example", "[none]: //evil.example"],
)
def test_an_address_in_a_name_does_not_become_a_link(name: str) -> None:
    text = escaped(f"model {name}, defense none")
    assert not re.search(r"://|www\.|@\w|\]:", text, re.IGNORECASE)
    assert text.replace("<!-- -->", "").replace("\\", "") == f"model {name}, defense none"
