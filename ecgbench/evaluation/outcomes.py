"""What happened to every sample at every eps: all that a score is made of.

Outcomes know neither victim nor attack, so any score on a board can be computed again from them alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.errors import StoreError


@dataclass(frozen=True)
class Outcomes:
    """n samples, e sizes of the ball (ascending).

    `y`, `clean` (n,): true label and clean prediction; `weight` (n,); `group` (n,), -1 where there is none;
    `ids` (n,). Per eps, shape (e, n): `predicted` at the returned perturbation, its `size` in the unit of eps,
    `adversarial` by the goal and protocol, `by` (position in `components`), `forwards` and `gradients` spent on the
    sample; `l0`, the values that the perturbation changes, and `l1`, the sum of its absolute values, both measured, in
    the unit of the threat.

    `logits` (1 + e, n, w), when clean and at each eps, are the log-odds that metrics need (`Outputs.log_odds`), w = 0
    where they need none; in float16, since no prediction is read from them. `threshold` (w,) is the value from which on
    a class is said to hold, chosen on the validation split; NaN where there was nothing to choose from. `distance`
    (n,), for an attack that seeks the smallest perturbation, is the size of what it found at the largest eps, in the
    unit of eps; NaN where it found none, and for every other attack.
    """

    eps: NDArray[np.float64]
    ids: NDArray[np.int64]
    y: NDArray[np.integer]
    group: NDArray[np.int64]
    weight: NDArray[np.float32]
    clean: NDArray[np.integer]
    predicted: NDArray[np.integer]
    adversarial: NDArray[np.bool_]
    size: NDArray[np.float32]
    l0: NDArray[np.int32]
    l1: NDArray[np.float32]
    distance: NDArray[np.float32]
    logits: NDArray[np.float16]
    threshold: NDArray[np.float64]
    by: NDArray[np.int8]
    forwards: NDArray[np.int32]
    gradients: NDArray[np.int32]
    components: NDArray[np.str_]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which samples are right when clean, (n,)."""
        return np.asarray(self.clean == self.y)

    def at(self, eps: float) -> NDArray[np.integer]:
        """Predictions (n,) at `eps`, 0 meaning clean. Raises KeyError for an eps that was not run."""
        if eps == 0:
            return self.clean
        found = np.flatnonzero(self.eps == eps)
        if not len(found):
            raise KeyError(eps)
        return np.asarray(self.predicted[found[0]])

    def smallest(self) -> NDArray[np.float64]:
        """The smallest eps of the grid at which each sample is wrong: (n,), 0 if wrong when clean, inf if never."""
        wrong = self.predicted != self.y
        first = np.where(wrong.any(0), self.eps[wrong.argmax(0)], np.inf) if len(wrong) else np.inf
        return np.where(self.correct, first, 0.0)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Every field by name, as it is stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> Outcomes:
        """Raises StoreError where a field is missing, added, or of another shape or type."""
        names = {field.name for field in fields(cls)}
        if set(arrays) != names:
            raise StoreError(f"outcomes hold {sorted(arrays)}; expected {sorted(names)}.")
        made = cls(**arrays)  # type: ignore[arg-type]
        n, e, w = made.y.size, made.eps.size, made.threshold.size
        shapes = {"eps": (e,), "threshold": (w,), "logits": (1 + e, n, w)} | dict.fromkeys(_PER_EPS, (e, n))
        for name, kinds in _KINDS.items():
            value, want = arrays[name], shapes.get(name, (n,))
            if value.shape != want or value.dtype not in kinds or (kinds == _LABEL and value.dtype != made.y.dtype):
                kind = made.y.dtype if kinds == _LABEL and made.y.dtype in kinds else " or ".join(map(str, kinds))
                raise StoreError(f"outcomes: {name} is {value.dtype} {value.shape}; expected {kind} {want}.")
        if (
            made.components.ndim != 1
            or made.components.dtype.kind != "U"
            or not (made.by.min(initial=0) >= 0 and made.by.max(initial=0) < len(made.components))
        ):
            raise StoreError("outcomes: by names a component that is not listed.")
        return made


_PER_EPS = {"predicted", "adversarial", "size", "l0", "l1", "by", "forwards", "gradients"}
_LABEL = (np.dtype(np.int16), np.dtype(np.int64))
_KINDS: dict[str, tuple[np.dtype[Any], ...]] = {
    "eps": (np.dtype(np.float64),),
    "ids": (np.dtype(np.int64),),
    "y": _LABEL,
    "group": (np.dtype(np.int64),),
    "weight": (np.dtype(np.float32),),
    "clean": _LABEL,
    "predicted": _LABEL,
    "adversarial": (np.dtype(np.bool_),),
    "size": (np.dtype(np.float32),),
    "l0": (np.dtype(np.int32),),
    "l1": (np.dtype(np.float32),),
    "distance": (np.dtype(np.float32),),
    "logits": (np.dtype(np.float16),),
    "threshold": (np.dtype(np.float64),),
    "by": (np.dtype(np.int8),),
    "forwards": (np.dtype(np.int32),),
    "gradients": (np.dtype(np.int32),),
}


def labels(values: NDArray[np.int64], codes: int) -> NDArray[np.integer]:
    """Labels as outcomes hold them: int16 where that holds every one of 0 ... codes - 1, else int64."""
    return values.astype(np.int16 if codes <= 2**15 else np.int64)


class Spent(TypedDict):
    """Answers that an attack asked for; `queries` are forwards per attacked sample."""

    forwards: int
    gradients: int
    queries: float


def spent(outcomes: Outcomes) -> Spent:
    """What the outcomes say of an attack's cost."""
    attacked = int((outcomes.forwards.sum(0) > 0).sum())
    forwards, gradients = (int(part.sum(dtype=np.int64)) for part in (outcomes.forwards, outcomes.gradients))
    return {"forwards": forwards, "gradients": gradients, "queries": round(forwards / attacked, 1) if attacked else 0.0}
