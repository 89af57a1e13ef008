"""submit: results of others, packed and checked before they join a board."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

import click

from ecgbench.cli.options import Place, runner_options

if TYPE_CHECKING:
    from ecgbench.leaderboard.badges import Report
    from ecgbench.submissions.checking import SubmissionCheck

nonce_option = click.option("--nonce", help="Fixes, with the files, which samples are attacked again; default: random.")


@click.group()
def submit() -> None:
    """Pack results for a board, check them as it does, or measure counterexamples to a published victim."""


@submit.command()
@click.argument("records", nargs=-1, required=True)
@click.argument("folder", type=click.Path(file_okay=False))
@nonce_option
@runner_options
def pack(records: tuple[str, ...], folder: str, nonce: str | None, place: Place) -> int:
    """Put kept RECORDS, by the beginnings of their keys, into FOLDER with outcomes and victims, and check it.

    Example: ecgbench submit pack KEY my-submission
    """
    from ecgbench.submissions.folder import pack as packed

    packed(place.runner(), records, Path(folder))
    return _checked(folder, nonce, True, None, place)


@submit.command()
@click.argument("folder", type=click.Path(file_okay=False))
@nonce_option
@click.option("--no-run", is_flag=True, help="Do not run anything again.")
@click.option("--report", type=click.Path(dir_okay=False), help="Write what was found as JSON into this file.")
@runner_options
def check(folder: str, nonce: str | None, no_run: bool, report: str | None, place: Place) -> int:
    """Check the submission in FOLDER and run it again, as far as data, weights and plugins are here.

    No code of the folder is run: a plugin is used where it is installed here, or named by --plugin.
    """
    return _checked(folder, nonce, not no_run, report, place)


@submit.command()
@click.argument("folder", type=click.Path(file_okay=False))
@click.argument("name")
@nonce_option
@runner_options
def accept(folder: str, name: str, nonce: str | None, place: Place) -> int:
    """Check the submission in FOLDER and, if it has no fault, put it into the leaderboard, its badges under NAME."""
    from ecgbench.submissions.checking import accept as accepted

    return _told(accepted(_check(folder, nonce, True, place), name))


@submit.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--keep", "keep_it", is_flag=True, help="Put what was measured into the leaderboard.")
@runner_options
def counterexamples(file: str, keep_it: bool, place: Place) -> None:
    """Measure the perturbations in FILE (npz of victim, threat, ids, delta) on the published victim they are about."""
    from ecgbench.leaderboard.counterexamples import best_known, kept
    from ecgbench.submissions.counterexamples import Claim, keep, measure, rows_of

    leaderboard = _leaderboard(place)
    claim = Claim.read(Path(file))
    found = measure(claim, place.runner(), leaderboard)
    click.echo(f"{len(found.ids)} of {len(claim.ids)} samples of {found.victim} are right when clean, wrong perturbed.")
    rows = rows_of(found, leaderboard)
    for row in rows:
        for eps, best in best_known(row, rows, [found, *kept(leaderboard).values()]).items():
            score = row.record.score(eps)
            stated = "" if score is None else f"{score.acc:.3f}, "
            click.echo(f"{row.record.attack}, {row.record.protocol}, eps {eps:g}: {stated}best known {best:.3f}")
    if keep_it:
        click.echo(keep(found, Path(file), leaderboard))


@submit.command()
@runner_options
def remeasure(place: Place) -> int:
    """Measure the counterexamples of the leaderboard again; exit 1 where they are not what it says.

    Those to victims whose recordings are not here are only named.
    """
    from ecgbench.submissions.counterexamples import measured_again

    told, faults = measured_again(_leaderboard(place), place.runner())
    for line in told:
        click.echo(line)
    for fault in faults:
        click.echo(fault, err=True)
    return 1 if faults else 0


def _leaderboard(place: Place) -> Path:
    from ecgbench.runs.zoo import checkpoints

    folder = checkpoints(place.leaderboard)
    return Path("leaderboard") if folder is None else folder.parent


def _checked(folder: str, nonce: str | None, run_again: bool, report: str | None, place: Place) -> int:
    from ecgbench.leaderboard.badges import write_report
    from ecgbench.storage.store import write_file

    found = _check(folder, nonce, run_again, place).report()
    if report is not None:
        write_file(Path(report), write_report(found))
    return _told(found)


def _check(folder: str, nonce: str | None, run_again: bool, place: Place) -> SubmissionCheck:
    from ecgbench.submissions.checking import SubmissionCheck

    return SubmissionCheck(Path(folder), _leaderboard(place), place.runner(), nonce or token_hex(8), run_again)


def _told(report: Report) -> int:
    for row in report.rows:
        click.echo(f"{row.badge}: {row.row}: {row.why}.")
    for fault in report.faults:
        click.echo(fault, err=True)
    if not report.faults:
        click.echo(f"submission {report.digest[:12]}, nonce {report.nonce}: no fault.")
    return 1 if report.faults else 0
