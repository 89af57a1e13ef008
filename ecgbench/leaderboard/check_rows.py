"""Published rows against everything known here: files, outcomes, words, and what their datasets say of themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError, EcgbenchError, StoreError
from ecgbench.evaluation.sweep import Protocol
from ecgbench.leaderboard.naming import RESULTS
from ecgbench.registry.catalog import Catalog, discover
from ecgbench.results.files import irregular
from ecgbench.results.labels import FOLDER, Stated, labels_path, read_labels, write_labels
from ecgbench.results.published import Published, find, read_published
from ecgbench.results.record import Record
from ecgbench.results.verification import is_older, strays, verify
from ecgbench.runs.cache import Recordings
from ecgbench.runs.cell import headline_of
from ecgbench.runs.runner import Runner
from ecgbench.runs.scoring import goes_on


@dataclass(frozen=True)
class Rows:
    """The rows of a folder of results that can be read, and what is wrong with the others."""

    published: tuple[Published, ...]
    faults: tuple[str, ...]

    @classmethod
    def read(cls, results: Path) -> Rows:
        """Every row below `results`; one that cannot be read is one fault and stops no other."""
        odd = irregular(results)
        faults, rows = list(odd.values()), []
        for path in find(results):
            if any(part in odd for part in (path, path.with_suffix(".npz"), *path.parents)):
                continue
            try:
                row = read_published(path)
            except StoreError as fault:
                faults.append(str(fault))
                continue
            if row.record.provenance is None or _names_its_makers(row.record.provenance.identity):
                rows.append(row)
            else:
                faults.append(
                    f"{path.as_posix()} does not say who was attacked by what; expected the identity of a run."
                )
        return cls(tuple(rows), tuple(faults))


@dataclass(frozen=True)
class KnownDatasets:
    """What is known of datasets: the labels in `folder`, embedded data, and `recordings` that lie on this machine."""

    folder: Path
    catalog: Catalog
    recordings: Recordings = field(default_factory=lambda: Recordings(DataRoot()))
    _tasks: dict[tuple[str, str], Task | None] = field(default_factory=dict, repr=False)

    def task(self, dataset: str, data: str) -> Task | None:
        """The task of a dataset whose recordings have the digest `data`; None where nothing here knows it.

        Its samples may be without values. Raises StoreError for a damaged file of labels.
        """
        if (dataset, data) not in self._tasks:
            self._tasks[dataset, data] = read_labels(dataset, data, self.folder) or self._at_hand(dataset, data)
        return self._tasks[dataset, data]

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Datasets, and digests of their recordings, that were asked for in vain."""
        return [asked for asked, task in self._tasks.items() if task is None]

    def _at_hand(self, dataset: str, data: str) -> Task | None:
        value = self.catalog.resolve("dataset", dataset)
        try:
            return self.recordings.task(value) if self.recordings.digest(value) == data else None
        except DataError:
            return None


def faults_of_rows(rows: Sequence[Published], known: KnownDatasets) -> list[str]:
    """Every way in which rows contradict their outcomes, their datasets, their place or each other."""
    about_datasets = (f"{row.path.as_posix()}: {fault}" for row in rows for fault in _of_dataset(row, known))
    return [*verify(rows), *about_datasets, *_unknown(known)]


def check_results(leaderboard: Path) -> tuple[Rows, list[str]]:
    """The readable rows of a leaderboard, and everything wrong with its folder of results."""
    results = leaderboard / RESULTS
    rows = Rows.read(results)
    known = KnownDatasets(leaderboard / FOLDER, discover())
    return rows, [*rows.faults, *faults_of_rows(rows.published, known), *strays(results)]


def _of_attack(record: Record, protocol: Protocol, catalog: Catalog) -> Iterator[str]:
    """Where a row says of its attack what the attack, if it is known here, does not say of itself."""
    try:
        attack = catalog.resolve("attack", record.attack)
    except EcgbenchError:
        return
    own = {"determinism": attack.determinism, "goes_on": goes_on(protocol, attack)}
    for name, value in own.items():
        stated = getattr(record, name)
        if stated != value and not is_older(record):
            yield f"{name} is {stated!r}; its attack says {value!r}."


def _unknown(known: KnownDatasets) -> list[str]:
    """A sentence for each dataset that was asked for in vain."""
    return [
        f"nothing here knows the labels of {dataset!r} in the recordings {data[:12]}; expected a file in "
        f"{known.folder.as_posix()} (see: ecgbench board labels)."
        for dataset, data in known.missing
    ]


def write_labels_of(leaderboard: Path, runner: Runner) -> list[Path]:
    """Put the labels of the datasets of all rows into a leaderboard; embedded ones need none. Returns the new files.

    Raises DataError where recordings are missing.
    """
    records = [row.record for row in Rows.read(leaderboard / RESULTS).published]
    return [path for record in records for path in write_labels_for(record, leaderboard, runner)]


def write_labels_for(record: Record, leaderboard: Path, runner: Runner) -> list[Path]:
    """The same for one row of this machine's recordings; nothing where its dataset is embedded, or written down."""
    if record.status != "ok" or record.provenance is None:
        return []
    name, data, folder = record.dataset, record.provenance.data, leaderboard / FOLDER
    dataset = runner.catalog.resolve("dataset", name)
    if labels_path(name, data, folder).is_file() or not dataset.files(runner.root):
        return []
    if runner.recordings.digest(dataset) != data:
        return []
    return [write_labels(runner.task(dataset), name, data, folder)]


def _names_its_makers(identity: Mapping[str, Any]) -> bool:
    """Whether an identity has the form of one: what is read in it later is there, and of its type."""
    weights, victim, surrogate = identity.get("weights"), identity.get("victim"), identity.get("surrogate") or {}
    if not isinstance(victim, Mapping) or not isinstance(surrogate, Mapping):
        return False
    sources = [made.get("sources", {}) for made in (identity, victim, surrogate)]
    return isinstance(victim.get("seed"), int) and all(map(_are_texts, (weights, *sources)))


def _are_texts(pairs: object) -> bool:
    return isinstance(pairs, Mapping) and all(isinstance(text, str) for text in (*pairs, *pairs.values()))


def _of_dataset(row: Published, known: KnownDatasets) -> Iterator[str]:
    """Where a row contradicts its dataset; words that nobody knows are another fault."""
    record = row.record
    if record.status != "ok" or row.outcomes is None or record.provenance is None:
        return
    catalog = known.catalog
    try:
        dataset = catalog.resolve("dataset", record.dataset)
        threat, protocol = catalog.resolve("threat", record.threat), catalog.resolve("protocol", record.protocol)
    except EcgbenchError:
        return
    try:
        task = known.task(record.dataset, record.provenance.data)
        if task is None:
            return
        yield from _of_attack(record, protocol, catalog)
        headline = headline_of(dataset.defaults, threat, record.eps)
        yield from Stated(record, row.outcomes, task, threat, protocol, headline).faults()
    except EcgbenchError as fault:
        yield str(fault)
