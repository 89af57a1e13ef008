"""What attacks climb: losses over logits and an aim, one value per row, the larger the nearer to a fall."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as nll

from ecgbench.threat import Aim


def cross_entropy(logits: Tensor, aim: Aim) -> Tensor:
    """Cross-entropy of the class to leave, or minus that of the class to reach: (n, classes) -> (n,)."""
    value = nll(logits, aim.label, reduction="none")
    return value if aim.leave else -value


def margin(logits: Tensor, aim: Aim) -> Tensor:
    """Best other logit minus the true one (to leave), or the target's minus the best other: (n,).

    Positive exactly where the row has fallen; Carlini and Wagner 2017, f6. Unlike the cross-entropy it
    neither saturates nor depends on the scale of the logits.
    """
    own = logits.gather(1, aim.label[:, None]).squeeze(1)
    others = logits.scatter(1, aim.label[:, None], -torch.inf).amax(1)
    return others - own if aim.leave else own - others


def pair_margin(logits: Tensor, aim: Aim) -> Tensor:
    """Logit of `aim.rival` minus that of the class to leave: (n,); the targeted margin of one rival."""
    if aim.rival is None:
        raise ValueError("pair_margin needs an aim with a rival")
    return (logits.gather(1, aim.rival[:, None]) - logits.gather(1, aim.label[:, None])).squeeze(1)


def dlr(logits: Tensor, aim: Aim) -> Tensor:
    """Difference of logits ratio, Croce and Hein 2020: the margin in units of the lead over the third logit, (n,).

    Toward `aim.rival` or a class to reach, the unit is the lead over the mean of third and fourth (their targeted
    DLR). Neither a shift nor a scale of the logits changes it. Raises ValueError below 3 classes, 4 if targeted.
    """
    targeted = not aim.leave or aim.rival is not None
    needed = 4 if targeted else 3
    if logits.shape[1] < needed:
        raise ValueError(f"dlr needs {needed} classes; got {logits.shape[1]}")
    lead = margin(logits, aim) if aim.rival is None else pair_margin(logits, aim)
    top = logits.topk(needed, dim=1).values
    return lead / (top[:, 0] - top[:, 2:].mean(1) + 1e-12)
