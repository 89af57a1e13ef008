"""A grid on a Dask cluster gives the records of one process, and leaves no child behind, whoever is killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from distributed import Client, LocalCluster

import ecgbench as package
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.progress import Note
from ecgbench.engine import cluster, code
from ecgbench.engine.cluster import Dask, task_key, work
from ecgbench.engine.request import Request
from ecgbench.engine.supervisor import Child, Ended
from ecgbench.engine.workers import Began, Event, Over, Told
from ecgbench.results.record import Record
from ecgbench.runs.job import VictimJob
from tests.command_line import BEATS, TINY, Answer, ecgbench, finished, sentence, spawn
from tests.engine import slow
from tests.engine.records import PATIENCE

GRID: dict[str, Any] = {"dataset": BEATS, "model": "linear", "defense": "none[epochs=1]", "eps": 0.05}
REQUEST = Request(
    job=VictimJob(dataset="d", model="m", defense="n", seed=0), store="/here", entries="/here", makes="0f"
)


@pytest.fixture(scope="module")
def here() -> Iterator[LocalCluster]:
    """Two workers in this process, whose jobs are children as on any other."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as started:
        yield started


@pytest.fixture
def workers() -> Iterator[LocalCluster]:
    """Four workers in processes of their own."""
    with LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=":0") as started:
        yield started


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_task_tells_what_its_child_tells_and_ends_with_the_run(
    cancelled: bool, here: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    does = "time.sleep(1000)" if cancelled else 'print(\'{"type":"Done"}\', flush=True)'
    says = 'print(\'{"type":"Tells","kind":"Note","values":["hi"]}\', flush=True)'
    script = f"import sys, time; sys.stdin.readline(); print(time.time(), file=sys.stderr); {says}; {does}"
    children: list[Child] = []

    class Fake:
        @staticmethod
        def start(threads: int) -> Child:
            children.append(Child.start(threads, (sys.executable, "-c", script)))
            return children[0]

    monkeypatch.setattr(cluster, "Child", Fake)
    stop = threading.Event()
    pool = Dask(here.scheduler_address).open(stop, 1)
    events: list[Event] = []
    request = msgspec.structs.replace(REQUEST, makes=str(cancelled))
    try:
        pool.begin(REQUEST.job, request, width=1, then=None)
        while pool.running:
            event = pool.event(0.1)
            events += [] if event is None else [event]
            if cancelled and isinstance(event, Told):
                stop.set()
    finally:
        pool.close()
    assert events[:2] == [Began(REQUEST.job), Told(REQUEST.job, Note("hi"))]
    assert isinstance(events[-1], Over) and events[-1].ended.end == ("stopped" if cancelled else "ok")
    assert children[0].process.wait(PATIENCE) is not None


@pytest.mark.slow
def test_cells_on_a_cluster_have_the_records_of_one_process(here: LocalCluster, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    package.run(**GRID, attack="fgsm", store=kept)
    words = ("run", *TINY, "-e", "0.05", "-a", "fgsm", "-a", "identity", "--json", "--engine", "dask", "--isolate")
    answer = ecgbench(kept, *words, "--scheduler", here.scheduler_address)
    assert_same(answer, package.run(**GRID, attack=["fgsm", "identity"], store=tmp_path / "one"))


def test_what_cannot_do_the_jobs_is_refused_before_any_is_sent(
    here: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    with pytest.raises(EcgbenchError, match="has the resource gpu, which --device cuda needs"):
        Dask(here.scheduler_address, device="cuda").open(stop, 1)
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as two,
        pytest.raises(EcgbenchError, match="has 2 threads; expected one"),
    ):
        Dask(two.scheduler_address).open(stop, 1)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as none,
        pytest.raises(EcgbenchError, match="has no workers; start some"),
    ):
        Dask(none.scheduler_address).open(stop, 1)
    monkeypatch.setattr(cluster, "CONNECT", 0.2)
    words = ("run", *TINY, "-a", "fgsm", "--isolate")
    (tmp_path / "file").write_text("{}")
    for place in ("tcp://127.0.0.1:9", "tls://127.0.0.1:9", "elsewhere", str(tmp_path / "file")):
        answer = ecgbench(tmp_path, *words, "--engine", "dask", "--scheduler", place)
        assert answer.code == 2 and f"no scheduler answers at {place!r}" in sentence(answer)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        answer = ecgbench(tmp_path, *words, "--engine", "dask", "--scheduler", place)
        assert answer.code == 2 and "somebody is there, but says nothing" in sentence(answer)
    for options in (("--engine", "dask"), ("--scheduler", "x"), ("--engine", "dask", "--scheduler", "x", "-j", "2")):
        assert ecgbench(tmp_path, *words, *options).code == 2


def test_a_worker_with_other_code_is_refused(here: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        """What the code is here; on a worker, what it is there."""

        def __call__(self, plugins: tuple[str, ...]) -> str:
            return "other"

        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return getattr, (code, "code_digest")

    with Client(here.scheduler_address, set_as_default=False) as client:
        task = client.submit(work, msgspec.json.encode(REQUEST).decode(), (None, None), "other")
        ended = msgspec.json.decode(task.result(), type=Ended)
    assert ended.ends is not None and "has other code than this run" in str(ended.ends.error())
    monkeypatch.setattr(cluster, "code_digest", Other())
    with pytest.raises(EcgbenchError, match="has other code than this run"):
        Dask(here.scheduler_address).open(threading.Event(), 1)


def test_code_is_other_code_if_any_file_is_another(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("a = 1\n")
    plugins = (str(tmp_path / "mine.py"),)
    digest = code.code_digest.__wrapped__
    first = digest(plugins)
    assert first == digest(plugins) and first != digest(())
    (tmp_path / "mine.py").write_text("a = 2\n")
    assert digest(plugins) != first


def test_a_task_is_called_by_what_it_makes_and_where() -> None:
    key = task_key(REQUEST, 1)
    assert key.endswith("-0f") and key == task_key(msgspec.structs.replace(REQUEST, retrain=True), 1)
    others = [
        *(msgspec.structs.replace(REQUEST, entries="/there"), msgspec.structs.replace(REQUEST, makes="1f")),
    ]
    assert len({key, task_key(REQUEST, 2), *(task_key(other, 1) for other in others)}) == 4


@dataclass(frozen=True)
class Slowly:
    """A grid of cells that take so many seconds each, in a folder of its own."""

    home: Path
    cells: int

    def start(self, workers: LocalCluster, seconds: float) -> subprocess.Popen[str]:
        """Begin it on a cluster."""
        (self.home / "seconds").write_text(str(seconds))
        attacks = [word for attack in self._attacks() for word in ("-a", attack)]
        words = ("run", *TINY, *attacks, "-p", slow.FILE, "-e", "0.05", "--json", "--isolate", "--engine", "dask")
        return spawn(self.home, *words, "--scheduler", workers.scheduler_address)

    def asked(self) -> list[tuple[int, int]]:
        """The number of each cell that was begun, and its process."""
        with suppress(FileNotFoundError):
            lines = (self.home / "log").read_text().splitlines()
            return [(int(line.split()[0]), int(line.split()[1])) for line in lines]
        return []

    def wait(self, begun: int) -> None:
        """Until so many cells have begun."""
        end = time.monotonic() + PATIENCE
        while len(self.asked()) < begun:
            assert time.monotonic() < end, "no cell begins"
            time.sleep(0.05)

    def alone(self) -> list[Record]:
        """The records of one process, in a store of its own."""
        (self.home / "seconds").write_text("0")
        return package.run(**GRID, attack=self._attacks(), plugins=[slow.FILE], store=self.home / "alone")

    def _attacks(self) -> list[str]:
        return [f'slow[folder="{self.home}",number={number}]' for number in range(self.cells)]


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_cell_costs_no_record(workers: LocalCluster, tmp_path: Path) -> None:
    grid = Slowly(tmp_path, 8)
    process = grid.start(workers, 3.0)
    grid.wait(2)
    for child in psutil.Process().children():
        if "nanny" in " ".join(child.cmdline()) or "spawn_main" in " ".join(child.cmdline()):
            child.kill()
            break
    answer = finished(process, PATIENCE)
    assert {number for number, _ in grid.asked()} == set(range(8))
    assert_same(answer, grid.alone())


@pytest.mark.slow
def test_two_clients_make_every_cell_once(workers: LocalCluster, tmp_path: Path) -> None:
    grid = Slowly(tmp_path, 6)
    one, other = (finished(process, PATIENCE) for process in [grid.start(workers, 2.0) for _ in range(2)])
    assert sorted(number for number, _ in grid.asked()) == list(range(6))
    expected = grid.alone()
    assert_same(one, expected)
    assert_same(other, expected)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_ends_ends_its_jobs_and_the_next_goes_on(
    number: signal.Signals, workers: LocalCluster, tmp_path: Path
) -> None:
    grid = Slowly(tmp_path, 2)
    process = grid.start(workers, 1000.0)
    grid.wait(2)
    process.send_signal(number)
    assert finished(process, PATIENCE).code == (130 if number == signal.SIGINT else -signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while any(psutil.pid_exists(pid) for _, pid in grid.asked()):
        assert time.monotonic() < end, "a child outlives its client"
        time.sleep(0.1)
    answer = finished(grid.start(workers, 0.0), PATIENCE)
    assert_same(answer, grid.alone())


def assert_same(answer: Answer, records: list[Record]) -> None:
    """The answer holds these records, but for their cost, in any order."""
    assert answer.code == 0, answer
    found = {record["key"]: record | {"cost": None} for record in answer.records}
    assert found == {record.key: msgspec.json.decode(record.json()) | {"cost": None} for record in records}
