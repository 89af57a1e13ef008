"""What a user gave, as a task that a model has been asked about."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from ecgbench.core.data import Samples, Task
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.outputs import SingleLabel
from ecgbench.user.asking import try_out
from ecgbench.user.data import (
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
from ecgbench.user.model import UserModel


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


def task_of(model: UserModel, x: Any, y: Any, mask: Any, group: Any, classes: Any, bounds: Any) -> Task:
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
