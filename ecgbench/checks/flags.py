"""The registry of flags: what each says of a figure, what it costs to find out, and whom it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Flag:
    """What a check can raise.

    `cost`: "cheap" checks are made on every row, "costly" ones by an audit alone. `about`: "victim", whatever the
    attack, or "attack". `by_effect`: raised where the check's effect is above its threshold, and nowhere else.
    """

    code: str
    meaning: str
    cost: Literal["cheap", "costly"]
    about: Literal["victim", "attack"]
    by_effect: bool = False


ONECLASS = Flag("ONECLASS", "the victim answers every clean sample alike", "cheap", "victim")
CHANCE = Flag(
    "CHANCE",
    "the victim is no better than chance when clean: its balanced accuracy's interval reaches 1 / classes",
    "cheap",
    "victim",
)
RANDOM = Flag("RANDOM", "two forwards of the same sample disagree", "cheap", "victim")
DYNAMIC = Flag("DYNAMIC", "the victim answers otherwise when a gradient can be asked for", "cheap", "victim")
STATE = Flag("STATE", "a forward changes the victim", "cheap", "victim")
PROB = Flag("PROB", "the victim shows probabilities instead of logits, which hides gradients", "cheap", "victim")
GRAD = Flag("GRAD", "gradients at some clean samples are not finite", "cheap", "victim")
NOOP = Flag("NOOP", "every perturbation that the attack returned is 0", "cheap", "attack")
NOISE = Flag("NOISE", "random points of the ball lower the score by more than half a point", "cheap", "attack", True)
LOSS = Flag("LOSS", "steps on another loss, the margin, lower it by more than half a point", "cheap", "attack", True)
STEP = Flag(
    "STEP",
    "the attack's steps are short, and longer ones lower it by more than half a point",
    "cheap",
    "attack",
    by_effect=True,
)
BATCHDEP = Flag("BATCHDEP", "the other samples of a batch change a sample's logits", "costly", "victim", True)
MASKEDGRAD = Flag("MASKEDGRAD", "gradients do not tell how the margin changes", "costly", "victim", True)
UNBOUNDED = Flag("UNBOUNDED", "samples are robust though eps is the whole range of the data", "costly", "victim", True)
LOSSSAT = Flag(
    "LOSSSAT",
    "the cross-entropy's gradient has vanished, and the margin lowers the score by more than half a point",
    "costly",
    "attack",
    by_effect=True,
)
TARGETED = Flag(
    "TARGETED",
    "steps toward every other class in turn lower it by more than half a point",
    "costly",
    "attack",
    by_effect=True,
)
NOTCONV = Flag(
    "NOTCONV",
    "the same attack, longer and from another start, lowers it by more than half a point",
    "costly",
    "attack",
    by_effect=True,
)
BLACKBOX = Flag(
    "BB>WB", "an attack without gradients lowers it by more than half a point", "costly", "attack", by_effect=True
)
TRANSFER = Flag(
    "TRANSFER",
    "perturbations made on an undefended victim lower it by more than half a point",
    "costly",
    "attack",
    by_effect=True,
)
ACTIVE_TEST = Flag(
    "ACTIVE-TEST", "the attack misses adversarial examples that are known to exist", "costly", "attack", True
)
UNCHECKED = Flag("unchecked", "no check was made", "cheap", "attack")

REGISTRY = (
    *(ONECLASS, CHANCE, RANDOM, DYNAMIC, STATE, PROB, GRAD, NOOP, NOISE, LOSS, STEP),
    *(BATCHDEP, MASKEDGRAD, UNBOUNDED, LOSSSAT, TARGETED, NOTCONV, BLACKBOX, TRANSFER, ACTIVE_TEST),
    UNCHECKED,
)
"""Every flag, in the order of legends."""

FLAGS = {flag.code: flag.meaning for flag in REGISTRY}
"""The meaning of every flag, by code."""
OF_VICTIM = frozenset(flag.code for flag in REGISTRY if flag.about == "victim")
"""Flags about the victim alone, whatever the attack."""
BY_EFFECT = frozenset(flag.code for flag in REGISTRY if flag.by_effect)
"""Flags that are raised where the effect is above the threshold, and nowhere else."""
OF_AUDITS = frozenset(flag.code for flag in REGISTRY if flag.cost == "costly")
"""Flags that an audit looks for, and nothing else."""
