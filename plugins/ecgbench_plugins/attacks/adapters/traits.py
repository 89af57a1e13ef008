"""What an adapter must know of an attack of another library, and which tasks and threats that rules out."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from ecgbench import Determinism, Norm, Task, Threat
from ecgbench_plugins.attacks.adapters.signature import Parameter

LINF: tuple[Norm, ...] = ("linf",)
L2: tuple[Norm, ...] = ("l2",)
BOTH: tuple[Norm, ...] = ("linf", "l2")
SHAPES = {
    "any": "samples of any shape",
    "image": "images (channels, height, width)",
    "square": "square images (channels, side, side)",
    "colour": "square images of 3 channels",
}


@dataclass(frozen=True)
class Traits:
    """The facts of one attack.

    `norms` it is made for (a perturbation of minimal L0 or L1 norm stands under l2). `minimal`: it has no budget
    and its answer is clipped to each ball. `single`: it picks rows of the batch, so it gets them one by one.
    `coupled`: rows of one call share draws or a stop. `seedable`: its draws come from the global generators.
    `signal`: it needs the signal itself, not the ball (a search that starts far away). `inner`: see
    `signal_view`. `image`: it indexes channels, height and width. `targeted`, `classes`: what goals it serves.
    `most`: values a sample may have. `shape`: the sample shape it asks for. `lengths`: further parameters that are
    sizes of a perturbation. `positive`: see `Tap`. `loose`: the library itself goes beyond its budget, so the
    answer is clipped. `more`: parameters that are ours, or have a default of ours. `refused` says why it cannot
    run at all.
    """

    norms: tuple[Norm, ...] = LINF
    access: Literal["gradient", "score"] = "gradient"
    minimal: bool = False
    single: bool = False
    coupled: bool = False
    seedable: bool = True
    signal: bool = False
    inner: bool = False
    image: bool = False
    targeted: Literal["also", "never", "only"] = "also"
    classes: int = 2
    most: int | None = None
    shape: Literal["any", "image", "square", "colour"] = "any"
    lengths: frozenset[str] = frozenset()
    positive: bool = False
    loose: bool = False
    more: tuple[Parameter, ...] = ()
    refused: str | None = None

    @property
    def determinism(self) -> Determinism:
        """See `Attack`; signals of one call share a range where the task gives none."""
        if not self.seedable:
            return "none"
        return "chunk" if (self.coupled or self.signal) and not self.single else "sample"

    def fault(self, task: Task, threat: Threat, least: int) -> str | None:
        """Why the attack cannot run here, as the end of a sentence that its name begins; `least` classes needed."""
        aimed, values = threat.target is not None, prod(task.shape)
        faults = {
            f"cannot run here: {self.refused}": self.refused is not None,
            f"is made for {' and '.join(self.norms)}; this threat is {threat.norm}": threat.norm not in self.norms,
            "cannot aim at a target; expected a threat without one": aimed and self.targeted == "never",
            "can only aim at a target; expected a threat with one": not aimed and self.targeted == "only",
            f"needs {least} classes or more; here are {len(task.classes)}": len(task.classes) < least,
            f"compares all pairs of values, of {self.most} at most; a sample here has {values}": (
                self.most is not None and values > self.most
            ),
            f"works on {SHAPES[self.shape]}; samples here have the shape {task.shape}": not self._fits(task.shape),
        }
        return next((words for words, true in faults.items() if true), None)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        if self.shape == "any":
            return True
        image = len(shape) == 3 and min(shape[1:]) > 1
        square = self.shape == "image" or shape[1:2] == shape[2:]
        return image and square and (self.shape != "colour" or shape[0] == 3)
