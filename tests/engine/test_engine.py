"""Jobs in processes of their own give the records of one process, whatever other jobs do, and end with the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

import ecgbench as package
from ecgbench.core.errors import EcgbenchError
from ecgbench.engine.request import Done, Message, Request
from ecgbench.engine.supervisor import COMMAND
from ecgbench.runs.job import CellJob, VictimJob
from tests.command_line import BEATS, TINY, ecgbench, environment, finished, sentence, spawn
from tests.engine.hostile import FILE, HOSTILE
from tests.engine.records import PATIENCE, figures

EPS = ("-e", "0.05")
GRID: dict[str, Any] = {"dataset": BEATS, "model": "linear", "defense": "none[epochs=1]", "eps": 0.05}
LONG = "synthetic-beats[beats=400]"


def test_a_job_that_dies_is_a_failed_row_and_the_others_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as many as this process has: weights depend on the number
    apart, together = tmp_path / "apart", tmp_path / "together"
    bad = "hostile[act=segv]"
    records = package.run(**GRID, attack=["fgsm", bad], store=apart, plugins=[FILE], isolate=True, jobs=2)
    (expected,) = package.run(**GRID, attack="fgsm", store=together)
    assert msgspec.structs.replace(records[0], cost=expected.cost) == expected
    assert (records[1].status, records[1].attack) == ("failed", bad)
    assert str(records[1].error).startswith("signal 11 (SIGSEGV): the job was killed")
    again = ecgbench(apart, "run", *TINY, "-a", "fgsm", *EPS, "--isolate", "--json", ECGBENCH_HOME=str(apart))
    assert again.code == 0 and again.out.encode() == records[0].json() + b"\n"
    words = (*TINY, *HOSTILE, "-a", "pgd", "-a", "fgsm", *EPS, "--isolate", "--json", "--retry", "failed")
    assert [record["attack"] for record in ecgbench(apart, "run", *words).records] == ["fgsm"]
    nothing = ecgbench(apart, "run", *TINY, "-a", "pgd", *EPS, "--isolate", "--retry", "failed")
    assert nothing.code == 0 and nothing.err.startswith("note: none of these cells has failed, and none is kept;")


def test_a_signal_ends_the_jobs_which_leave_their_states(tmp_path: Path) -> None:
    assert ecgbench(tmp_path, "run", *TINY, "-a", "fgsm", *EPS).code == 0
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'[[grid]]\ndataset = "{BEATS}"\nmodel = "linear"\ndefense = "none[epochs=1]"\nattack = "fgsm"\neps = 0.05\n'
        f'[[grid]]\ndataset = "{LONG}"\nmodel = "linear"\ndefense = "none[epochs=1000000]"\nattack = "fgsm"\n'
    )
    states, children = (tmp_path / "store" / "unfinished"), set[psutil.Process]()

    def end_it() -> None:
        while not any(states.glob("victims-*/*.safetensors")):
            time.sleep(0.05)
        children.update(psutil.Process().children(recursive=True))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_it, daemon=True).start()
    answer = ecgbench(tmp_path, "run", str(suite), "--isolate")
    assert answer.code == 130 and "linear none[epochs=1] fgsm" in answer.out
    assert answer.err.splitlines()[-1].startswith("interrupted; what was finished is kept")
    assert children and not any(child.is_running() for child in children)
    assert any(states.glob("victims-*/*.safetensors"))


def asked(folder: Path, defense: str, *plugins: str) -> subprocess.Popen[bytes]:
    """A process that trains a victim."""
    victim: dict[str, Any] = {"dataset": LONG, "model": "linear", "defense": defense, "seed": 0, "plugins": plugins}
    cell = CellJob(**victim, attack="fgsm", threat="linf", protocol="standard", eps=(0.05,))
    store = str(folder / "store")
    request = Request(job=VictimJob(**victim), cells=(cell,), store=store, entries=store)
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, env=environment(folder)
    )
    assert child.stdin is not None
    child.stdin.write(msgspec.json.encode(request) + b"\n")
    child.stdin.flush()
    return child


@pytest.mark.parametrize(
    ("defense", "at_work"),
    [
        ("none[epochs=1000000]", "Epoch"),
        pytest.param("hostile[act=hold]", "held", marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux")),
    ],
)
def test_a_job_ends_when_whoever_started_it_is_gone(defense: str, at_work: str, tmp_path: Path) -> None:
    with asked(tmp_path, defense, FILE) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        heard = child.stdout if at_work == "Epoch" else child.stderr
        while at_work.encode() not in heard.readline():
            assert child.poll() is None
        child.stdin.close()  # as the system does when a process dies
        assert child.wait(PATIENCE) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("act", "reason"),
    [("ask", "EOFError in defense hostile[act=ask]"), ("leak", "the job has too many files open")],
)
def test_a_job_that_has_used_up_its_process_fails_alone(act: str, reason: str, tmp_path: Path) -> None:
    with asked(tmp_path, f"hostile[act={act}]", FILE) as child:
        assert child.stdout is not None
        (*_, last) = child.stdout
    end = msgspec.json.decode(last, type=Message)
    assert isinstance(end, Done) and end.failure is not None and end.failure.reason.startswith(reason)


def test_replaced_code_of_the_host_fails_its_cell_in_one_process_too(tmp_path: Path) -> None:
    acts = [word for act in ("patch_predict", "patch_code") for word in ("-a", f"hostile[act={act}]")]
    answer = ecgbench(tmp_path, "run", *TINY, *HOSTILE, *acts, "-a", "fgsm", *EPS, "--json")
    (expected,) = ecgbench(tmp_path / "honest", "run", *TINY, "-a", "fgsm", *EPS, "--json").records
    assert answer.code == 3 and list(figures(answer).values()) == [expected | {"cost": None}]
    for record, name in zip(answer.records, ("Victim.predict", "Ball.contains"), strict=False):
        assert "expected the code of ecgbench left as it was, got another " + name in record["error"]


def test_missing_recordings_end_the_run(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, "run", "--dataset", "mitbih", *TINY[2:], "-a", "fgsm", "--isolate")
    assert answer.code == 5 and not answer.out


def test_limits_without_processes_are_refused(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, "run", *TINY, "-a", "fgsm", "--no-isolate", "--timeout", "1m")
    assert answer.code == 2 and "--isolate" in sentence(answer)
    for jobs, isolate in ((0, True), (2, False)):
        with pytest.raises(EcgbenchError, match="expected 1 or more, and isolate=True"):
            package.run(**GRID, attack="fgsm", store=tmp_path, isolate=isolate, jobs=jobs)


@pytest.mark.slow
def test_the_second_signal_does_not_wait(tmp_path: Path) -> None:
    process = spawn(tmp_path, "run", *TINY[:-1], "none[epochs=1000000]", "-a", "fgsm", *EPS, "--isolate", "-j", "1")
    while not any((tmp_path / "store" / "unfinished").glob("victims-*/*.safetensors")):
        assert process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert finished(process, PATIENCE).code == 130
    assert children and not any(child.is_running() for child in children)
