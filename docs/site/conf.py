"""The documentation as a site: the pages as they lie in the repository, and the interface from its docstrings.

`make docs-site` builds it. The source is the whole repository, so a link between pages is the same path everywhere.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

project = "ecgbench"
author = "The ecgbench developers"
copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/site/index"
include_patterns = [
    *("README.md", "CHANGELOG.md", "docs/*.md", "docs/site/*.md", "docs/site/*.rst", "plugins/example/README.md"),
    *("leaderboard/*.md", "leaderboard/pages/**.md"),
]
exclude_patterns = [".*", "build", "site", "ecgbench", "plugins/ecgbench_plugins", "tests", "benchmarks"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "ecgbench"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
suppress_warnings = ["toc.not_included"]  # the board's own pages are reached from the board

_CODE = re.compile(r"(`[^`]+`)")
_SIGN = re.compile(r"([*|\\]|_(?=\W|$))")


def as_text(lines: list[str]) -> list[str]:
    """Docstrings are prose with `code`: to reStructuredText, in which stars, bars and final underscores mean more."""
    parts = (_CODE.split(line) for line in lines)
    return ["".join(f"`{each}`" if at % 2 else _SIGN.sub(r"\\\1", each) for at, each in enumerate(of)) for of in parts]


def _process(app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    lines[:] = as_text(lines)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _process)
