"""Text files as users have them: with or without a byte order mark, in UTF-8 or what editors make of it."""

from __future__ import annotations

import codecs
from pathlib import Path

SOURCE = Path(__file__)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """The text without its mark: UTF-16 where a mark says so, else UTF-8, else Latin-1. Raises OSError."""
    raw = path.read_bytes()
    try:
        return raw.decode("utf-16" if raw.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
