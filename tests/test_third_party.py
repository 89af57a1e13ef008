"""A stranger's plugin, installed from its own wheel beside the host's, is as good as a built-in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "plugins" / "example"


@dataclass(frozen=True)
class Place:
    """A throw-away environment: the two wheels, and the libraries of the running one behind them."""

    home: Path

    def run(self, name: str, *arguments: str) -> str:
        """What a program of the environment prints."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ECGBENCH"))}
        done = subprocess.run(
            [self.home / "venv" / "bin" / name, *arguments],
            cwd=self.home,
            env=own | {"ECGBENCH_HOME": str(self.home / "kept"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def python(*arguments: str) -> None:
    """Run a module of the running environment."""
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("stranger")
    wheels = home / "wheels"
    for source in (ROOT, EXAMPLE):
        python("build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(source))
    venv.create(home / "venv")
    inside = home / "venv" / "bin" / "python"
    install = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    python("pip", "--python", str(inside), *install, *map(str, sorted(wheels.iterdir())))
    paths = {"base": str(home / "venv"), "platbase": str(home / "venv")}
    libraries = sysconfig.get_path("purelib")
    # after the environment's own folder, so that ecgbench is the wheel's; .pth files in there are not read
    Path(sysconfig.get_path("purelib", vars=paths), "libraries.pth").write_text(f"{libraries}\n", encoding="utf-8")
    return Place(home)


def test_both_wheels_are_what_runs(place: Place) -> None:
    found = place.run("python", "-c", "import ecgbench, ecgbench_example as e; print(ecgbench.__file__, e.__file__)")
    assert all(Path(file).is_relative_to(place.home) for file in found.split())


def test_the_attack_is_listed_under_its_own_distribution(place: Place) -> None:
    lines = place.run("ecgbench", "list", "attacks").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("attacks of ecgbench-example "))
    assert lines[at + 1].split()[0] == "powerline"


def test_the_plugins_own_contract_test_passes(place: Place) -> None:
    tests = EXAMPLE / "tests"
    options = ("-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(place.home))
    assert "1 passed" in place.run("python", "-B", "-m", "pytest", *options, str(tests))


def test_it_runs_from_the_command_line_to_the_board(place: Place) -> None:
    board = place.home / "leaderboard"
    victim = ("--model", "mlp", "--defense", "none[epochs=2]", "--dataset", "synthetic-beats[beats=1000]")
    attack = ("--attack", "powerline", "--limit", "50", "--results", str(board / "results"), "--json")
    record = json.loads(place.run("ecgbench", "run", *victim, *attack))
    assert (record["status"], record["attack"], record["n"]) == ("ok", "powerline", 50)
    assert record["scores"][-1]["acc"] <= record["scores"][0]["acc"]
    place.run("ecgbench", "board", "build", "--leaderboard", str(board))
    assert any("powerline" in page.read_text(encoding="utf-8") for page in board.rglob("*.md"))
    place.run("ecgbench", "board", "check", "--leaderboard", str(board))


def test_its_result_is_packed_and_checked_in_one_command(place: Place) -> None:
    victim = ("--model", "mlp", "--defense", "none[epochs=2]", "--dataset", "synthetic-beats[beats=1000]")
    record = json.loads(place.run("ecgbench", "run", *victim, "--attack", "powerline[phases=2]", "--json"))
    said = place.run("ecgbench", "submit", "pack", record["key"][:12], "mine")
    assert said.startswith("reproduced: results/") and said.endswith(": no fault.\n")
