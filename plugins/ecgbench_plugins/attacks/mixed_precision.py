"""An attack that searches in bfloat16: gradients are those of bfloat16, what is adversarial is decided in float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import process_time
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench import (
    Attack,
    Batch,
    Determinism,
    EcgbenchError,
    RandomStream,
    Task,
    Threat,
    Trial,
    Victim,
    cross_entropy,
    delta_of,
    hookimpl,
)
from ecgbench_plugins.attacks.pgd import PGD

ROWS = 256
"""Samples by which bfloat16 is judged."""
LOGITS, GRADIENTS = 0.25, 0.75
"""Largest |bf16 - float32| / |float32|, as norms, of logits and gradients; as for trainings (`ecgbench.Precision`)."""
WORTH = 1.75
"""How many times as fast bfloat16 must be for `auto` to take it; as for trainings."""
JUDGED: WeakKeyDictionary[Module, tuple[str | None, float]] = WeakKeyDictionary()
"""What is wrong with bfloat16 for a victim, and how many times as fast it is: a sweep asks once, for all its chunks."""


@dataclass(frozen=True)
class RoughVictim(Victim):
    """A victim that computes in bfloat16 where a gradient is asked for.

    Where the prediction in bfloat16 is not the true label, the logits are replaced by those of float32, to the last
    bit: no row counts as adversarial by rounding. Their gradient stays that of bfloat16. `asked_again` holds the ids
    of these rows.
    """

    asked_again: list[Tensor] = field(default_factory=list, repr=False, compare=False)

    def logits(self, x: Tensor, batch: Batch, rng: RandomStream) -> Tensor:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return super().logits(x, batch, rng)
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = super().logits(x, batch, rng).clone()
        with torch.no_grad():
            suspected = (self.outputs.predict(logits, batch.y) != batch.y).nonzero().squeeze(1)
            if len(suspected):
                logits[suspected] = super().logits(x[suspected], batch[suspected], rng)
                self.asked_again.append(batch.ids[suspected])
        return logits


@dataclass(frozen=True)
class MixedPrecision(Attack):
    """`attack` with its gradients in bfloat16, which some processors compute in half the time.

    Every point at which a victim is adversarial in bfloat16 is asked again in float32, and counts only if it is so
    there; so is the perturbation that is returned. What is adversarial in float32 alone is found at a later step, at
    the end, or not at all. `search=bf16` is refused where the processor has no bfloat16, or its logits or gradients
    are wrong. `search=auto` searches in bfloat16 where it is right and 1.75 times as fast, measured once in each sweep,
    and else is `attack` itself. Outcomes name the precision, unless `attack` names parts of its own.
    """

    attack: Attack = PGD(steps=100, loss="margin")
    search: Literal["bf16", "auto"] = "auto"

    def __post_init__(self) -> None:
        if self.attack.access != "gradient" or self.attack.minimal or self.attack.surrogate is not None:
            raise ValueError(
                f"attack={self.attack!r} given; expected one that asks the victim itself for gradients at a given eps"
            )

    @property
    def eot(self) -> int:
        return self.attack.eot

    @property
    def determinism(self) -> Determinism:
        return "none" if self.attack.determinism == "none" else "chunk"

    @property
    def libraries(self) -> Mapping[str, str]:
        return self.attack.libraries

    @property
    def stops_at_success(self) -> bool:
        return self.attack.stops_at_success

    def unfit(self, task: Task, threat: Threat) -> str | None:
        return self.attack.unfit(task, threat)

    def reach(self, eps: float) -> float | None:
        return self.attack.reach(eps)

    def longer(self) -> Attack:
        return replace(self, attack=self.attack.longer())

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        if not self._in_bf16(trial):
            return delta_of(self.attack, trial.named("float32"), rng)
        victim = RoughVictim(trial.victim.module, trial.victim.outputs)
        delta = delta_of(self.attack, replace(trial.named("bf16"), victim=victim), rng)
        _count(trial, victim.asked_again)
        return delta

    def _in_bf16(self, trial: Trial) -> bool:
        """Raises EcgbenchError where bfloat16 is demanded and cannot be."""
        fault, times = JUDGED.get(trial.victim.module) or JUDGED.setdefault(trial.victim.module, judged(trial))
        if self.search == "bf16" and fault is not None:
            raise EcgbenchError(f"search=bf16 is refused: {fault}; expected search=auto, or `attack` alone.")
        return fault is None and (self.search == "bf16" or times >= WORTH)


def judged(trial: Trial) -> tuple[str | None, float]:
    """Why bfloat16 cannot be, None where it can, and how many times as fast it is, 0 where it was not tried."""
    fault = unsupported(trial.batch.x.device) or wrong(trial)
    return fault, speedup(trial) if fault is None else 0.0


def unsupported(device: torch.device) -> str | None:
    """Why there is no bfloat16, as the end of a sentence; None where there is."""
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported()
    else:
        has = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # the question that torch's own compiler asks
    return None if has else "this processor has no bfloat16"


def wrong(trial: Trial) -> str | None:
    """What bfloat16 gets wrong on the clean samples, as the end of a sentence; None where it only rounds."""
    rough, exact = _answers(trial, bf16=True), _answers(trial, bf16=False)
    for name, allowed, one, other in zip(("logits", "gradients"), (LOGITS, GRADIENTS), rough, exact, strict=True):
        error = 0.0 if torch.equal(one, other) else float((one - other).norm() / other.norm())
        if not error <= allowed:
            return f"its {name} are off by {error:.2g} of their size here, where rounding explains {allowed}"
    return None


def speedup(trial: Trial) -> float:
    """How many times as fast a gradient is in bfloat16: in CPU seconds, the least of three in turn."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for bf16 in (False, True) * 4:
        start = process_time()
        _answers(trial, bf16)
        seconds[bf16].append(process_time() - start)
    return min(seconds[False][1:]) / min(seconds[True][1:])


def _answers(trial: Trial, bf16: bool) -> tuple[Tensor, Tensor]:
    """Logits and gradients of the cross-entropy at the first clean samples; nothing is counted."""
    part = trial[torch.arange(min(len(trial), ROWS), device=trial.batch.x.device)]
    x = part.batch.x.clone().requires_grad_()
    with torch.enable_grad():
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits = part.victim.logits(x, part.batch, trial.rng)
        loss = cross_entropy(logits, part.goal).sum()
        (gradient,) = torch.autograd.grad(loss, x, allow_unused=True, materialize_grads=True)
    return logits.detach(), gradient


def _count(trial: Trial, asked_again: list[Tensor]) -> None:
    """Add the rows that were asked twice to the trial's forwards."""
    if trial.watch == "never" or not asked_again:
        return
    ids, times = torch.cat(asked_again).unique(return_counts=True)
    for often in times.unique().tolist():
        trial.memory.add("forwards", trial.rows[torch.isin(trial.batch.ids, ids[times == often])], often)


@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"mixed-precision": MixedPrecision()}
