"""A grid survives its cells: whatever one of them does, the others' records are those of a run without it."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.command_line import BEATS, TINY, Answer, finished, spawn, wait_for
from tests.engine.hostile import ACTS

HOSTILE = ("-p", str(Path(__file__).with_name("hostile.py")))
HONEST = ("-a", "fgsm", "-a", "identity")
EPS = ("-e", "0.05")
FAILS = {
    "boom": r"RuntimeError in {who}, hostile.py line \d+: boom \| <b>pipe</b> `tick`",
    "kbd": r"KeyboardInterrupt in {who}, hostile.py line \d+",
    "osexit": r"exit 3: the job's process ended without a result.*",
    "osexit0": r"exit 0: the job's process ended without a result.*",
    "segv": r"signal 11 \(SIGSEGV\): the job was killed.*",
    "memory": r"memory: the job was ended when it held more than 1\.5 GB",
    "patch_predict": r".*expected the code of ecgbench left as it was, got another .*Victim\.predict.*",
}
LIMITS = ("--memory", "1.5GB")
PATIENCE = 1800
"""Seconds: on a machine with much else to do, a fresh interpreter alone may take a minute."""


def isolated(home: Path, *words: str) -> Answer:
    home.mkdir(exist_ok=True)
    return finished(spawn(home, "run", *words, "--isolate", "--json"), PATIENCE)


def figures(answer: Answer, of: str = "ok") -> dict[str, dict[str, Any]]:
    """Records by what they are of, but for their cost."""
    chosen = [record for record in answer.records if record["status"] == of]
    return {
        " ".join(str(record[kind]) for kind in ("model", "defense", "attack", "seed")): record | {"cost": None}
        for record in chosen
    }


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What a run in one process, without any hostile plugin, gives."""
    home = tmp_path_factory.mktemp("honest")
    answer = finished(spawn(home, "run", *TINY, *HONEST, *EPS, "--json", "--no-isolate"), PATIENCE)
    assert answer.code == 0, answer
    return figures(answer)


def test_jobs_at_once_and_apart_give_the_bytes_of_one_process(honest: dict[str, Any], tmp_path: Path) -> None:
    for jobs in ("1", "2"):
        answer = isolated(tmp_path / jobs, *TINY, *HONEST, *EPS, "--jobs", jobs)
        assert answer.code == 0 and figures(answer) == honest
    again = isolated(tmp_path / "2", *TINY, *HONEST, *EPS)
    assert again.out == answer.out


def test_bad_attacks_are_failed_rows_and_the_others_are_as_without_them(honest: dict[str, Any], tmp_path: Path) -> None:
    acts = [word for act in FAILS for word in ("-a", f"hostile[act={act}]")]
    answer = isolated(tmp_path, *TINY, *HOSTILE, *acts, *HONEST, *EPS, *LIMITS)
    assert answer.code == 3 and figures(answer) == honest, answer.err
    found = {record["attack"]: record["error"] for record in answer.records if record["status"] == "failed"}
    assert len(found) == len(FAILS)
    for act, reason in FAILS.items():
        name = "hostile" if act == "boom" else f"hostile[act={act}]"
        assert re.fullmatch(reason.format(who=re.escape(f"attack {name}")), found[name]), found[name]
    kept = isolated(tmp_path, *TINY, *HONEST, *EPS)
    assert kept.code == 0 and figures(kept) == honest
    again = isolated(
        tmp_path, *TINY, *HOSTILE, "-a", "hostile[act=osexit]", "-a", "pgd", *HONEST, *EPS, "--retry", "failed"
    )
    assert [record["attack"] for record in again.records] == ["hostile[act=osexit]", "fgsm", "identity"]
    assert len(list((tmp_path / "store" / "failures").iterdir())) == len(FAILS)


@pytest.mark.parametrize(("option", "kind"), [("-m", "model"), ("-D", "defense")])
def test_a_bad_victim_fails_all_its_cells_and_no_others(
    option: str, kind: str, honest: dict[str, Any], tmp_path: Path
) -> None:
    words = ("--dataset", BEATS, "-m", "linear", "-D", "none[epochs=1]", *HOSTILE, option, "hostile[act=segv]")
    answer = isolated(tmp_path, *words, *HONEST, *EPS)
    assert answer.code == 3 and figures(answer) == honest
    failed = [record for record in answer.records if record["status"] == "failed"]
    assert len(failed) == 2 and all(record[kind] == "hostile[act=segv]" for record in failed)
    assert all(record["error"].startswith("signal 11 (SIGSEGV)") for record in failed)


def test_killed_workers_are_begun_again(honest: dict[str, Any], tmp_path: Path) -> None:
    process = spawn(tmp_path, "run", *TINY, *HONEST, *EPS, "--isolate", "--json")
    killed = 0
    while killed < 3 and process.poll() is None:
        for child in psutil.Process(process.pid).children():
            time.sleep(0.5)
            child.kill()
            killed += 1
        time.sleep(0.02)
    answer = finished(process, PATIENCE)
    assert killed >= 3 and answer.code == 0 and figures(answer) == honest, answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_jobs_and_leaves_their_states(number: signal.Signals, tmp_path: Path) -> None:
    assert isolated(tmp_path, *TINY, "-a", "fgsm", *EPS).code == 0
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'[[grid]]\ndataset = "{BEATS}"\nmodel = "linear"\ndefense = "none[epochs=1]"\nattack = "fgsm"\neps = 0.05\n'
        '[[grid]]\ndataset = "synthetic-beats[beats=400]"\nmodel = "linear"\ndefense = "none[epochs=1000000]"\n'
        'attack = "fgsm"\neps = 0.05\n'
    )
    process = spawn(tmp_path, "run", str(suite), "--isolate")
    wait_for(process, lambda: any((tmp_path / "store" / "unfinished").glob("victims-*/*.safetensors")), PATIENCE)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    answer = finished(process, PATIENCE)
    assert answer.code == 130 and "linear none[epochs=1] fgsm" in answer.out
    assert answer.err.splitlines()[-1].startswith("interrupted; what was finished is kept")
    assert children and not any(child.is_running() for child in children)
    assert any((tmp_path / "store" / "unfinished").glob("victims-*/*.safetensors"))


def test_missing_recordings_end_the_run(tmp_path: Path) -> None:
    answer = isolated(tmp_path, "--dataset", "mitbih", *TINY[2:], "-a", "fgsm")
    assert answer.code == 5 and not answer.out


def test_limits_without_processes_are_refused(tmp_path: Path) -> None:
    answer = finished(spawn(tmp_path, "run", *TINY, "-a", "fgsm", "--no-isolate", "--timeout", "1m"))
    assert answer.code == 2 and "--isolate" in answer.err


@pytest.mark.slow
@pytest.mark.parametrize(("option", "kind"), [("-a", "attack"), ("-m", "model"), ("-D", "defense")])
def test_every_act_leaves_the_others_as_they_are(
    option: str, kind: str, honest: dict[str, Any], tmp_path: Path
) -> None:
    acts = [word for act in ACTS for word in (option, f"hostile[act={act}]")]
    words = ("--dataset", BEATS, "-m", "linear", "-D", "none[epochs=1]", *HONEST, *EPS)
    answer = isolated(tmp_path, *words, *HOSTILE, *acts, *LIMITS, "--timeout", "120s")
    assert answer.code == 3
    rows = figures(answer) | figures(answer, "failed")
    for name, expected in honest.items():
        assert json.dumps(rows[name]) == json.dumps(expected)
    kept = isolated(tmp_path, *words)
    assert kept.code == 0 and figures(kept) == honest
