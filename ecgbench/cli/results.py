"""results: records that were kept or published, shown and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecgbench.cli.layout import fold
from ecgbench.core.errors import EcgbenchError

if TYPE_CHECKING:
    from ecgbench.evaluation.outcomes import Outcomes
    from ecgbench.results.record import Record

store_option = click.option(
    "--store",
    type=click.Path(file_okay=False),
    help="Where results are kept, a folder or s3://bucket/prefix; default: $ECGBENCH_HOME.",
)


@click.group()
def results() -> None:
    """Show or compare records, by key (or its beginning) or by file."""


@results.command()
@click.argument("keys", nargs=-1)
@store_option
@click.option("--json", "as_json", is_flag=True, help="One record a line.")
@click.option("--csv", "as_csv", is_flag=True, help="A table with a row for each eps.")
@click.option("--wide", is_flag=True, help="With --csv: a row for each record.")
def show(keys: tuple[str, ...], store: str | None, as_json: bool, as_csv: bool, wide: bool) -> None:
    """Show the records KEYS; all that are kept, if none is named."""
    from ecgbench.cli.tables import tables

    records = [_read(key, store)[0] for key in keys] if keys else _all(store)
    if not records:
        raise EcgbenchError("no record is kept here; make one with: ecgbench run.")
    if as_csv:
        from ecgbench.results.frame import frame

        click.echo(frame(records, wide=wide).to_csv(index=False), nl=False)
        return
    click.echo(b"".join(r.json() + b"\n" for r in records) if as_json else tables(records), nl=False)


@results.command()
@click.argument("first")
@click.argument("second")
@store_option
def compare(first: str, second: str, store: str | None) -> None:
    """Compare two records on the same samples: the difference in ACC per eps, with its interval."""
    from ecgbench.evaluation.uncertainty import compare as paired

    (a, of_a), (b, of_b) = _read(first, store), _read(second, store)
    for name, one in (("A", a), ("B", b)):
        click.echo(fold(f"{name}: {one.dataset} {one.model} {one.defense} {one.attack} seed {one.seed}"))
    for eps in (0.0, *(eps for eps in a.eps if eps in b.eps)):
        found = paired(of_a, of_b, eps)
        low, high = found.interval
        p_value = "" if found.p_value is None else f", p = {found.p_value:.2g}"
        change = f"{found.difference:+.3f} [{low:+.3f}, {high:+.3f}]"
        click.echo(fold(f"eps {eps:g}: A - B = {change} ({found.method}{p_value})"))


def _read(key: str, store: str | None) -> tuple[Record, Outcomes]:
    """A record and its outcomes, from a published file or the store."""
    from ecgbench.results.kept import kept_record
    from ecgbench.results.published import read_published
    from ecgbench.storage.arrays import unpack

    if key.endswith(".json"):
        published = read_published(Path(key))
        if published.outcomes is None:
            raise EcgbenchError(f"{key} has no outcomes beside it; expected {Path(key).with_suffix('.npz')}.")
        return published.record, published.outcomes
    kept = _store(store)
    record = kept_record(kept, key)
    outcomes = kept.get("outcomes", record.provenance.outcomes) if record.provenance else None
    if outcomes is None:
        raise EcgbenchError(f"the outcomes of record {key} are gone; run its cell again.")
    return record, unpack(outcomes["outcomes.npz"], f"record {key}")


def _all(store: str | None) -> list[Record]:
    from ecgbench.results.record import read_record

    kept = _store(store)
    files = ((key, kept.get("records", key)) for key, _ in kept.identities("records"))
    return [read_record(found["record.json"], f"record {key}") for key, found in files if found]


def _store(store: str | None):  # type: ignore[no-untyped-def]
    from ecgbench.api import kept_in
    from ecgbench.cli.options import remark

    return kept_in(store, remark)
