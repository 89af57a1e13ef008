"""A page as a value: headings, paragraphs, tables and pictures, before it is Markdown or HTML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Link:
    """Text that leads to a file of the leaderboard: `to` is a path relative to its folder."""

    text: str
    to: str


@dataclass(frozen=True)
class Strong:
    """Text that stands out."""

    text: str


@dataclass(frozen=True)
class Code:
    """Text to be typed, such as a selector."""

    text: str


Inline: TypeAlias = str | Link | Strong | Code
Text: TypeAlias = Inline | tuple[Inline, ...]
"""What a cell, a paragraph or an item says."""


@dataclass(frozen=True)
class Heading:
    """A heading; the page's title is of level 1."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: Text


@dataclass(frozen=True)
class Bullets:
    """A list without order."""

    items: tuple[Text, ...]


@dataclass(frozen=True)
class Table:
    """A table; every row has a cell for each column of `head`. Columns of `numbers`, by position, are set right."""

    head: tuple[Text, ...]
    rows: tuple[tuple[Text, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A figure: `to` is a path relative to the leaderboard's folder."""

    alt: str
    to: str


Block: TypeAlias = Heading | Paragraph | Bullets | Table | Picture


@dataclass(frozen=True)
class Page:
    """A page at `path`, relative to the leaderboard's folder."""

    path: str
    title: str
    blocks: tuple[Block, ...]

    @classmethod
    def of(cls, path: str, title: str, blocks: Iterable[Block]) -> Page:
        """The page of these blocks."""
        return cls(path, title, tuple(blocks))


def parts(text: Text) -> tuple[Inline, ...]:
    """What a text is made of."""
    return text if isinstance(text, tuple) else (text,)
