"""Options that several commands share, and the runner they open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ecgbench.core.progress import Progress
    from ecgbench.runs.cell import Cell
    from ecgbench.runs.runner import Runner
    from ecgbench.runs.suite import Grid

Command = Callable[..., object]


@dataclass(frozen=True)
class Place:
    """Where a command runs: recordings, store, device, plugins and published victims."""

    data: tuple[str, ...]
    store: str | None
    device: str
    plugins: tuple[str, ...]
    leaderboard: str | None

    def runner(self, tell: Callable[[Progress], None] = lambda _: None, retrain: bool = False) -> Runner:
        """The runner of this command; its remarks go to stderr."""
        from ecgbench import api

        return api.open_runner(
            data=folders(self.data),
            store=self.store,
            device=self.device,
            plugins=self.plugins,
            leaderboard=self.leaderboard,
            tell=tell,
            say=remark,
            retrain=retrain,
        )


@dataclass(frozen=True)
class Asked:
    """What a command was asked to do: a suite file, or selectors by kind."""

    suite: str | None
    dataset: tuple[str, ...]
    model: tuple[str, ...]
    defense: tuple[str, ...]
    attack: tuple[str, ...]
    threat: tuple[str, ...]
    eps: tuple[str, ...]
    seed: tuple[str, ...]
    audit: bool
    save_perturbations: int
    limit: int | None
    skip_bad_records: bool
    protocol: str | None

    def cells(self, runner: Runner) -> list[Cell]:
        """The cells of the suite file or of the options."""
        from ecgbench.api import skipping_bad
        from ecgbench.runs.suite import unfold

        cells = unfold(self._grids(), runner.catalog)
        return skipping_bad(cells, runner.catalog) if self.skip_bad_records else cells

    def _grids(self) -> tuple[Grid, ...]:
        from ecgbench.runs.suite import Grid, parse_eps, parse_seeds, read_suite

        if self.suite is not None:
            axes = (self.dataset, self.model, self.defense, self.attack, self.threat, self.eps, self.seed)
            if any(axes) or self.limit is not None or self.protocol or self.audit or self.save_perturbations:
                raise click.UsageError("a suite file and selectors were both given; expected one of them.")
            return read_suite(Path(self.suite))
        return (
            Grid(
                model=self.model,
                attack=self.attack,
                defense=self.defense or ("none",),
                dataset=self.dataset,
                threat=self.threat,
                eps=parse_eps(_split(self.eps)),
                seed=parse_seeds(_split(self.seed) or ["0"]),
                limit=self.limit,
                protocol=self.protocol or "standard",
                audit=self.audit,
                save_perturbations=self.save_perturbations,
            ),
        )


def gathered(command: Command, kind: type[Any], name: str) -> Command:
    """The command with the options that are fields of `kind` as one value, its argument `name`."""
    own = [field.name for field in fields(kind)]

    @wraps(command)
    def run(**options: Any) -> object:
        value = kind(**{each: options.pop(each) for each in own})
        return command(**options, **{name: value})

    return run


def grid_options(command: Command) -> Command:
    """What to run, as `asked`: a suite file, or one selector or more per kind; and `place`, as `runner_options`."""
    command = gathered(command, Asked, "asked")
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
                help="Save the perturbations of the first so many attacked samples.",
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
    """Where to run it, as `place`."""
    command = gathered(command, Place, "place")
    for option in reversed(
        (
            click.option("--data", multiple=True, metavar="NAME=PATH", help="Folder of one dataset's recordings."),
            click.option(
                "--store",
                type=click.Path(file_okay=False),
                help="Where results are kept, a folder or s3://bucket/prefix; default: $ECGBENCH_HOME.",
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


def folders(data: tuple[str, ...]) -> dict[str, str]:
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


def remark(line: str) -> None:
    """One line for people."""
    click.echo(f"note: {line}", err=True)


def _split(given: tuple[str, ...]) -> list[str]:
    return [word for item in given for word in item.split(",")]
