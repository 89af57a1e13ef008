"""What attacks maximise: losses over logits and a goal, one value per row, the larger the nearer to adversarial."""

from __future__ import annotations

from torch import Tensor

from ecgbench.core.threat import Goal


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """Cross-entropy of the class to leave, or minus that of the class to reach: (n, classes) -> (n,)."""
    return goal.outputs.cross_entropy(logits, goal)


def margin(logits: Tensor, goal: Goal) -> Tensor:
    """By how much the logits meet the goal, (n,): of single labels the best other logit minus the true one (to leave),
    or the target's minus the best other.

    Positive exactly where the row is adversarial; Carlini and Wagner 2017, f6. Unlike the cross-entropy it
    neither saturates nor depends on the scale of the logits.
    """
    return goal.outputs.margin(logits, goal)


def pair_margin(logits: Tensor, goal: Goal) -> Tensor:
    """Logit of `goal.rival` minus that of the class to leave: (n,); the targeted margin of one rival."""
    if goal.rival is None:
        raise ValueError("pair_margin needs a goal with a rival")
    return goal.outputs.pair_margin(logits, goal)


def dlr(logits: Tensor, goal: Goal) -> Tensor:
    """Difference of logits ratio, Croce and Hein 2020: the margin in units of the lead over the third logit, (n,).

    Toward `goal.rival` or a class to reach, the unit is the lead over the mean of third and fourth (their targeted
    DLR). Neither a shift nor a scale of the logits changes it. Raises ValueError below 3 classes, 4 if targeted, and
    where several labels may hold at once.
    """
    if not goal.outputs.exclusive:
        raise ValueError("dlr compares classes of which one holds; use the margin where several labels may")
    targeted = not goal.untargeted or goal.rival is not None
    needed = 4 if targeted else 3
    if logits.shape[1] < needed:
        raise ValueError(f"dlr needs {needed} classes; got {logits.shape[1]}")
    lead = margin(logits, goal) if goal.rival is None else pair_margin(logits, goal)
    top = logits.topk(needed, dim=1).values
    return lead / (top[:, 0] - top[:, 2:].mean(1) + 1e-12)
