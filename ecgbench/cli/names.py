"""list and info: which plugins there are, and what one of them can be told."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

import click

from ecgbench.cli.layout import entry, fold
from ecgbench.cli.options import plugin_option

if TYPE_CHECKING:
    from ecgbench.registry.catalog import Catalog
    from ecgbench.registry.loading import RegisteredPlugin

KINDS = ("datasets", "models", "attacks", "defenses", "certificates")
FIXED = {
    "sample": "an answer is fixed by the seed and the sample",
    "chunk": "an answer is fixed by the seed and the chunk that the sample is attacked in",
    "none": "another run gives other answers",
}


@click.command("list")
@click.argument("kind", required=False, type=click.Choice((*KINDS, "plugins")))
@plugin_option
def list_(kind: str | None, plugins: tuple[str, ...]) -> None:
    """List datasets, models, attacks, defenses, certificates or plugins (all five kinds by default)."""
    from ecgbench.registry.catalog import discover

    catalog = discover(plugins)
    if kind == "plugins":
        _plugins(catalog)
        return
    for each in (kind,) if kind else KINDS:
        for line in _offers(catalog, each):
            click.echo(line)
    for title, absent in (("not installed:", True), ("broken:", False)):
        plugins_of = [plugin for plugin in catalog.plugins if not plugin.ok and plugin.absent is absent]
        if plugins_of:
            click.echo(title)
        for plugin in plugins_of:
            click.echo(entry(plugin.name, plugin.state.removeprefix("broken: ")))


def _offers(catalog: Catalog, hook: str) -> Iterator[str]:
    """What plugins of a kind offer, by distribution: of the first of a class what it is, of others what they change."""
    from ecgbench.registry.selector import changed

    everything = sorted(getattr(catalog, hook).values(), key=lambda offer: (offer.release, offer.name))
    for release, offers in groupby(everything, lambda offer: offer.release):
        yield f"{hook} of {release}:"
        classes: dict[type, list[RegisteredPlugin]] = {}
        for offer in offers:
            classes.setdefault(type(offer.value), []).append(offer)
        for presets in classes.values():
            first = min(presets, key=lambda offer: (_unlike_its_class(offer.value), offer.name))
            yield entry(first.name, _summary(first.value))
            others = (offer for offer in presets if offer is not first)
            yield from (entry(each.name, changed(each.value, first.name, first.value, catalog)) for each in others)


def _unlike_its_class(value: object) -> int:
    """How many parameters differ from the defaults of the class."""
    from dataclasses import fields

    return sum(getattr(value, field.name) != field.default for field in fields(value))  # type: ignore[arg-type]


def _plugins(catalog: Catalog) -> None:
    for plugin in catalog.plugins:
        click.echo(entry(plugin.name, f"{plugin.distribution} {plugin.version}  {plugin.state}"))
    for clash in catalog.contested.values():
        click.echo(fold(f"contested: {clash}"))


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
        click.echo(
            fold(f"{catalog.canonical(singular, value)}  ({singular}, {offer.distribution} {offer.version})") + "\n"
        )
        click.echo(cleandoc(type(value).__doc__ or "") + "\n")
        if singular == "attack":
            click.echo(f"Access: {value.access}. Determinism: {value.determinism}, {FIXED[value.determinism]}.\n")
        for field in fields(value):
            click.echo(f"  {field.name} = {catalog.words(getattr(value, field.name))}  ({field.type})")
