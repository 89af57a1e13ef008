"""Pages as HTML: templates fill them, and whatever a record says is escaped there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from ecgbench.leaderboard.front import README
from ecgbench.leaderboard.naming import anchor
from ecgbench.leaderboard.page import Page, parts
from ecgbench.leaderboard.wording import figure, number, short, span

INDEX = "index.html"
ASSETS = ("site.css", "site.js", "rows.js", "compare.js")
IMPLIED = re.compile(r"</(?:td|th|tr|dt|dd|li)>")
"""End tags that HTML does not need, 5 % of a site."""


@dataclass(frozen=True)
class Html:
    """Templates of a site; `rows` gives the ids of records by their paths below the leaderboard."""

    rows: Mapping[str, str]

    def render(self, template: str, path: str, facts: Mapping[str, Any]) -> bytes:
        """A page of the site at `path`, relative to its folder."""
        found = self._environment.get_template(template)
        text = found.render({"root": "../" * path.count("/"), "path": path, **facts})
        return IMPLIED.sub("", text).encode("utf-8", "replace")

    def page(self, page: Page) -> tuple[str, bytes]:
        """Path and content of a page of the board."""
        path = self.to(page.path)
        return path, self.render("page.html", path, {"page": page})

    def to(self, path: str) -> str:
        """Where a file of the leaderboard is on the site."""
        file, _, fragment = path.partition("#")
        if file == README:
            file = INDEX
        elif file in self.rows:
            file = f"rows/{self.rows[file]}.html"
        else:
            file = file.removesuffix(".md") + ".html" if file.endswith(".md") else file
        return f"{file}#{fragment}" if fragment else file

    def href(self, path: str, root: str) -> str:
        """The link from a page to a file of the leaderboard."""
        file, _, fragment = self.to(path).partition("#")
        return root + quote(file) + (f"#{quote(fragment)}" if fragment else "")

    @cached_property
    def _environment(self) -> Environment:
        made = Environment(
            autoescape=True,
            loader=PackageLoader("ecgbench.leaderboard"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        made.filters |= {"figure": figure, "number": number, "span": span, "short": short, "anchor": anchor}
        made.globals |= {"href": self.href, "parts": parts, "kind": lambda value: type(value).__name__}
        return made


def assets() -> dict[str, bytes]:
    """Style and scripts of a site by path."""
    folder = files("ecgbench.leaderboard") / "templates"
    return {name: (folder / name).read_bytes() for name in ASSETS}
