"""Which code is at work: two machines of one digest run the same files of the host and of all plugins."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path

HOST = "ecgbench"


@cache
def code_digest(plugins: Sequence[str]) -> str:
    """SHA-256 of the Python files of the host, of the packages of installed plugins, and of `plugins`.

    `plugins` are modules, or files by their paths. What is missing counts as such. Read once per process.
    """
    total = hashlib.sha256()
    installed = {point.value.partition(":")[0].partition(".")[0] for point in entry_points(group=HOST)}
    for name in (HOST, *sorted(installed), *plugins):
        for place, file in _files(name):
            content = file.read_bytes()
            total.update(f"{name} {place} {len(content)}\n".encode() + content)
    return total.hexdigest()


def _files(name: str) -> Iterator[tuple[str, Path]]:
    """The Python files of a package, a module or a path, by their places in it."""
    if name.endswith(".py"):
        if Path(name).is_file():
            yield "", Path(name)
        return
    spec = PathFinder.find_spec(name.partition(".")[0], sys.path)
    for folder in (spec and spec.submodule_search_locations) or []:
        yield from ((file.relative_to(folder).as_posix(), file) for file in sorted(Path(folder).rglob("*.py")))
    if spec is not None and not spec.submodule_search_locations and spec.origin is not None:
        yield "", Path(spec.origin)
