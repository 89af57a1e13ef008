"""A suite: grids of selectors, from a TOML file, the command line or Python, unfolded into cells."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from ecgbench.core.errors import EcgbenchError, UnknownNameError
from ecgbench.core.parameters import MisfitError, Parameterised, Reader
from ecgbench.evaluation.guard import apart
from ecgbench.evaluation.sweep import check_grid
from ecgbench.registry.catalog import Catalog
from ecgbench.runs.cell import Cell

PLAIN = ("limit", "protocol", "audit", "save_perturbations")
"""Keys of a grid that hold one value, not an axis."""


@dataclass(frozen=True)
class Grid(Parameterised):
    """Selectors by kind; every combination is a cell.

    No `dataset` means each model's own embedded one; no `threat` or `eps`, the defaults of the dataset. `audit`
    makes the costly checks, too; `save_perturbations` keeps the perturbations of the first so many attacked samples.
    """

    model: tuple[str, ...]
    attack: tuple[str, ...]
    defense: tuple[str, ...] = ("none",)
    dataset: tuple[str, ...] = ()
    threat: tuple[str, ...] = ()
    eps: tuple[float, ...] = ()
    seed: tuple[int, ...] = (0,)
    limit: int | None = None
    protocol: str = "standard"
    audit: bool = False
    save_perturbations: int = 0

    def __post_init__(self) -> None:
        for name in ("model", "attack", "defense", "seed"):
            if not getattr(self, name):
                raise EcgbenchError(f"no {name} is given; expected at least one (see: ecgbench list).")
        if self.eps:
            check_grid(self.eps)
        if min(self.seed) < 0:
            raise EcgbenchError(f"seed {min(self.seed)} given; expected a whole number of 0 or more.")
        if self.limit is not None and self.limit < 1:
            raise EcgbenchError(f"limit {self.limit} given; expected 1 or more samples.")
        if self.save_perturbations < 0:
            raise EcgbenchError(f"save_perturbations {self.save_perturbations} given; expected 0 or more samples.")


def read_suite(path: Path) -> tuple[Grid, ...]:
    """The grids of a TOML file: one table `[[grid]]` each, keys as in `Grid`, a word or a list of words.

    Raises EcgbenchError, naming file and key, for what is not a suite.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise EcgbenchError(f"the suite {path} cannot be read; expected a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise EcgbenchError(f"the suite {path} is not TOML: {fault}.") from None
    tables = content.get("grid")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise EcgbenchError(f"the suite {path} has no table [[grid]]; expected one or more.")
    for name in content:
        if name not in ("grid", "title"):
            raise UnknownNameError("key of a suite", name, ("grid", "title"))
    return tuple(_grid(table, f"suite {path}") for table in tables)


def _grid(table: dict[str, Any], where: str) -> Grid:
    known = [field.name for field in fields(Grid)]
    for name in table:
        if name not in known:
            raise UnknownNameError("key of a grid", name, known)
    for name in ("model", "attack"):
        if name not in table:
            raise EcgbenchError(f"a grid of the {where} names no {name}; expected one or more.")
    values: dict[str, Any] = {name: _words(table[name], name) for name in table if name not in PLAIN}
    if "eps" in values:
        values["eps"] = parse_eps(values["eps"])
    if "seed" in values:
        values["seed"] = parse_seeds(values["seed"])
    values |= {name: _whole(table[name], name) for name in ("limit", "save_perturbations") if name in table}
    if "protocol" in table:
        values["protocol"] = str(table["protocol"])
    if "audit" in table:
        values["audit"] = _switch(table["audit"], "audit")
    return Grid(**values)


def _switch(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise EcgbenchError(f"{name} = {value!r} in a grid; expected true or false.")
    return value


def _words(value: object, name: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
        raise EcgbenchError(f"{name} = {value!r} in a grid; expected a word or number, or a list of them.")
    return tuple(str(item) for item in items)


def parse_eps(sizes: Iterable[str | float]) -> tuple[float, ...]:
    """Sizes such as 0.01, "0.01" or "8/255", sorted, each once; 0 is left out, the clean score is always there."""
    given = tuple(sizes)
    grid = tuple(sorted({value for value in map(_size, given) if value != 0}))
    if grid:
        check_grid(grid)
    elif given:
        raise EcgbenchError("eps 0 alone is the clean score, which is always there; expected a size above 0 too.")
    return grid


def _size(given: str | float) -> float:
    try:
        if isinstance(given, str):
            return float(Fraction(given.strip())) if "/" in given else float(given)
        number: float = Reader().read(given, float)
        return number
    except (MisfitError, ValueError, ZeroDivisionError, OverflowError):
        raise EcgbenchError(f"eps {given!r} given; expected a number such as 0.05 or 8/255.") from None


def parse_seeds(words: Iterable[str]) -> tuple[int, ...]:
    """Whole numbers of 0 or more, in the order given, each once."""
    return tuple(dict.fromkeys(_whole(word, "seed") for word in words))


def _whole(value: object, name: str) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if number < 0:
        raise EcgbenchError(f"{name} {value!r} given; expected a whole number of 0 or more.")
    return number


def unfold(grids: Sequence[Grid], catalog: Catalog) -> list[Cell]:
    """Every cell of the grids, in order, each once. Raises EcgbenchError for a selector that does not resolve."""
    with apart():
        return _unfolded(grids, catalog)


def _unfolded(grids: Sequence[Grid], catalog: Catalog) -> list[Cell]:
    cells: dict[Cell, None] = {}
    for grid in grids:
        axes = (grid.model, grid.dataset or ("",), grid.defense, grid.attack, grid.threat or ("",), grid.seed)
        for model, dataset, defense, attack, threat, seed in product(*axes):
            architecture = catalog.resolve("model", model)
            data = catalog.resolve("dataset", dataset or architecture.default_dataset)
            rules = catalog.resolve("threat", threat) if threat else data.defaults.threat
            if not grid.eps and not rules.comparable(data.defaults.threat):
                raise EcgbenchError(f"threat {threat!r} is given without eps; expected sizes in its norm and unit.")
            cell = Cell(
                dataset=data,
                model=architecture,
                defense=catalog.resolve("defense", defense),
                attack=catalog.resolve("attack", attack),
                threat=rules,
                epsilons=grid.eps or data.defaults.epsilons,
                protocol=catalog.resolve("protocol", grid.protocol),
                seed=seed,
                limit=grid.limit,
                audit=grid.audit,
                save_perturbations=grid.save_perturbations,
            )
            cells[cell] = None
    return list(cells)
