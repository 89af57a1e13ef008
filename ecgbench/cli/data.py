"""data: recordings on this machine, downloaded and verified."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecgbench.cli.options import places, plugin_option
from ecgbench.errors import DataError, EcgbenchError

if TYPE_CHECKING:
    from ecgbench.catalog import Catalog
    from ecgbench.dataroot import Remote

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
    from ecgbench.catalog import discover

    root = data_root({name: Path(path) for name, path in places(data).items()})
    for name, offer in sorted(discover(plugins).datasets.items()):
        try:
            files = offer.value.files(root)
            state = f"{len(files)} files" if files else "embedded"
        except DataError as fault:
            state = f"missing: {fault}"
        click.echo(f"{name:<20}{state}")


@data.command()
@click.argument("name")
@click.option("--from", "address", help="Another base address of the same files.")
@data_option
@plugin_option
def get(name: str, address: str | None, data: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Download the recordings of dataset NAME and check every file against its published SHA-256."""
    from dataclasses import replace

    from ecgbench.api import data_root
    from ecgbench.catalog import discover
    from ecgbench.cli.options import remark
    from ecgbench.fetch import get as fetch

    remote = _remote(discover(plugins), name)
    if address is not None:
        remote = replace(remote, url=address if address.endswith("/") else f"{address}/")
    given = places(data).get(name)
    home = Path(given) if given else data_root({}).home
    assert home is not None
    click.echo(fetch(name, remote, home, tell=remark))


@data.command()
@click.argument("name")
@data_option
@plugin_option
def verify(name: str, data: tuple[str, ...], plugins: tuple[str, ...]) -> int:
    """Check the recordings of dataset NAME against their published SHA-256; exit 5 on a fault."""
    from ecgbench.catalog import discover
    from ecgbench.fetch import verify as faults_of

    catalog = discover(plugins)
    faults = faults_of(name, _remote(catalog, name), _folder(catalog, name, data))
    for fault in faults:
        click.echo(fault, err=True)
    if not faults:
        click.echo(f"{name}: every file is as published.")
    return DataError.exit_code if faults else 0


@data.command()
@click.argument("name")
@data_option
@plugin_option
def path(name: str, data: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Print the folder that the recordings of dataset NAME are read from."""
    from ecgbench.catalog import discover

    click.echo(_folder(discover(plugins), name, data))


def _remote(catalog: Catalog, name: str) -> Remote:
    remote = catalog.resolve("dataset", name).remote
    if remote is None:
        raise EcgbenchError(f"dataset {name} is embedded; nothing is downloaded for it.")
    return remote


def _folder(catalog: Catalog, name: str, data: tuple[str, ...]) -> Path:
    """The folder all files of the dataset lie in."""
    from ecgbench.api import data_root

    root = data_root({key: Path(value) for key, value in places(data).items()})
    files = catalog.resolve("dataset", name).files(root)
    if not files:
        raise EcgbenchError(f"dataset {name} is embedded; it has no folder.")
    return Path(os.path.commonpath([file.parent for file in files.values()]))
