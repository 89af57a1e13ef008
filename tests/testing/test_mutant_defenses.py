"""Faulty defenses, each refused by the promise meant for it: a promise that nothing can break is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Dropout, Module, Sequential

from ecgbench.core.data import Batch, Task
from ecgbench.core.interfaces import Defense
from ecgbench.core.progress import Checkpoint, Epoch
from ecgbench.core.random import RandomStream
from ecgbench.core.training import train
from ecgbench.testing import check_defense
from tests.testing.honest import Plain, plain_loss


@dataclass(frozen=True)
class Further(Plain):
    """An honest one that starts from another's weights."""

    @property
    def base(self) -> Defense | None:
        return Plain(epochs=1)


class Baseless(Plain):
    base: Any = "none"


@dataclass
class Loose(Defense):
    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        return Plain().fit(model, task, rng, checkpoint)


class Lazy(Plain):
    """Returns the module as it came."""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        return model.eval()


class Unready(Plain):
    """Leaves dropout on."""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        return super().fit(model, task, rng, checkpoint).train()


class Half(Plain):
    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        module = super().fit(model, task, rng, checkpoint)
        for part in module.modules():
            if isinstance(part, Dropout):
                part.train()
        return module


class Augmenting(Plain):
    """Adds its noise to the task itself."""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        task.train.x.mul_(0.99)
        return super().fit(model, task, rng, checkpoint)


class Drawing(Plain):
    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        torch.rand(1)
        return super().fit(model, task, rng, checkpoint)


class Wandering(Plain):
    """Fixed by a global generator that it puts back."""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        with torch.random.fork_rng(devices=[]):
            draw = torch.rand(())

        def loss(module: Module, batch: Batch, step: RandomStream) -> Tensor:
            return (1 + draw) * plain_loss(module, batch, step)

        return train(model, task, loss, self, rng, checkpoint)


class Silent(Plain):
    """Keeps its states and tells nothing."""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        class Mute(Checkpoint):
            save = checkpoint.save
            load = checkpoint.load

        return super().fit(model, task, rng, Mute())


class Boasting(Plain):
    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        checkpoint.report(Epoch(5, 3, 0.0, None))
        return super().fit(model, task, rng, checkpoint)


class Unkept(Plain):
    """Keeps nothing."""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        return super().fit(model, task, rng, Checkpoint(checkpoint.report))


class Restarting(Plain):
    """Keeps states and never reads them."""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        class Amnesiac(Checkpoint):
            save = checkpoint.save
            report = checkpoint.report

        return super().fit(model, task, rng, Amnesiac())


class Diverging(Plain):
    """Goes on, with the optimizer forgotten."""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        kept = checkpoint.load()
        if kept is not None:
            checkpoint.save({name: 0 * value if name.endswith("exp_avg") else value for name, value in kept.items()})
        return super().fit(model, task, rng, checkpoint)


class Scaling(Plain):
    """Hides what it learned where no state_dict tells it."""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        module = super().fit(model, task, rng, checkpoint)
        module.register_forward_hook(lambda part, given, logits: 2 * logits)
        return module


class Renaming(Plain):
    """Returns another architecture than wrap gives."""

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        return Sequential(super().fit(model, task, rng, checkpoint)).eval()


class Wrapped(Renaming):
    """The same, announced."""

    def wrap(self, module: Module, task: Task) -> Module:
        return Sequential(module)

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        return Plain().fit(model, task, rng, checkpoint)


@pytest.mark.parametrize(
    ("defense", "promise"),
    [
        (Baseless(), "interface"),
        (Loose(), "value"),
        (Lazy(), "trains"),
        (Unready(), "answers"),
        (Half(), "answers"),
        (Augmenting(), "untouched"),
        (Drawing(), "generators"),
        (Wandering(), "repeatable"),
        (Silent(), "told"),
        (Boasting(), "told"),
        (Unkept(), "resumable"),
        (Restarting(), "resumable"),
        (Diverging(), "resumable"),
        (Scaling(), "rebuildable"),
        (Renaming(), "rebuildable"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_a_faulty_defense_is_refused_by_the_promise_it_breaks(
    defense: Any, promise: str, refused: Callable[..., str]
) -> None:
    assert refused(check_defense, defense) == promise


@pytest.mark.parametrize("defense", [Plain(), Further(), Wrapped()], ids=lambda defense: type(defense).__name__)
def test_the_defenses_that_the_mutants_are_made_from_keep_every_promise(defense: Defense) -> None:
    check_defense(defense)
