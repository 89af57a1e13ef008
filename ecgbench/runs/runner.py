"""Where cells are run: each stage is looked up by its key, made if it is missing, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from traceback import format_exception
from typing import Literal

import msgspec

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.interfaces import Dataset
from ecgbench.core.progress import Failed, Note, Progress
from ecgbench.evaluation.feasibility import check_feasible
from ecgbench.evaluation.guard import apart, heard
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.registry.catalog import Catalog
from ecgbench.registry.identity import Identity
from ecgbench.results.record import Record
from ecgbench.runs.cache import Cache, Recordings
from ecgbench.runs.cell import Cell, VictimSpec
from ecgbench.runs.context import CellContext
from ecgbench.runs.faults import Fault
from ecgbench.runs.job import CellJob, VictimJob
from ecgbench.runs.scoring import CellLabels, unscored, versions
from ecgbench.runs.stages import Walk
from ecgbench.runs.victims import Trained, Victims
from ecgbench.runs.zoo import Card
from ecgbench.storage.arrays import unpack, unpack_arrays
from ecgbench.storage.store import Store, key_of


@dataclass(frozen=True)
class Planned:
    """A cell, the key of its record, and the first work that a run would do ("none": all is there).

    The key of a cell whose victim is still to be trained stands for the cell until then: weights are part of the key.
    """

    cell: Cell
    key: str
    work: str


@dataclass(frozen=True)
class Runner:
    """Plugins, recordings, store and device; `tell` hears the progress. Cells are given as values or as jobs.

    `checkpoints` holds published victims, see `Victims`. `retrain` ignores them and the store. Without `trains`, a cell
    whose victim is not there fails.
    """

    catalog: Catalog
    root: DataRoot
    store: Store
    device: str = "cpu"
    tell: Callable[[Progress], None] = lambda _: None
    retrain: bool = False
    checkpoints: Store | None = None
    trains: bool = True

    @cached_property
    def cache(self) -> Cache:
        """What is kept."""
        return Cache(self.store, heard(self.tell), self.retrain)

    @cached_property
    def recordings(self) -> Recordings:
        """What is attacked."""
        return Recordings(self.root)

    @cached_property
    def victims(self) -> Victims:
        """Who is attacked. Those that other jobs have trained are not made anew with the rest."""
        cache = self.cache if self.trains else replace(self.cache, rebuild=False)
        return Victims(cache, self.recordings, self.checkpoints, self.device, self.trains)

    def plan(self, cells: Iterable[Cell | CellJob]) -> list[Planned]:
        """What a run would do; nothing is trained or attacked."""
        with apart():
            return [self._planned(self._cell(cell)) for cell in cells]

    def find(self, cells: Iterable[Cell | CellJob]) -> None:
        """Look for all recordings before the first cell runs. Raises DataError where one is missing.

        A dataset that fails otherwise fails its own cells, when they run.
        """
        for cell in map(self._cell, cells):
            try:
                with apart():
                    self.recordings.digest(cell.dataset)
            except Exception as error:
                self._raise_if_it_ends_the_run(error, cell)

    def execute(self, cell: Cell | CellJob) -> Record:
        """One cell: its record, found or made. A fault of plugin or model becomes a failed record.

        Raises DataError where recordings are missing or damaged, StoreError where the machine does not let results
        be kept: no cell has failed then.
        """
        with apart():
            return self._executed(self._cell(cell))

    def kept(self, cell: Cell | CellJob) -> Record | None:
        """The record of a cell, if it is there; nothing is made."""
        with apart():
            return self._found(Walk(self._context(self._cell(cell)), self.cache))

    def key(self, job: Cell | CellJob | VictimJob) -> str:
        """The key of what a job makes: a victim, or the record of a cell as far as its victims are there."""
        with apart():
            if isinstance(job, VictimJob):
                return key_of(self.victims.used(self._spec(job)).made_of)
            return key_of(self._context(self._cell(job)).identities["records"])

    def has_victim(self, victim: VictimSpec | VictimJob) -> bool:
        """Whether a victim is there, trained here or published."""
        with apart():
            return self.victims.used(self._spec(victim)).weights is not None

    def train(self, victim: VictimJob, cells: Sequence[Cell | CellJob]) -> str | None:
        """Train a victim for the cells that wait for it; why that failed, None where it is there.

        Where none of the cells could use it, nothing is trained: each says why when it is run. Raises as `execute`.
        """
        with apart():
            waiting = [self._cell(cell) for cell in cells]
            if waiting and all(map(self._is_ruled_out, waiting)):
                return None
            try:
                base = self._spec(victim).base
                if base is not None:
                    self.victims.accept(base)
                self.victim(victim)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                return self.fault(error, waiting[0])
        return None

    def fault(self, error: BaseException, cell: Cell | CellJob) -> str:
        """Why a cell failed, in a line. Raises what ends the run instead, see `execute`."""
        cell = self._cell(cell)
        self._raise_if_it_ends_the_run(error, cell)
        self.cache.tell(Failed("".join(format_exception(error))))
        return Fault(error, cell, self.catalog).reason()

    def unscored(self, cell: Cell | CellJob, status: Literal["failed", "skipped"], why: str) -> Record:
        """The record of a cell that gave no score."""
        return unscored(CellLabels.of(self._cell(cell), self.catalog), status, why)

    def victim(self, victim: VictimSpec | VictimJob) -> Trained:
        """A trained victim, found or made."""
        return self.victims.get(self._spec(victim))

    def task(self, dataset: Dataset) -> Task:
        """The loaded task."""
        return self.recordings.task(dataset)

    def identities(self, cell: Cell) -> dict[str, Identity]:
        """What each stage of a cell is made of, by the stage's name in the store; victims as they will be used."""
        return dict(self._context(cell).identities)

    def outcomes_of(self, record: Record) -> Outcomes | None:
        """The outcomes that a record of this store was made from."""
        if record.provenance is None:
            return None
        files = self.store.get("outcomes", record.provenance.outcomes)
        return None if files is None else unpack(files["outcomes.npz"], "the store")

    def has_perturbations(self, cell: Cell) -> bool:
        """Whether the perturbations that a cell saves are there."""
        return self.cache.has("perturbations", self.identities(cell)["perturbations"])

    def perturbations_of(self, cell: Cell) -> Perturbations:
        """The perturbations that a cell saves, found or made; its record is there."""
        files = Walk(self._context(cell).trained(), self.cache).files("perturbations")
        return Perturbations.from_arrays(unpack_arrays(files["perturbations.npz"]))

    def publish_victim(self, record: Record, checkpoints: Store) -> None:
        """Put the victim of a record of this store among the published ones, if it was trained here."""
        if record.provenance is not None:
            dataset: Dataset = self.catalog.resolve("dataset", record.dataset)
            card = Card.of(msgspec.structs.asdict(record), self.task(dataset), str(record.provenance.weights))
            self.victims.publish(record.provenance.identity["victim"], card, checkpoints)

    def _cell(self, cell: Cell | CellJob) -> Cell:
        return cell.cell(self.catalog) if isinstance(cell, CellJob) else cell

    def _spec(self, victim: VictimSpec | VictimJob) -> VictimSpec:
        return victim.victim(self.catalog) if isinstance(victim, VictimJob) else victim

    def _is_ruled_out(self, cell: Cell) -> bool:
        """Whether a cell ends before it meets its victim."""
        context = self._context(cell)
        try:
            check_feasible(cell.threat, context.task, cell.eps)
            return context.unfit() is not None
        except Exception:  # said when the cell itself is run
            return True

    def _context(self, cell: Cell) -> CellContext:
        return CellContext(cell, self.catalog, self.victims)

    def _planned(self, cell: Cell) -> Planned:
        context = self._context(cell)
        wanted = [name for name in ("records", "perturbations") if name in context.identities]
        walk = Walk(context, self.cache)
        first = next((stage.work for name in wanted for stage in walk.missing(name)), "none")
        return Planned(cell, key_of(context.identities["records"]), first)

    def _executed(self, cell: Cell) -> Record:
        try:
            record = self._record(cell)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything; its cell failed, the others go on
            return self.unscored(cell, "failed", self.fault(error, cell))
        if cell.save_perturbations and record.status == "ok":
            try:
                self.perturbations_of(cell)
            except Exception as error:  # the record stands, whatever the plugin does when it is asked again
                self.cache.tell(Note(f"no perturbations of {record.key[:12]}: {self.fault(error, cell)}"))
        return record

    def _record(self, cell: Cell) -> Record:
        context = self._context(cell)
        kept = self._found(Walk(context, self.cache))
        if kept is not None:
            return kept
        check_feasible(cell.threat, context.task, cell.eps)
        unfit = context.unfit()
        if unfit is not None:
            return unscored(context.labels, "skipped", unfit)
        walk = Walk(context.trained(), self.cache)
        return msgspec.json.decode(walk.files("records")["record.json"], type=Record)

    def _found(self, walk: Walk) -> Record | None:
        files = walk.find("records")
        if files is None:
            return None
        record = msgspec.json.decode(files["record.json"], type=Record)
        self._compare(record)
        return record

    def _raise_if_it_ends_the_run(self, error: BaseException, cell: Cell) -> None:
        end = Fault(error, cell, self.catalog).ends_run()
        if end is not None:
            raise end from (None if end is error else error)

    def _compare(self, record: Record) -> None:
        """Say in one line if a kept record was made by other library versions."""
        made = record.provenance.versions if record.provenance else {}
        now = versions()
        other = [f"{name} {made.get(name)} (now {now[name]})" for name in now if made.get(name) != now[name]]
        if other:
            self.cache.tell(Note(f"record {record.key[:12]} was made with {', '.join(other)}."))
