"""The distribution has a name of its own, and says so where another one lies in its package."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from ecgbench.core.errors import EcgbenchError
from ecgbench.registry.catalog import discover
from ecgbench.registry.installed import DISTRIBUTION, check_alone, installed_version

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def install(folder: Path, name: str, *files: str) -> None:
    """A distribution as pip leaves it, its files empty."""
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in (*files, f"{info.name}/METADATA")))


@pytest.mark.parametrize("file", ["ecgbench/__init__.py", "ecgbench/models/net.py"])
def test_another_project_in_this_package_is_named_with_the_next_step(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "ecgbench", "other/__init__.py", file)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EcgbenchError) as refused:
        discover()
    assert str(refused.value) == (
        "the distribution ecgbench 1.2 is another project that installs into the same package; expected "
        "ecgbench-robustness alone: `pip uninstall ecgbench ecgbench-robustness`, then install it again."
    )


@pytest.mark.parametrize(
    ("name", "files"),
    [("ecgbench", ()), ("ecgbench", ("ecgbench.pth", "other/ecgbench/a.py")), ("ecgbench-extra", ("ecgbench/x.py",))],
)
def test_what_lies_elsewhere_is_in_nobodys_way(
    name: str, files: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, name, *files)
    monkeypatch.syspath_prepend(tmp_path)
    check_alone()


def test_the_version_is_that_of_the_distribution_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PROJECT["name"] == DISTRIBUTION and installed_version() == PROJECT["version"]

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("ecgbench.registry.installed.version", missing)
    assert installed_version() == "unknown"


def test_the_extras_of_extras_are_of_this_distribution() -> None:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines if "ecgbench" in line]
    assert extras and all(line.startswith(f"{DISTRIBUTION}[") for line in extras)
