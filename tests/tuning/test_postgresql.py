"""A study on a real PostgreSQL, which the test starts on the loopback interface in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import ecgbench, finished, spawn
from tests.tuning.test_study import TUNE

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
INITDB = shutil.which("initdb") or (None if PROGRAMS is None else shutil.which("initdb", path=str(PROGRAMS)))
SERVER = "postgres"


def owner() -> str | None:
    """Who runs the server: its own user where the tests run as root, whom it refuses."""
    return SERVER if os.geteuid() == 0 else None


def can_run() -> bool:
    if INITDB is None:
        return False
    try:
        return owner() is None or bool(pwd.getpwnam(SERVER))
    except KeyError:
        return False


def do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, user=owner(), cwd="/")


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a fresh server's database."""
    assert INITDB is not None
    programs = Path(INITDB).resolve().parent
    folder = Path(tempfile.mkdtemp())
    if owner() is not None:
        shutil.chown(folder, SERVER)
    data = folder / "data"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    control = (str(programs / "pg_ctl"), "--pgdata", str(data), "--wait")
    try:
        do(INITDB, "--pgdata", str(data), "--auth", "trust", "--username", "tuner", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        do(*control, "--log", str(folder / "log"), "--options", options, "start")
        try:
            yield f"postgresql://tuner@127.0.0.1:{port}/postgres"
        finally:
            do(*control, "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.postgresql
@pytest.mark.skipif(not can_run(), reason="needs the programs of a PostgreSQL server, such as Debian's postgresql")
def test_two_processes_share_a_study_in_postgresql(url: str, tmp_path: Path) -> None:
    import optuna

    options = ("--trials", "8", "--storage", url, "--study", "shared")
    toys = str(tmp_path / "toys")
    other = spawn(tmp_path, *TUNE, *options, TOYS=toys, PAUSE="0.2")
    mine = ecgbench(tmp_path, *TUNE, *options, TOYS=toys, PAUSE="0.2")
    theirs = finished(other)
    assert mine.code == 0 and theirs.code == 0, (mine, theirs)
    begun = [line.split()[1] for line in (tmp_path / "toys").read_text().splitlines()]
    assert len(begun) == len(set(begun)) == 8
    kept = optuna.load_study(study_name="shared", storage=url.replace("postgresql:", "postgresql+psycopg:"))
    assert len([trial for trial in kept.trials if trial.value is not None]) == 8
    assert not (tmp_path / "tuning.db").exists()
