"""What is compared: four victims on real beats, as the bench runs them and as the user of a library has them."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.api import open_runner
from ecgbench.core.data import Task
from ecgbench.core.progress import Epoch, Progress
from ecgbench.runs.cell import Cell
from ecgbench_plugins.models.cnn import CNN

EPSILONS = (0.01, 0.03, 0.05, 0.1, 0.2, 0.3)
STEPS, REACH = 100, 2.5  # the steps together reach 2.5 eps
DATASET = "mitbih[split=random]"
MADRY = "eps=0.1,clean=0,threat=linf[mask=off]"
VICTIMS = {
    "mlp": ("mlp", "none"),
    "mlp-adversarial": ("mlp", f"adaptive[{MADRY},epochs=4]"),
    "cnn": ("cnn", "none[epochs=2,lr=0.004]"),
    "cnn-adversarial": ("cnn", f"adaptive[{MADRY},epochs=1,lr=0.002,attack=pgd[steps=2,rel_step=0.75]]"),
}
"""Model and defense by name. The first is published; the short schedules of the others take about 6 minutes in all,
once: the bench keeps what it trained."""
BEATS = {"mlp": 160, "cnn": 40}  # of each class: class F has 162 in the test split; a CNN takes its time


@dataclass(frozen=True)
class Problem:
    """A victim and the beats it is attacked on.

    `frozen` is the module as the bench uses it; `plain` the same weights as a library's user has them: in eval mode,
    weights that ask for gradients, convolutions as they are written. `relaid` has the bench's layout of convolutions.
    """

    name: str
    frozen: Module
    plain: Module
    relaid: Module
    task: Task
    eps: tuple[float, ...] = EPSILONS
    steps: int = STEPS

    @property
    def x(self) -> Tensor:
        return self.task.test.x

    @property
    def y(self) -> Tensor:
        return self.task.test.y

    def sized(self, n: int) -> Problem:
        """The same on `n` beats, each class in turn, repeated where there are not enough."""
        order = self.y.argsort(stable=True).view(len(self.task.classes), -1).t().flatten()
        samples = self.task.test[order[torch.arange(n) % len(order)]]
        return replace(self, task=replace(self.task, test=replace(samples, ids=torch.arange(n))))


def problem(name: str, limit: int | None = None) -> Problem:
    """The victim of this name, trained now if it is not kept, and the first test beats of each class.

    With `limit` those that `ecgbench run --limit` takes, each class with its share.
    """
    runner = open_runner(data={}, store=None, device="cpu", plugins=(), tell=_tell)
    resolve, (model, defense) = runner.catalog.resolve, VICTIMS[name]
    values = (resolve("dataset", DATASET), resolve("model", model), resolve("defense", defense))
    cell = Cell(*values, resolve("attack", "pgd100"), resolve("threat", "linf"), EPSILONS)
    module, whole = runner.victim(cell.victim).victim.module, runner.task(cell.dataset)
    rows = [(whole.test.y == label).nonzero().squeeze(1)[: BEATS[model]] for label in range(len(whole.classes))]
    test = whole.test[torch.cat(rows)] if limit is None else whole.limited(limit).test
    nobody = torch.arange(0)  # not a slice, whose storage would be that of the whole split
    task = replace(whole, train=whole.train[nobody], val=whole.val[nobody], test=test)
    relaid = copy.deepcopy(module).requires_grad_(True)
    return Problem(name, module, _as_written(relaid, task), relaid, task)


def _as_written(module: Module, task: Task) -> Module:
    """The same weights with convolutions of one dimension, where the bench runs them as two."""
    if not getattr(module, "flattened", False):
        return module
    plain = CNN(layout="conv1d").build(task)
    plain.load_state_dict(module.state_dict())
    return plain.eval()


def _tell(progress: Progress) -> None:
    if isinstance(progress, Epoch):
        sys.stderr.write(f"training: epoch {progress.number} of {progress.of}\n")
