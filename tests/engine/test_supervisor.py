"""However a child ends, its supervisor says how, in time, and nothing that the child has started is left."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import msgspec
import psutil
import pytest

from ecgbench.core.errors import DataError, EcgbenchError, StoreError
from ecgbench.core.progress import Epoch, Failed, Note, Progress, Started, SweepProgress
from ecgbench.engine import supervisor
from ecgbench.engine.request import Ends, Request, Tells, heard, told
from ecgbench.engine.supervisor import Child, Ended, Limits, parse_duration, parse_memory, supervise
from ecgbench.runs.job import VictimJob

REQUEST = Request(job=VictimJob(dataset="d", model="m", defense="n", seed=0), store="/nowhere", entries="/nowhere")
BEGIN = """
import ctypes, os, signal, subprocess, sys, time
sys.stdin.readline()
def say(text):
    os.write(1, text.encode() + b"\\n")
"""
FREE = Limits()
ENDS = 'say(\'{"type":"Ends","code":5,"text":"no recordings."}\')'
DONE = 'say(\'{"type":"Done"}\')'


def ended(script: str, limits: Limits = FREE, stop: threading.Event | None = None) -> tuple[Ended, list[Progress]]:
    heard: list[Progress] = []
    child = Child.start(1, (sys.executable, "-c", BEGIN + script))
    return supervise(child, REQUEST, limits, (stop or threading.Event()).is_set, heard.append), heard


@pytest.mark.parametrize(
    ("script", "end", "number"),
    [
        (DONE, "ok", 0),
        (f"{DONE}; os._exit(7)", "ok", 0),
        ("os._exit(0)", "exit", 0),
        ("os._exit(3)", "exit", 3),
        ("ctypes.string_at(0)", "signal", signal.SIGSEGV),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal", signal.SIGKILL),
        ("raise RuntimeError('boom')", "exit", 1),
        ("os.close(1); os.close(2); os._exit(4)", "exit", 4),
    ],
)
def test_an_end_is_told_by_its_kind_and_number(script: str, end: str, number: int) -> None:
    found, _ = ended(script)
    assert (found.end, found.number) == (end, number) and found.ends is None


@pytest.mark.parametrize(
    ("set_to", "threads"),
    [
        ({}, 4),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"MKL_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "3,2", "MKL_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "16"}, 4),
        ({"OMP_NUM_THREADS": "0"}, 1),
        ({"OMP_NUM_THREADS": "many"}, 4),
    ],
)
def test_the_environment_caps_the_threads_of_a_job(
    set_to: dict[str, str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in supervisor.THREADS:
        monkeypatch.delenv(name, raising=False)
    for name, value in set_to.items():
        monkeypatch.setenv(name, value)
    variables = supervisor.environment(4)
    assert {variables[name] for name in supervisor.THREADS} == {str(threads)}


def test_a_job_keeps_freed_memory_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in supervisor.ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    assert supervisor.ALLOCATOR.items() <= supervisor.environment(1).items()
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "7")
    assert supervisor.environment(1)["MALLOC_MMAP_MAX_"] == "7"


def test_the_reason_holds_the_last_line_of_the_log() -> None:
    found, _ = ended("print('first', file=sys.stderr); print('last | words', file=sys.stderr, flush=True); os._exit(3)")
    assert found.log == ("first", "last | words")
    assert found.reason == "exit 3: the job's process ended without a result; its log ends: last | words"
    assert ended("ctypes.string_at(0)")[0].reason == "signal 11 (SIGSEGV): the job was killed"


@pytest.mark.parametrize(
    "ignores", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN);"], ids=["ends by TERM", "needs KILL"]
)
def test_a_hang_ends_within_its_limit_and_the_grace(ignores: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "GRACE", 0.3)
    found, _ = ended(f"{ignores}time.sleep(1000)", Limits(timeout=0.5))
    assert found.end == "timeout" and found.reason == "timeout: the job was ended after 0.5 s"


def test_a_job_that_ends_before_its_limit_is_no_timeout() -> None:
    assert ended(DONE, Limits(timeout=1000, memory=10**12))[0].end == "ok"


def test_memory_is_limited_to_what_no_other_process_shares(tmp_path: Path) -> None:
    grows = "held = []\nwhile True:\n    held.append(bytearray(os.urandom(1) * 5_000_000)); time.sleep(0.01)"
    found, _ = ended(grows, Limits(memory=100_000_000))
    assert found.end == "memory" and found.reason == "memory: the job was ended when it held more than 100 MB"
    (tmp_path / "mapped").write_bytes(bytes(200_000_000))
    maps = f"import mmap; m = mmap.mmap(os.open({str(tmp_path / 'mapped')!r}, os.O_RDONLY), 0, prot=mmap.PROT_READ)"
    reads = 'sum(m[at] for at in range(0, len(m), 4096)); say(\'{"type":"Done"}\'); time.sleep(0.2)'
    with (tmp_path / "mapped").open("rb") as file:  # somebody else has it in memory, too
        import mmap

        other = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        assert sum(other[at] for at in range(0, len(other), 4096)) == 0
        assert ended(f"{maps}; {reads}", Limits(memory=150_000_000))[0].end == "ok"
        other.close()


def test_what_a_child_has_started_ends_with_it(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    starts = f"""
own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
far = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
open({str(pids)!r}, "w").write(f"{{own.pid}} {{far.pid}}")
time.sleep(1000)
"""
    ended(starts, Limits(timeout=3))
    for pid in map(int, pids.read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_a_child_has_lost_ends_with_it(tmp_path: Path) -> None:
    own = tmp_path / "pid"
    loses = f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (0, 1, 2):
            os.close(number)
        open("{own}.part", "w").write(str(os.getpid()))
        os.rename("{own}.part", "{own}")
        time.sleep(1000)
    os._exit(0)
os.wait()
while not os.path.exists("{own}"):
    time.sleep(0.01)
"""
    assert ended(loses + DONE)[0].end == "ok"
    pid = int(own.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_run_that_stops_gives_the_job_time_to_keep_its_state(tmp_path: Path) -> None:
    stop = threading.Event()
    kept = tmp_path / "kept"
    keeps = f"""
def keep(*_):
    time.sleep(0.3); open({str(kept)!r}, "w").close(); os._exit(143)
signal.signal(signal.SIGTERM, keep)
say("ready")
time.sleep(1000)
"""
    threading.Timer(2, stop.set).start()
    found, _ = ended(keeps, stop=stop)
    assert found.end == "stopped" and kept.exists()


def test_progress_comes_through_and_noise_does_not() -> None:
    all_kinds: list[Progress] = [
        Epoch(3, 50, 0.8, None),
        Epoch(4, 50, 0.8, 0.5),
        SweepProgress(0.1, 1, 4, 30, 120),
        Note("n"),
        Started("s"),
        Failed("trace"),
    ]
    assert [heard(told(each)) for each in all_kinds] == all_kinds
    lines = ("noise", '{"type":"Tells","kind":"Note","values":["hi"]}', '{"type":"Tells","kind":"No","values":[]}')
    says = "".join(f"say({line!r}); " for line in lines)
    found, progress = ended(says + DONE)
    assert found.end == "ok" and progress == [Note("hi")]


def test_what_ends_the_run_comes_as_the_error_it_was() -> None:
    found, _ = ended(f"{ENDS}; os._exit(5)")
    assert found.ends is not None and isinstance(found.ends.error(), DataError)
    assert str(found.ends.error()) == "no recordings."
    assert type(Ends(1, "x").error()) is StoreError and type(Ends(2, "x").error()) is EcgbenchError


@pytest.mark.parametrize(("then", "end"), [(DONE, "ok"), ("os._exit(3)", "exit")])
def test_a_child_that_goes_on_has_not_ended_the_run(then: str, end: str) -> None:
    found, _ = ended(f"{ENDS}; time.sleep(0.1); {then}")
    assert found.end == end and found.ends is None


def test_a_traceback_that_no_text_may_hold_is_told() -> None:
    words = msgspec.json.encode(told(Failed("File \udcff, line 1")))
    assert heard(msgspec.json.decode(words, type=Tells)) == Failed("File ?, line 1")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2 M ", 120), ("0.5s", 0.5)]
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1s", "10 days", "m", "1e3", "nan", "9" * 400])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(EcgbenchError, match="expected such as 90s"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "size"), [("4GB", 4 * 10**9), ("500mb", 5 * 10**8), ("1.5 GiB", 1610612736)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "4", "0GB", "4G", "-1GB", "lots", "0.1B", f"{'9' * 400}TB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(EcgbenchError, match="expected such as 4GB"):
        parse_memory(text)
