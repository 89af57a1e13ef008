"""What each flag says of a figure, in words."""

from __future__ import annotations

from ecgbench.checks.chance import OF_CLEAN

FLAGS = {
    "ONECLASS": "the victim answers every clean sample alike",
    "CHANCE": "the victim is no better than chance when clean: its balanced accuracy's interval reaches 1 / classes",
    "RANDOM": "two forwards of the same sample disagree",
    "DYNAMIC": "the victim answers otherwise when a gradient can be asked for",
    "STATE": "a forward changes the victim",
    "PROB": "the victim shows probabilities instead of logits, which hides gradients",
    "GRAD": "gradients at some clean samples are not finite",
    "NOOP": "every perturbation that the attack returned is 0",
    "NOISE": "random points of the ball lower the score by more than half a point",
    "LOSS": "steps on another loss, the margin, lower it by more than half a point",
    "STEP": "the attack's steps are short, and longer ones lower it by more than half a point",
    "BATCHDEP": "the other samples of a batch change a sample's logits",
    "MASKEDGRAD": "gradients do not tell how the margin changes",
    "UNBOUNDED": "samples are robust though eps is the whole range of the data",
    "LOSSSAT": "the cross-entropy's gradient has vanished, and the margin lowers the score by more than half a point",
    "TARGETED": "steps toward every other class in turn lower it by more than half a point",
    "NOTCONV": "the same attack, longer and from another start, lowers it by more than half a point",
    "BB>WB": "an attack without gradients lowers it by more than half a point",
    "TRANSFER": "perturbations of the undefended twin lower it by more than half a point",
    "ACTIVE-TEST": "the attack misses adversarial examples that were planted",
    "unchecked": "no check was made",
}


OF_VICTIM = OF_CLEAN | {"RANDOM", "DYNAMIC", "STATE", "PROB", "GRAD", "BATCHDEP", "MASKEDGRAD", "UNBOUNDED"}
"""Checks that look at the victim alone, whatever the attack."""


BY_EFFECT = frozenset(
    {
        *("NOISE", "LOSS", "STEP", "LOSSSAT", "TARGETED", "NOTCONV", "BB>WB", "TRANSFER"),
        *("BATCHDEP", "MASKEDGRAD", "UNBOUNDED", "ACTIVE-TEST"),
    }
)
"""Checks that are raised where their effect is above their threshold, and nowhere else."""


OF_AUDITS = "UNBOUNDED"
"""A check that every audit makes, and nothing else."""
