"""An epoch of `fast`, `free` and `madry` against one of `none`, in turns, on random beats and the MLP.

Labels are even, so that a balanced epoch has one update for every 128 samples.

python benchmarks/speed/adversarial_training.py [--samples 32000]
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from functools import partial

import torch
from pairs import machine, pairs

from ecgbench import Defense, Samples, Task
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench_plugins.defenses.adaptive import Adaptive
from ecgbench_plugins.defenses.fast import Fast, Free
from ecgbench_plugins.defenses.none import Standard
from ecgbench_plugins.models.mlp import MLP

EPS, THREAT = 0.1, Threat("linf", mask=False)
WATCHED = 50  # validation samples of each class that `fast` and `free` attack after every epoch
DEFENSES: dict[str, Defense] = {
    "madry": Adaptive(epochs=1, clean=0.0, eps=EPS, threat=THREAT),
    "fast": Fast(epochs=1, eps=EPS, threat=THREAT, watched=WATCHED),
    "free": Free(epochs=1, eps=EPS, threat=THREAT, watched=WATCHED),
}


def problem(n: int) -> Task:
    """Random signals: speed does not depend on what is learnt."""
    x = torch.rand(n, 1, 187, generator=torch.Generator().manual_seed(0))
    samples = Samples.of(x, torch.arange(n) % 5)
    few = samples[: 5 * WATCHED]
    return Task("speed", tuple("NSVFQ"), samples, few, few, bounds=(0.0, 1.0))


def epoch(defense: Defense, module: torch.nn.Module, task: Task) -> None:
    defense.fit(deepcopy(module), task, RandomStream(("speed",)), Checkpoint())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=32_000)
    task = problem(parser.parse_args().samples)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = MLP().build(task)
    print(f"{len(task.train) // 128} updates an epoch; {machine()}")
    print(f"{'defense':<10}{'epoch s':>9}{'none s':>9}{'ratio':>7}")
    for name, defense in DEFENSES.items():
        ours, plain = (partial(epoch, one, module, task) for one in (defense, Standard(epochs=1)))
        taken, theirs, ratio = pairs(ours, plain, runs=5)
        print(f"{name:<10}{taken:>9.2f}{theirs:>9.2f}{ratio:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
