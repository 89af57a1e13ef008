"""Jobs on a Dask cluster: a task is the supervisor of one child, on a worker of one thread.

Results travel through the store that all machines see; a task returns a few words. A task whose client is gone, or has
cancelled it, ends its child; one whose worker dies is begun elsewhere by the scheduler, after its child has ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ecgbench.core.errors import EcgbenchError, NotInstalledError
from ecgbench.core.progress import Progress
from ecgbench.engine.code import code_digest
from ecgbench.engine.request import Ends, Request, Seldom, Tells, heard, told
from ecgbench.engine.supervisor import Child, Ended, Limits, most_memory, supervise
from ecgbench.engine.workers import Began, Event, Over, Told
from ecgbench.runs.job import Job

if TYPE_CHECKING:
    from distributed import Client, Future

QUEUED = 1000
"""Jobs that are at the scheduler at once: enough for any cluster, few enough to be cancelled at once."""
TOPIC = "ecgbench"
CONNECT = 20.0  # seconds to find a scheduler
SECOND = 1.0  # between two steps that a job tells


@dataclass(frozen=True)
class Dask:
    """The workers of a scheduler, given by its address or by its file. `device` says what a job needs beside a core.

    A limit of memory that is not given is 80 % of the memory of the worker's machine.
    """

    scheduler: str
    limits: Limits = Limits()
    device: str = "cpu"
    plugins: tuple[str, ...] = ()

    def open(self, stop: threading.Event, jobs: int) -> DaskPool:
        client = _connected(self.scheduler)
        try:
            workers = self._checked(client)
        except BaseException:
            client.close()
            raise
        return DaskPool(self, client, stop, workers)

    @property
    def resources(self) -> Mapping[str, int]:
        """What Dask reserves for a job."""
        return {} if self.device == "cpu" else {"gpu": 1}

    def _checked(self, client: Client) -> int:
        """How many workers there are. Raises EcgbenchError where they cannot do the jobs."""
        found = client.scheduler_info(n_workers=-1)["workers"]
        where = f"the cluster at {self.scheduler}"
        if not found:
            raise EcgbenchError(f"{where} has no workers; start some: dask worker {self.scheduler} --nthreads 1")
        threads = {address: worker["nthreads"] for address, worker in found.items() if worker["nthreads"] != 1}
        if threads:
            address, number = next(iter(threads.items()))
            raise EcgbenchError(f"worker {address} has {number} threads; expected one: dask worker ... --nthreads 1")
        for name, amount in self.resources.items():
            if not any(worker["resources"].get(name, 0) >= amount for worker in found.values()):
                raise EcgbenchError(
                    f"no worker of {where} has the resource {name}, which --device {self.device} needs; start some: "
                    f"dask worker ... --resources {name}={amount}"
                )
        self._check_code(client)
        return len(found)

    def _check_code(self, client: Client) -> None:
        own = code_digest(self.plugins)
        try:
            digests: Mapping[str, Any] = client.run(code_digest, self.plugins, on_error="return")
        except Exception as fault:  # raised by what cannot be unpickled there
            raise _other_code("a worker", f"it cannot be asked ({type(fault).__name__}: {fault})") from None
        for address, digest in digests.items():
            if digest != own:
                raise _other_code(f"worker {address}", str(digest)[:12])


class DaskPool:
    """Tasks at a scheduler, each under the key of what it makes: clients that want the same share it."""

    def __init__(self, place: Dask, client: Client, stop: threading.Event, workers: int) -> None:
        self.size = workers
        self._place, self._client, self._stop = place, client, stop
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._tasks: dict[Job, Future[str]] = {}
        self._jobs: dict[str, Job] = {}
        self._begun: dict[Job, int] = {}
        self._cancelled = False
        client.subscribe_topic(TOPIC, self._listen)

    @property
    def running(self) -> AbstractSet[Job]:
        return self._tasks.keys()

    @property
    def has_room(self) -> bool:
        return len(self._tasks) < QUEUED

    def begin(self, job: Job, request: Request, width: int, then: int | None) -> None:
        self._begun[job] = self._begun.get(job, 0) + 1
        key = task_key(request, self._begun[job])
        words = msgspec.json.encode(request).decode()
        limits = (self._place.limits.timeout, self._place.limits.memory)
        task = self._client.submit(
            work, words, limits, code_digest(self._place.plugins), key=key, resources=dict(self._place.resources)
        )
        self._tasks[job], self._jobs[key] = task, job
        task.add_done_callback(lambda done: self._events.put(Over(job, _ended(done))))

    def event(self, seconds: float) -> Event | None:
        if self._stop.is_set() and not self._cancelled:
            self._cancelled = True
            self._client.cancel(list(self._tasks.values()))
        try:
            event = self._events.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(event, Over):
            task = self._tasks.pop(event.job)
            self._jobs.pop(str(task.key), None)
            task.release()
            if event.ended.end == "stopped" and not self._stop.is_set() and self._client.status != "running":
                raise EcgbenchError(f"the scheduler at {self._place.scheduler} is gone; what was finished is kept.")
        return event

    def close(self) -> None:
        with suppress(Exception):  # a scheduler that is gone
            self._client.cancel(list(self._tasks.values()))
        self._client.close()

    def _listen(self, event: tuple[float, Any]) -> None:
        """A worker tells something of a job."""
        key, words = event[1]
        job = self._jobs.get(key)
        if job is None:
            return
        if words is None:
            self._events.put(Began(job))
        elif (progress := heard(msgspec.json.decode(words, type=Tells))) is not None:
            self._events.put(Told(job, progress))


def task_key(request: Request, attempt: int) -> str:
    """What a task is called: by what it makes, and in which store; a further attempt is another task."""
    place = hashlib.sha256(request.entries.encode()).hexdigest()[:8]
    return f"ecgbench-{place}-{request.makes}" + (f"-{attempt}" if attempt > 1 else "")


def work(words: str, limits: tuple[float | None, int | None], code: str) -> str:
    """Supervise one job on this worker; how it ended, as JSON."""
    from distributed import get_worker

    worker = get_worker()
    key = str(worker.get_current_task())
    request = msgspec.json.decode(words, type=Request)
    if code_digest(request.job.plugins) != code:
        fault = _other_code(f"worker {worker.address}", code_digest(request.job.plugins)[:12])
        return _words(Ended("ok", ends=Ends(fault.exit_code, str(fault))))

    def stopped() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    def tell(progress: Progress) -> None:
        worker.log_event(TOPIC, (key, msgspec.json.encode(told(progress)).decode()))

    worker.log_event(TOPIC, (key, None))
    timeout, memory = limits
    limit = Limits(timeout, most_memory() if memory is None else memory)
    return _words(supervise(Child.start(1), request, limit, stopped, Seldom(tell, SECOND)))


def _words(ended: Ended) -> str:
    return msgspec.json.encode(ended).decode()


def _ended(task: Future[str]) -> Ended:
    """How a task has ended: what it says itself, or that it cannot say any more."""
    if task.status == "finished":
        with suppress(Exception):
            return msgspec.json.decode(task.result(), type=Ended)
    if task.status == "error":
        return Ended("lost", log=(f"{type(fault := task.exception()).__name__}: {fault}",))
    return Ended("stopped")


def _connected(scheduler: str) -> Client:
    """Raises EcgbenchError where there is no scheduler."""
    try:
        from distributed import Client
    except ImportError:
        advice = "the engine dask needs it: pip install ecgbench-robustness[dask]"
        raise NotInstalledError("distributed", advice) from None
    try:
        address = _address(scheduler)
        asyncio.run(_reach(address))  # a Client that cannot begin leaves a traceback when it is collected
        return Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError, LookupError) as fault:
        raise EcgbenchError(
            f"no scheduler answers at {scheduler!r} ({fault or type(fault).__name__}); expected its address, such as "
            "tcp://host:8786, or its file."
        ) from None


def _address(scheduler: str) -> str:
    """The address that a scheduler's file holds, or that is given itself."""
    file = Path(scheduler)
    return str(msgspec.json.decode(file.read_bytes())["address"]) if file.is_file() else scheduler


async def _reach(address: str) -> None:
    """Raises OSError, ValueError or TypeError where nobody answers there, or not without a certificate."""
    from distributed.comm.core import connect
    from distributed.security import Security

    arguments = Security().get_connection_args("client")
    try:
        async with asyncio.timeout(CONNECT + SECOND):  # connect itself waits for ever for a word of who is there
            comm = await connect(address, timeout=CONNECT, **arguments)
            await comm.close()
    except TimeoutError:
        raise TimeoutError("somebody is there, but says nothing") from None


def _other_code(who: str, found: str) -> EcgbenchError:
    return EcgbenchError(f"{who} has other code than this run: {found}; expected the same ecgbench and plugins there.")
