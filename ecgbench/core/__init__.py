"""All that a plugin may import: signals, threats, victims, trials, losses, loops, interfaces, hooks and errors.

Names are imported when they are first used, so that `ecgbench --help` starts without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecgbench.core.certificates import Certificate, Proof
    from ecgbench.core.data import Batch, Samples, Task
    from ecgbench.core.dataroot import DataRoot, Remote, digest
    from ecgbench.core.errors import (
        ContractError,
        DataError,
        EcgbenchError,
        NotInstalledError,
        StoreError,
        UnknownNameError,
        instead,
    )
    from ecgbench.core.hookspecs import hookimpl
    from ecgbench.core.interfaces import Attack, Dataset, Defaults, Defense, Determinism, Model, delta_of
    from ecgbench.core.iteration import StepState, iterate, run_sequentially
    from ecgbench.core.losses import cross_entropy, dlr, margin, pair_margin
    from ecgbench.core.norms import Norm
    from ecgbench.core.outputs import Outputs, SingleLabel
    from ecgbench.core.precision import MixedPrecision, Precision
    from ecgbench.core.progress import Checkpoint, Epoch, Note, State
    from ecgbench.core.random import RandomStream
    from ecgbench.core.signals import ByteSignals, Signals
    from ecgbench.core.threat import Ball, Goal, Threat
    from ecgbench.core.training import Hook, Schedule, balanced_accuracy, train
    from ecgbench.core.trial import Loss, Trial, ValueAndGrad
    from ecgbench.core.victim import Victim, chunks, evaluating, frozen

__all__ = [
    "Attack",
    "Ball",
    "Batch",
    "ByteSignals",
    "Certificate",
    "Checkpoint",
    "ContractError",
    "DataError",
    "DataRoot",
    "Dataset",
    "Defaults",
    "Defense",
    "Determinism",
    "EcgbenchError",
    "Epoch",
    "Goal",
    "Hook",
    "Loss",
    "MixedPrecision",
    "Model",
    "Norm",
    "NotInstalledError",
    "Note",
    "Outputs",
    "Precision",
    "Proof",
    "RandomStream",
    "Remote",
    "Samples",
    "Schedule",
    "Signals",
    "SingleLabel",
    "State",
    "StepState",
    "StoreError",
    "Task",
    "Threat",
    "Trial",
    "UnknownNameError",
    "ValueAndGrad",
    "Victim",
    "balanced_accuracy",
    "chunks",
    "cross_entropy",
    "delta_of",
    "digest",
    "dlr",
    "evaluating",
    "frozen",
    "hookimpl",
    "instead",
    "iterate",
    "margin",
    "pair_margin",
    "run_sequentially",
    "train",
]
_MODULES = {
    "certificates": ("Certificate", "Proof"),
    "data": ("Batch", "Samples", "Task"),
    "dataroot": ("DataRoot", "Remote", "digest"),
    "errors": (
        "ContractError",
        "DataError",
        "EcgbenchError",
        "NotInstalledError",
        "StoreError",
        "UnknownNameError",
        "instead",
    ),
    "hookspecs": ("hookimpl",),
    "interfaces": ("Attack", "Dataset", "Defaults", "Defense", "Determinism", "Model", "delta_of"),
    "iteration": ("StepState", "iterate", "run_sequentially"),
    "losses": ("cross_entropy", "dlr", "margin", "pair_margin"),
    "norms": ("Norm",),
    "precision": ("MixedPrecision", "Precision"),
    "progress": ("Checkpoint", "Epoch", "Note", "State"),
    "random": ("RandomStream",),
    "outputs": ("Outputs", "SingleLabel"),
    "signals": ("ByteSignals", "Signals"),
    "threat": ("Ball", "Goal", "Threat"),
    "training": ("Hook", "Schedule", "balanced_accuracy", "train"),
    "trial": ("Loss", "Trial", "ValueAndGrad"),
    "victim": ("Victim", "chunks", "evaluating", "frozen"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
