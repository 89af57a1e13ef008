"""An attack that takes its time, and leaves a line for each time that it is asked."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ecgbench import Attack, RandomStream, Trial, hookimpl

FILE = str(Path(__file__).absolute())


@dataclass(frozen=True)
class Slow(Attack):
    """Writes its number and process into `folder`/log, sleeps for `folder`/seconds, and perturbs nothing."""

    folder: str = ""
    number: int = 0

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        folder = Path(self.folder)
        with (folder / "log").open("a") as file:
            file.write(f"{self.number} {os.getpid()}\n")
        time.sleep(float((folder / "seconds").read_text()))
        return torch.zeros_like(trial.batch.x)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"slow": Slow()}
