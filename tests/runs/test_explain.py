"""An edit makes missing what it can change and nothing else, and `explain` names it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import TINY, ecgbench, environment, sentence, stages, stamps
from tests.plugins.datasets.test_mitbih import tree

PROJECT = Path(__file__).parents[2]
ATTACKS = ("fgsm", "identity", "pgd[steps=2]")
GRID = (*TINY, *(word for attack in ATTACKS for word in ("--attack", attack)), "--eps", "0.05")
FGSM = (*TINY, "--attack", "fgsm", "--eps", "0.05")

EACH = """
import json, sys
import ecgbench, ecgbench_plugins
from ecgbench.cli import main
assert all(module.__file__.startswith(sys.argv[1]) for module in (ecgbench, ecgbench_plugins))
for words in json.loads(sys.argv[2]):
    sys.argv = ["ecgbench", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
    print(flush=True)
"""


@dataclass(frozen=True)
class Copy:
    """A throw-away copy of the project, a store of its own, and the keys of the cells it has run by attack."""

    root: Path
    home: Path

    def commands(self, *commands: Sequence[str]) -> list[str]:
        """What each command prints, all run by one fresh process from the code as it is now."""
        paths = f"{self.root}:{self.root / 'plugins'}"
        done = subprocess.run(
            [sys.executable, "-c", EACH, str(self.root), json.dumps(commands)],
            env=environment(self.home, PYTHONPATH=paths, PYTHONDONTWRITEBYTECODE="1"),
            cwd=self.home, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n\n")[:-1]

    @contextmanager
    def edited(self, edits: dict[str, tuple[str, str]]) -> Iterator[None]:
        """Files with a text replaced, for a while; "" is the end of the file."""
        before = {name: (self.root / name).read_text() for name in edits}
        for name, (old, new) in edits.items():
            assert old in before[name], name
            (self.root / name).write_text(before[name].replace(old, new, 1) if old else before[name] + new)
        yield
        for name, text in before.items():
            (self.root / name).write_text(text)


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Copy, dict[str, str]]:
    root, home = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("home")
    for name in ("ecgbench", "plugins/ecgbench_plugins"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    made = Copy(root, home)
    (records,) = made.commands(("run", *GRID, "--json", "--no-isolate"))
    return made, {record["attack"]: record["key"] for record in lines(records)}


CODE = ("", "EDITED = True\n")
ATTACK, DATA = "plugins/ecgbench_plugins/attacks", "plugins/ecgbench_plugins/datasets"
OTHER = (
    *("__init__", "api", "core/__init__", "runs/runner", "leaderboard/board", "registry/catalog", "runs/cell"),
    *("cli/__init__", "cli/run", "results/published", "results/record", "runs/scoring", "registry/selector"),
    *("registry/sources", "storage/store", "runs/suite", "runs/explain"),
)
EDITS = {
    "nothing": ({}, "none", "none", []),
    "packages that change no number": ({f"ecgbench/{name}.py": CODE for name in OTHER}, "none", "none", []),
    "one attack": ({f"{ATTACK}/pgd.py": CODE}, "attack", "none", ["sources.ecgbench_plugins.attacks.pgd: changed"]),
    "a line ending": ({f"{ATTACK}/pgd.py": ("\n", "\r\n")}, "none", "none", []),
    "the metrics": (
        {"ecgbench/evaluation/metrics.py": ("1000", "500")},
        "score",
        "score",
        ["sources.ecgbench.evaluation.metrics: changed"],
    ),
    "the checks": ({"ecgbench/checks/cheap.py": CODE}, "check", "check", ["sources.ecgbench.checks.cheap: changed"]),
    "the training": (
        {"ecgbench/core/training.py": CODE},
        "train",
        "train",
        ["sources.ecgbench.core.training: changed"],
    ),
    "a part of the data's recipe": (
        {f"{DATA}/mcsharry.py": CODE},
        "train",
        "train",
        ["sources.ecgbench_plugins.datasets.mcsharry: changed"],
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_makes_missing_what_it_can_change_and_why_names_it(
    edit: str, copy: tuple[Copy, dict[str, str]]
) -> None:
    project, keys = copy
    edits, pgd, others, named = EDITS[edit]
    with project.edited(edits):
        plan, why = project.commands(("plan", *GRID, "--json"), ("explain", keys["pgd[steps=2]"][:12]))
    works = {cell["attack"]: cell["work"] for cell in lines(plan)}
    assert works == {"fgsm": others, "identity": others, "pgd[steps=2]": pgd}
    first, *differences = why.splitlines()
    assert [line.strip() for line in differences] == named
    assert ("nothing is missing" in first) == (pgd == "none")


@pytest.mark.parametrize(
    ("edit", "kept"), [("the metrics", ["victims", "outcomes", "checks"]), ("the checks", ["victims", "outcomes"])]
)
def test_an_edited_metric_or_check_is_made_again_without_an_attack(
    edit: str, kept: list[str], copy: tuple[Copy, dict[str, str]]
) -> None:
    project, keys = copy
    before = {path: stamp for path, stamp in stamps(project.home).items() if path.parent.parent.name in kept}
    with project.edited(EDITS[edit][0]):
        (records,) = project.commands(("run", *FGSM, "--json", "--no-isolate"))
    (record,) = lines(records)
    after = stamps(project.home)
    assert {path: after[path] for path in before} == before
    assert [len(stages(project.home)[stage]) for stage in kept] == [1, 3, 3][: len(kept)]
    assert record["uncertainty"]["draws"] == (500 if edit == "the metrics" else 1000)
    assert record["key"] != keys["fgsm"] and record["key"] in stages(project.home)["records"]


# parameters and recordings


def test_a_kept_cell_lacks_nothing(tmp_path: Path) -> None:
    key = ecgbench(tmp_path, "run", *FGSM, "--json").records[0]["key"]
    assert ecgbench(tmp_path, "explain", key[:8]).out == f"{key[:12]} is kept; nothing is missing.\n"


def why(home: Path, *options: str) -> list[str]:
    """What `explain` says of the one cell that these options plan."""
    (cell,) = ecgbench(home, "plan", *options, "--json").records
    whole = ecgbench(home, "explain", cell["key"]).out.replace("\n    ", " ")  # lines are folded for a terminal
    first, *differences = whole.splitlines()
    assert first.startswith(f"{cell['key'][:12]} is missing: ")
    return [first.partition(": ")[2], *(line.strip() for line in differences)]


def test_the_first_cell_of_all_lacks_everything(tmp_path: Path) -> None:
    assert why(tmp_path, *FGSM) == ["no victim is kept here at all."]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seed", "1"), ["victim", "seed: 1, was 0"]),
        (("--eps", "0.07"), ["attack", "eps: ['0.05', '0.07'], was ['0.05']"]),
        (("--limit", "9"), ["attack", "limit: 9, was nothing"]),
        (("--threat", "linf[mask=off]"), ["attack", "threat.fields.mask: False, was True"]),
        (("--protocol", "standard[success=last]"), ["attack", "protocol.fields.success: last, was first"]),
    ],
    ids=lambda each: each[0],
)
def test_why_names_the_part_that_differs(options: tuple[str, ...], said: list[str], tmp_path: Path) -> None:
    assert ecgbench(tmp_path, "run", *FGSM).code == 0
    stage, *differences = said
    assert why(tmp_path, *FGSM, *options) == [f"the nearest {stage} that is kept differs in", *differences]


def test_why_compares_with_the_nearest_result(tmp_path: Path) -> None:
    assert ecgbench(tmp_path, "run", *FGSM, "--seed", "0,3").code == 0
    changed = [*FGSM[:5], "none[epochs=2]", *FGSM[6:], "--seed", "3"]
    assert why(tmp_path, *changed)[1:] == ["defense.fields.epochs: 2, was 1"]


def test_why_names_changed_recordings(tmp_path: Path) -> None:
    data = tree(tmp_path / "data" / "mitdb")
    options = ("--dataset", "mitbih", *FGSM[2:])
    assert ecgbench(tmp_path, "run", *options).code == 0
    with (data / "118.atr").open("ab") as file:
        file.write(b"\0\0")
    (_, difference) = why(tmp_path, *options)
    assert difference.startswith("data: ") and ", was " in difference


def test_a_key_is_found_by_its_beginning_if_that_is_one_cells_alone(tmp_path: Path) -> None:
    ecgbench(tmp_path, "plan", *FGSM, "--seed", "0,1")
    answer = ecgbench(tmp_path, "explain", "")
    assert "2 known cells begin with ''" in sentence(answer) and answer.code == 2


def test_a_plan_edited_by_hand_is_said_in_one_sentence(tmp_path: Path) -> None:
    (cell,) = ecgbench(tmp_path, "plan", *FGSM, "--json").records
    (path,) = (tmp_path / "store" / "plans").iterdir()
    for text in ("{", "[]", "{}", '{"dataset": 3}'):
        path.write_text(text)
        answer = ecgbench(tmp_path, "explain", cell["key"])
        assert "cannot be read; plan it again" in sentence(answer) and answer.code == 2
