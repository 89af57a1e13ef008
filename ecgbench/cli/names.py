"""list and info: which plugins there are, and what one of them can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ecgbench.cli.options import plugin_option

if TYPE_CHECKING:
    from ecgbench.registry.catalog import Catalog

KINDS = ("datasets", "models", "attacks", "defenses")
FIXED = {
    "sample": "an answer is fixed by the seed and the sample",
    "chunk": "an answer is fixed by the seed and the chunk that the sample is attacked in",
    "none": "another run gives other answers",
}


@click.command("list")
@click.argument("kind", required=False, type=click.Choice((*KINDS, "plugins")))
@plugin_option
def list_(kind: str | None, plugins: tuple[str, ...]) -> None:
    """List datasets, models, attacks, defenses or plugins (all four kinds by default)."""
    from ecgbench.registry.catalog import discover

    catalog = discover(plugins)
    if kind == "plugins":
        _plugins(catalog)
        return
    for each in (kind,) if kind else KINDS:
        click.echo(f"{each}:")
        for name, offer in sorted(getattr(catalog, each).items()):
            click.echo(f"  {name:<19} {_summary(offer.value)}  [{offer.distribution}]")
    unusable = [plugin for plugin in catalog.plugins if not plugin.ok]
    if unusable:
        click.echo("not usable:")
    for plugin in unusable:
        click.echo(f"  {plugin.name:<19} {plugin.state}  [{plugin.distribution}]")


def _plugins(catalog: Catalog) -> None:
    for plugin in catalog.plugins:
        click.echo(f"{plugin.name:<20}{plugin.distribution} {plugin.version}  {plugin.state}")
    for clash in catalog.contested.values():
        click.echo(f"contested: {clash}")


def _summary(value: object) -> str:
    return (type(value).__doc__ or "").strip().splitlines()[0]


@click.command()
@click.argument("name")
@plugin_option
def info(name: str, plugins: tuple[str, ...]) -> None:
    """Say what NAME is: a plugin of any kind, with its parameters and their present values."""
    from dataclasses import fields
    from inspect import cleandoc

    from ecgbench.core.errors import UnknownNameError
    from ecgbench.registry.catalog import discover
    from ecgbench.registry.selector import parse

    catalog = discover(plugins)
    bare = parse(name).name
    found = [kind for kind in KINDS if bare in getattr(catalog, kind)]
    if not found and "." in bare:  # an attack of another library, which may be absent: the catalog knows why
        catalog.lookup("attack", bare)
    if not found:
        raise UnknownNameError("plugin", bare, (each for kind in KINDS for each in getattr(catalog, kind)))
    for kind in found:
        offer = getattr(catalog, kind)[bare]
        singular = kind[:-1]
        value = catalog.resolve(singular, name)
        click.echo(f"{catalog.canonical(singular, value)}  ({singular}, {offer.distribution} {offer.version})\n")
        click.echo(cleandoc(type(value).__doc__ or "") + "\n")
        if singular == "attack":
            click.echo(f"Access: {value.access}. Determinism: {value.determinism}, {FIXED[value.determinism]}.\n")
        for field in fields(value):
            click.echo(f"  {field.name} = {catalog.words(getattr(value, field.name))}  ({field.type})")
