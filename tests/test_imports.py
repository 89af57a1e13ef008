"""What import-linter cannot say: heavy libraries are imported where they are used, and the front door is whole."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import ecgbench
import ecgbench_plugins
from ecgbench import core

HEAVY = {"scipy", "wfdb", "pooch", "sklearn", "pandas", "matplotlib"}
PLUGGY = {"core/hookspecs.py", "registry/loading.py", "registry/catalog.py"}


def sources(package: str | None) -> dict[str, str]:
    """The text of every module of a package by its path."""
    root = Path(str(package)).parent
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))}


HOST, PLUGINS = sources(ecgbench.__file__), sources(ecgbench_plugins.__file__)


def libraries(source: str) -> Iterator[tuple[str, bool]]:
    """Top-level names of everything imported, and whether that happens as soon as the module is."""
    tree = ast.parse(source)
    lazy = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.If)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], id(node) not in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0], id(node) not in lazy


@pytest.mark.parametrize("text", [*HOST.values(), *PLUGINS.values()], ids=[*HOST, *PLUGINS])
def test_heavy_libraries_are_imported_where_they_are_used(text: str) -> None:
    assert not {name for name, at_once in libraries(text) if at_once} & HEAVY


def test_pluggy_is_used_by_hooks_and_catalog_alone() -> None:
    assert {path for path, text in HOST.items() if "pluggy" in dict(libraries(text))} <= PLUGGY


@pytest.mark.parametrize("name", ecgbench.__all__)
def test_every_name_of_the_front_door_is_there_and_from_the_core_or_the_api(name: str) -> None:
    value = getattr(ecgbench, name)
    assert name in dir(ecgbench)
    assert name in ("evaluate", "frame", "load_victim", "run") or value is getattr(core, name)


@pytest.mark.parametrize("package", ["checks", "core", "evaluation", "figures", "leaderboard", "registry", "results"])
def test_a_package_exports_what_it_names(package: str) -> None:
    module = import_module(f"ecgbench.{package}")
    assert module.__doc__ and all(hasattr(module, name) for name in module.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    for module in (ecgbench, core):
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = module.nothing


def test_what_a_type_checker_sees_is_what_there_is() -> None:
    for module, own in ((core, set[str]()), (ecgbench, {"evaluate", "frame", "load_victim", "run"})):
        (block,) = (n for n in ast.parse(Path(str(module.__file__)).read_text("utf-8")).body if isinstance(n, ast.If))
        seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert seen == set(module.__all__) and own <= seen


def test_the_front_door_opens_without_torch() -> None:
    program = "import sys, ecgbench, ecgbench.cli; from ecgbench import EcgbenchError; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
