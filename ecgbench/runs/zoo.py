"""Published victims by name: trained models that anyone can load without the recordings they were trained on."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Samples, Task
from ecgbench.core.errors import EcgbenchError, StoreError, UnknownNameError
from ecgbench.core.fingerprint import digest
from ecgbench.core.interfaces import Defense, Model, returned
from ecgbench.core.random import stream
from ecgbench.core.victim import frozen
from ecgbench.registry.catalog import Catalog, discover
from ecgbench.storage.arrays import unpack_tensors
from ecgbench.storage.store import Store

STAGE = "victims"
CARD, WEIGHTS = "victim.json", "weights.safetensors"
CHECKPOINTS = Path("leaderboard") / "checkpoints"
VARIABLE = "ECGBENCH_LEADERBOARD"
CHECKOUT = Path(__file__).resolve().parents[2]
"""The source checkout, where the package runs from one."""


class Card(Struct, frozen=True, kw_only=True):
    """What a published victim is: canonical selectors and seed, the task that its architecture was built for, and the
    digest of its weights.
    """

    dataset: str
    model: str
    defense: str
    seed: int
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    bounds: tuple[float, float] | None
    rate: float | None
    weights: str

    @classmethod
    def of(cls, words: Mapping[str, Any], task: Task, weights: str) -> Card:
        """The card of a victim named by `words`, trained on `task`, whose weights have that digest."""
        names = {name: words[name] for name in ("dataset", "model", "defense", "seed")}
        return cls(**names, classes=task.classes, shape=task.shape, bounds=task.bounds, rate=task.rate, weights=weights)

    @property
    def name(self) -> str:
        """`<dataset>-<model>-<defense>-seed<seed>`, without signs that a shell minds."""
        words = f"{self.dataset}-{self.model}-{self.defense}-seed{self.seed}"
        return re.sub(r"[^A-Za-z0-9._]+", "-", words)

    def blank(self, catalog: Catalog) -> Module:
        """The architecture, untrained. Raises EcgbenchError where model or defense are not offered here."""
        model, defense = catalog.resolve("model", self.model), catalog.resolve("defense", self.defense)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # statistics of no samples: what is loaded takes their place
            return architecture(model, defense, self._task(), self.seed)

    def _task(self) -> Task:
        none = Samples.of(torch.zeros(0, *self.shape), torch.zeros(0, dtype=torch.int64))
        return Task(self.dataset, self.classes, none, none, none, bounds=self.bounds, rate=self.rate)


def architecture(model: Model, defense: Defense, task: Task, seed: int) -> Module:
    """What `defense` trains and attacks meet, freshly initialised from `seed`."""
    if defense.base is not None:
        return returned(defense, "wrap", defense.wrap(architecture(model, defense.base, task, seed), task), Module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream("weights", seed).seed)
        module = returned(model, "build", model.build(task), Module)
        return returned(defense, "wrap", defense.wrap(module, task), Module)


def checkpoints(leaderboard: str | Path | None = None) -> Path | None:
    """The folder of published victims: of the leaderboard given, else of the one that $ECGBENCH_LEADERBOARD names.

    Where none is named, that of the working directory, else that of the source checkout the package runs from; None
    where neither is there. Raises EcgbenchError for a leaderboard that is named and has no published victims.
    """
    named = leaderboard if leaderboard is not None else os.environ.get(VARIABLE)
    if named:
        folder = Path(named) / CHECKPOINTS.name
        if not folder.is_dir():
            raise EcgbenchError(
                f"the leaderboard {named} has no folder {CHECKPOINTS.name}; expected published victims."
            )
        return folder
    here = (CHECKPOINTS, *([CHECKOUT / CHECKPOINTS] if (CHECKOUT / "pyproject.toml").is_file() else ()))
    return next((folder for folder in here if folder.is_dir()), None)


def cards(folder: Path) -> dict[str, tuple[str, Card]]:
    """Key and card of every victim published in `folder`, by name; of two with one name the last by key."""
    found = {}
    for path in sorted((folder / STAGE).glob(f"*/{CARD}")):
        card = _card(path.read_bytes(), path.as_posix())
        found[card.name] = (path.parent.name, card)
    return found


def published(name: str, folder: str | Path | None = None) -> tuple[Path, str, Card]:
    """Folder, key and card of the published victim of that name. Raises UnknownNameError for a name that is not there.

    `folder` holds published victims; by default it is found as `checkpoints` finds it.
    """
    place = checkpoints() if folder is None else Path(folder)
    known = {} if place is None else cards(place)
    if place is None or name not in known:
        raise UnknownNameError("published victim", str(name), known)
    return (place, *known[name])


def load_victim(name: str, folder: str | Path | None = None) -> Module:
    """The published victim of that name, in eval mode, weights at rest: x (n, *shape) -> logits (n, classes).

    `folder` holds published victims; by default it is found as `checkpoints` finds it. Raises UnknownNameError for a
    name that is not there, StoreError for a damaged one, or one with other weights than its card names.
    """
    place, key, card = published(name, folder)
    files = Store(place).get(STAGE, key)
    if files is None:
        raise StoreError(f"the published victim {name} is damaged; restore {key[:12]} in {place.as_posix()}.")
    weights = weights_by_card(files, (place / STAGE / key).as_posix())
    module = card.blank(discover())
    module.load_state_dict(weights)
    return frozen(module).module


def weights_by_card(files: Mapping[str, bytes], where: str) -> dict[str, Tensor]:
    """The weights of a published victim. Raises StoreError where they are not those that its card names."""
    if not {CARD, WEIGHTS} <= files.keys():
        raise StoreError(f"{where} lacks {CARD} or {WEIGHTS}; restore this published victim.")
    card, weights = _card(files[CARD], f"{where}/{CARD}"), unpack_tensors(files[WEIGHTS], f"{where}/{WEIGHTS}")
    found = digest(weights)
    if found != card.weights:
        raise StoreError(f"{where} holds weights {found[:12]}, its card names {card.weights[:12]}; restore it.")
    return weights


def _card(text: bytes, where: str) -> Card:
    try:
        return msgspec.json.decode(text, type=Card)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise StoreError(f"{where} is no card of a victim: {fault}.") from None
