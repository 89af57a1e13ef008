"""Print what the checks say about fake defenses and honest victims: `python -m tests.fakes`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from time import perf_counter

import click
import torch
from tabulate import tabulate

from tests.fakes.table import FAKES, HONEST, STRONG, Bed, Row


@click.command()
@click.option("--dataset", default="synthetic-beats[beats=4000]", show_default=True, help="What is attacked.")
@click.option("--attack", default=STRONG, show_default=True, help="The strong attack on honest victims.")
def main(dataset: str, attack: str) -> None:
    """Fakes, each with the check meant for it, then honest victims. Exit status 1 if one fake is missed or one
    honest victim flagged under a strong attack."""
    torch.set_num_threads(1)
    began, bed = perf_counter(), Bed(dataset)
    fakes: list[Row] = []
    strong: list[Row] = []
    weak: list[Row] = []
    click.echo(f"Fakes on {dataset} at eps {bed.eps:g}:\n")
    for row in bed.fakes():
        fakes.append(row)
    click.echo(_fakes(fakes))
    click.echo(f"\nHonest victims under {attack}, and what pgd100 alone would report:\n")
    for model in HONEST:
        strong += bed.honest(model, attack)
        weak += bed.honest(model, "pgd100")
    click.echo(_honest(strong, weak))
    missed = [row.victim for row in fakes if row.victim in FAKES and FAKES[row.victim] not in row.flags]
    flagged = [row.victim for row in strong if row.flags]
    click.echo(f"\n{len(FAKES) - len(missed)} of {len(FAKES)} fakes caught by the check meant for them; ", nl=False)
    click.echo(f"{len(flagged)} of {len(strong)} honest victims flagged; {perf_counter() - began:.0f} s.")
    sys.exit(bool(missed or flagged))


def _fakes(rows: Iterable[Row]) -> str:
    head = ("fake", "attack", "clean", "robust", "meant for it", "caught", "flags and effects")
    lines = []
    for row in rows:
        meant = FAKES.get(row.victim, "none")
        caught = "" if meant == "none" else "yes" if meant in row.flags else "NO"
        lines.append((row.victim, row.attack, row.clean, row.robust, meant, caught, _flags(row)))
    return tabulate(lines, head, floatfmt=".3f")


def _honest(strong: Iterable[Row], weak: Iterable[Row]) -> str:
    head = ("victim", "clean", "robust", "flags", "pgd100", "too high by", "flags of pgd100")
    lines = [
        (one.victim, one.clean, one.robust, _flags(one), other.robust, other.robust - one.robust, _flags(other))
        for one, other in zip(strong, weak, strict=True)
    ]
    return tabulate(lines, head, floatfmt=".3f")


def _flags(row: Row) -> str:
    return ", ".join(f"{check.code} {check.effect:.2g}" for check in row.checks if check.raised) or "none"


if __name__ == "__main__":
    main()
