"""Outputs of which several may hold at once, as far as a test needs them: the seam of `Task.outputs`.

A set of labels is a bit field: label j holds where bit j of the code is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ecgbench.core.data import Samples, Task
from ecgbench.core.logits import read_logits
from ecgbench.core.outputs import Outputs
from ecgbench.core.threat import Goal
from ecgbench.core.victim import Victim, frozen

LABELS = ("AF", "PVC", "LBBB")


@dataclass(frozen=True)
class MultiLabel(Outputs):
    """Each label holds where its logit is above its threshold."""

    exclusive: ClassVar[bool] = False
    thresholds: tuple[float, ...] = ()

    @property
    def codes(self) -> int:
        return 1 << len(self.classes)

    @property
    def scored(self) -> tuple[int, ...]:
        return tuple(range(len(self.classes)))

    def shows(self, code: Tensor, label: Tensor | int) -> Tensor:
        return ((code >> label) & 1) == 1

    def read(self, output: object, x: Tensor, who: str) -> Tensor:
        return read_logits(output, x, self.width, who)

    def predict(self, logits: Tensor, y: Tensor, goal: Goal | None = None) -> Tensor:
        lead = self.log_odds(logits)
        wanted = self._set(y)
        if goal is not None and not goal.untargeted:
            wanted = ~nn.functional.one_hot(goal.label, len(self.classes)).bool()
        held = (lead > 0) | ((lead == 0) & ~wanted)  # on its threshold a label is wrong
        code = (held << torch.arange(len(self.classes))).sum(1)
        return torch.where(torch.isfinite(logits).all(1), code, -1)

    def pooled(self, draws: Sequence[Tensor]) -> Tensor:
        votes = torch.stack([(self.log_odds(logits) > 0).float() for logits in draws]).sum(0)
        return ((votes + 0.5) / (len(draws) - votes + 0.5)).log() + torch.tensor(self.thresholds)

    def margin(self, logits: Tensor, goal: Goal) -> Tensor:
        lead = self.log_odds(logits)
        if not goal.untargeted:
            return lead.gather(1, goal.label[:, None]).squeeze(1)
        return self._flipped(lead, goal).amax(1)

    def cross_entropy(self, logits: Tensor, goal: Goal) -> Tensor:
        lead = self.log_odds(logits)
        if not goal.untargeted:
            return nn.functional.logsigmoid(lead.gather(1, goal.label[:, None]).squeeze(1))
        return binary_cross_entropy_with_logits(lead, self._set(goal.label).float(), reduction="none").sum(1)

    def rivals(self, logits: Tensor, goal: Goal) -> Tensor:
        return self._flipped(self.log_odds(logits), goal).argsort(dim=1, descending=True, stable=True)

    def pair_margin(self, logits: Tensor, goal: Goal) -> Tensor:
        assert goal.rival is not None
        return self._flipped(self.log_odds(logits), goal).gather(1, goal.rival[:, None]).squeeze(1)

    def with_margin(self, value: Tensor, like: Tensor, goal: Goal, y: Tensor, lead: float) -> Tensor:
        sign = 1.0 - 2.0 * self._set(y).float()
        label = torch.zeros_like(y) if goal.untargeted else goal.label
        far = (value.clamp(max=0.0) - lead)[:, None].expand_as(like)
        return sign * far.scatter(1, label[:, None], value[:, None]) + torch.tensor(self.thresholds)

    def are_probabilities(self, values: Tensor) -> bool:
        return bool(((values >= 0) & (values <= 1)).all())

    def log_odds(self, logits: Tensor) -> Tensor:
        return logits - torch.tensor(self.thresholds)

    def _set(self, code: Tensor) -> Tensor:
        return self.shows(code[:, None], torch.arange(len(self.classes)))

    def _flipped(self, lead: Tensor, goal: Goal) -> Tensor:
        """By how much each label is the other one than it should be."""
        return torch.where(self._set(goal.label), -lead, lead)


def multi_label_problem(n: int = 60, length: int = 12, seed: int = 0) -> tuple[Task, Victim]:
    """A linear victim of three labels that is right on most clean samples; some rows hold none, some all."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, length, generator=rng)
    linear = nn.Linear(length, len(LABELS))
    with torch.no_grad():
        linear.weight.copy_(torch.randn(len(LABELS), length, generator=rng))
        linear.bias.copy_(torch.tensor([0.0, 0.5, -0.5]))
    outputs = MultiLabel(LABELS, (0.0, 0.5, -0.5))
    with torch.no_grad():
        logits = linear(x.flatten(1)) + 0.3 * torch.randn(n, len(LABELS), generator=rng)
    y = outputs.predict(logits, torch.zeros(n, dtype=torch.int64))
    samples = Samples.of(x, y)
    task = Task("many", LABELS, samples[:20], samples[:20], samples[20:], outputs=outputs)
    return task, frozen(nn.Sequential(nn.Flatten(), linear), outputs)
