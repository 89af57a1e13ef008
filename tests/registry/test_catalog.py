import os
import subprocess
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ecgbench.core.errors import EcgbenchError, UnknownNameError
from ecgbench.core.threat import Threat
from ecgbench.evaluation.sweep import Protocol
from ecgbench.registry.catalog import KINDS, Catalog, discover
from ecgbench.registry.loading import PluginInfo

ATTACK = """
from dataclasses import dataclass
from ecgbench.core.hookspecs import hookimpl
from ecgbench.core.interfaces import Attack

@dataclass(frozen=True)
class {klass}(Attack):
    steps: int = 1
    def perturb(self, trial, rng): return 0

@hookimpl
def attacks():
    return {{{names}}}
"""


def attack(*names: str, klass: str = "Push") -> str:
    return ATTACK.format(klass=klass, names=", ".join(f"{name!r}: {klass}()" for name in names))


class Install(typing.Protocol):
    """install(distribution, {module: source}): packages as pip leaves them; gone again after the test."""

    def __call__(
        self,
        distribution: str,
        modules: Mapping[str, str],
        version: str = "1.0",
        points: Mapping[str, str] | None = None,
    ) -> None: ...


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def install(
        distribution: str, modules: Mapping[str, str], version: str = "1.0", points: Mapping[str, str] | None = None
    ) -> None:
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)
            made.append(name)
        folder = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [f"{name} = {target}" for name, target in (points or {name: name for name in modules}).items()]
        (folder / "entry_points.txt").write_text("\n".join(["[ecgbench]", *lines, ""]))

    yield install
    for name in made:
        sys.modules.pop(name, None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory: empty, its modules forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def plugin(catalog: Catalog, name: str) -> PluginInfo:
    (found,) = [each for each in catalog.plugins if each.name == name]
    return found


def test_an_installed_module_is_found_with_its_distribution(install: Install) -> None:
    install("ecg-push", {"zz_push": attack("zz-push")}, version="2.3")
    entry = discover().lookup("attack", "zz-push")
    assert (entry.kind, entry.plugin, entry.distribution, entry.version) == ("attack", "zz_push", "ecg-push", "2.3")
    assert entry.origin.endswith("zz_push.py")


def test_a_broken_plugin_is_listed_and_harms_nobody(install: Install) -> None:
    install("ecg-bad", {"zz_bad": "import json\nimport nowhere_at_all"})
    install("ecg-good", {"zz_good": attack("zz-good")})
    catalog = discover()
    bad = plugin(catalog, "zz_bad")
    assert not bad.ok and bad.reason == "ModuleNotFoundError: No module named 'nowhere_at_all'."
    assert bad.origin.endswith("zz_bad.py:2") and "zz-good" in catalog.names("attack")


@pytest.mark.parametrize("target", ["zz_nowhere", "json:dumps", "zz_exit"])
def test_an_entry_point_that_gives_no_plugin_is_listed_as_broken(install: Install, target: str) -> None:
    install("ecg-odd", {"zz_exit": "raise SystemExit(3)"}, points={"zz": target})
    assert not plugin(discover(), "zz").ok


def test_the_name_of_a_broken_plugin_tells_why_it_is_missing(install: Install) -> None:
    install("ecg-bad", {"zz_bad": "import nowhere_at_all"})
    with pytest.raises(EcgbenchError, match="plugin 'zz_bad' of ecg-bad is broken: ModuleNotFoundError"):
        discover().lookup("attack", "zz_bad")


def test_a_misspelt_hook_of_an_installed_plugin_is_its_reason(install: Install) -> None:
    install("ecg-typo", {"zz_typo": attack("zz").replace("def attacks", "def attaks")})
    typo = plugin(discover(), "zz_typo")
    assert typo.reason == "no hook is named 'attaks'; did you mean 'attacks'?"
    assert typo.origin.endswith("zz_typo.py:11")


def test_a_name_that_two_distributions_offer_is_an_error_naming_both(install: Install) -> None:
    install("ecg-one", {"zz_one": attack("zz-same", "zz-free")})
    install("ecg-two", {"zz_two": attack("zz-same")}, version="2.0")
    catalog = discover()
    with pytest.raises(EcgbenchError) as caught:
        catalog.resolve("attack", "zz-same[steps=2]")
    assert "ecg-one 1.0 (plugin zz_one)" in str(caught.value) and "ecg-two 2.0 (plugin zz_two)" in str(caught.value)
    assert "zz-same" not in catalog.names("attack") and catalog.value("attack", "zz-free").steps == 1
    assert list(catalog.contested) == [("attack", "zz-same")]


def test_a_contested_name_is_never_the_base_of_a_canonical_selector(install: Install) -> None:
    install("ecg-one", {"zz_one": attack("zz-a", "zz-b")})
    install("ecg-two", {"zz_two": attack("zz-a")})
    catalog = discover()
    assert catalog.canonical("attack", catalog.value("attack", "zz-b")) == "zz-b"


def test_one_name_in_two_kinds_is_no_conflict(install: Install) -> None:
    model = "\nfrom ecgbench.core.interfaces import Model\n\n@dataclass(frozen=True)\nclass Net(Model):\n"
    model += "    default_dataset = 'x'\n    def build(self, task): return 0\n\n"
    install("ecg-one", {"zz_one": attack("zz") + model + "@hookimpl\ndef models(): return {'zz': Net()}\n"})
    catalog = discover()
    assert type(catalog.value("model", "zz")).__name__ == "Net" and not catalog.contested


def test_one_module_reached_by_two_ways_does_not_contest_itself(install: Install) -> None:
    install("ecg-one", {"zz_one": attack("zz")}, points={"zz1": "zz_one", "zz2": "zz_one"})
    assert discover(("zz_one",)).value("attack", "zz").steps == 1


def test_unknown_names_are_answered_with_the_nearest(install: Install) -> None:
    install("ecg-one", {"zz_one": attack("zz-near")})
    with pytest.raises(UnknownNameError, match=r"no attack is named 'zz-nera'; did you mean 'zz-near'?"):
        discover().lookup("attack", "zz-nera")
    with pytest.raises(UnknownNameError, match=r"no kind is named 'attacks'; did you mean 'attack'?"):
        discover().names("attacks")


def test_a_catalog_resolves_and_prints_selectors(install: Install) -> None:
    install("ecg-one", {"zz_one": attack("zz-one")})
    catalog = discover()
    value = catalog.resolve("attack", "zz-one[ steps = 3 ]")
    assert value == replace(catalog.value("attack", "zz-one"), steps=3)
    assert catalog.canonical("attack", value) == "zz-one[steps=3]" == catalog.words(value)
    assert catalog.provider("attack", value) == "ecg-one 1.0"


def test_the_hosts_own_kinds_have_values_too() -> None:
    catalog = discover()
    assert catalog.resolve("threat", "l2[mask=off]") == Threat("l2", mask=False)
    assert catalog.resolve("protocol", "standard[success=last]") == Protocol(success="last")
    assert catalog.canonical("protocol", Protocol()) == "standard" and catalog.names("threat") == ("l2", "linf")
    assert {kind for kind in KINDS if catalog.names(kind) is not None} == set(KINDS)


def test_every_catalog_is_fresh(install: Install) -> None:
    before = discover()
    install("ecg-one", {"zz_one": attack("zz-one")})
    assert "zz-one" in discover().names("attack") and "zz-one" not in before.names("attack")


@pytest.mark.parametrize("item", ["zz_mine", "zz_mine.py", "./zz_mine.py"])
def test_a_plugin_is_given_by_module_name_or_path(here: Path, item: str) -> None:
    (here / "zz_mine.py").write_text(attack("zz-mine"))
    catalog = discover((item,))
    assert catalog.value("attack", "zz-mine").steps == 1
    assert catalog.provider("attack", catalog.value("attack", "zz-mine")) == "local"
    assert catalog.lookup("attack", "zz-mine").origin == str(here / "zz_mine.py")


def test_a_given_file_may_import_its_siblings_and_leaves_the_path_as_it_was(here: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "zz_sibling.py").write_text("NAME = 'zz-sib'")
    (folder / "zz_file.py").write_text("from zz_sibling import NAME\n" + attack("x").replace("'x'", "NAME"))
    path = list(sys.path)
    assert "zz-sib" in discover((str(folder / "zz_file.py"),)).names("attack")
    assert sys.path == path


def test_a_given_file_is_loaded_once_and_its_classes_know_no_folder(here: Path) -> None:
    (here / "zz_once.py").write_text(attack("zz-once"))
    one, two = (discover(("zz_once.py",)).value("attack", "zz-once") for _ in range(2))
    assert one == two and type(one).__module__ == "ecgbench_file_zz_once"


def test_another_file_of_the_same_name_takes_its_place_in_a_later_catalog(here: Path) -> None:
    for folder in ("a", "b"):
        (here / folder).mkdir()
        (here / folder / "zz_same.py").write_text(attack(f"zz-{folder}"))
    assert "zz-a" in discover(("a/zz_same.py",)).names("attack")
    assert "zz-b" in discover(("b/zz_same.py",)).names("attack")
    with pytest.raises(EcgbenchError, match="expected different file names"):
        discover(("a/zz_same.py", "b/zz_same.py"))


@pytest.mark.parametrize(
    ("item", "source", "message"),
    [
        ("zz_nowhere_at_all", None, "refused: ModuleNotFoundError: No module named 'zz_nowhere_at_all'."),
        ("zz_nothing.py", None, "refused: no such file; expected a module name or the path of a .py file."),
        ("zz_typo", attack("z").replace("def attacks", "def attaks"), "did you mean 'attacks'?"),
        ("zz_typo2.py", attack("z").replace("def attacks", "def attaks"), "zz_typo2.py:11) is refused: no hook is"),
        ("zz_syntax.py", "x = (", "zz_syntax.py:1) is refused: SyntaxError: "),
        ("zz_raise.py", attack("z").replace("return {", "return 1 / {"), "zz_raise.py:13) is refused: TypeError: "),
        (
            "zz_type.py",
            attack("z").replace("steps: int", "steps: 'Lost'"),
            "zz_type.py:13) is refused: Push: its parameters cannot be told (name 'Lost' is not defined)",
        ),
        ("zz_exit.py", "exit(0)", "zz_exit.py:1) is refused: SystemExit: 0."),
    ],
)
def test_a_given_plugin_that_is_broken_is_an_error_at_once(
    here: Path, item: str, source: str | None, message: str
) -> None:
    if source is not None:
        (here / f"{item.removesuffix('.py')}.py").write_text(source)
    with pytest.raises(EcgbenchError) as caught:
        discover((item,))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not any(name.startswith("ecgbench_file_zz") for name in sys.modules)


def test_a_given_plugin_cannot_silently_take_an_installed_name(here: Path, install: Install) -> None:
    install("ecg-one", {"zz_one": attack("zz-one")})
    (here / "zz_thief.py").write_text(attack("zz-one"))
    with pytest.raises(EcgbenchError, match=r"ecg-one 1\.0 \(plugin zz_one\) and by local \(plugin zz_thief\)"):
        discover(("zz_thief.py",)).resolve("attack", "zz-one")


def test_discovery_imports_no_heavy_library() -> None:
    code = "import sys; from ecgbench.registry.catalog import discover; discover(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert not {"scipy", "wfdb", "pooch", "sklearn", "pandas", "matplotlib", "click"} & set(done.stdout.split())
