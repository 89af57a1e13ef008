"""The documentation is true: its code runs, its commands parse, its links lead somewhere, its lists are whole."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any, Protocol

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
import torch
from click.testing import CliRunner

from ecgbench import api, testing
from ecgbench.checks.flags import FLAGS
from ecgbench.cli import cli
from ecgbench.core import errors
from ecgbench.registry import grammar
from ecgbench.registry.catalog import discover
from ecgbench.registry.loading import HOOKS
from ecgbench.results.record import read_record
from ecgbench.runs.suite import parse_eps, read_suite, unfold

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
LINK = re.compile(r"\]\(([^)\s]+)\)")
KINDS = {"-d": "dataset", "-m": "model", "-D": "defense", "-a": "attack", "-t": "threat"}
KINDS |= {f"--{kind}": kind for kind in KINDS.values()}
HAND_WRITTEN = [page for page in PAGES if page.name != "reference.md"]


def blocks(page: Path, language: str) -> list[str]:
    return [text for of, text in BLOCK.findall(page.read_text(encoding="utf-8")) if of == language]


def commands(page: Path) -> list[list[str]]:
    """Every ecgbench command of a page, as words, up to a pipe or a redirection."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    words = (shlex.split(line, comments=True) for line in text.splitlines())
    lines = [line[line.index("ecgbench") + 1 :] for line in words if "ecgbench" in line]
    return [line[: next((at for at, word in enumerate(line) if word in "|>"), None)] for line in lines]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def public_errors() -> list[str]:
    modules = (errors, grammar, testing)
    return sorted(
        {
            name
            for module in modules
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, errors.EcgbenchError)
        }
    )


class Play(Protocol):
    """Runs the code of a page beside these names; returns all names that it leaves."""

    def __call__(self, page: Path, **names: Any) -> dict[str, Any]: ...


@pytest.fixture
def playground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    """Runs the Python blocks of a page in order: files are written, the others executed in one namespace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ECGBENCH_HOME", str(tmp_path / "home"))
    before = set(sys.modules)

    def play(page: Path, **names: Any) -> dict[str, Any]:
        for block in blocks(page, "python"):
            file = FILE.match(block)
            if file:
                (tmp_path / file[1]).write_text(block, encoding="utf-8")
            else:
                exec(compile(block, page.name, "exec"), names)
        return names

    yield play
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """docs/make.py as a module."""
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_code_of_write_a_plugin_runs(playground: Play) -> None:
    record = playground(ROOT / "docs" / "write-a-plugin.md")["record"]
    assert (record.model, record.defense) == ("pooled[width=8]", "noisy[epochs=2]")
    schema = msgspec.json.decode((ROOT / "docs" / "record.schema.json").read_bytes())
    jsonschema.validate(msgspec.json.decode(record.json()), schema)


def test_the_code_of_the_readme_runs(playground: Play, capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.rand(40, 1, 20, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 3))
    names = playground(ROOT / "README.md", my_module=module, x=x, y=module(x).argmax(1), patients=torch.arange(40) // 4)
    record = names["record"]
    assert record.status == "ok" and record.groups == 10 and record.scores[0].acc == 1 > record.scores[-1].acc
    assert capsys.readouterr().out == f"{record}\n"


def test_the_plugin_of_the_readme_can_be_used(playground: Play, tmp_path: Path) -> None:
    playground(ROOT / "README.md", my_module=torch.nn.Flatten(), x=torch.rand(2, 1, 3), y=[0, 1], patients=[0, 1])
    (file,) = tmp_path.glob("*.py")
    assert f"-p {file.name}" in (ROOT / "README.md").read_text(encoding="utf-8")
    attack = discover([str(file)]).resolve("attack", f"{file.stem}")
    testing.check_attack(attack, expected={"strong": "it knows nothing of the victim", "targeted": "the same"})


def test_every_call_of_the_python_api_takes_its_arguments() -> None:
    code = [block for page in HAND_WRITTEN for block in blocks(page, "python")]
    calls = [node for block in code for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    mine = [call for call in calls if ast.unparse(call.func) in ("ecgbench.run", "ecgbench.evaluate")]
    assert len(mine) >= 5
    for call in mine:
        function = getattr(api, ast.unparse(call.func).partition(".")[2])
        inspect.signature(function).bind(*call.args, **{str(word.arg): word.value for word in call.keywords})


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: page.name)
def test_every_command_is_one_that_the_command_line_takes(page: Path) -> None:
    for words in commands(page):
        result = CliRunner().invoke(cli, [*words, "--help"])
        assert result.exit_code == 0, f"{shlex.join(words)}: {result.output}"


def test_every_selector_of_a_command_names_something() -> None:
    catalog = discover()
    local = {"momentum", "corner"}
    for page in HAND_WRITTEN:
        for words in commands(page):
            for option, word in pairwise(words):
                if option in KINDS and grammar.parse(word).name not in local:
                    catalog.resolve(KINDS[option], word)


def test_the_row_to_reproduce_is_published_and_its_command_runs_that_cell() -> None:
    run, compare = (
        next(words for words in commands(ROOT / "docs" / "reproduce.md") if words[: len(start)] == start)
        for start in (["run"], ["results", "compare"])
    )
    (path,) = ROOT.glob(compare[2])
    record = read_record(path.read_bytes(), compare[2])
    given = dict(pairwise(run))
    assert parse_eps(given["--eps"].split(",")) == record.eps and int(given["--seed"]) == record.seed
    assert (record.status, record.limit, record.protocol, record.threat) == ("ok", None, "standard", "linf")
    for kind in ("dataset", "model", "defense", "attack"):
        assert discover().canonical(kind, discover().resolve(kind, given[f"--{kind}"])) == getattr(record, kind)
    assert record.provenance is not None
    assert (ROOT / "leaderboard/checkpoints/victims" / record.provenance.victim).is_dir(), "nothing is trained for it"
    assert given["--results"] in compare[3] and PurePath(compare[3]).name == PurePath(compare[2]).name


def test_every_suite_is_one(tmp_path: Path) -> None:
    suites = [text for page in HAND_WRITTEN for text in blocks(page, "toml") if "[[grid]]" in text]
    assert suites
    for text in suites:
        path = tmp_path / "suite.toml"
        path.write_text(text, encoding="utf-8")
        assert unfold(read_suite(path), discover())


def test_every_toml_block_is_toml() -> None:
    assert all(tomllib.loads(text) for page in HAND_WRITTEN for text in blocks(page, "toml"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_the_pages_made_from_code_are_fresh(make: ModuleType) -> None:
    assert make.main(["--check"]) == 0


def test_a_stale_page_is_noticed_and_written_anew(
    make: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make, "HERE", tmp_path)
    assert make.main([]) == 0 and make.main(["--check"]) == 0
    (tmp_path / "reference.md").write_text("old", encoding="utf-8")
    assert make.main(["--check"]) == 1 and "reference.md" in capsys.readouterr().err
    assert make.main([]) == 0 and make.main(["--check"]) == 0


def test_the_readme_shows_a_command_and_its_output_in_the_first_screen() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("```sh")
    screen = "\n".join(lines[start:30])
    assert start < 8 and lines[start + 1].startswith("ecgbench run")
    assert screen.count("```") == 4 and "0 (clean)" in screen and screen.count("F1") == 2


@pytest.mark.parametrize("word", [*HOOKS, *public_errors(), *FLAGS])
def test_every_hook_error_and_flag_is_explained(word: str) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in HAND_WRITTEN)
    assert re.search(rf"\b{word}\b", text), f"no page explains {word}"


def test_every_package_stands_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = sorted(file.parent.name for file in (ROOT / "ecgbench").glob("*/__init__.py"))
    assert sorted(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) == packages


def test_the_changelog_has_a_place_for_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased" in text or f"## {version('ecgbench-robustness')}" in text


def test_every_decision_has_its_five_lines() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    entries = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(entries) >= 16
    for entry in entries:
        for part in ("Question", "Choice", "Reason", "Would change our mind"):
            assert f"\n- {part}: " in entry, entry.splitlines()[0]
    dates = [entry.split()[0] for entry in entries]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for date in dates) and dates == sorted(dates, reverse=True)
