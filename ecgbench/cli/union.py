"""union: what several attacks leave of a published victim, each alone and all together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ecgbench.cli.layout import across, fold
from ecgbench.cli.options import Place, remark, runner_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecgbench.core.data import Task
    from ecgbench.core.threat import Threat
    from ecgbench.core.victim import Victim
    from ecgbench.evaluation.union import Attacked
    from ecgbench.runs.runner import Runner

DEFAULT = ("strict[budget=quick]", "strict", "strict[budget=thorough]")


@click.command()
@click.argument("victim")
@click.option("--attack", "-a", multiple=True, help="Attack; default: the three budgets of strict.")
@click.option("--adapters", is_flag=True, help="Every attack of other libraries that fits, too; this can take hours.")
@click.option("--eps", "-e", type=float, required=True, help="Size of the ball.")
@click.option("--threat", "-t", default="linf", show_default=True, help="Threat model.")
@click.option("--per-class", type=int, default=60, show_default=True, help="Test samples of each class; 0: all.")
@click.option("--seed", "-s", type=int, default=0, show_default=True, help="Seed of the attacks.")
@runner_options
def union(
    victim: str,
    attack: tuple[str, ...],
    adapters: bool,
    eps: float,
    threat: str,
    per_class: int,
    seed: int,
    place: Place,
) -> None:
    """Print what attacks leave of a published VICTIM, each alone and all together, with the CPU seconds they take.

    Parts are those of an attack that says which of them found an adversarial example.

    Example: ecgbench union mitbih-mlp-nsr-recipe-code-seed0 -a strict -a apgd -e 0.03 -t "linf[mask=off]"
    """
    from ecgbench.core.victim import frozen
    from ecgbench.runs.zoo import checkpoints, load_victim, published

    runner, folder = place.runner(), checkpoints(place.leaderboard)
    _, _, card = published(victim, folder)
    dataset = runner.catalog.resolve("dataset", card.dataset)
    task = runner.recordings.task(dataset).some_of_each(per_class)
    rules = runner.catalog.resolve("threat", threat)
    names = [*(attack or DEFAULT), *(_adapters(runner) if adapters else [])]
    module = frozen(load_victim(victim, folder).to(place.device))
    runs = list(_runs(runner, names, module, task, rules, eps, seed))
    if not runs:
        raise click.UsageError("no attack fits; expected one that runs on this task under this threat.")
    click.echo(fold(f"{victim}, {len(task.test)} test samples, {threat}, eps {eps:g}, seed {seed}"))
    click.echo(f"\n{_table(runs)}")


def _adapters(runner: Runner) -> list[str]:
    return [name for name in runner.catalog.names("attack") if "." in name]


def _runs(
    runner: Runner, names: Sequence[str], victim: Victim, task: Task, threat: Threat, eps: float, seed: int
) -> list[Attacked]:
    from ecgbench.core.random import stream
    from ecgbench.evaluation.sweep import Sweep
    from ecgbench.evaluation.union import attacked

    runs = []
    for name in names:
        attack = runner.catalog.resolve("attack", name)
        unfit = attack.unfit(task, threat)
        if unfit is not None:
            remark(f"{name} is left out: {unfit}")
            continue
        sweep = Sweep(attack, victim, task, threat, (eps,), stream("attack", seed), device=runner.device)
        runs.append(attacked(name, sweep))
    return runs


def _table(runs: Sequence[Attacked]) -> str:
    from ecgbench.evaluation.union import alone, union

    together = union(runs)
    labels = [run.attack for run in runs] + ["union"]
    robust = [*(run.robust.mean() for run in runs), together.mean()]
    columns = [
        ("robust", [f"{share:.4f}" for share in robust]),
        ("above union", [*(f"{share - together.mean():.4f}" for share in robust[:-1]), ""]),
        ("alone", [*map(str, alone(runs)), ""]),
        ("CPU s", [f"{seconds:.2f}" for seconds in [*(run.seconds for run in runs), sum(run.seconds for run in runs)]]),
    ]
    parts = (
        fold(f"{run.attack}: {', '.join(f'{part} {count}' for part, count in run.parts.items())}")
        for run in runs
        if run.parts
    )
    found = "\n".join(parts)
    return across("attack", columns, labels, "") + (f"\n\nfound by its parts\n{found}" if found else "")
