"""Attacks, models and defenses that do something bad once, and are honest otherwise."""

import atexit
import ctypes
import gc
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NoReturn

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn import Flatten, Linear, Module, Sequential

from ecgbench import (
    Attack,
    Checkpoint,
    Defense,
    Model,
    RandomStream,
    Task,
    Trial,
    cross_entropy,
    hookimpl,
)

FILE = str(Path(__file__).absolute())
HOSTILE = ("-p", FILE)


class Mine(BaseException):
    pass


def raised(error: BaseException) -> NoReturn:
    raise error


def hang() -> None:
    while True:
        time.sleep(1)


def memory() -> None:
    """Takes all there is as fast as it can; writes how many bytes it is about to hold, where somebody wants to know."""
    log, held = os.environ.get("HOSTILE_HELD"), [np.zeros(0)]
    before = psutil.Process().memory_full_info().uss
    while True:
        if log is not None:
            Path(log).write_text(str(before + len(held) * 80_000_000))
        held.append(np.ones(10_000_000))


def stdout() -> None:
    sys.stdout.write("SPOILED STDOUT\n")
    os.write(1, b"RAW WRITE\n")


def hold() -> None:
    """Keeps all other threads of the process waiting."""
    os.write(2, b"held\n")
    ctypes.PyDLL(None).sleep(1000)


def leak() -> None:
    """Leaves no file to be opened."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with suppress(OSError):
        while True:
            os.dup(2)


def signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def deaf() -> None:
    signals()
    hang()


def precision() -> None:
    torch.set_float32_matmul_precision("medium")
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]


def close() -> None:
    os.close(1)
    os.close(2)


def environ() -> None:
    os.environ["ECGBENCH_HOME"] = "/nonexistent"
    os.environ.clear()


def patch_contains() -> None:
    from ecgbench.core.threat import Ball

    Ball.contains = lambda self, delta: torch.ones(len(delta), dtype=torch.bool)  # type: ignore[method-assign]


def patch_predict() -> None:
    from ecgbench.core.victim import Victim

    Victim.predict = lambda self, x, batch, *_, **__: batch.y.clone()  # type: ignore[method-assign]


def patch_summarize() -> None:
    import ecgbench.evaluation.metrics as metrics

    metrics.summarize = None  # type: ignore[assignment]


def patch_code() -> None:
    from ecgbench.core.threat import Ball

    Ball.contains.__code__ = (lambda self, delta: torch.ones(len(delta), dtype=torch.bool)).__code__


def thread() -> None:
    def disturb() -> None:
        while True:
            torch.manual_seed(0)
            time.sleep(0.001)

    threading.Thread(target=disturb, daemon=True).start()


def zero() -> None:
    for each in gc.get_objects():
        if type(each).__name__ == "Samples":
            each.x.zero_()


ACTS: Mapping[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "boom": lambda: raised(RuntimeError("boom | <b>pipe</b>\n`tick`")),
    "sysexit": lambda: sys.exit(7),
    "kbd": lambda: raised(KeyboardInterrupt()),
    "genexit": lambda: raised(GeneratorExit("x")),
    "baseexc": lambda: raised(Mine("mine")),
    "osexit": lambda: os._exit(3),
    "osexit0": lambda: os._exit(0),
    "segv": lambda: ctypes.string_at(0),
    "hang": hang,
    "hold": hold,
    "ask": input,
    "leak": leak,
    "deaf": deaf,
    "memory": memory,
    "stdout": stdout,
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "mseed": lambda: (torch.manual_seed(123), random.seed(1)),
    "npseed": lambda: np.random.seed(5),
    "threads": lambda: torch.set_num_threads(2),
    "determ": lambda: torch.use_deterministic_algorithms(True),
    "chdir": lambda: os.chdir("/"),
    "warn": lambda: warnings.simplefilter("error"),
    "sigs": signals,
    "gradoff": lambda: torch.set_grad_enabled(False),
    "flush": lambda: torch.set_flush_denormal(True),
    "matmul": precision,
    "nperr": lambda: np.seterr(all="raise"),
    "recursion": lambda: sys.setrecursionlimit(60),
    "closefd": close,
    "environ": environ,
    "umask": lambda: os.umask(0o777),
    "patch_contains": patch_contains,
    "patch_predict": patch_predict,
    "patch_summarize": patch_summarize,
    "patch_code": patch_code,
    "zero": zero,
    "atexit": lambda: atexit.register(lambda: os._exit(0)),
    "thread": thread,
    "nondaemon": lambda: threading.Thread(target=lambda: time.sleep(1e6)).start(),
}


@dataclass(frozen=True)
class HostileAttack(Attack):
    """Does something bad, then is FGSM."""

    act: str = "nothing"

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        ACTS[self.act]()
        _, gradient = trial.gradient(torch.zeros_like(trial.batch.x), cross_entropy)
        return trial.ball.project(trial.ball.eps * trial.ball.steepest(gradient))


class Acting(Module):
    def __init__(self, act: str, size: int, classes: int) -> None:
        super().__init__()
        self.act, self.linear = act, Sequential(Flatten(), Linear(size, classes))

    def forward(self, x: Tensor) -> Tensor:
        ACTS[self.act]()
        logits: Tensor = self.linear(x)
        return logits


@dataclass(frozen=True)
class HostileModel(Model):
    """Does something bad whenever it is asked."""

    default_dataset: ClassVar[str] = "synthetic-beats"
    act: str = "nothing"

    def build(self, task: Task) -> Module:
        return Acting(self.act, int(np.prod(task.shape)), len(task.classes))


@dataclass(frozen=True)
class HostileDefense(Defense):
    """Does something bad instead of a training."""

    act: str = "nothing"

    def fit(self, model: Module, task: Task, rng: RandomStream, checkpoint: Checkpoint) -> Module:
        ACTS[self.act]()
        return model


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"hostile": HostileAttack()}


@hookimpl
def models() -> Mapping[str, Model]:
    return {"hostile": HostileModel()}


@hookimpl
def defenses() -> Mapping[str, Defense]:
    return {"hostile": HostileDefense()}
