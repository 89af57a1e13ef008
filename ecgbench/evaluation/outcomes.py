"""What happened to every sample at every eps: all that a score is made of.

Outcomes know neither victim nor attack, so any score on a board can be computed again from them alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ecgbench.core.errors import StoreError


@dataclass(frozen=True)
class Outcomes:
    """n samples, e sizes of the ball (ascending).

    `y`, `clean` (n,): true and clean predicted class; `weight` (n,); `group` (n,), -1 where there is none;
    `ids` (n,). Per eps, shape (e, n): `predicted` class at the returned perturbation, its `size` in the unit of
    eps, `fallen` (adversarial by the goal and protocol), `by` (position in `components`), `forwards` and
    `gradients` spent on the sample.
    """

    epsilons: NDArray[np.float64]
    ids: NDArray[np.int64]
    y: NDArray[np.int16]
    group: NDArray[np.int64]
    weight: NDArray[np.float32]
    clean: NDArray[np.int16]
    predicted: NDArray[np.int16]
    fallen: NDArray[np.bool_]
    size: NDArray[np.float32]
    by: NDArray[np.int8]
    forwards: NDArray[np.int32]
    gradients: NDArray[np.int32]
    components: NDArray[np.str_]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which samples are right when clean, (n,)."""
        return np.asarray(self.clean == self.y)

    def at(self, eps: float) -> NDArray[np.int16]:
        """Predicted classes (n,) at `eps`, 0 meaning clean. Raises KeyError for an eps that was not run."""
        if eps == 0:
            return self.clean
        found = np.flatnonzero(self.epsilons == eps)
        if not len(found):
            raise KeyError(eps)
        return np.asarray(self.predicted[found[0]])

    def smallest(self) -> NDArray[np.float64]:
        """The smallest eps of the grid at which each sample is wrong: (n,), 0 if wrong when clean, inf if never."""
        wrong = self.predicted != self.y
        first = np.where(wrong.any(0), self.epsilons[wrong.argmax(0)], np.inf) if len(wrong) else np.inf
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
        n, e = len(made.y), len(made.epsilons)
        for name, kind in _KINDS.items():
            value = arrays[name]
            want = (e,) if name == "epsilons" else (e, n) if name in _PER_EPS else (n,)
            if value.shape != want or value.dtype != kind:
                raise StoreError(f"outcomes: {name} is {value.dtype} {value.shape}; expected {kind} {want}.")
        if (
            made.components.ndim != 1
            or made.components.dtype.kind != "U"
            or not (made.by.min(initial=0) >= 0 and made.by.max(initial=0) < len(made.components))
        ):
            raise StoreError("outcomes: by names a component that is not listed.")
        return made


_PER_EPS = {"predicted", "fallen", "size", "by", "forwards", "gradients"}
_KINDS = {
    "epsilons": np.dtype(np.float64),
    "ids": np.dtype(np.int64),
    "y": np.dtype(np.int16),
    "group": np.dtype(np.int64),
    "weight": np.dtype(np.float32),
    "clean": np.dtype(np.int16),
    "predicted": np.dtype(np.int16),
    "fallen": np.dtype(np.bool_),
    "size": np.dtype(np.float32),
    "by": np.dtype(np.int8),
    "forwards": np.dtype(np.int32),
    "gradients": np.dtype(np.int32),
}


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
