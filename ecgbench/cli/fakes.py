"""fakes: what the checks say about fake defenses and honest victims."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ecgbench.testing.fakes import Row


@click.command()
@click.option("--dataset", default="synthetic-beats[beats=4000]", show_default=True, help="What is attacked.")
@click.option("--attack", help="The strong attack on honest victims; default: strict[budget=quick].")
def fakes(dataset: str, attack: str | None) -> int:
    """Plant fake defenses and see whether the checks catch them.

    Fakes, each with the check meant for it, then honest victims. Exit status 1 if a fake is missed, or an honest
    victim flagged under the strong attack.
    """
    from ecgbench.api import data_root
    from ecgbench.testing.fakes import FAKES, HONEST, STRONG, Bed

    began, bed, attack = perf_counter(), Bed(dataset, data_root({})), attack or STRONG
    planted: list[Row] = []
    strong: list[Row] = []
    weak: list[Row] = []
    click.echo(f"Fakes on {dataset} at eps {bed.eps:g}:\n")
    for row in bed.fakes():
        planted.append(row)
    click.echo(_fakes(planted))
    click.echo(f"\nHonest victims under {attack}, and what pgd100 alone would report:\n")
    for model in HONEST:
        strong += bed.honest(model, attack)
        weak += bed.honest(model, "pgd100")
    click.echo(_honest(strong, weak))
    missed = [row.victim for row in planted if row.victim in FAKES and FAKES[row.victim] not in row.flags]
    flagged = [row.victim for row in strong if row.flags]
    click.echo(f"\n{len(FAKES) - len(missed)} of {len(FAKES)} fakes caught by the check meant for them; ", nl=False)
    click.echo(f"{len(flagged)} of {len(strong)} honest victims flagged; {perf_counter() - began:.0f} s.")
    return int(bool(missed or flagged))


def _fakes(rows: Iterable[Row]) -> str:
    from tabulate import tabulate

    from ecgbench.testing.fakes import FAKES

    head = ("fake", "attack", "clean", "robust", "meant for it", "caught", "flags and effects")
    lines = []
    for row in rows:
        meant = FAKES.get(row.victim, "none")
        caught = "" if meant == "none" else "yes" if meant in row.flags else "NO"
        lines.append((row.victim, row.attack, row.clean, row.robust, meant, caught, _flags(row)))
    return tabulate(lines, head, floatfmt=".3f")


def _honest(strong: Iterable[Row], weak: Iterable[Row]) -> str:
    from tabulate import tabulate

    head = ("victim", "clean", "robust", "flags", "pgd100", "too high by", "flags of pgd100")
    lines = [
        (one.victim, one.clean, one.robust, _flags(one), other.robust, other.robust - one.robust, _flags(other))
        for one, other in zip(strong, weak, strict=True)
    ]
    return tabulate(lines, head, floatfmt=".3f")


def _flags(row: Row) -> str:
    return ", ".join(f"{check.code} {check.effect:.2g}" for check in row.checks if check.raised) or "none"
