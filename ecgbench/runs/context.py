"""A cell at its recordings and victims: what the stages of the cell are made with on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from ecgbench.core.data import Task
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.random import stream
from ecgbench.core.victim import Victim
from ecgbench.evaluation.guard import guarded, named
from ecgbench.evaluation.sweep import Sweep
from ecgbench.registry.catalog import Catalog
from ecgbench.registry.identity import Identity, identity
from ecgbench.runs.cell import AttackSetup, Cell, VictimIdentity, VictimSpec
from ecgbench.runs.scoring import CellLabels
from ecgbench.runs.stages import Context, MadeOf, identities
from ecgbench.runs.telling import ToldSweep
from ecgbench.runs.victims import Trained, Victims

UNDEFENDED = "none"
"""The defense of the undefended victim that an audit compares with, by name, where a catalog has it."""


def undefended_of(cell: Cell, catalog: Catalog) -> VictimSpec | None:
    """A cell's victim without its defense; None for one that is undefended itself, or where nobody offers that."""
    none = catalog.values("defense").get(UNDEFENDED)
    return None if none is None or none == cell.defense else replace(cell.victim, defense=none)


@dataclass(frozen=True)
class CellContext(Context):
    """What the stages of a cell are made with. A task is loaded and a victim trained when they are first needed."""

    cell: Cell
    catalog: Catalog
    victims: Victims

    @cached_property
    def setup(self) -> AttackSetup:
        return self.cell.setup

    @cached_property
    def labels(self) -> CellLabels:
        return CellLabels.of(self.cell, self.catalog)

    @cached_property
    def task(self) -> Task:
        whole, rules = self.victims.recordings.task(self.cell.dataset), self.cell.protocol
        return whole.some_of_each(rules.per_class, rules.split).limited(self.cell.limit, rules.split)

    @cached_property
    def identities(self) -> Mapping[str, Identity]:
        with guarded(self.who):
            return identities(
                MadeOf(
                    setup=self.setup,
                    attack=identity(self.cell.attack),
                    **self.named,
                )
            )

    def trained(self) -> CellContext:
        """The same with all victims at hand: what is made of their weights has its key then."""
        ready = [self.victims.used(spec).weights is not None for spec in self._specs.values()]
        if all(ready):
            return self
        for spec in self._specs.values():
            self.victims.get(spec)
        return replace(self)

    @property
    def who(self) -> str:
        """The plugins of the cell, of which one is at fault."""
        return named(self.cell.attack, self.cell.defense, self.cell.model)

    def unfit(self) -> str | None:
        """Why the cell cannot run on its task."""
        with guarded(self.who):
            return self.cell.unfit(self.task)

    def has_victim(self) -> bool:
        return self.victims.is_available(self.identities["victims"])

    @contextmanager
    def at_work(self) -> Iterator[tuple[Sweep, Trained]]:
        cell, recordings = self.cell, self.victims.recordings
        with guarded(self.who), recordings.lending(cell.dataset, self.who):
            trained = self.victim("victim")
            sweep = ToldSweep(
                attack=cell.attack,
                victim=trained.victim,
                task=self.task,
                threat=cell.threat,
                eps=cell.eps,
                rng=stream("attack", cell.seed),
                protocol=cell.protocol,
                surrogate=None if cell.surrogate is None else self.victim("surrogate").victim,
                device=self.victims.device,
                labels=(recordings.task(cell.dataset).samples(cell.protocol.split).y,),
            )
            yield sweep, trained

    def undefended(self) -> Victim | None:
        return self.victim("undefended").victim if "undefended" in self._specs else None

    def victim(self, role: str) -> Trained:
        """The victim of a role, with the weights that the identities name.

        Raises EcgbenchError where it has others by now: whoever shares the store has trained it again.
        """
        trained = self.victims.get(self._specs[role])
        if trained.weights != self.named[role].weights:
            raise EcgbenchError(f"the {role} was trained again while its cell was at work; run the cell again.")
        return trained

    @cached_property
    def named(self) -> dict[str, VictimIdentity]:
        """The victims as the identities name them, by their role."""
        return {role: self.victims.used(spec) for role, spec in self._specs.items()}

    @property
    def _specs(self) -> dict[str, VictimSpec]:
        """The victims that the stages of the cell need, by their role."""
        undefended = undefended_of(self.cell, self.catalog) if self.cell.audit else None
        roles = {"victim": self.cell.victim, "surrogate": self.cell.surrogate, "undefended": undefended}
        return {role: spec for role, spec in roles.items() if spec is not None}
