"""The house has floors: imports point down, or along a floor without going round; a new module must choose its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from pathlib import Path

import pytest

import ecgbench
import ecgbench_plugins
from ecgbench.sources import NUMERIC

FLOORS = (
    {"errors", "keyed", "parameters"},
    {"data", "threat", "dataroot", "outcomes", "journal", "guard"},
    {"outputs", "fingerprint", "victim", "precision", "trial", "lending", "losses", "interfaces", "hookspecs"},
    {
        *("training", "descent", "feasibility", "sweep", "uncertainty", "metrics", "fetch"),
        *("effect", "chance", "checks", "planted", "audit", "deltas"),
    },
    set[str](),  # the plugins
    {
        *("grammar", "selector", "offers", "catalog", "sources", "cell", "suite"),
        *("flags", "verdict", "record", "scoring", "store", "published"),
    },
    {
        *(
            "faults",
            "stages",
            "victims",
            "zoo",
            "bench",
            "whatchanged",
            "ambient",
            "given",
            "borrowed",
            "judging",
            "api",
            "testing",
        ),
        *("verification", "study", "comparison", "beside", "ranking", "sections", "page", "board"),
        *("figures", "drawing", "gallery", "union"),
    },
    {"cli", "__main__"},
)
PLUGINS, PUBLIC = 4, 6
HEAVY = {"scipy", "wfdb", "pooch", "sklearn", "pandas", "matplotlib"}
ONLY_IN = {"click": {"cli"}, "pluggy": {"hookspecs", "offers", "catalog"}, "tqdm": {"cli"}}


def modules(package: str, init: str | None) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    root = Path(str(init)).parent
    files = ((file.relative_to(root).with_suffix("").parts, file) for file in sorted(root.rglob("*.py")))
    return {".".join((package, *parts)).removesuffix(".__init__"): file for parts, file in files}


HOST = modules("ecgbench", ecgbench.__file__)
BUILT_IN = modules("ecgbench_plugins", ecgbench_plugins.__file__)
SOURCES = {name: file.read_text(encoding="utf-8") for name, file in (HOST | BUILT_IN).items()}


def floor(module: str) -> int:
    """The package itself stands with the Python API, which it shows. Raises for a module that has chosen none."""
    root, _, rest = module.partition(".")
    if root == "ecgbench_plugins":
        return PLUGINS
    if not rest:
        return PUBLIC
    part = rest.partition(".")[0]
    found = [number for number, names in enumerate(FLOORS) if part in names]
    if len(found) != 1:
        raise LookupError(f"{module} stands on floors {found}; expected exactly one in FLOORS")
    return found[0]


def imported(source: str, module: str, package: bool = False) -> Iterator[str]:
    """Dotted names that a module imports, anywhere in it and by any form of import."""
    base = module.split(".") if package else module.split(".")[:-1]

    def absolute(level: int, name: str) -> str:
        return ".".join([*base[: len(base) - level + 1], name] if level else [name]).strip(".")

    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                stem = absolute(node.level, node.module or "")
                yield from (f"{stem}.{alias.name}" for alias in node.names)
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[ast.Constant(str(name)), *_]):
                if called in ("import_module", "__import__"):
                    yield absolute(len(name) - len(name.lstrip(".")), name.lstrip("."))


def of_the_house(names: Iterator[str]) -> Iterator[str]:
    """The modules of the host and its plugins that stand behind imported names."""
    for name in names:
        parts = name.split(".")
        stems = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        yield from islice((stem for stem in stems if stem in SOURCES), 1)


def faults(source: str, module: str, package: bool = False) -> list[str]:
    """Imports that point up, into the plugins, or, from a plugin, anywhere but floors 0 to 3 and other plugins."""
    own = floor(module)
    found = []
    for name in of_the_house(imported(source, module, package)):
        along = own != PLUGINS and floor(name) == PLUGINS
        if floor(name) > own or along or name == "ecgbench":
            found.append(f"{module} (floor {own}) imports {name} (floor {floor(name)})")
    return found


def is_package(module: str) -> bool:
    return (HOST | BUILT_IN)[module].name == "__init__.py"


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_a_module_imports_nothing_from_above(module: str) -> None:
    assert faults(SOURCES[module], module, is_package(module)) == []


def test_no_imports_go_round() -> None:
    graph = {
        name: set(of_the_house(imported(source, name, is_package(name)))) - {name} for name, source in SOURCES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as fault:
        pytest.fail(f"imports go round: {' <- '.join(fault.args[1])}")


def test_every_name_on_a_floor_is_a_module() -> None:
    named = set().union(*FLOORS)
    assert named == {module.split(".")[1] for module in HOST if "." in module}


def test_a_module_without_a_floor_must_choose_one() -> None:
    with pytest.raises(LookupError, match=r"ecgbench\.helpers stands on floors"):
        faults("", "ecgbench.helpers")


def test_source_digests_cover_exactly_the_floors_that_can_change_a_number() -> None:
    """Fetching moves verified bytes and changes none."""
    assert {f"ecgbench.{name}" for name in set().union(*FLOORS[:PLUGINS])} - {"ecgbench.fetch"} == NUMERIC


# the test itself refuses what it must


@pytest.mark.parametrize(
    "line",
    [
        "import ecgbench.bench",
        "import ecgbench.bench as b",
        "import os, ecgbench.bench",
        "from ecgbench.bench import Bench",
        "from ecgbench.bench import *",
        "from ecgbench import bench",
        "from ecgbench import errors, bench as b",
        "from . import bench",
        "from .bench import Bench",
        "def f():\n    from ecgbench.bench import Bench",
        "class A:\n    import ecgbench.bench",
        "try:\n    import ecgbench.bench\nexcept ImportError:\n    pass",
        "if TYPE_CHECKING:\n    from ecgbench.bench import Bench",
        "importlib.import_module('ecgbench.bench')",
        "import_module('.bench', 'ecgbench')",
        "__import__('ecgbench.bench')",
    ],
)
def test_an_import_from_above_is_refused_in_every_form(line: str) -> None:
    assert faults(line, "ecgbench.threat") == ["ecgbench.threat (floor 1) imports ecgbench.bench (floor 6)"]
    assert faults(line.replace("bench", "errors").replace("ecgerrors", "ecgbench"), "ecgbench.threat") == []


@pytest.mark.parametrize("line", ["import ecgbench", "from ecgbench import run", "from . import evaluate"])
def test_the_host_does_not_import_its_own_front_door(line: str) -> None:
    assert faults(line, "ecgbench.sweep") and faults(line, "ecgbench.bench")


@pytest.mark.parametrize(
    "line", ["import ecgbench_plugins.attacks.pgd", "from ecgbench_plugins.attacks.pgd import PGD"]
)
def test_a_plugin_is_reached_through_its_entry_point_only(line: str) -> None:
    assert faults(line, "ecgbench.catalog") and faults(line, "ecgbench.cli.run") and faults(line, "ecgbench.sweep")
    assert not faults(line, "ecgbench_plugins.defenses.adaptive")


@pytest.mark.parametrize("name", ["catalog", "selector", "store", "bench", "cli.run"])
def test_a_plugin_sees_no_floor_above_its_own(name: str) -> None:
    assert faults(f"import ecgbench.{name}", "ecgbench_plugins.attacks.pgd")
    assert not faults("from ecgbench.sweep import Sweep", "ecgbench_plugins.attacks.pgd")


# libraries


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


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_heavy_libraries_are_imported_where_they_are_used(module: str) -> None:
    assert not {name for name, at_once in libraries(SOURCES[module]) if at_once} & HEAVY


@pytest.mark.parametrize(("library", "allowed"), ONLY_IN.items())
def test_libraries_of_the_upper_floors_stay_there(library: str, allowed: set[str]) -> None:
    users = {name.split(".")[1] for name, source in SOURCES.items() if library in dict(libraries(source))}
    assert users <= allowed
