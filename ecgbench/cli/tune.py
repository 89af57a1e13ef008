"""tune: parameters chosen on validation."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from ecgbench.cli.options import Place, remark, runner_options

if TYPE_CHECKING:
    from ecgbench.tuning import Question


@click.command()
@click.option("--search", "-x", multiple=True, metavar="KIND.FIELD=RANGE", help="A field to search; may be repeated.")
@click.option("--objective", default="loss", show_default=True, help="What a trial is judged by, on validation.")
@click.option("--model", "-m", required=True, help="Model.")
@click.option("--dataset", "-d", default="", help="Dataset; default: the model's embedded one.")
@click.option("--defense", "-D", default="none", show_default=True, help="Defense.")
@click.option("--attack", "-a", default="identity", help="Attack, for objectives that judge one.")
@click.option("--threat", "-t", default="", help="Threat model; default: the dataset's.")
@click.option("--eps", "-e", default="", help="Sizes of the ball; the largest decides.")
@click.option("--seed", "-s", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every trial.")
@click.option("--limit", type=click.IntRange(min=1), help="Attack this many validation samples only.")
@click.option("--folds", type=click.IntRange(min=1), default=1, show_default=True, help="Of the training split.")
@click.option("--trials", type=click.IntRange(min=1), default=60, show_default=True, help="Of the whole study.")
@click.option("--sampler", default="tpe", show_default=True, help="tpe or random.")
@click.option("--pruner", default="median", show_default=True, help="median or none; it acts between folds.")
@click.option("--study", help="Name of the study; default: one made of the question.")
@click.option("--storage", metavar="URL", help="Database: sqlite:///..., postgresql://...; default: in $ECGBENCH_HOME.")
@runner_options
def tune(
    search: tuple[str, ...],
    objective: str,
    model: str,
    dataset: str,
    defense: str,
    attack: str,
    threat: str,
    eps: str,
    seed: int,
    limit: int | None,
    folds: int,
    trials: int,
    sampler: str,
    pruner: str,
    study: str | None,
    storage: str | None,
    place: Place,
) -> None:
    """Search fields of model, defense and attack for the best value of an objective on the validation split.

    A RANGE is LOW..HIGH (with :log or :pow2 behind it) or WORD|WORD|... Trials are kept in a database: the same command
    goes on where it was stopped, and several processes may run it at once. Needs the extra tune.
    """
    from ecgbench.runs.suite import parse_eps
    from ecgbench.tuning import Question, Tuning, open_study

    question = Question(
        model=model,
        search=search,
        objective=objective,
        dataset=dataset,
        defense=defense,
        attack=attack,
        threat=threat,
        eps=parse_eps(eps.split(",")) if eps else (),
        seed=seed,
        limit=limit,
        folds=folds,
        sampler=sampler,
        pruner=pruner,
    )
    runner = place.runner()
    question.dimensions(runner.catalog)
    kept = open_study(question, storage or _default(place), study or _name(question))
    tuning = Tuning(question, kept, runner, remark)
    tuning.run(trials)
    best, selectors = tuning.best()
    cell = question.cell(selectors, runner.catalog)
    click.echo(f"best of {tuning.finished} trials: trial {best.number}, {objective} {best.value:.6g} on validation")
    click.echo(shlex.join(["ecgbench", *question.command(cell, runner.catalog)]))


def _default(place: Place) -> str:
    """A file of SQLite beside the store."""
    from pathlib import Path

    from ecgbench.api import home_folder
    from ecgbench.core.errors import accessing
    from ecgbench.storage.opening import is_url

    home = home_folder() if place.store is None or is_url(place.store) else Path(place.store)
    with accessing(home):
        home.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(home / 'tuning.db').resolve()}"


def _name(question: Question) -> str:
    from ecgbench.storage.store import key_of

    return f"{question.objective}-{key_of(question.plain())[:12]}"
