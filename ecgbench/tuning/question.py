"""What is tuned: the selectors that stay, the fields that are searched, and how a trial becomes a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ecgbench.core.errors import EcgbenchError
from ecgbench.registry.catalog import Catalog
from ecgbench.registry.selector import Selector, parse
from ecgbench.runs.cell import Cell
from ecgbench.runs.suite import Grid, unfold
from ecgbench.tuning.objectives import Objective, objective
from ecgbench.tuning.space import Dimension, parse_dimension

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

NO_ATTACK = "identity"
"""Stands for the attack of a training that is judged without one."""


@dataclass(frozen=True)
class Question:
    """One study's question. Selectors are as given; everything is judged on the validation split.

    `objective` is a name of `OBJECTIVES`; `folds` above 1 judges a training by the mean over so many folds of the
    training split; `search` holds the dimensions as given. `sampler` and `pruner` are names of `study`.
    """

    model: str
    search: tuple[str, ...]
    objective: str
    dataset: str = ""
    defense: str = "none"
    attack: str = NO_ATTACK
    threat: str = ""
    eps: tuple[float, ...] = ()
    seed: int = 0
    limit: int | None = None
    folds: int = 1
    sampler: str = "tpe"
    pruner: str = "median"
    sampler_seed: int = 1234

    def __post_init__(self) -> None:
        if not self.search:
            raise EcgbenchError("nothing to search given; expected --search KIND.FIELD=LOW..HIGH at least once.")
        if self.folds < 1:
            raise EcgbenchError(f"folds={self.folds} given; expected 1 or more.")
        if objective(self.objective).attacks:
            if self.attack == NO_ATTACK:
                raise EcgbenchError(f"objective {self.objective} judges an attack; expected --attack.")
            if self.folds > 1:
                raise EcgbenchError(f"objective {self.objective} judges an attack; folds are of a training.")

    def plain(self) -> dict[str, Any]:
        """As a study keeps it."""
        return {**asdict(self), "search": list(self.search), "eps": list(self.eps)}

    def goal(self) -> Objective:
        """What a trial's value is."""
        return objective(self.objective)

    def dimensions(self, catalog: Catalog) -> tuple[Dimension, ...]:
        """What is searched. Raises EcgbenchError for a field nobody has, and for one that is searched twice."""
        values = {kind: catalog.resolve(kind, getattr(self, kind)) for kind in ("model", "defense", "attack")}
        found = tuple(parse_dimension(text, values) for text in self.search)
        names = [one.name for one in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise EcgbenchError(f"{twice} is searched twice; expected each field once.")
        for one in found:
            if one.kind == "attack" and not self.goal().attacks:
                raise EcgbenchError(f"{one.name} is searched, but objective {self.objective} attacks nobody.")
        return found

    def suggested(self, trial: BaseTrial, catalog: Catalog) -> Mapping[str, str]:
        """The selectors of a trial, by kind."""
        given = {kind: getattr(self, kind) for kind in ("model", "defense", "attack")}
        for one in self.dimensions(catalog):
            given[one.kind] = _with(given[one.kind], one.field, one.suggested(trial))
        return given

    def cell(self, selectors: Mapping[str, str], catalog: Catalog) -> Cell:
        """The cell of these selectors, on validation. Raises SelectorError where one is refused."""
        grid = Grid(
            model=(selectors["model"],),
            attack=(selectors["attack"],),
            defense=(selectors["defense"],),
            dataset=(self.dataset,) if self.dataset else (),
            threat=(self.threat,) if self.threat else (),
            eps=self.eps,
            seed=(self.seed,),
            limit=self.limit,
            protocol="standard[split=val]",
        )
        (cell,) = unfold((grid,), catalog)
        return cell

    def command(self, cell: Cell, catalog: Catalog) -> list[str]:
        """What runs the cell on the test split, as arguments of `ecgbench`."""
        kinds = ("dataset", "model", "defense", "attack")
        words = [
            "run",
            *(word for kind in kinds for word in (f"--{kind}", catalog.canonical(kind, getattr(cell, kind)))),
        ]
        words += ["--threat", self.threat] if self.threat else []
        words += ["--eps", ",".join(repr(eps).removesuffix(".0") for eps in self.eps)] if self.eps else []
        words += [] if self.limit is None else ["--limit", str(self.limit)]
        return [*words, "--seed", str(self.seed)]


def _with(selector: str, field: str, word: str) -> str:
    """The selector with one parameter put in."""
    read, ((_, value),) = parse(selector), parse(f"x[{field}={word}]").params
    kept = tuple((name, old) for name, old in read.params if name != field)
    return str(Selector(read.name, (*kept, (field, value))))
