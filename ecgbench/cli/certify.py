"""certify: what is proven of a published victim, beside what an attack leaves of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ecgbench.cli.layout import across, fold
from ecgbench.cli.options import Place, runner_options
from ecgbench.core.errors import EcgbenchError

if TYPE_CHECKING:
    from ecgbench.evaluation.certification import BothSides
    from ecgbench.evaluation.outcomes import Outcomes
    from ecgbench.results.certificates import CertificateRecord
    from ecgbench.runs.cell import Cell
    from ecgbench.runs.runner import Runner


@click.command()
@click.argument("victims", metavar="VICTIM...", nargs=-1, required=True)
@click.option("--method", "-c", multiple=True, help="Certificate; default: crown. Several are tried one by one.")
@click.option("--eps", "-e", multiple=True, help="Sizes of the ball, such as 0.01,0.03; default: the dataset's.")
@click.option("--threat", "-t", help="Threat model; default: the dataset's.")
@click.option("--attack", "-a", help="Attack to stand beside; default: strict[budget=quick]. `none` for no attack.")
@click.option("--per-class", type=int, default=60, show_default=True, help="Test samples of each class; 0: all.")
@click.option("--limit", type=int, help="Certify this many test samples only.")
@click.option(
    "--results", type=click.Path(file_okay=False), help="Leaderboard to publish the certificates in; default: none."
)
@runner_options
def certify(
    victims: tuple[str, ...],
    method: tuple[str, ...],
    eps: tuple[str, ...],
    threat: str | None,
    attack: str | None,
    per_class: int,
    limit: int | None,
    results: str | None,
    place: Place,
) -> None:
    """Print what is proven of each published VICTIM at each eps, and what an attack leaves of the same samples.

    Robust accuracy lies between the two: no perturbation breaks a proven sample, and the attack broke the others. A row
    where they meet is exact.

    Example: ecgbench certify mitbih-mlp-none-seed0 -c crown -c beta-crown -e 0.01,0.03 -t "linf[mask=off]"
    """
    runner = place.runner()
    cells = [_cell(runner, place, victim, eps, threat, attack, per_class, limit) for victim in victims]
    for number, (victim, cell) in enumerate(zip(victims, cells, strict=True)):
        outcomes = None if attack == "none" else _attacked(runner, cell)
        shown = _certified(runner, cell, method or ("crown",), outcomes, results)
        first = shown[0][0]
        what = f"{victim}, {first.n} samples, {first.threat}, clean {first.clean:.4f}, weights {first.weights[:12]}"
        click.echo("\n" * bool(number) + f"{fold(what)}\n\n{_table(shown)}")


def _cell(
    runner: Runner,
    place: Place,
    victim: str,
    eps: tuple[str, ...],
    threat: str | None,
    attack: str | None,
    per_class: int,
    limit: int | None,
) -> Cell:
    """The victim's cell, with the attack that is to stand beside the certificates."""
    from ecgbench.evaluation.sweep import Protocol
    from ecgbench.runs.cell import Cell
    from ecgbench.runs.suite import parse_eps
    from ecgbench.runs.zoo import checkpoints, published

    _, _, card = published(victim, checkpoints(place.leaderboard))
    catalog, words = runner.catalog, [word for item in eps for word in item.split(",")]
    dataset = catalog.resolve("dataset", card.dataset)
    cell = Cell(
        dataset=dataset,
        model=catalog.resolve("model", card.model),
        defense=catalog.resolve("defense", card.defense),
        attack=catalog.resolve("attack", "identity" if attack == "none" else attack or "strict[budget=quick]"),
        threat=dataset.defaults.threat if threat is None else catalog.resolve("threat", threat),
        eps=(parse_eps(words) if words else None) or dataset.defaults.eps,
        protocol=Protocol(per_class=per_class),
        seed=card.seed,
        limit=limit,
    )
    if runner.victims.used(cell.victim).weights != card.weights:
        raise EcgbenchError(
            f"{victim} was trained from other recordings or parameters than those of this machine; expected a victim "
            "published by this version, on the same recordings (see: ecgbench data verify)."
        )
    return cell


def _certified(
    runner: Runner, cell: Cell, methods: Sequence[str], outcomes: Outcomes | None, results: str | None
) -> list[tuple[CertificateRecord, list[BothSides]]]:
    """What each method proves, beside the outcomes of the attack; published, where a leaderboard is given."""
    from ecgbench.results.certificates import publish_certificate
    from ecgbench.runs.certifying import Claim

    found = []
    for name in methods:
        claim = Claim(runner, cell, runner.catalog.resolve("certificate", name))
        record, content = claim.record()
        found.append((record, [] if outcomes is None else claim.beside(outcomes)))
        if results is not None:
            click.echo(f"wrote {publish_certificate(record, content, Path(results)).as_posix()}", err=True)
    return found


def _attacked(runner: Runner, cell: Cell):  # type: ignore[no-untyped-def]
    """The outcomes of the cell's attack, found or made."""
    record = runner.execute(cell)
    if record.status != "ok":
        raise EcgbenchError(f"the attack has no outcomes: {record.error}")
    return runner.outcomes_of(record)


def _table(shown: list[tuple[CertificateRecord, list[BothSides]]]) -> str:
    labels, rows = [], []
    for record, sides in shown:
        beside = {side.eps: side for side in sides}
        for place, eps in enumerate(record.eps):
            side = beside.get(eps)
            labels.append(record.certificate)
            row = [f"{eps:g}", f"{record.proven[place]:.4f}"]
            if side is None:
                row += [""] * 4
            else:
                exact = "yes" if side.exact else ""
                row += [f"{side.attacked:.4f}", str(side.open_samples), f"{side.decided:.4f}", exact]
            rows.append([*row, f"{record.seconds[place]:.2f}"])
    heads = ("eps", "proven", "attacked", "open", "decided", "exact", "CPU s")
    columns = [(head, [row[place] for row in rows]) for place, head in enumerate(heads)]
    return across("certificate", columns, labels, "")
