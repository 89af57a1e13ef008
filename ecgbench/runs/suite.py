"""A suite: grids of selectors, from a TOML file, the command line or Python, unfolded into cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.parameters import MisfitError, Parameterised, Reader
from ecgbench.evaluation.guard import apart
from ecgbench.evaluation.sweep import check_grid
from ecgbench.registry.catalog import Catalog
from ecgbench.runs.cell import Cell
from ecgbench.storage.toml import Text, read_toml

Words = Text | list[Text]
Count = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Grid(Parameterised):
    """Selectors by kind; every combination is a cell.

    No `dataset` means each model's own embedded one; no `threat` or `eps`, the defaults of the dataset. `audit`
    makes the costly checks, too; `save_perturbations` keeps the perturbations of the first so many attacked samples;
    `origin` is the place in a file that the grid was read from, which errors name.
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
    origin: str = ""

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


class GridTable(Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[[grid]]` as it is written: a `Grid` in which one word may stand for a list of one."""

    model: Words
    attack: Words
    defense: Words = "none"
    dataset: Words | None = None
    threat: Words | None = None
    eps: Text | float | list[Text | float] | None = None
    seed: Count | list[Count] = 0
    limit: Annotated[int, Meta(ge=1)] | None = None
    protocol: Text = "standard"
    audit: bool = False
    save_perturbations: Count = 0

    def grid(self, origin: str) -> Grid:
        """The axes as tuples; `origin` is the place of this table."""
        return Grid(
            model=_axis(self.model),
            attack=_axis(self.attack),
            defense=_axis(self.defense),
            dataset=_axis(self.dataset),
            threat=_axis(self.threat),
            eps=parse_eps(_axis(self.eps)),
            seed=parse_seeds(_axis(self.seed)),
            limit=self.limit,
            protocol=self.protocol,
            audit=self.audit,
            save_perturbations=self.save_perturbations,
            origin=origin,
        )


def _axis(value: Any) -> tuple[Any, ...]:
    """A list as a tuple, one value as a tuple of it, none as an empty one."""
    return () if value is None else tuple(value) if isinstance(value, list) else (value,)


class SuiteTable(Struct, frozen=True, forbid_unknown_fields=True):
    """A suite as it is written."""

    grid: Annotated[list[GridTable], Meta(min_length=1)]
    title: str = ""


def read_suite(path: Path) -> tuple[Grid, ...]:
    """The grids of a TOML file: one table `[[grid]]` each, keys as in `Grid`, a word or a list of words.

    Raises EcgbenchError, naming file and field, for what is not a suite.
    """
    file = f"the suite {path}"
    tables = read_toml(path, SuiteTable, file, EcgbenchError).grid
    grids = []
    for number, table in enumerate(tables):
        origin = f"{file}, grid[{number}]"
        try:
            grids.append(table.grid(origin))
        except EcgbenchError as fault:
            raise EcgbenchError(f"{origin}: {fault}") from None
    return tuple(grids)


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


def parse_seeds(words: Iterable[str | int]) -> tuple[int, ...]:
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
    """Every cell of the grids, in order, each once.

    Raises EcgbenchError, naming the grid's place where it has one, for a selector that does not resolve.
    """
    cells: dict[Cell, None] = {}
    with apart():
        for grid in grids:
            try:
                cells.update(dict.fromkeys(_unfolded(grid, catalog)))
            except EcgbenchError as fault:
                if not grid.origin:
                    raise
                raise EcgbenchError(f"{grid.origin}: {fault}") from None
    return list(cells)


def _unfolded(grid: Grid, catalog: Catalog) -> Iterator[Cell]:
    axes = (grid.model, grid.dataset or ("",), grid.defense, grid.attack, grid.threat or ("",), grid.seed)
    for model, dataset, defense, attack, threat, seed in product(*axes):
        architecture = catalog.resolve("model", model)
        data = catalog.resolve("dataset", dataset or architecture.default_dataset)
        rules = catalog.resolve("threat", threat) if threat else data.defaults.threat
        if not grid.eps and not rules.comparable(data.defaults.threat):
            raise EcgbenchError(f"threat {threat!r} is given without eps; expected sizes in its norm and unit.")
        yield Cell(
            dataset=data,
            model=architecture,
            defense=catalog.resolve("defense", defense),
            attack=catalog.resolve("attack", attack),
            threat=rules,
            eps=grid.eps or data.defaults.eps,
            protocol=catalog.resolve("protocol", grid.protocol),
            seed=seed,
            limit=grid.limit,
            audit=grid.audit,
            save_perturbations=grid.save_perturbations,
        )
