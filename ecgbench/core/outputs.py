"""What the outputs of a task mean: how logits become a prediction, when it is right, and what losses see in them.

A prediction and a true label are one whole number a sample, so that everything else of the host compares numbers: a
class, or, where several labels may hold at once, the set of them as a bit field. -1 is no prediction at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ecgbench.core.logits import read_logits

if TYPE_CHECKING:
    from ecgbench.core.threat import Goal


@dataclass(frozen=True)
class Outputs(ABC):
    """The meaning of logits (n, width), one for each of `classes`; of any width where `classes` is empty.

    Losses return (n,), the larger the nearer to adversarial, above 0 exactly where adversarial for `margin`.
    """

    exclusive: ClassVar[bool]
    """Whether one class rules out every other."""
    classes: tuple[str, ...] = ()

    @property
    def width(self) -> int | None:
        """Logits a sample; None where that is not known."""
        return len(self.classes) or None

    @property
    @abstractmethod
    def codes(self) -> int:
        """True labels and predictions are 0 ... codes - 1."""

    @abstractmethod
    def shows(self, code: Tensor, label: Tensor | int) -> Tensor:
        """Whether `code`, a true label or a prediction (n,), is or holds the class at position `label`: (n,) bool."""

    @abstractmethod
    def read(self, output: object, x: Tensor, who: str) -> Tensor:
        """Logits (n, width) float32 in what the module `who` returned for `x`. Raises ContractError for none."""

    @abstractmethod
    def predict(self, logits: Tensor, y: Tensor, goal: Goal | None = None) -> Tensor:
        """Predictions (n,); -1 where a logit, or a difference of two, is not finite.

        Where the logits leave it open, the prediction that is worst for the victim counts: one that meets `goal`, else
        any but the true label `y` (n,).
        """

    @abstractmethod
    def pooled(self, draws: Sequence[Tensor]) -> Tensor:
        """Several draws of a randomised victim as one: the log-odds of the votes, (n, width); NaN for no vote."""

    @abstractmethod
    def margin(self, logits: Tensor, goal: Goal) -> Tensor:
        """By how much the logits meet the goal."""

    @abstractmethod
    def cross_entropy(self, logits: Tensor, goal: Goal) -> Tensor:
        """Cross-entropy of the label to leave, or minus that of the label to reach."""

    @abstractmethod
    def rivals(self, logits: Tensor, goal: Goal) -> Tensor:
        """What each row can be turned to, likeliest first: (n, k) positions of classes."""

    @abstractmethod
    def pair_margin(self, logits: Tensor, goal: Goal) -> Tensor:
        """The margin toward `goal.rival` alone."""

    @abstractmethod
    def with_margin(self, value: Tensor, like: Tensor, goal: Goal, y: Tensor, lead: float) -> Tensor:
        """Made-up logits of the shape of `like` (n, width), of rows of true label `y`, whose margin is `value` (n,).

        Whatever else could meet the goal lies `lead` or more below that.
        """

    @abstractmethod
    def are_probabilities(self, values: Tensor) -> bool:
        """Whether `values` (n, width) look like probabilities and not like logits."""

    @property
    @abstractmethod
    def scored(self) -> tuple[int, ...]:
        """Positions of the w classes of which metrics need log-odds beside the prediction."""

    @abstractmethod
    def log_odds(self, logits: Tensor) -> Tensor:
        """The log-odds that each of the `scored` classes holds: (n, w)."""


@dataclass(frozen=True)
class SingleLabel(Outputs):
    """One of two or more classes holds; a module with a single logit z for two classes is read as (0, z)."""

    exclusive: ClassVar[bool] = True

    @property
    def codes(self) -> int:
        return len(self.classes)

    def shows(self, code: Tensor, label: Tensor | int) -> Tensor:
        return code == label

    def read(self, output: object, x: Tensor, who: str) -> Tensor:
        return read_logits(output, x, self.width, who)

    def predict(self, logits: Tensor, y: Tensor, goal: Goal | None = None) -> Tensor:
        """The class of the largest logit. A sample is right only if its class is above every other."""
        gaps = logits.amax(1, keepdim=True) - logits
        if isfinite(float(gaps.sum())) and int(gaps.count_nonzero()) == gaps.numel() - len(gaps):
            return gaps.argmin(1)
        left = goal.label if goal is not None and goal.untargeted else y
        rank = torch.ones_like(gaps).scatter_(1, left[:, None], 0.5)
        if goal is not None and not goal.untargeted:
            rank.scatter_(1, goal.label[:, None], 2.0)
        predicted = torch.where(gaps == 0, rank, 0.0).argmax(1)
        return torch.where(torch.isfinite(gaps).all(1), predicted, -1)

    def pooled(self, draws: Sequence[Tensor]) -> Tensor:
        """A draw votes for the class of its largest logit, for each of them where several are equal.

        Half a vote for every class keeps the logarithm finite (Krichevsky and Trofimov 1981).
        """
        votes = torch.stack([_votes(logits) for logits in draws]).sum(0)
        return ((votes + 0.5) / (len(draws) + votes.shape[1] / 2)).log()

    def margin(self, logits: Tensor, goal: Goal) -> Tensor:
        """Best other logit minus the true one (to leave), or the target's minus the best other."""
        own = logits.gather(1, goal.label[:, None]).squeeze(1)
        others = logits.scatter(1, goal.label[:, None], -torch.inf).amax(1)
        return others - own if goal.untargeted else own - others

    def cross_entropy(self, logits: Tensor, goal: Goal) -> Tensor:
        value = cross_entropy(logits, goal.label, reduction="none")
        return value if goal.untargeted else -value

    def rivals(self, logits: Tensor, goal: Goal) -> Tensor:
        """The other classes: (n, classes - 1)."""
        others = logits.scatter(1, goal.label[:, None], -torch.inf)
        return others.argsort(dim=1, descending=True, stable=True)[:, :-1]

    def pair_margin(self, logits: Tensor, goal: Goal) -> Tensor:
        """Logit of the rival minus that of the class to leave."""
        assert goal.rival is not None
        return (logits.gather(1, goal.rival[:, None]) - logits.gather(1, goal.label[:, None])).squeeze(1)

    def with_margin(self, value: Tensor, like: Tensor, goal: Goal, y: Tensor, lead: float) -> Tensor:
        """`value` for the class to reach, which is the next one where any will do; 0 for the true class."""
        leave, reach = (goal.label, (goal.label + 1) % like.shape[1]) if goal.untargeted else (y, goal.label)
        made = (value.clamp(max=0.0) - lead)[:, None].expand_as(like).scatter(1, leave[:, None], 0.0)
        return made.scatter(1, reach[:, None], value[:, None])

    def are_probabilities(self, values: Tensor) -> bool:
        """Whether they lie in 0..1 and sum to 1; of one read as (0, z), whether z does."""
        inside = bool((values >= 0).all()) and bool((values <= 1).all())
        single = values.shape[1] == 2 and not bool(values[:, 0].any())
        return inside and (single or bool(((values.sum(1) - 1).abs() <= 1e-5).all()))

    @property
    def scored(self) -> tuple[int, ...]:
        """Of two classes the second; of more none."""
        return (1,) if len(self.classes) == 2 else ()

    def log_odds(self, logits: Tensor) -> Tensor:
        return logits[:, 1:] - logits[:, :1] if self.scored else logits[:, :0]


SINGLE_LABEL = SingleLabel()
"""One of some classes, nobody has said how many."""


def _votes(logits: Tensor) -> Tensor:
    gaps = logits.amax(1, keepdim=True) - logits
    return torch.where(torch.isfinite(gaps).all(1, keepdim=True), (gaps == 0).to(gaps.dtype), torch.nan)
