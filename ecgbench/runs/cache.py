"""Results of work, each kept under the key of all it is made of: found, or made once while others wait."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot, digest
from ecgbench.core.errors import ContractError, DataError, EcgbenchError
from ecgbench.core.interfaces import Dataset, returned
from ecgbench.core.progress import Progress
from ecgbench.evaluation.guard import blame, guarded
from ecgbench.evaluation.lending import AS_LENT, tensors
from ecgbench.registry.identity import Identity
from ecgbench.runs.intact import HostCode
from ecgbench.storage.store import Store, TimedCheckpoint, key_of

Files = dict[str, bytes]
Make = Callable[[TimedCheckpoint], Files]


class Kept(Protocol):
    """Where the files of stages are kept, by name of the stage and identity."""

    def has(self, stage: str, identity: Identity) -> bool:
        """Whether the result is kept, whole."""

    def get(self, stage: str, identity: Identity) -> Files | None:
        """The files of a stage; None where they are missing."""

    def get_or_make(self, stage: str, identity: Identity, make: Make) -> Files:
        """The files of a stage, found or made."""


@dataclass(frozen=True)
class Nowhere:
    """Keeps nothing: whatever is asked for is made."""

    tell: Callable[[Progress], None] | None = None

    def has(self, stage: str, identity: Identity) -> bool:
        """False."""
        return False

    def get(self, stage: str, identity: Identity) -> Files | None:
        """None."""
        return None

    def get_or_make(self, stage: str, identity: Identity, make: Make) -> Files:
        """What `make` gives."""
        return make(TimedCheckpoint(self.tell))


@dataclass(frozen=True)
class Cache:
    """The store and what is heard while it is filled; `rebuild` makes everything anew, once per process."""

    store: Store
    tell: Callable[[Progress], None]
    rebuild: bool = False
    _remade: set[str] = field(default_factory=set, repr=False)
    _host: HostCode = field(default_factory=HostCode.now, repr=False)

    def has(self, stage: str, identity: Identity) -> bool:
        """Whether the result is kept, whole."""
        return self.store.get(stage, key_of(identity)) is not None

    def get(self, stage: str, identity: Identity) -> Files | None:
        """The files of a stage; None where they are missing, or to be made anew."""
        key = key_of(identity)
        return None if self.rebuild and key not in self._remade else self.store.get(stage, key)

    def accept(self, identity: Identity) -> None:
        """Take a result as it is kept, although everything is to be made anew: another process has just made it."""
        self._remade.add(key_of(identity))

    def get_or_make(self, stage: str, identity: Identity, make: Make) -> Files:
        """The files of a stage: found, or made by one process while others wait."""
        files = self.get(stage, identity)
        if files is not None:
            return files
        key = key_of(identity)
        with self.store.writing(stage, key) as alone:
            files = self.get(stage, identity)
            if files is None:
                checkpoint = self.store.checkpoint(stage, key, self.tell, alone)
                try:
                    files = self._made(make, checkpoint)
                except ContractError:
                    checkpoint.finish()  # what a plugin may have spoiled is not gone on from
                    raise
                except DataError as fault:  # recordings are read before a stage is made: this one is a plugin's
                    raise EcgbenchError(str(fault)) from fault
                files = self._keep(stage, identity, files)
                checkpoint.finish()
        self._remade.add(key)
        return files

    def _keep(self, stage: str, identity: Identity, files: Files) -> Files:
        """The files that are kept: these, or those of another process that was first."""
        if not self.rebuild:
            return self.store.add(stage, identity, files)
        self.store.put(stage, identity, files)
        return files

    def _made(self, make: Make, checkpoint: TimedCheckpoint) -> Files:
        """What `make` gives. Raises ContractError, with the code as it was, where it was made with other code."""
        try:
            return make(checkpoint)
        finally:
            changed = self._host.put_back()
            if changed:
                blame("a plugin of this cell", "the code of ecgbench left as it was", f"another {changed[0]}")


@dataclass(frozen=True)
class Recordings:
    """Datasets as they lie on this machine. Holds the last loaded task in memory, and what it holds in digests."""

    root: DataRoot
    _digests: dict[Dataset, str] = field(default_factory=dict, repr=False)
    _tasks: dict[Dataset, tuple[Task, str]] = field(default_factory=dict, repr=False)

    def digest(self, dataset: Dataset) -> str:
        """Digest of the files a dataset reads. Raises DataError where one is missing."""
        if dataset not in self._digests:
            remote = dataset.remote
            self._digests[dataset] = digest(read_by(dataset, self.root), () if remote is None else remote.newlines)
        return self._digests[dataset]

    def task(self, dataset: Dataset) -> Task:
        """The loaded task."""
        if dataset not in self._tasks:
            self._tasks.clear()
            with guarded(dataset):
                task = returned(dataset, "load", dataset.load(self.root), Task)
            self._tasks[dataset] = (task, fingerprint(task))
        return self._tasks[dataset][0]

    @contextmanager
    def lending(self, dataset: Dataset, who: object) -> Iterator[Task]:
        """The loaded task while the plugins `who` work on it or beside it.

        Raises ContractError, and forgets the task, where one of its values is another one afterwards.
        """
        task = self.task(dataset)
        try:
            yield task
        finally:
            written = dataset in self._tasks and fingerprint(task) != self._tasks[dataset][1]
            if written:
                del self._tasks[dataset]
        if written:
            raise ContractError(who, AS_LENT, "another value in the samples of the task")


def fingerprint(task: Task) -> str:
    """SHA-256 over all values of a task's samples."""
    total = hashlib.sha256()
    for name, tensor in tensors(task):
        total.update(name.encode())
        total.update(tensor.detach().contiguous().numpy().data)
    return total.hexdigest()


def read_by(dataset: Dataset, root: DataRoot) -> Mapping[str, Path]:
    """The files a dataset reads, by name. Raises ContractError for anything else it may return."""
    files: Mapping[str, Path] = returned(dataset, "files", dataset.files(root), Mapping)  # type: ignore[type-abstract]
    for name, path in files.items():
        returned(dataset, "files", name, str)
        returned(dataset, "files", path, Path)
    return files
