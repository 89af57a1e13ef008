"""Outcomes that no sweep could have made: rules that hold for every honest row, whatever attack and victim were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ecgbench.core.outputs import Outputs
from ecgbench.core.threat import TOLERANCE, Threat
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Protocol

ROUNDING = 1e-6  # of eps: a size is measured, divided and multiplied in float32
CARRIED = ("predicted", "adversarial", "size", "l0", "l1", "by")
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Structure:
    """The outcomes of one row, and the rules they were made by.

    `minimal` says whether the attack seeks the smallest perturbation; None where nobody here knows the attack.
    """

    outcomes: Outcomes
    threat: Threat
    protocol: Protocol
    outputs: Outputs
    minimal: bool | None = None

    def faults(self) -> Iterator[str]:
        """Everything that cannot be, a sentence each."""
        yield from self._of_samples()
        yield from self._of_predictions()
        yield from self._of_sizes()
        yield from self._of_recovery()
        yield from self._of_work()

    @property
    def _labels(self) -> torch.Tensor:
        return torch.from_numpy(self.outcomes.y.astype(np.int64))

    @cached_property
    def meant(self) -> Marks:
        """Samples that the protocol attacks, (n,)."""
        made = self.outcomes
        goal = self.threat.goal(self._labels, self.outputs)
        eligible = goal.eligible.numpy()
        return np.asarray(eligible & made.correct if self.protocol.clean_wrong == "wrong" else eligible)

    @cached_property
    def at_once(self) -> bool:
        """Whether the attack ran once, at the largest eps, and the smaller ones were read from what it found."""
        if self.minimal is not None:
            return self.minimal
        made = self.outcomes
        return len(made.eps) > 1 and not made.forwards[:-1].any() and bool(np.isfinite(made.distance).any())

    @cached_property
    def attacked(self) -> Marks:
        """Samples that are attacked at each eps, (e, n)."""
        made = self.outcomes
        marks = np.tile(self.meant, (len(made.eps), 1))
        if self.at_once:
            marks[:-1] = False
        elif self.protocol.sweep == "growing":
            marks[1:] &= ~made.adversarial[:-1]
        return marks

    def moves_nothing(self, headline: float) -> bool:
        """Whether samples are robust at the headline eps, and no perturbation of it is other than 0."""
        made = self.outcomes
        at = max(0, int(np.searchsorted(made.eps, headline, side="right")) - 1)
        asked = made.correct & self.threat.goal(self._labels, self.outputs).eligible.numpy()
        return bool((asked & ~made.adversarial[at]).any() and not made.size[at][asked].any())

    def _of_samples(self) -> Iterator[str]:
        made = self.outcomes
        if len(np.unique(made.ids)) != len(made.ids):
            yield "an id stands for several samples; expected each once."
        if not (np.isfinite(made.weight).all() and (made.weight >= 0).all() and made.weight.sum() > 0):
            yield "a weight is no number of 0 or more; expected how often each sample counts."
        if (made.group < -1).any() or ((made.group == -1).any() and (made.group >= 0).any()):
            yield "some samples have a group and others none; expected all or none."
        if not (len(made.eps) and made.eps[0] > 0 and (np.diff(made.eps) > 0).all() and np.isfinite(made.eps).all()):
            yield "eps do not ascend from above 0."

    def _of_predictions(self) -> Iterator[str]:
        made = self.outcomes
        goal = self.threat.goal(self._labels, self.outputs)
        met = np.stack([goal.met(torch.from_numpy(row.astype(np.int64))).numpy() for row in made.predicted])
        yield from self._where(
            self.meant & (made.adversarial != met), "is adversarial or not, against its own prediction"
        )
        same = (made.predicted == made.clean) & ~made.adversarial & (made.size == 0)
        same &= (made.logits[1:] == made.logits[:1]).all(-1)
        why = "is perturbed, though the protocol leaves it alone (wrong when clean, or not meant by the threat)"
        yield from self._where(~self.meant & ~same, why)

    def _of_sizes(self) -> Iterator[str]:
        made = self.outcomes
        largest = made.eps[:, None] * (1 + TOLERANCE) * (1 + ROUNDING)
        yield from self._where(~((made.size >= 0) & (made.size <= largest)), "has a perturbation larger than eps")
        if self.at_once:
            found = np.where(made.adversarial[-1], made.size[-1], np.nan)
            agrees = np.array_equal(made.distance, found.astype(np.float32), equal_nan=True)
        else:
            agrees = bool(np.isnan(made.distance).all())
        if not agrees:
            yield "distances are not the sizes of what was found at the largest eps."

    def _of_recovery(self) -> Iterator[str]:
        if self.protocol.sweep != "growing" and not self.at_once:
            return
        made = self.outcomes
        same = np.ones_like(made.adversarial[1:])
        for name in CARRIED:
            values = getattr(made, name)
            same &= (values[1:] == values[:-1]) | ((values[1:] != values[1:]) & (values[:-1] != values[:-1]))
        same &= (made.logits[2:] == made.logits[1:-1]).all(-1)
        changed = np.concatenate([np.zeros_like(made.adversarial[:1]), made.adversarial[:-1] & ~same])
        yield from self._where(changed, "was adversarial at a smaller eps and is another one here: it would stay so")

    def _of_work(self) -> Iterator[str]:
        made = self.outcomes
        spent = (made.forwards != 0) | (made.gradients != 0)
        yield from self._where(~self.attacked & spent, "has answers counted, though it is not attacked here")
        yield from self._where((made.forwards < 0) | (made.gradients < 0), "has fewer than 0 answers counted")
        if made.size.any():  # an attack that moves nothing need not ask: its row is flagged for that
            why = "is attacked without one forward; expected an attack to ask its victim"
            yield from self._where(self.attacked & (made.forwards == 0), why)

    def _where(self, marks: Marks, what: str) -> Iterator[str]:
        """A sentence on the first sample that is marked (e, n), and how many there are."""
        if not marks.any():
            return
        place, sample = (int(part[0]) for part in np.nonzero(marks))
        others = int(marks.sum()) - 1
        more = f" (and {others} more)" if others else ""
        yield f"sample {self.outcomes.ids[sample]} at eps {self.outcomes.eps[place]:g}{more} {what}."
