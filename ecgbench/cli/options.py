"""Options that several commands share, and the runner they open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ecgbench.core.progress import Progress
    from ecgbench.runs.cell import Cell
    from ecgbench.runs.runner import Runner
    from ecgbench.runs.suite import Grid

Command = TypeVar("Command", bound=Callable[..., object])


def grid_options(command: Command) -> Command:
    """What to run: a suite file, or one selector or more per kind."""
    for option in reversed(
        (
            click.argument("suite", required=False, type=click.Path(dir_okay=False)),
            click.option("--dataset", "-d", multiple=True, help="Dataset; default: the model's embedded one."),
            click.option("--model", "-m", multiple=True, help="Model."),
            click.option("--defense", "-D", multiple=True, help="Defense; default: none."),
            click.option("--attack", "-a", multiple=True, help="Attack."),
            click.option("--threat", "-t", multiple=True, help="Threat model; default: the dataset's."),
            click.option(
                "--eps", "-e", multiple=True, help="Sizes of the ball, such as 0.01,0.03; default: the dataset's."
            ),
            click.option("--seed", "-s", multiple=True, help="Seeds, such as 0,1,2; default: 0."),
            click.option("--audit", is_flag=True, help="Make the costly checks, too."),
            click.option(
                "--save-perturbations",
                type=int,
                default=0,
                help="Keep the perturbations of the first so many attacked samples.",
            ),
            click.option("--limit", type=int, help="Attack this many test samples only; the row is marked partial."),
            click.option(
                "--skip-bad-records", is_flag=True, help="Leave out damaged recordings; the record names each of them."
            ),
            click.option(
                "--protocol",
                help="How adversarial samples are counted, such as standard[success=last]; default: standard.",
            ),
        )
    ):
        command = option(command)
    return runner_options(command)


def runner_options(command: Command) -> Command:
    """Where to run it."""
    for option in reversed(
        (
            click.option("--data", multiple=True, metavar="NAME=PATH", help="Folder of one dataset's recordings."),
            click.option(
                "--store", type=click.Path(file_okay=False), help="Where results are kept; default: $ECGBENCH_HOME."
            ),
            click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
            plugin_option,
            click.option(
                "--leaderboard",
                type=click.Path(file_okay=False),
                help="Where published victims are, used instead of a training; default: $ECGBENCH_LEADERBOARD, or the "
                "leaderboard of the working directory, or that of the source checkout.",
            ),
        )
    ):
        command = option(command)
    return command


plugin_option = click.option(
    "--plugin", "-p", "plugins", multiple=True, help="A module or .py file whose plugins to use without installing it."
)


def places(data: tuple[str, ...]) -> dict[str, str]:
    """NAME=PATH options as a mapping."""
    pairs = {}
    for item in data:
        name, equals, path = item.partition("=")
        if not equals or not path:
            raise click.UsageError(f"--data {item!r} given; expected NAME=PATH.")
        if not Path(path).exists():
            raise click.UsageError(f"--data {item!r} given; there is no {path}.")
        pairs[name] = path
    return pairs


def open_runner(
    data: tuple[str, ...],
    store: str | None,
    device: str,
    plugins: tuple[str, ...],
    leaderboard: str | None,
    tell: Callable[[Progress], None] = lambda _: None,
    retrain: bool = False,
) -> Runner:
    """The runner of this command; its remarks go to stderr."""
    from ecgbench import api

    return api.open_runner(
        data=places(data),
        store=store,
        device=device,
        plugins=plugins,
        leaderboard=leaderboard,
        tell=tell,
        say=remark,
        retrain=retrain,
    )


def remark(line: str) -> None:
    """One line for people."""
    click.echo(f"note: {line}", err=True)


def unfolded(runner: Runner, suite: str | None, skip_bad_records: bool, **grid: Any) -> list[Cell]:
    """The cells of a suite file or of the options, never of both."""
    from ecgbench.api import skipping_bad
    from ecgbench.runs.suite import unfold

    cells = unfold(_grids(suite, **grid), runner.catalog)
    return skipping_bad(cells, runner.catalog) if skip_bad_records else cells


def _grids(
    suite: str | None,
    dataset: tuple[str, ...],
    model: tuple[str, ...],
    defense: tuple[str, ...],
    attack: tuple[str, ...],
    threat: tuple[str, ...],
    eps: tuple[str, ...],
    seed: tuple[str, ...],
    limit: int | None,
    protocol: str | None,
    audit: bool,
    save_perturbations: int,
) -> tuple[Grid, ...]:
    from ecgbench.runs.suite import Grid, parse_eps, parse_seeds, read_suite

    options = (*dataset, *model, *defense, *attack, *threat, *eps, *seed, *([limit] if limit is not None else []))
    if suite is not None:
        if options or protocol or audit or save_perturbations:
            raise click.UsageError("a suite file and selectors were both given; expected one of them.")
        return read_suite(Path(suite))
    return (
        Grid(
            model=model,
            attack=attack,
            defense=defense or ("none",),
            dataset=dataset,
            threat=threat,
            eps=parse_eps(_split(eps)),
            seed=parse_seeds(_split(seed) or ["0"]),
            limit=limit,
            protocol=protocol or "standard",
            audit=audit,
            save_perturbations=save_perturbations,
        ),
    )


def _split(given: tuple[str, ...]) -> list[str]:
    return [word for item in given for word in item.split(",")]
