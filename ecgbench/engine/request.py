"""What a child is asked, what it tells while it works, and what it leaves where it gave no score."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError, EcgbenchError, StoreError
from ecgbench.core.progress import Epoch, Failed, Note, Progress, Started, SweepProgress
from ecgbench.evaluation.guard import apart
from ecgbench.runs.job import CellJob, Job, VictimJob, catalog_of, write_job
from ecgbench.runs.runner import Runner
from ecgbench.storage import Store, is_url, reopened, write_file

KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Epoch, SweepProgress, Note, Started, Failed)}
FAILURES = "failures"


class Request(Struct, frozen=True, kw_only=True):
    """One job, and where it is done; `cells` are those that wait for a victim. All paths are absolute.

    `store` is the folder of unfinished work, `entries` where results are kept. `makes` is the key of what the job makes
    as far as it is known before, `recordings` the digest of the dataset's files that the run was planned with, where it
    could be read.
    """

    job: VictimJob | CellJob
    store: str
    entries: str
    makes: str = ""
    cells: tuple[CellJob, ...] = ()
    home: str | None = None
    places: dict[str, str] = {}
    cache: str | None = None
    checkpoints: str | None = None
    device: str = "cpu"
    retrain: bool = False
    recordings: str | None = None

    @classmethod
    def of(cls, job: Job, cells: tuple[CellJob, ...], runner: Runner) -> Request:
        """The job as `runner` would do it."""
        root = runner.root
        return cls(
            job=job,
            cells=cells,
            store=_absolute(runner.store.root),
            entries=place if is_url(place := str(runner.store.entries.place)) else _absolute(Path(place)),
            makes=_key(job, runner),
            home=None if root.home is None else _absolute(root.home),
            places={name: _absolute(place) for name, place in root.places.items()},
            cache=None if root.cache is None else _absolute(root.cache),
            checkpoints=None if runner.checkpoints is None else _absolute(runner.checkpoints.root),
            device=runner.device,
            retrain=runner.retrain,
            recordings=_digest(job, runner),
        )

    def check_recordings(self, runner: Runner) -> None:
        """Raises DataError where this machine has other recordings than the one that planned the run."""
        found = _digest(self.job, runner)
        if None not in (found, self.recordings) and found != self.recordings:
            raise DataError(
                f"the recordings of {self.job.dataset} on {platform.node()} are not those that the run was planned "
                "with; expected the same files on every machine, see: ecgbench data verify."
            )

    def runner(self, tell: Callable[[Progress], None]) -> Runner:
        """Where the job is done; that of a cell does not train. Raises EcgbenchError where a plugin is broken."""

        def say(text: str) -> None:
            tell(Note(text))

        return Runner(
            catalog_of(self.job),
            DataRoot(
                home=None if self.home is None else Path(self.home),
                places={name: Path(place) for name, place in self.places.items()},
                cache=None if self.cache is None else Path(self.cache),
            ),
            reopened(self.entries, Path(self.store), say),
            device=self.device,
            tell=tell,
            retrain=self.retrain,
            checkpoints=None if self.checkpoints is None else Store(Path(self.checkpoints), say),
            trains=isinstance(self.job, VictimJob),
        )


def _key(job: Job, runner: Runner) -> str:
    try:
        return runner.key(job)
    except Exception:  # the job itself says what is wrong
        return hashlib.sha256(write_job(job)).hexdigest()


def _digest(job: Job, runner: Runner) -> str | None:
    try:
        with apart():
            return runner.recordings.digest(runner.catalog.resolve("dataset", job.dataset))
    except Exception:  # the job itself says what is wrong
        return None


def _absolute(path: Path) -> str:
    return str(path.absolute())


class Failure(Struct, frozen=True, kw_only=True):
    """Why a job gave no result; `log` holds the last lines that it printed."""

    job: VictimJob | CellJob
    status: Literal["failed", "skipped"]
    reason: str
    log: tuple[str, ...] = ()


class Failures:
    """The failures of a store, one small file for each job. They are no results: a job that failed is tried again."""

    def __init__(self, store: Store) -> None:
        self._folder = store.root / FAILURES

    def keep(self, failure: Failure) -> None:
        """In place of an earlier one. Raises StoreError where the machine does not let it."""
        write_file(self._path(failure.job), msgspec.json.format(msgspec.json.encode(failure), indent=2) + b"\n")

    def of(self, job: Job) -> Failure | None:
        """The last failure of a job; None where there is none that can be read."""
        try:
            return msgspec.json.decode(self._path(job).read_bytes(), type=Failure)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def forget(self, job: Job) -> None:
        """The job is tried again, or has its result."""
        with suppress(OSError):
            self._path(job).unlink()

    def _path(self, job: Job) -> Path:
        return self._folder / f"{hashlib.sha256(write_job(job)).hexdigest()}.json"


class Done(Struct, frozen=True, tag=True):
    """The child has done its job: the result is in the store, unless it failed."""

    failure: Failure | None = None


class Ends(Struct, frozen=True, tag=True):
    """What ends the whole run: no job has failed."""

    code: int
    text: str

    def error(self) -> EcgbenchError:
        """The error as it was raised in the child."""
        kinds = (DataError, StoreError, EcgbenchError)
        return next((kind for kind in kinds if kind.exit_code == self.code), EcgbenchError)(self.text)


class Tells(Struct, frozen=True, tag=True):
    """How far the child is."""

    kind: str
    values: list[Any]


Message = Done | Ends | Tells


def told(progress: Progress) -> Tells:
    """Progress as a message; what no text may hold, such as a part of a sign, is replaced by a question mark."""
    values = [getattr(progress, name) for name in type(progress).__slots__]
    whole = [value.encode(errors="replace").decode() if isinstance(value, str) else value for value in values]
    return Tells(type(progress).__name__, whole)


def heard(message: Tells) -> Progress | None:
    """The progress in a message; None where it is none."""
    kind = KINDS.get(message.kind)
    with suppress(msgspec.ValidationError, TypeError):
        return None if kind is None else msgspec.convert(dict(zip(kind.__slots__, message.values, strict=False)), kind)
    return None


class Seldom:
    """Passes on progress, but steps at most once in so many seconds."""

    def __init__(self, tell: Callable[[Progress], None], seconds: float = 0.1) -> None:
        self._tell, self._seconds, self._last = tell, seconds, -seconds

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if isinstance(progress, Epoch | SweepProgress):
            if now - self._last < self._seconds:
                return
            self._last = now
        self._tell(progress)
