"""A job is words: canonical selectors and numbers, from which another process or machine makes the same thing.

A victim and a cell are jobs. As JSON they name plugins, never a path of recordings, a store or a device; plugins that
are not installed are named by module or file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ecgbench.core.errors import EcgbenchError
from ecgbench.evaluation.sweep import check_grid
from ecgbench.registry.catalog import Catalog, discover
from ecgbench.runs.cell import Cell, VictimSpec
from ecgbench.runs.context import undefended_of

Count = Annotated[int, Meta(ge=0)]
AXES = ("dataset", "model", "defense", "attack", "threat", "protocol")


class VictimJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="victim"):
    """A victim to be trained: canonical selectors, seed, and the `plugins` beside the installed ones."""

    dataset: str
    model: str
    defense: str
    seed: Count
    plugins: tuple[str, ...] = ()

    @classmethod
    def of(cls, victim: VictimSpec, catalog: Catalog) -> VictimJob:
        """Raises EcgbenchError for a value that no selector can write."""
        names = {kind: catalog.canonical(kind, getattr(victim, kind)) for kind in ("dataset", "model", "defense")}
        return cls(**names, seed=victim.seed, plugins=catalog.given)

    def victim(self, catalog: Catalog) -> VictimSpec:
        """The victim by the plugins of `catalog`. Raises EcgbenchError for a selector that does not resolve."""
        return VictimSpec(
            dataset=catalog.resolve("dataset", self.dataset),
            model=catalog.resolve("model", self.model),
            defense=catalog.resolve("defense", self.defense),
            seed=self.seed,
        )


class CellJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cell"):
    """A cell to be run: canonical selectors, sizes, and the `plugins` beside the installed ones."""

    dataset: str
    model: str
    defense: str
    attack: str
    threat: str
    protocol: str
    eps: tuple[float, ...]
    seed: Count
    limit: Annotated[int, Meta(ge=1)] | None = None
    audit: bool = False
    save_perturbations: Count = 0
    plugins: tuple[str, ...] = ()

    @classmethod
    def of(cls, cell: Cell, catalog: Catalog) -> CellJob:
        """Raises EcgbenchError for a value that no selector can write."""
        return cls(
            **{kind: catalog.canonical(kind, getattr(cell, kind)) for kind in AXES},
            eps=cell.eps,
            seed=cell.seed,
            limit=cell.limit,
            audit=cell.audit,
            save_perturbations=cell.save_perturbations,
            plugins=catalog.given,
        )

    def cell(self, catalog: Catalog) -> Cell:
        """The cell by the plugins of `catalog`. Raises EcgbenchError for a selector or size that cannot be."""
        check_grid(self.eps)
        return Cell(
            **{kind: catalog.resolve(kind, getattr(self, kind)) for kind in AXES},
            eps=self.eps,
            seed=self.seed,
            limit=self.limit,
            audit=self.audit,
            save_perturbations=self.save_perturbations,
        )


Job = VictimJob | CellJob


def write_job(job: Job) -> bytes:
    """The job as one line of JSON."""
    return msgspec.json.encode(job)


def read_job(text: bytes) -> Job:
    """The job in `text`. Raises EcgbenchError, naming the field, where it is none."""
    try:
        return msgspec.json.decode(text, type=Job)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise EcgbenchError(f"this is no job: {fault}; expected JSON as of a victim or a cell.") from None


def catalog_of(job: Job) -> Catalog:
    """All installed plugins and those that the job names. Raises EcgbenchError where one of these is broken."""
    return discover(job.plugins)


def jobs(cells: Iterable[Cell], catalog: Catalog) -> Mapping[Job, tuple[Job, ...]]:
    """The jobs of all cells, each once, and those that must be done before it; every one stands after these.

    A victim needs the one it starts from; a cell needs its victim, the surrogate of a transfer, and the undefended
    victim that an audit compares with. Raises EcgbenchError for a value that no selector can write.
    """
    found: dict[Job, tuple[Job, ...]] = {}

    def train(victim: VictimSpec) -> Job:
        job = VictimJob.of(victim, catalog)
        if job not in found:
            found[job] = () if victim.base is None else (train(victim.base),)
        return job

    for cell in cells:
        asked = (cell.victim, cell.surrogate, undefended_of(cell, catalog) if cell.audit else None)
        needed = dict.fromkeys(train(victim) for victim in asked if victim is not None)
        found.setdefault(CellJob.of(cell, catalog), tuple(needed))
    return found
