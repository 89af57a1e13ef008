"""ecgbench: how robust is this ECG classifier really?

`ecgbench.run(...)` gives the records of a suite, `ecgbench.evaluate(...)` judges a model you have,
`ecgbench.load_victim(...)` loads a published one, `ecgbench.frame(records)` makes a table of records. Plugins import
all they need from here: `from ecgbench import Attack, Trial, hookimpl`. Names are imported when they are first used, so
that the command line starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecgbench.api import evaluate, run
    from ecgbench.core import (
        Attack,
        Ball,
        Batch,
        ByteSignals,
        Certificate,
        Checkpoint,
        ContractError,
        DataError,
        DataRoot,
        Dataset,
        Defaults,
        Defense,
        Determinism,
        EcgbenchError,
        Epoch,
        Goal,
        Hook,
        Loss,
        MixedPrecision,
        Model,
        Norm,
        Note,
        NotInstalledError,
        Outputs,
        Precision,
        Proof,
        RandomStream,
        Remote,
        Samples,
        Schedule,
        Signals,
        SingleLabel,
        State,
        StepState,
        StoreError,
        Task,
        Threat,
        Trial,
        UnknownNameError,
        ValueAndGrad,
        Victim,
        balanced_accuracy,
        chunks,
        cross_entropy,
        delta_of,
        digest,
        dlr,
        evaluating,
        frozen,
        hookimpl,
        instead,
        iterate,
        margin,
        pair_margin,
        run_sequentially,
        train,
    )
    from ecgbench.results.frame import frame
    from ecgbench.runs.zoo import load_victim

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
    "evaluate",
    "evaluating",
    "frame",
    "frozen",
    "hookimpl",
    "instead",
    "iterate",
    "load_victim",
    "margin",
    "pair_margin",
    "run",
    "run_sequentially",
    "train",
]
_HOME = {"evaluate": "api", "run": "api", "frame": "results.frame", "load_victim": "runs.zoo"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'core')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
