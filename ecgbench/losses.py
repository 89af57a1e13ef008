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
