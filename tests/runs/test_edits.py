"""Which cells an edit makes missing: told by `plan` on a copy of the source tree, whose results are kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import ecgbench
import ecgbench_plugins

HOST, PLUGINS = (Path(str(package.__file__)).parent for package in (ecgbench, ecgbench_plugins))
VICTIMS, ATTACKS = ("none[epochs=1]", "adaptive[epochs=1]"), ("identity", "noise", "pgd[steps=1]")
PROGRAM = """
import json, sys
from pathlib import Path
import ecgbench
from ecgbench import api
from ecgbench.registry import identity

folder = Path(sys.argv[1])
edits, victims, attacks = json.loads((folder / "edits.json").read_text())
assert Path(ecgbench.__file__).is_relative_to(folder)
def opened():  # a runner that remembers nothing of what was planned before
    return api.open_runner(data={}, store=folder / "home", device="cpu", plugins=(), tell=lambda _: None)

runner = opened()
words = {"dataset": ("synthetic-beats[beats=200]",), "model": ("linear",), "defense": victims, "attack": attacks}
cells = api.unfold((api.Grid(**words, eps=(0.1,), limit=4),), runner.catalog)
assert all(runner.execute(cell).status == "ok" for cell in cells)
plans = {}
for name, files in {"nothing": {}, **edits}.items():
    before = {path: (folder / path).read_text() for path in files}
    for path, text in files.items():
        (folder / path).write_text(text)
    identity._closure.cache_clear()
    plan = opened().plan(cells)
    kinds, name_of = ("defense", "attack"), runner.catalog.canonical
    pairs = ([name_of(kind, getattr(each.cell, kind)) for kind in kinds] for each in plan)
    plans[name] = {" ".join(pair): each.work for pair, each in zip(pairs, plan)}
    for path, text in before.items():
        (folder / path).write_text(text)
print(json.dumps(plans))
"""


def edited(path: str, old: str, new: str) -> dict[str, str]:
    """A file of the tree with its first `old` replaced."""
    text = read(path)
    assert old in text
    return {path: text.replace(old, new, 1)}


def read(path: str) -> str:
    root, _, rest = path.partition("/")
    return ({"ecgbench": HOST, "plugins": PLUGINS.parent}[root] / rest).read_text(encoding="utf-8")


def reformatted(folder: Path) -> dict[str, str]:
    """Every file of core, evaluation and the plugins by another line length, with a comment and another docstring."""
    copy_tree(folder)
    subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length=60", "--quiet", str(folder)], check=True
    )
    paths = [
        path for part in ("ecgbench/core", "ecgbench/evaluation", "plugins") for path in (folder / part).rglob("*.py")
    ]
    texts = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    assert sum(text != read(path) for path, text in texts.items()) > 50
    return {path: text.replace('"""', '"""Edited. ', 1) + "# the end\n" for path, text in texts.items()}


def copy_tree(folder: Path) -> None:
    for root, name in ((HOST, "ecgbench"), (PLUGINS, "plugins/ecgbench_plugins")):
        for path in root.rglob("*.py"):
            copy = folder / name / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())


ALL = {f"{victim} {attack}" for victim in VICTIMS for attack in ATTACKS}
ADVERSARIAL = {cell for cell in ALL if cell.startswith("adaptive")}
BY_PGD = {cell for cell in ALL if "pgd" in cell}
HOOK = '''

@hookspec
def threats() -> Mapping[str, object]:  # type: ignore[empty-body]
    """A further kind of plugin."""
'''
EDITS: Mapping[str, tuple[dict[str, str], set[str], set[str]]] = {
    # the edit, the cells whose victim it makes missing, and those whose outcomes
    "a docstring": (edited("ecgbench/core/threat.py", '"""', '"""Edited. '), set(), set()),
    "a further hook": ({"ecgbench/core/hookspecs.py": read("ecgbench/core/hookspecs.py") + HOOK}, set(), set()),
    "a further preset": (
        edited("plugins/ecgbench_plugins/attacks/pgd.py", '"pgd": PGD(),', '"pgd": PGD(), "pgd7": PGD(steps=7),'),
        set(),
        set(),
    ),
    "words of an error": (edited("ecgbench/core/errors.py", "known: ", "there are: "), set(), set()),
    "the runner": ({"ecgbench/runs/runner.py": read("ecgbench/runs/runner.py") + "MORE = 1\n"}, set(), set()),
    "the threat": ({"ecgbench/core/threat.py": read("ecgbench/core/threat.py") + "MORE = 1\n"}, ALL, ALL),
    "the training": ({"ecgbench/core/training.py": read("ecgbench/core/training.py") + "MORE = 1\n"}, ALL, ALL),
    "the sweep": ({"ecgbench/evaluation/sweep.py": read("ecgbench/evaluation/sweep.py") + "MORE = 1\n"}, set(), ALL),
    "the trial": ({"ecgbench/core/trial.py": read("ecgbench/core/trial.py") + "MORE = 1\n"}, ADVERSARIAL, ALL),
    "an attack": (
        edited("plugins/ecgbench_plugins/attacks/pgd.py", "self.restarts", "(self.restarts + 0)"),
        ADVERSARIAL,
        ADVERSARIAL | BY_PGD,
    ),
    "a defense": (
        edited("plugins/ecgbench_plugins/defenses/adaptive.py", "self.clean", "(self.clean + 0)"),
        ADVERSARIAL,
        ADVERSARIAL,
    ),
    "the model": (
        {"plugins/ecgbench_plugins/models/linear.py": read("plugins/ecgbench_plugins/models/linear.py") + "MORE = 1\n"},
        ALL,
        ALL,
    ),
    "a metric": (
        {"ecgbench/evaluation/metrics.py": read("ecgbench/evaluation/metrics.py") + "MORE = 1\n"},
        set(),
        set(),
    ),
}


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The work that `plan` names for each cell, after each edit."""
    folder = tmp_path_factory.mktemp("tree")
    copy_tree(folder)
    edits = {name: files for name, (files, _, _) in EDITS.items()}
    edits["another layout"] = reformatted(tmp_path_factory.mktemp("reformatted"))
    (folder / "edits.json").write_text(json.dumps([edits, VICTIMS, ATTACKS]))
    path = os.pathsep.join([str(folder), str(folder / "plugins")])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", ["nothing", "another layout"])
def test_no_cell_is_missing_after_an_edit_that_says_nothing(name: str, plans: dict[str, dict[str, str]]) -> None:
    assert plans[name] == dict.fromkeys(plans["nothing"], "none") and len(plans[name]) == len(ALL)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_makes_exactly_the_cells_missing_that_use_it(name: str, plans: dict[str, dict[str, str]]) -> None:
    _, trained, attacked = EDITS[name]
    expected = {cell: "train" if cell in trained else "attack" if cell in attacked else "none" for cell in ALL}
    if name == "a metric":
        expected = dict.fromkeys(ALL, "score")
    assert plans[name] == expected
