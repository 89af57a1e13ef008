"""A defense that trains nothing, writes down that it was asked, and can kill its process while it is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import Module

from ecgbench import Checkpoint, Defense, RandomStream, Task, hookimpl


@dataclass(frozen=True)
class Toy(Defense):
    """Scales the weights by `gain`; at the asking number $KILL_AT the process dies."""

    gain: float = 1.0
    wrong: bool = False

    def __post_init__(self) -> None:
        if self.gain <= 0:
            raise ValueError(f"gain={self.gain} given; expected more than 0")

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        if self.wrong:
            raise RuntimeError("toys break")
        log = Path(os.environ["TOYS"])
        with log.open("a") as file:
            file.write(f"{os.getpid()} {self.gain!r}\n")
        if len(log.read_text().splitlines()) == int(os.environ.get("KILL_AT", "0")):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get("PAUSE", "0")))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(self.gain)
        return model


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"toy": Toy()}
