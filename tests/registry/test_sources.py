"""A result is made of the source it imports, transitively, and of nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from ecgbench.registry import sources
from ecgbench.registry.sources import NEUTRAL, closure, counts, edited, meaning

TREE = {
    "thirdparty/__init__.py": "",
    "thirdparty/shared.py": "import math\nSTEP = 0.1\n",
    "thirdparty/attacks/__init__.py": "",
    "thirdparty/attacks/fast.py": "from thirdparty.shared import STEP\nfrom ecgbench.core.iteration import descend\n",
    "thirdparty/attacks/slow.py": "from . import fast\nfrom ..deep import inner\n",
    "thirdparty/attacks/lone.py": "import numpy\nimport torch.nn\n",
    "thirdparty/deep.py": "def inner():\n    from thirdparty import late\n    return late\n",
    "thirdparty/late.py": "",
    "neighbour/__init__.py": "VALUE = 1\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write(tmp_path / "tree", TREE)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


def of(tree: Path, *modules: str) -> dict[str, str]:
    return closure(modules, [str(tree), *sys.path])


def own(found: Iterable[str]) -> set[str]:
    return {name.removeprefix("thirdparty.") for name in found if not name.startswith("ecgbench.")}


@pytest.mark.parametrize(
    ("module", "made_of"),
    [
        ("lone", {"attacks.lone"}),
        ("fast", {"attacks.fast", "shared"}),
        ("slow", {"attacks.slow", "attacks.fast", "shared", "deep", "late"}),
    ],
)
def test_a_module_is_made_of_what_it_imports_from_its_own_distribution(
    tree: Path, module: str, made_of: set[str]
) -> None:
    found = of(tree, f"thirdparty.attacks.{module}")
    assert own(found) == made_of | {"thirdparty", "attacks"}
    assert "unknown" not in found.values()


@pytest.mark.parametrize("edited", ["shared", "attacks.fast", "attacks.slow", "attacks.lone", "deep", "late"])
def test_an_edited_line_changes_the_closures_that_hold_its_module_and_no_others(tree: Path, edited: str) -> None:
    modules = [f"thirdparty.attacks.{name}" for name in ("fast", "slow", "lone")]
    before = {module: of(tree, module) for module in modules}
    file = tree / "thirdparty" / (edited.replace(".", "/") + ".py")
    file.write_text(file.read_text() + "MORE = 1\n")
    for module in modules:
        changed = {name for name, digest in of(tree, module).items() if digest != before[module][name]}
        assert changed == ({f"thirdparty.{edited}"} if f"thirdparty.{edited}" in before[module] else set())


CODE = '''"""What it is."""

from math import (
    pi,
)

from ecgbench import Attack, hookimpl  # of the host

STEP: float = 0.1
"""In units of eps."""


class Fast(Attack):
    """Steps."""

    def perturb(self, trial, rng):
        """One step."""
        if rng is None:
            raise ValueError(f"no {rng!r:>9}" + 'draws')
        return trial.ball.project(STEP * pi, *trial, key="a" "b")


class Plain(Fast):
    """The same."""


@hookimpl
def attacks():
    """By name."""
    return {"fast": Fast()}
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        ("  # of the host", ""),
        ("What it is.", "What it was."),
        ("One step.", "Two steps."),
        ('    """Steps."""\n', ""),
        ("In units of eps.", "In mV."),
        ('"""In units of eps."""\n', ""),
        ("(\n    pi,\n)", "pi"),
        ("STEP * pi, ", "\n            STEP\n            * pi,\n            # why\n            "),
        ("'draws'", '"draws"'),
        ('"a" "b"', '"ab"'),
        ("0.1", "1e-1"),
        ('    """The same."""\n', "    pass\n"),
        ('    """The same."""\n', "    ...\n"),
        ('{"fast": Fast()}', '{"fast": Fast(), "faster": Fast(steps=2)}'),
        ("\n\n\n", "\n\n"),
    ],
)
def test_comments_docstrings_layout_and_presets_say_nothing(old: str, new: str) -> None:
    assert old in CODE and meaning(CODE.replace(old, new).encode()) == meaning(CODE.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.1", "0.2"),
        ("0.1", "-0.1"),
        ("STEP * pi", "STEP + pi"),
        ("STEP * pi", "pi * STEP"),
        ("*trial", "trial"),
        ("is None", "is not None"),
        ('key="a" "b"', "key=None"),
        ('key="a" "b"', 'key="a", other="b"'),
        ("!r:>9", "!s:>9"),
        (":>9", ":>8"),
        ("rng):", "rng=None):"),
        ("(Attack)", "(Attack, object)"),
        ("STEP: float", "STEP: int"),
        ("@hookimpl\n", ""),
        ("return {", "STEP = 2; return {"),
        ("Fast()}", "Fast(key=lambda x: x)}"),
        ("return trial.ball", "return 2 * trial.ball"),
    ],
)
def test_every_expression_says_something(old: str, new: str) -> None:
    assert old in CODE and meaning(CODE.replace(old, new).encode()) != meaning(CODE.encode())


@pytest.mark.parametrize(
    ("one", "other"), [("[1, [2]]", "[[1, 2]]"), ("None", "'None'"), ("b'a'", "'a'"), ("1", "1.0")]
)
def test_values_that_look_alike_differ(one: str, other: str) -> None:
    assert meaning(f"x = {one}".encode()) != meaning(f"x = {other}".encode())


def test_a_meaning_is_the_same_in_every_version_of_python() -> None:
    said = "Module(body=[Assign(targets=[Name(id='x',ctx=Store())],value=Constant(value=0.5))])"
    assert meaning(b"x = 0.5  # half") == said


def test_an_edited_comment_changes_no_closure(tree: Path) -> None:
    before = of(tree, "thirdparty.attacks.fast")
    write(tree, {"thirdparty/shared.py": '"""New."""\nimport math  # why\n\n\nSTEP = (\n    0.1\n)\n'})
    assert of(tree, "thirdparty.attacks.fast") == before


def test_what_was_edited_since_is_told_from_the_digests_alone(tree: Path) -> None:
    before = of(tree, "thirdparty.attacks.fast") | {"elsewhere.attack": "0" * 16, "ecgbench.core.gone": "0" * 16}
    assert edited(before, [str(tree), *sys.path]) == ["ecgbench.core.gone"]
    write(tree, {"thirdparty/shared.py": "STEP = 0.2\n"})
    assert edited(before, [str(tree), *sys.path]) == ["thirdparty.shared", "ecgbench.core.gone"]


def test_another_folder_and_another_order_of_modules_give_the_same_digests(tree: Path, tmp_path: Path) -> None:
    moved = write(tmp_path / "elsewhere" / "deeper", TREE)
    modules = ("thirdparty.attacks.slow", "thirdparty.attacks.lone")
    assert of(moved, *modules[::-1]) == of(tree, *modules)
    assert list(of(tree, *modules)) == sorted(of(tree, *modules))


@pytest.mark.parametrize(
    "line",
    [
        "import thirdparty.shared",
        "import thirdparty.shared as other",
        "from thirdparty import shared",
        "from thirdparty.shared import STEP",
        "from thirdparty.shared import *",
        "from .. import shared",
        "from ..shared import STEP",
        "def f():\n    import thirdparty.shared",
        "if True:\n    from ..shared import STEP as step",
        "class A:\n    from thirdparty import shared as s",
        "import os, thirdparty.shared",
    ],
)
def test_every_form_of_import_is_followed(tree: Path, line: str) -> None:
    write(tree, {"thirdparty/attacks/fresh.py": line + "\n"})
    assert own(of(tree, "thirdparty.attacks.fresh")) == {"thirdparty", "attacks", "attacks.fresh", "shared"}


def test_a_relative_import_in_a_package_file_begins_at_the_package(tree: Path) -> None:
    write(tree, {"thirdparty/attacks/__init__.py": "from .fast import STEP\n"})
    assert "shared" in own(of(tree, "thirdparty.attacks.lone"))


def test_imports_in_a_circle_end(tree: Path) -> None:
    write(tree, {"thirdparty/late.py": "from thirdparty.attacks import slow\n"})
    assert own(of(tree, "thirdparty.late")) == {
        "thirdparty",
        "attacks",
        "attacks.slow",
        "attacks.fast",
        "shared",
        "deep",
        "late",
    }


def test_libraries_and_other_distributions_are_not_followed(tree: Path) -> None:
    write(tree, {"thirdparty/attacks/lone.py": "import numpy, wfdb\nimport neighbour\n"})
    assert own(of(tree, "thirdparty.attacks.lone")) == {"thirdparty", "attacks", "attacks.lone"}


def test_a_plugin_in_one_file_counts_what_lies_beside_it(tree: Path) -> None:
    write(tree, {"myattack.py": "import myhelper\nimport json\n", "myhelper.py": "import mydepth\n", "mydepth.py": ""})
    assert set(of(tree, "myattack")) == {"myattack", "myhelper", "mydepth"}


def test_a_module_without_a_source_is_unknown(tree: Path) -> None:
    assert of(tree, "thirdparty.attacks.fast", "__main__.notebook", "nowhere")["nowhere"] == "unknown"
    assert of(tree, "itertools")["itertools"] == "unknown"


def test_a_folder_without_init_is_read_and_not_taken_for_edited(tree: Path) -> None:
    write(tree, {"ecgbench_plugins/__init__.py": "", "ecgbench_plugins/more/adapters/art.py": "STEP = 1\n"})
    places = [str(tree)]
    found = closure(["ecgbench_plugins.more.adapters.art"], places)
    assert found["ecgbench_plugins.more.adapters.art"] != "unknown" == found["ecgbench_plugins.more.adapters"]
    assert not edited(found, places)
    write(tree, {"ecgbench_plugins/more/adapters/art.py": "STEP = 2\n"})
    assert edited(found, places) == ["ecgbench_plugins.more.adapters.art"]


def test_nothing_is_imported_to_be_read(tree: Path) -> None:
    write(tree, {"thirdparty/attacks/lone.py": "raise SystemExit('imported')\n"})
    of(tree, "thirdparty.attacks.lone")
    assert not [name for name in sys.modules if name.startswith("thirdparty")]


# the host


def host(tree: Path, *modules: str) -> set[str]:
    return {name for name in of(tree, *modules) if name.startswith("ecgbench.")}


def test_a_plugin_is_made_of_the_host_modules_it_uses_and_theirs(tree: Path) -> None:
    found = host(tree, "thirdparty.attacks.fast")
    assert {
        "ecgbench.core.iteration",
        "ecgbench.core.trial",
        "ecgbench.core.threat",
        "ecgbench.core.random",
        "ecgbench.core.data",
    } <= found
    assert not {"ecgbench.core.training", "ecgbench.evaluation.metrics", "ecgbench.evaluation.sweep"} & found


def test_host_modules_of_other_packages_are_in_no_closure(tree: Path) -> None:
    lines = "".join(
        f"import ecgbench.{name}\n"
        for name in ("runs.runner", "storage.store", "cli.run", "registry.selector", "core.training", "api")
    )
    write(
        tree,
        {
            "thirdparty/attacks/lone.py": lines
            + "from ecgbench import hookimpl, run\nfrom ecgbench.leaderboard.board import render\n"
        },
    )
    found = host(tree, "thirdparty.attacks.lone")
    assert "ecgbench.core.training" in found and all(map(counts, found))


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_neutral_module_is_there_and_in_no_closure(name: str, tree: Path) -> None:
    package, module = name.split(".")
    assert (Path(str(sources.__file__)).parents[1] / package / f"{module}.py").is_file()
    write(tree, {"thirdparty/attacks/lone.py": f"from ecgbench.{package} import {module}\n"})
    assert host(tree, "thirdparty.attacks.lone") == set()
    assert not counts(f"ecgbench.{name}")


def test_a_hook_alone_makes_no_module_of_the_host_count(tree: Path) -> None:
    write(tree, {"thirdparty/attacks/lone.py": "from ecgbench import EcgbenchError, hookimpl\n"})
    assert host(tree, "thirdparty.attacks.lone") == set()


def test_what_the_host_imports_for_annotations_counts_only_where_it_is_used(tree: Path) -> None:
    line = "if TYPE_CHECKING:\n    from ecgbench.core.trial import Trial\n"
    write(tree, {"thirdparty/attacks/lone.py": "from ecgbench import Model\n"})
    assert "ecgbench.core.trial" not in host(tree, "thirdparty.attacks.lone")
    write(tree, {"thirdparty/attacks/lone.py": line})
    assert "ecgbench.core.trial" in host(tree, "thirdparty.attacks.lone")


@pytest.mark.parametrize("module", ["attacks.pgd", "models.mlp", "defenses.adaptive", "datasets.synthetic_beats"])
def test_a_built_in_plugin_is_known_and_needs_no_module_of_other_packages(tree: Path, module: str) -> None:
    found = of(tree, f"ecgbench_plugins.{module}")
    assert "unknown" not in found.values()
    assert all(counts(name) for name in found if name.startswith("ecgbench."))
    assert f"ecgbench_plugins.{module}" in found


def test_an_adversarial_training_is_made_of_its_attack_and_an_attack_of_no_other(tree: Path) -> None:
    assert "ecgbench_plugins.attacks.pgd" in of(tree, "ecgbench_plugins.defenses.adaptive")
    assert "ecgbench_plugins.attacks.fgsm" not in of(tree, "ecgbench_plugins.attacks.pgd")


@pytest.mark.parametrize(
    ("edited", "changed"),
    [("core/threat", {"ecgbench.core.threat"}), ("core/training", set()), ("runs/runner", set())],
)
def test_an_edited_host_module_counts_where_it_is_used_and_only_in_layers_that_count(
    tree: Path, edited: str, changed: set[str]
) -> None:
    root = Path(str(sources.__file__)).parents[1]
    copy = write(tree, {f"ecgbench/{file.relative_to(root)}": file.read_text() for file in root.rglob("*.py")})
    before = in_another_process(copy)
    write(copy, {f"ecgbench/{edited}.py": (root / f"{edited}.py").read_text() + "MORE = 1\n"})
    after = in_another_process(copy)
    assert {name for name in before if before[name] != after[name]} == changed
    assert before.keys() == after.keys() and "thirdparty.attacks.fast" in before


def in_another_process(folder: Path) -> dict[str, str]:
    """The closure of an attack where the host is the copy in `folder`."""
    program = (
        "import sys, ecgbench.registry.sources as s; "
        "print(s.closure(['thirdparty.attacks.fast'], sys.path)); print(s.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    digests, file = done.stdout.splitlines()
    assert Path(file).parent == folder / "ecgbench" / "registry"
    return dict(ast.literal_eval(digests))
