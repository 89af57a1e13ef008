"""Faulty defenses, each refused by the promise meant for it: a promise that nothing can break is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from honest import Plain, plain_loss
from torch import Tensor
from torch.nn import Dropout, Module, Sequential

from ecgbench.data import Batch, Task
from ecgbench.interfaces import Defense
from ecgbench.journal import Epoch, Journal
from ecgbench.keyed import Keyed
from ecgbench.testing import (
    check_defense,
)
from ecgbench.training import train


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
    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        return Plain().fit(model, task, rng, journal)


class Lazy(Plain):
    """Returns the module as it came."""

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        return model.eval()


class Unready(Plain):
    """Leaves dropout on."""

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        return super().fit(model, task, rng, journal).train()


class Half(Plain):
    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        module = super().fit(model, task, rng, journal)
        for part in module.modules():
            if isinstance(part, Dropout):
                part.train()
        return module


class Augmenting(Plain):
    """Adds its noise to the task itself."""

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        task.train.x.mul_(0.99)
        return super().fit(model, task, rng, journal)


class Drawing(Plain):
    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        torch.rand(1)
        return super().fit(model, task, rng, journal)


class Wandering(Plain):
    """Fixed by a global generator that it puts back."""

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        with torch.random.fork_rng(devices=[]):
            draw = torch.rand(())

        def loss(module: Module, batch: Batch, step: Keyed) -> Tensor:
            return (1 + draw) * plain_loss(module, batch, step)

        return train(model, task, loss, self, rng, journal)


class Silent(Plain):
    """Keeps its states and tells nothing."""

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        class Mute(Journal):
            keep = journal.keep
            kept = journal.kept

        return super().fit(model, task, rng, Mute())


class Boasting(Plain):
    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        journal.tell(Epoch(5, 3, 0.0, None))
        return super().fit(model, task, rng, journal)


class Unkept(Plain):
    """Keeps nothing."""

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        return super().fit(model, task, rng, Journal(journal.tell))


class Restarting(Plain):
    """Keeps states and never reads them."""

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        class Amnesiac(Journal):
            keep = journal.keep
            tell = journal.tell

        return super().fit(model, task, rng, Amnesiac())


class Diverging(Plain):
    """Goes on, with the optimizer forgotten."""

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        kept = journal.kept()
        if kept is not None:
            journal.keep({name: 0 * value if name.endswith("exp_avg") else value for name, value in kept.items()})
        return super().fit(model, task, rng, journal)


class Scaling(Plain):
    """Hides what it learned where no state_dict tells it."""

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        module = super().fit(model, task, rng, journal)
        module.register_forward_hook(lambda part, given, logits: 2 * logits)
        return module


class Renaming(Plain):
    """Returns another architecture than wrap gives."""

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        return Sequential(super().fit(model, task, rng, journal)).eval()


class Wrapped(Renaming):
    """The same, announced."""

    def wrap(self, module: Module, task: Task) -> Module:
        return Sequential(module)

    def fit(self, model: Module, task: Task, rng: Keyed, journal: Journal) -> Module:
        return Plain().fit(model, task, rng, journal)


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
