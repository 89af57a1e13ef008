"""Results of work, each kept under the key of all it is made of: found, or made once while others wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ecgbench.cell import Identity
from ecgbench.data import Task
from ecgbench.dataroot import DataRoot, digest
from ecgbench.interfaces import Dataset
from ecgbench.journal import Progress
from ecgbench.store import Store, StoredJournal, key_of


@dataclass(frozen=True)
class Stages:
    """The store and what is heard while it is filled; `again` makes everything anew, once per process."""

    store: Store
    tell: Callable[[Progress], None]
    again: bool = False
    _remade: set[str] = field(default_factory=set, repr=False)

    def has(self, stage: str, identity: Identity) -> bool:
        """Whether the result is kept, whole."""
        return self.store.get(stage, key_of(identity)) is not None

    def made(
        self, stage: str, identity: Identity, make: Callable[[StoredJournal], dict[str, bytes]]
    ) -> dict[str, bytes]:
        """The files of a stage: found, or made by one process while others wait."""
        key = key_of(identity)
        again = self.again and key not in self._remade
        files = None if again else self.store.get(stage, key)
        if files is not None:
            return files
        with self.store.writing(stage, key):
            files = None if again else self.store.get(stage, key)
            if files is None:
                journal = self.store.journal(stage, key, self.tell)
                files = make(journal)
                self.store.put(stage, identity, files)
                journal.finish()
        self._remade.add(key)
        return files


@dataclass(frozen=True)
class Recordings:
    """Datasets as they lie on this machine. Holds the last loaded task in memory."""

    root: DataRoot
    _digests: dict[Dataset, str] = field(default_factory=dict, repr=False)
    _tasks: dict[Dataset, Task] = field(default_factory=dict, repr=False)

    def digest(self, dataset: Dataset) -> str:
        """Digest of the files a dataset reads. Raises DataError where one is missing."""
        if dataset not in self._digests:
            self._digests[dataset] = digest(dataset.files(self.root))
        return self._digests[dataset]

    def task(self, dataset: Dataset) -> Task:
        """The loaded task."""
        if dataset not in self._tasks:
            self._tasks.clear()
            self._tasks[dataset] = dataset.load(self.root)
        return self._tasks[dataset]
