"""data: recordings on this machine, downloaded and verified."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecgbench.cli.layout import entry, fold
from ecgbench.cli.options import folders, plugin_option
from ecgbench.core.errors import DataError, EcgbenchError

if TYPE_CHECKING:
    from ecgbench.core.dataroot import Remote
    from ecgbench.registry.catalog import Catalog

data_option = click.option("--data", multiple=True, metavar="NAME=PATH", help="Folder of one dataset's recordings.")


@click.group()
def data() -> None:
    """List, download, verify and locate recordings ($ECGBENCH_DATA)."""


@data.command("list")
@data_option
@plugin_option
def list_(data: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Say of every dataset whether its recordings are here."""
    from ecgbench.api import data_root
    from ecgbench.registry.catalog import discover
    from ecgbench.runs.cache import read_by
    from ecgbench.runs.faults import plain

    root = data_root({name: Path(path) for name, path in folders(data).items()})
    for name, offer in sorted(discover(plugins).datasets.items()):
        try:
            files = read_by(offer.value, root)
            state = f"{len(files)} files" if files else "embedded"
        except DataError as fault:
            state = f"missing: {fault}"
        except Exception as fault:  # one plugin's fault hides no other
            state = f"broken: {plain(fault)}"
        click.echo(entry(name, state))


@data.command()
@click.argument("name")
@click.option("--from", "address", help="Another base address of the same files.")
@data_option
@plugin_option
def get(name: str, address: str | None, data: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Download the recordings of dataset NAME and check every file against its published SHA-256.

    The whole is checked against the digest that the dataset's plugin knows of this version.
    """
    from dataclasses import replace

    from ecgbench.api import data_root
    from ecgbench.cli.options import remark
    from ecgbench.registry.catalog import discover
    from ecgbench.storage.download import get as fetch

    catalog = discover(plugins)
    remote = _remote(catalog, name)
    if address is not None:
        remote = replace(remote, url=address if address.endswith("/") else f"{address}/")
    given = folders(data).get(name)
    home = Path(given) if given else data_root({}).home
    assert home is not None
    folder = fetch(name, remote, home, tell=remark)
    if not remote.content:
        remark(f"the plugin of {name} pins no digest of its recordings: the list of sums was believed.")
    for fault in _unpinned(catalog, name, data):
        raise DataError(f"{fault}; these in {folder} give other results.")
    click.echo(folder)


@data.command()
@click.argument("name")
@data_option
@plugin_option
def verify(name: str, data: tuple[str, ...], plugins: tuple[str, ...]) -> int:
    """Check the recordings of dataset NAME against their published SHA-256; exit 5 on a fault."""
    from ecgbench.registry.catalog import discover
    from ecgbench.storage.download import verify as faults_of

    catalog = discover(plugins)
    faults = faults_of(name, _remote(catalog, name), _folder(catalog, name, data))
    faults += _unpinned(catalog, name, data)
    for fault in faults:
        click.echo(fold(fault), err=True)
    if not faults:
        click.echo(f"{name}: every file is as published.")
    return DataError.exit_code if faults else 0


@data.command()
@click.argument("name")
@data_option
@plugin_option
def path(name: str, data: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Print the folder that the recordings of dataset NAME are read from."""
    from ecgbench.registry.catalog import discover

    click.echo(_folder(discover(plugins), name, data))


def _remote(catalog: Catalog, name: str) -> Remote:
    from ecgbench.core.interfaces import Dataset

    dataset = catalog.resolve("dataset", name)
    remote = dataset.remote
    if remote is None:
        which = "is embedded" if type(dataset).files is Dataset.files else "reads files that everyone brings along"
        raise EcgbenchError(f"dataset {name} {which}; nothing is downloaded for it.")
    return remote


def _unpinned(catalog: Catalog, name: str, data: tuple[str, ...]) -> list[str]:
    from ecgbench.storage.download import unpinned

    return unpinned(name, _remote(catalog, name), _files(catalog, name, data))


def _files(catalog: Catalog, name: str, data: tuple[str, ...]) -> Mapping[str, Path]:
    from ecgbench.api import data_root
    from ecgbench.runs.cache import read_by

    return read_by(catalog.resolve("dataset", name), data_root({key: Path(at) for key, at in folders(data).items()}))


def _folder(catalog: Catalog, name: str, data: tuple[str, ...]) -> Path:
    """The folder all files of the dataset lie in."""
    files = _files(catalog, name, data)
    if not files:
        raise EcgbenchError(f"dataset {name} is embedded; it has no folder.")
    return Path(os.path.commonpath([file.parent for file in files.values()]))
