"""A page as Markdown: plain lines without padding, so that a longer name changes its own line only."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from urllib.parse import quote

from ecgbench.leaderboard.page import Block, Bullets, Code, Heading, Inline, Link, Page, Paragraph, Strong, Text, parts
from ecgbench.leaderboard.page import Table as PageTable

ADDRESS = re.compile(r"(:)(//)|(www)(\.)|(@)(\w)", re.IGNORECASE)
"""What makes a bare address a link on GitHub, as in https://, www. and name@host; a comment breaks it."""


def markdown(page: Page) -> str:
    """The page's text; links are relative to the page."""
    lines = [f"# {escaped(page.title)}"]
    for block in page.blocks:
        lines += ["", *_block(block, posixpath.dirname(page.path))]
    return "\n".join([*lines, ""])


def _block(block: Block, folder: str) -> Iterator[str]:
    match block:
        case Heading():
            yield f"{'#' * block.level} {escaped(block.text)}"
        case Paragraph():
            yield _text(block.text, folder)
        case Bullets():
            yield from (f"- {_text(item, folder)}" for item in block.items)
        case PageTable():
            rules = ["---:" if column in block.numbers else "---" for column in range(len(block.head))]
            yield _row([_text(cell, folder) for cell in block.head])
            yield _row(rules)
            yield from (_row([_text(cell, folder) for cell in cells]) for cells in block.rows)
        case _:
            yield f"![{escaped(block.alt)}]({_relative(block.to, folder)})"


def _row(cells: list[str]) -> str:
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


def _text(text: Text, folder: str) -> str:
    return "".join(_inline(part, folder) for part in parts(text))


def _inline(part: Inline, folder: str) -> str:
    match part:
        case Link():
            name = re.sub(r"([\[\]])", r"\\\1", escaped(part.text))
            return f"[{name}]({_relative(part.to, folder)})"
        case Strong():
            return f"**{escaped(part.text)}**"
        case Code():
            return _code(part.text)
        case _:
            return escaped(part)


def _relative(to: str, folder: str) -> str:
    """A path below the leaderboard as seen from `folder`; no sign of it can end the link."""
    path, _, anchor = to.partition("#")
    relative = quote(posixpath.relpath(path, folder or "."))
    return f"{relative}#{quote(anchor)}" if anchor else relative


def _code(text: str) -> str:
    """Code on one line; a backtick or a bar in it would end the code or the cell, so it is then plain text."""
    line = _printable(text)
    return f"`{line}`" if "`" not in line and "|" not in line else escaped(line)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in a cell or out of it, on one line; no address in it becomes a link."""
    line = re.sub(r"([\\|`*])", r"\\\1", _printable(text)).replace("&", "&amp;").replace("<", "&lt;")
    line = line.replace("](", "]\\(").replace("]:", "]\\:")
    return ADDRESS.sub(lambda found: "<!-- -->".join(part for part in found.groups() if part), line)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
