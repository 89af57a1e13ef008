"""What the checks say about fake defenses and about honest victims, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch.nn import Module

from ecgbench.checks.audit import Audit
from ecgbench.checks.cheap import CheapChecks, Check
from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.interfaces import Dataset, Defense
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import stream
from ecgbench.core.victim import Victim, frozen
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep
from ecgbench.registry.catalog import Catalog, discover

MODULES = tuple(f"{__package__}.{name}" for name in ("logits", "inputs", "gradients", "nondeterministic"))
"""The plugins that offer them."""
FAKES = {
    "scaled": "LOSSSAT",
    "tempered": "LOSSSAT",
    "softmaxed": "PROB",
    "rounded": "ACTIVE-TEST",
    "clamped": "TRANSFER",
    "sweetened": "MASKEDGRAD",
    "quantised": "MASKEDGRAD",
    "filtered": "BB>WB",
    "detecting": "UNBOUNDED",
    "lying": "MASKEDGRAD",
    "dodging": "DYNAMIC",
    "undefined": "GRAD",
    "noisy": "RANDOM",
    "dropping": "RANDOM",
    "normed": "BATCHDEP",
    "memorised": "TARGETED",
}
"""Every fake and the check that is meant for it."""
BEATEN = {"memorised": "pgd100[start=zero]"}
"""The attack that a fake was built against, where it is not `pgd100`; its eps is that of the table."""
HONEST = {
    "mlp": ("none[epochs=10]", "adaptive[epochs=10]"),
    "cnn[blocks=3,width=16]": ("none[epochs=5]", "adaptive[attack=pgd[rel_step=0.5,steps=3],epochs=5]"),
}
"""Undefended and adversarially trained victims, in short schedules."""
SEEDS = (0, 1, 2)
TRAIN = 3000  # samples, so that a large dataset takes minutes, too
STRONG = "strict[budget=quick]"
LIMITS = {"mlp": 300, "cnn[blocks=3,width=16]": 60}


@dataclass(frozen=True)
class Row:
    """One victim under one attack: clean and robust accuracy of the attacked samples, and every check."""

    victim: str
    attack: str
    clean: float
    robust: float
    checks: tuple[Check, ...]

    @property
    def flags(self) -> list[str]:
        """Codes of the checks that were raised."""
        return [check.code for check in self.checks if check.raised]


@dataclass
class Bed:
    """Where victims are trained and looked at: data, the eps that decides, and how many test samples."""

    dataset: str
    root: DataRoot
    catalog: Catalog = field(default_factory=lambda: discover(MODULES))
    trained: dict[tuple[str, Defense, int], Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data: Dataset = self.catalog.resolve("dataset", self.dataset)
        self.threat, self.eps = data.defaults.threat, data.defaults.headline
        task: Task = data.load(self.root)
        self.task = replace(task, train=task.train[:: -(-len(task.train) // TRAIN)])

    def victim(self, model: str, defense: Defense, seed: int = 0) -> Victim:
        """The trained victim; each base is trained once."""
        return frozen(self._module(model, defense, seed))

    def _module(self, model: str, defense: Defense, seed: int) -> Module:
        key = (model, defense, seed)
        if key not in self.trained:
            if defense.base is not None:
                module = defense.wrap(self._module(model, defense.base, seed), self.task)
            else:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(stream("weights", seed).seed)
                    module = defense.wrap(self.catalog.resolve("model", model).build(self.task), self.task)
            self.trained[key] = defense.fit(module, self.task, stream("train", seed), Checkpoint()).eval()
        return self.trained[key]

    def row(self, name: str, victim: Victim, undefended: Victim | None, attack: str, limit: int, seed: int = 0) -> Row:
        """Attack the victim and make every check, cheap and costly."""
        tried, task = self.catalog.resolve("attack", attack), self.task.limited(limit)
        sweep = Sweep(tried, victim, task, self.threat, (self.eps,), stream("attack", seed))
        outcomes = sweep.run(Checkpoint())
        checks = CheapChecks(sweep, outcomes, self.eps).run() + Audit(sweep, outcomes, self.eps, undefended).run()
        return Row(name, attack, _accuracy(outcomes, 0), _accuracy(outcomes, self.eps), checks)

    def fakes(self, limit: int = 300) -> Iterator[Row]:
        """The honest victim that the fakes stand on, and every fake."""
        defense: Defense = self.catalog.resolve("defense", "none[epochs=10]")
        undefended = self.victim("mlp", defense)
        yield self.row("(honest)", undefended, None, "pgd100", limit)
        for name in FAKES:
            selector = f"{name}[eps={self.eps}]" if name in BEATEN else name
            victim = self.victim("mlp", self.catalog.resolve("defense", selector))
            yield self.row(name, victim, undefended, BEATEN.get(name, "pgd100"), limit)

    def honest(self, model: str, attack: str, seeds: tuple[int, ...] = SEEDS) -> Iterator[Row]:
        """Honest victims of one model; the first, undefended, is the one that the other is compared with."""
        for seed in seeds:
            undefended: Victim | None = None
            for selector in HONEST[model]:
                victim = self.victim(model, self.catalog.resolve("defense", selector), seed)
                name = f"{model} {selector.partition('[')[0]} {seed}"
                yield self.row(name, victim, undefended, attack, LIMITS[model], seed)
                undefended = victim


def _accuracy(outcomes: Outcomes, eps: float) -> float:
    right = outcomes.at(eps) == outcomes.y
    return float(outcomes.weight[right].sum() / outcomes.weight.sum())
