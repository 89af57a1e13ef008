"""A verdict on a model that somebody has: what was given becomes a task, the task a sweep, its outcomes a record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from ecgbench.checks.audit import Audit
from ecgbench.checks.cheap import CheapChecks
from ecgbench.core.borrowed import Borrowed, identity_of, one_line, try_out
from ecgbench.core.data import Samples, Task
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.given import (
    check_labels,
    gather,
    read_bounds,
    read_groups,
    read_labels,
    read_mask,
    read_names,
    read_signals,
    shuffled,
)
from ecgbench.core.interfaces import Attack
from ecgbench.core.outputs import SingleLabel
from ecgbench.core.parameters import MisfitError, Reader, misfit, shown
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import Victim
from ecgbench.evaluation.sweep import Protocol, Sweep
from ecgbench.registry.catalog import LOCAL, Catalog, discover
from ecgbench.results.record import Record
from ecgbench.runs.scoring import CellLabels, Costs, score
from ecgbench.runs.suite import parse_eps, parse_seeds
from ecgbench.storage.arrays import pack, pack_tensors
from ecgbench.storage.store import key_of


@dataclass(frozen=True)
class Question:
    """How a model shall be judged."""

    catalog: Catalog
    threat: Threat
    attack: Attack
    protocol: Protocol
    epsilons: tuple[float, ...]
    headline: float
    seed: int

    @classmethod
    def of(
        cls,
        threat: Threat | str,
        attack: Attack | str,
        protocol: Protocol | str,
        epsilons: float | str | Sequence[float | str],
        headline: float | None,
        seed: int,
    ) -> Question:
        """Selectors resolved. Raises EcgbenchError for what cannot be."""
        catalog = discover()
        sizes, (number,) = parse_eps(several(epsilons)), parse_seeds([str(seed)])
        if not sizes:
            raise EcgbenchError("no eps is given; expected at least one above 0.")
        decides = sizes[-1] if headline is None else parse_eps([headline])[0]
        if decides not in sizes:
            raise EcgbenchError(f"headline {decides} is given; expected one of the epsilons {list(sizes)}.")
        foe: Attack = _value(catalog, "attack", attack, Attack)
        if foe.surrogate is not None:
            raise EcgbenchError(f"{foe!r} needs a second victim, which evaluate has not; expected another attack.")
        return cls(
            catalog=catalog,
            threat=_value(catalog, "threat", threat, Threat),
            attack=foe,
            protocol=_value(catalog, "protocol", protocol, Protocol),
            epsilons=sizes,
            headline=decides,
            seed=number,
        )


def several(given: Any) -> tuple[Any, ...]:
    """One value or many as a tuple; a string is one."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else (given,)


def _value(catalog: Catalog, kind: str, given: Any, of: type) -> Any:
    """A selector's value, or the value that was given. Raises EcgbenchError for anything else."""
    if isinstance(given, str):
        return catalog.resolve(kind, given)
    try:
        return Reader().read(given, of)
    except MisfitError:
        raise EcgbenchError(misfit("evaluate", kind, of, shown(given))) from None


def signals_and_labels(x: Any, y: Any, ordered: bool) -> tuple[Any, Any]:
    """X and y, gathered from a DataLoader where x is one; `ordered` says that something else follows its order.

    Raises EcgbenchError where y is not given, or given twice.
    """
    if y is not None and not isinstance(x, DataLoader):
        return x, y
    if y is not None:
        raise EcgbenchError("x is a DataLoader and y is given, too; expected one of them.")
    if isinstance(x, Tensor | np.ndarray | str) or not hasattr(x, "__iter__"):
        raise EcgbenchError("y is not given; expected the label of each sample, or a DataLoader of (x, y) for x.")
    if ordered and shuffled(x):
        raise EcgbenchError("the DataLoader shuffles, so that mask and group would not fit; expected shuffle=False.")
    batches = gather(x)
    return batches.x, batches.y


def task_of(model: Borrowed, x: Any, y: Any, mask: Any, group: Any, classes: Any, bounds: Any) -> Task:
    """What was given, as a task whose samples `model` has been asked about."""
    own = model.labels
    names = None if classes is None else read_names(classes)
    if own is not None:
        y, names = own.places(y), own.names(names)
    signals, labels = read_signals(x), read_labels(y, names)
    if names is not None:
        check_labels(labels, len(names))
    samples = Samples.of(
        signals,
        labels,
        mask=None if mask is None else read_mask(mask),
        group=None if group is None else read_groups(group),
    )
    logits = try_out(model, samples, SingleLabel(names or ()))
    if names is None:
        if logits == 1 and len(labels.unique()) < 2:
            raise EcgbenchError(
                f"the model gives one logit and every label is {int(labels[0])}: one class is no classification; "
                "expected samples of two classes, or classes= with the name of each."
            )
        check_labels(labels, max(2, logits))
    known = names or tuple(str(label) for label in range(max(2, logits)))
    return Task("given", known, samples[:0], samples[:0], samples, bounds=read_bounds(bounds), notes=tuple(model.notes))


def judged(model: Borrowed, given: Task, request: Question, audit: bool, checkpoint: Checkpoint) -> Record:
    """The record of a model on its task."""
    task, catalog = given.some_of_each(request.protocol.per_class), request.catalog
    reason = request.attack.unfit(task, request.threat)
    if reason is not None:
        raise EcgbenchError(reason)
    victim, rng = Victim(model, task.outputs), RandomStream(("attack", request.seed))
    foe, threat, place = request.attack, request.threat, str(victim.device)
    sweep = Sweep(foe, victim, task, threat, request.epsilons, rng, request.protocol, device=place)
    try:
        outcomes = sweep.run(checkpoint)
        checks = CheapChecks(sweep, outcomes, request.headline).run()
        if audit:
            checks += Audit(sweep, outcomes, request.headline).run()
    except EcgbenchError:
        raise
    except Exception as fault:
        raise EcgbenchError(f"{model.called} or {request.attack!r} failed: {one_line(fault)}") from fault
    labels = CellLabels(
        names={
            "dataset": "given",
            "model": model.called,
            "defense": "given",
            "attack": catalog.words(request.attack),
            "threat": catalog.words(request.threat),
            "protocol": catalog.canonical("protocol", request.protocol),
        },
        plugins={"attack": _offered_by(catalog, request.attack)},
        epsilons=request.epsilons,
        headline=request.headline,
        seed=request.seed,
        determinism=request.attack.determinism,
        libraries=request.attack.libraries,
    )
    identity = {
        "victim": {"data": _digest(given.test), "weights": identity_of(model, given.test, task.outputs)},
        **labels.names,
        "classes": list(task.classes),
        "epsilons": [repr(eps) for eps in request.epsilons],
        "headline": repr(request.headline),
        "bounds": None if task.bounds is None else [repr(end) for end in task.bounds],
        "seed": request.seed,
    }
    return score(labels, task, outcomes, checks, Costs(0.0, 0.0), identity, key_of(identity), pack(outcomes))


def _offered_by(catalog: Catalog, attack: Attack) -> str:
    try:
        return catalog.provider("attack", attack)
    except EcgbenchError:
        return LOCAL


def _digest(samples: Samples) -> str:
    parts = {"x": samples.x, "y": samples.y, "mask": samples.mask}
    return hashlib.sha256(pack_tensors(parts | ({} if samples.group is None else {"group": samples.group}))).hexdigest()
