"""Which source code a result is made of: the import closure of modules, as digests.

A module's closure is its own file and, transitively, what it imports from its own distribution and from the
modules of the host that can change a number. It is read from the text (AST); nothing is imported for it. A module
counts by what its code says, see `meaning`: comments, docstrings and layout count nowhere.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

HOST = "ecgbench"
LAYERS = ("core", "evaluation", "checks")
"""Packages of the host in which an edit may change results; an edit in any other cannot."""
NEUTRAL = (
    "core.dataroot",
    "core.errors",
    "core.hookspecs",
    "core.parameters",
    "core.progress",
    "evaluation.feasibility",
)
"""Modules of these packages that find, refuse, name or report; what they let pass counts by itself."""


def closure(modules: Iterable[str], search: Iterable[str]) -> dict[str, str]:
    """Digest of every module in the closure of `modules`, by name; `search` is a path like sys.path.

    A module whose source is not found (built in a session, say) is marked "unknown": results that depend on it are
    identified by its parameters only.
    """
    path = tuple(search)
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        file = _locate(name, path)
        found[name] = _digest_of(file)
        if file is not None:
            waiting.extend(_relevant(name, file, path))
    return dict(sorted(found.items()))


def edited(sources: Mapping[str, str], search: Iterable[str]) -> list[str]:
    """The modules among `sources` whose digest is another one now; those that are not found here are not asked.

    A module of the host or of its own plugins that is not found is gone, and counts as edited.
    """
    path = tuple(search)
    found = {name: _locate(name, path) for name in sources}
    own = (HOST, f"{HOST}_plugins")
    asked = [name for name, file in found.items() if file is not None or name.partition(".")[0] in own]
    return [name for name in asked if _digest_of(found[name]) != sources[name]]


def counts(module: str) -> bool:
    """Whether an edit of this module of the host may change results."""
    parts = module.split(".")
    return len(parts) == 3 and parts[0] == HOST and parts[1] in LAYERS and ".".join(parts[1:]) not in NEUTRAL


def meaning(code: bytes) -> str:
    """What code says: its syntax tree without docstrings, statements that do nothing, and hooks that only return.

    A hook names ready values, whose classes and parameters are in every identity themselves: a further preset changes
    no other. The text is made here, not by `ast.dump`, and leaves out empty fields: it is the same in every version of
    Python that knows the syntax.
    """
    return _said(_parsed(code))


@cache
def _parsed(code: bytes) -> ast.Module:
    return ast.parse(code)


def _said(node: object) -> str:
    if isinstance(node, list):
        return f"[{','.join(_said(part) for part in node if not (_idle(part) or _is_preset(part)))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = ((name, getattr(node, name)) for name in node._fields if name != "kind")  # u"" is ""
    return f"{type(node).__name__}({','.join(f'{name}={_said(x)}' for name, x in fields if x is not None and x != [])})"


def _idle(node: object) -> bool:
    """Whether a statement does nothing: a docstring, "..." or pass."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _is_preset(node: object) -> bool:
    """Whether a statement is a hook of one return, without code of its own."""
    if not isinstance(node, ast.FunctionDef) or "hookimpl" not in map(ast.unparse, node.decorator_list):
        return False
    does = [statement for statement in node.body if not _idle(statement)]
    return len(does) == 1 and isinstance(does[0], ast.Return) and not _has_lambda(does[0])


def _has_lambda(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Lambda) for part in ast.walk(node))


def _relevant(name: str, file: Path, path: tuple[str, ...]) -> Iterator[str]:
    if "." not in name:
        path = (*path, str(file.parent))  # a plugin given as a file may import what lies beside it
    for imported in _imports(name, file, path):
        if (counts(imported) or _own(imported, name, file, path)) and _locate(imported, path) is not None:
            yield imported
    package = name.rpartition(".")[0]
    if package and package.partition(".")[0] != HOST:  # an `__init__` of the host only names what it exports
        yield package


def _own(imported: str, name: str, file: Path, path: tuple[str, ...]) -> bool:
    """Whether `imported` belongs to the distribution of module `name`: same package, or a file beside it."""
    root = imported.partition(".")[0]
    if root == HOST:
        return False
    if root == name.partition(".")[0]:
        return True
    beside = _locate(imported, path)
    return "." not in name and beside is not None and beside.parent == file.parent and not _site(beside)


def _site(file: Path) -> bool:
    return "site-packages" in file.parts or "dist-packages" in file.parts


@cache
def _locate(name: str, path: tuple[str, ...]) -> Path | None:
    """The file of a module, without importing it or its parents."""
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is not None and loaded.endswith(".py"):
        return Path(loaded)
    places: list[str] | None = list(path)
    spec = None
    for part in name.split("."):  # by its last part alone: a folder without `__init__` would need its parent imported
        spec = PathFinder.find_spec(part, places)
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or [])
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def _digest_of(file: Path | None) -> str:
    """Of a module's file; a folder without `__init__` has none, nor has a module that is gone."""
    return "unknown" if file is None else _digest(file.read_bytes())


@cache
def _digest(code: bytes) -> str:
    return hashlib.sha256(meaning(code).encode()).hexdigest()[:16]


def _imports(name: str, file: Path, path: tuple[str, ...]) -> Iterator[str]:
    """Dotted names a module imports; `from a import b` counts as both `a` and `a.b`.

    What a module of the host imports for its annotations alone is not counted.
    """
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in _nodes(_parsed(file.read_bytes()), typed=name.partition(".")[0] != HOST):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            for alias in node.names:
                yield f"{module}.{alias.name}"
                yield from _homes(module, alias.name, path)


def _nodes(node: ast.AST, typed: bool) -> Iterator[ast.AST]:
    """A node and all below it, but for `if TYPE_CHECKING:` unless `typed`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if typed or not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _nodes(child, typed)


def _homes(package: str, name: str, path: tuple[str, ...]) -> Iterator[str]:
    """The modules behind a name that a package of the host exports: `from ecgbench import Ball` counts as its home."""
    file = _locate(package, path) if package.partition(".")[0] == HOST else None
    if file is None or file.name != "__init__.py":
        return
    for node in ast.walk(_parsed(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            yield node.module
            yield from _homes(node.module, name, path)
