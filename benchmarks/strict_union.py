"""What the strict attack leaves of the published victims of MIT-BIH beats, beside the attacks of torchattacks.

python benchmarks/strict_union.py [--model mlp|cnn] [--into benchmarks/strict_union.csv] [--summary]

A line of the table is a victim, an eps and a threat: the share of samples that stays robust under each attack, then
the CPU seconds of each. It goes on where it stopped. Needs the recordings (ecgbench data get mitbih) and the extra
`attacks`; takes about an hour for the 31 MLP on one core, and many for the five CNN.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from time import process_time

import numpy as np
import torch
import torchattacks
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from ecgbench.api import open_runner
from ecgbench.core.data import Task
from ecgbench.core.random import stream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import frozen
from ecgbench.evaluation.sweep import Sweep
from ecgbench.evaluation.union import attacked
from ecgbench.runs.zoo import cards, checkpoints, load_victim
from ecgbench_plugins.attacks.strict import Strict

BEATS = {"mlp": (60, 120), "cnn": (60, 80)}
"""Which beats of each class, in the order of `some_of_each`: none of them was chosen on."""
EPSILONS = (0.03, 0.1)
OURS = ("quick", "standard", "thorough")
THEIRS = ("AutoAttack", "AutoAttack-100", "APGDT", "FAB")
TAG_BITS = 10
Robust = NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """One line of the table. `padding` says whether it is in reach of the attacks."""

    victim: str
    eps: float
    padding: bool

    @property
    def line(self) -> list[str]:
        return [self.victim, f"{self.eps:g}", "in reach" if self.padding else "out of reach"]


class Tagged(Module):
    """A victim that is called with images (n, 1, 1, time + TAG_BITS), as these attacks call it.

    The last values say which sample a row is, for the attacks leave out and reorder rows, and what the mask forbids is
    taken from the clean sample of that number.
    """

    def __init__(self, module: Module, task: Task, threat: Threat) -> None:
        super().__init__()
        self.module, self.clean = module.eval(), task.test.x
        self.mask = task.test.mask if threat.mask else torch.ones_like(task.test.mask)

    def images(self) -> Tensor:
        number = torch.arange(len(self.clean))[:, None] >> torch.arange(TAG_BITS) & 1
        return torch.cat([self.clean.flatten(1), number.float()], 1)[:, None, None]

    def signals(self, images: Tensor) -> Tensor:
        rows, values = images.flatten(1), self.clean[0].numel()
        number = ((rows[:, values:] > 0.5).long() << torch.arange(TAG_BITS)).sum(1)
        return torch.where(self.mask[number], rows[:, :values].view(-1, *self.clean.shape[1:]), self.clean[number])

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(self.signals(images))
        return logits


def library(name: str, net: Tagged, eps: float, classes: int) -> torchattacks.attack.Attack:
    if name == "APGDT":
        return torchattacks.APGDT(net, norm="Linf", eps=eps, steps=100, n_classes=classes, seed=0)
    if name == "FAB":
        return torchattacks.FAB(net, norm="Linf", eps=eps, steps=100, n_classes=classes, multi_targeted=False)
    attack = torchattacks.AutoAttack(net, norm="Linf", eps=eps, n_classes=classes, seed=0)
    for part in attack._autoattack.attacks if name == "AutoAttack-100" else ():
        if hasattr(part, "steps"):
            part.steps = 100
    return attack


def robust_under(name: str, module: Module, task: Task, threat: Threat, eps: float) -> tuple[Robust, float]:
    """Which samples are right before and after the attack, and its CPU seconds."""
    if name in OURS:
        sweep = Sweep(Strict(name), frozen(module), task, threat, (eps,), stream("attack", 0))  # type: ignore[arg-type]
        found = attacked(name, sweep)
        return found.robust, found.seconds
    net, clean, y = Tagged(module, task, threat), task.test.x, task.test.y
    torch.manual_seed(0)
    np.random.seed(0)
    began = process_time()
    perturbed = net.signals(library(name, net, eps, len(task.classes))(net.images(), y))
    seconds = process_time() - began
    with torch.no_grad():
        inside = clean + (perturbed - clean).clamp(-eps, eps)
        right = (module(clean).argmax(1) == y) & (module(inside).argmax(1) == y)
    return right.numpy(), seconds


def measured(case: Case, task: Task) -> list[str]:
    """The line of the table."""
    module, threat = load_victim(case.victim), Threat("linf", mask=not case.padding)
    runs = {name: robust_under(name, module, task, threat, case.eps) for name in (*OURS, *THEIRS)}
    together = np.logical_and.reduce([robust for name, (robust, _) in runs.items() if name != "quick"])
    shares = [robust.mean() for robust, _ in runs.values()] + [together.mean()]
    return [*case.line, *(f"{share:.4f}" for share in shares), *(f"{seconds:.1f}" for _, seconds in runs.values())]


HEADER = ["victim", "eps", "padding", *OURS, *THEIRS, "all but quick", *(f"{name} (s)" for name in (*OURS, *THEIRS))]


def samples(task: Task, first: int, last: int) -> Task:
    """The `first`-th to `last`-th test sample of each class in the order in which a run takes them."""
    used = set(task.some_of_each(first).test.ids.tolist())
    more = task.some_of_each(last)
    rows = torch.tensor([row for row, number in enumerate(more.test.ids.tolist()) if number not in used])
    return replace(more, test=more.test[rows])


def cases(model: str) -> Iterator[Case]:
    folder = checkpoints()
    known = {} if folder is None else cards(folder)
    found = [(card.seed, name) for name, (_, card) in known.items() if (card.dataset, card.model) == ("mitbih", model)]
    names = [name for _, name in sorted(found)]
    return (Case(name, eps, padding) for name in names for padding in (True, False) for eps in EPSILONS)


def fill(model: str, into: Path) -> None:
    """Measure what the table lacks, a line at a time."""
    runner = open_runner(data={}, store=None, device="cpu", plugins=(), tell=print)
    task = samples(runner.recordings.task(runner.catalog.resolve("dataset", "mitbih")), *BEATS[model])
    done = [line[:3] for line in table(into)] if into.exists() else []
    if not done:
        into.write_text(",".join(HEADER) + "\n")
    for case in cases(model):
        if case.line not in done:
            line = measured(case, task)
            with into.open("a") as file:
                csv.writer(file, lineterminator="\n").writerow(line)
            print(*line, flush=True)


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


def summary(lines: Sequence[Sequence[str]]) -> Iterable[str]:
    """By defense, as a Markdown table, and over all lines: what the others take from `standard`, and CPU seconds."""
    yield "| defense | seeds | lines | lowered, mean | most | `quick` above, most | standard | AutoAttack | 100 steps |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    by_defense: dict[str, list[Sequence[str]]] = {}
    for line in lines:
        by_defense.setdefault(line[0].rpartition("-seed")[0], []).append(line)
    for name, own in [*sorted(by_defense.items()), ("all", lines)]:
        lost = [_of(line, "standard") - _of(line, "all but quick") for line in own]
        above = max(_of(line, "quick") - _of(line, "standard") for line in own)
        costs = [sum(_of(line, f"{attack} (s)") for line in own) for attack in ("standard", *THEIRS[:2])]
        seeds = len({line[0] for line in own})
        figures = [str(seeds), str(len(own)), f"{mean(lost):.4f}", f"{max(lost):.4f}", f"{above:.4f}"]
        yield "| " + " | ".join([name, *figures, *(f"{cost:.0f} s" for cost in costs)]) + " |"
    for attack in (*OURS, *THEIRS):
        yield f"{attack}: {sum(_of(line, f'{attack} (s)') for line in lines):.0f} CPU seconds"


def _of(line: Sequence[str], column: str) -> float:
    return float(line[HEADER.index(column)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=BEATS, default="mlp")
    parser.add_argument("--into", type=Path, default=Path("benchmarks/strict_union.csv"))
    parser.add_argument("--summary", action="store_true", help="print what the table says, and measure nothing")
    given = parser.parse_args()
    if given.summary:
        print("\n".join(summary(table(given.into))))
        return
    torch.set_num_threads(1)
    fill(given.model, given.into)


if __name__ == "__main__":
    main()
