"""Text that fits a terminal of 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

WIDTH = 80
WORD = re.compile(r"\s*\S+")
PIECE = re.compile(r"\s*[^,\[\s]*[,\[]?")
"""Where a word too long for a line may be broken: in a selector, behind a comma or a bracket."""


def fold(text: str, hanging: str = "    ") -> str:
    """`text` in lines of at most 80 characters, all but the first behind `hanging`; a longer word is cut."""
    return "\n".join(_lines(text, hanging))


def _lines(text: str, hanging: str) -> Iterator[str]:
    line = ""
    for piece in _pieces(text, WIDTH - len(hanging)):
        if line.strip() and len(line) + len(piece) > WIDTH:
            yield line
            line = hanging + piece.lstrip()
        else:
            line += piece
        while len(line) > WIDTH:
            yield line[:WIDTH]
            line = hanging + line[WIDTH:]
    yield line


def _pieces(text: str, most: int) -> Iterator[str]:
    """Words with the space before them, those of more than `most` characters in parts."""
    for word in WORD.findall(text):
        yield from (word,) if len(word.lstrip()) <= most else filter(None, PIECE.findall(word))


def entry(name: str, text: str, column: int = 22) -> str:
    """A line of a list: `name` and, from `column` on, `text`; a name that reaches there has a line of its own."""
    start = f"  {name}"
    if len(start) + 1 < column:
        return fold(f"{start:<{column}}{text}", " " * column)
    return f"{start}\n{fold(' ' * column + text, ' ' * column)}"


def across(head: str, columns: Sequence[tuple[str, Sequence[str]]], labels: Sequence[str], indent: str) -> str:
    """Columns of text, each with its title, beside `labels` headed `head`; those that do not fit go below."""
    first = max(map(len, (head, *labels)))
    widths = [max(map(len, (title, *cells))) for title, cells in columns]
    blocks, start = [], 0
    while start < len(columns):
        end, used = start + 1, len(indent) + first + 2 + widths[start]
        while end < len(columns) and used + 2 + widths[end] <= WIDTH:
            used += 2 + widths[end]
            end += 1
        rows = [[head, *(title for title, _ in columns[start:end])]]
        rows += [[label, *(cells[row] for _, cells in columns[start:end])] for row, label in enumerate(labels)]
        sizes = [first, *widths[start:end]]
        blocks += [f"{indent}{_padded(row, sizes)}" for row in rows]
        start = end
    return "\n".join(blocks)


def _padded(row: Sequence[str], sizes: Sequence[int]) -> str:
    return "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip()
