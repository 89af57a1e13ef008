"""Perturbations of a few samples, to be looked at: the same attack once more, on these samples alone.

A sweep forgets what it measured. Draws belong to samples, so an attack whose answer the sample fixes finds the same
again; any other may find something else, and then the prediction kept here is that of what was found here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgbench.core.data import Batch
from ecgbench.core.errors import StoreError
from ecgbench.core.victim import chunks
from ecgbench.evaluation.outcomes import Outcomes, labels
from ecgbench.evaluation.sweep import Sweep


@dataclass(frozen=True)
class Perturbations:
    """n samples `x` (n, *shape) and what an attack added to them, `delta`; `scale` as in a Batch.

    `y`, `clean` and `attacked` (n,): the true class, and those predicted at x and at x + delta; `ids` (n,).
    """

    ids: NDArray[np.int64]
    x: NDArray[np.float32]
    delta: NDArray[np.float32]
    scale: NDArray[np.float32]
    y: NDArray[np.integer]
    clean: NDArray[np.integer]
    attacked: NDArray[np.integer]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Every field by name, as it is stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> Perturbations:
        """Raises StoreError where a field is missing, added, or of another shape or type."""
        if set(arrays) != set(_KINDS):
            raise StoreError(f"perturbations hold {sorted(arrays)}; expected {sorted(_KINDS)}.")
        whole = arrays["x"].shape
        for name, kinds in _KINDS.items():
            value, want = arrays[name], whole if name in ("x", "delta") else whole[:1]
            if name == "scale" and value.ndim == len(whole) > 1:
                want = tuple(have if have == 1 else full for have, full in zip(value.shape, whole, strict=True))
            if value.shape != want or value.dtype not in kinds:
                kind = " or ".join(map(str, kinds))
                raise StoreError(f"perturbations: {name} is {value.dtype} {value.shape}; expected {kind} {want}.")
        return cls(**arrays)  # type: ignore[arg-type]


_LABEL = (np.dtype(np.int16), np.dtype(np.int64))
_KINDS: dict[str, tuple[np.dtype[Any], ...]] = {
    "ids": (np.dtype(np.int64),),
    "x": (np.dtype(np.float32),),
    "delta": (np.dtype(np.float32),),
    "scale": (np.dtype(np.float32),),
    "y": _LABEL,
    "clean": _LABEL,
    "attacked": _LABEL,
}


def find_perturbations(sweep: Sweep, outcomes: Outcomes, headline: float, n: int) -> Perturbations:
    """The first `n` samples, by id, that the sweep attacked, as they stand at the `headline` eps, one of its grid.

    `outcomes` are the sweep's own: a sample that was adversarial at a smaller eps is attacked at that one. Raises
    ContractError where a perturbation breaks the threat.
    """
    test, deciding = sweep.samples, _deciding(sweep, outcomes, sweep.eps.index(headline))
    by_id = test.ids.argsort(stable=True)
    rows = by_id[deciding[by_id] >= 0][:n]
    batch, at = test[rows], deciding[rows]
    delta = torch.zeros_like(batch.x)
    for position in at.unique().tolist():
        for piece in chunks((at == position).nonzero().squeeze(1), sweep.task.shape):
            delta[piece] = _attacked(sweep, rows[piece], position).cpu()
    return Perturbations(
        ids=batch.ids.numpy(),
        x=batch.x.numpy(),
        delta=delta.numpy(),
        scale=batch.scale.numpy(),
        y=labels(batch.y.numpy(), sweep.task.outputs.codes),
        clean=_predicted(sweep, batch, batch.x, "clean"),
        attacked=_predicted(sweep, batch, batch.x + delta, "verdict"),
    )


def _deciding(sweep: Sweep, outcomes: Outcomes, headline: int) -> Tensor:
    """Position of the eps whose perturbation decides at the headline eps, (n,); -1 for samples not attacked."""
    test, adversarial = sweep.samples, torch.from_numpy(outcomes.adversarial[: headline + 1])
    met = sweep.threat.goal(test.y, sweep.task.outputs).eligible
    if sweep.protocol.clean_wrong == "wrong":
        met = met & torch.from_numpy(outcomes.correct)
    at = torch.full_like(test.y, headline)
    if sweep.attack.minimal or sweep.protocol.sweep == "growing":
        at = torch.where(adversarial.any(0), adversarial.int().argmax(0), at)
    return torch.where(met, at, -1)


def _attacked(sweep: Sweep, rows: Tensor, position: int) -> Tensor:
    """What the attack makes of these rows, as in the sweep at this position of the grid: (n, *shape)."""
    batch = sweep.samples[rows].to(sweep.device)
    delta = sweep.perturb(batch, sweep.eps[-1 if sweep.attack.minimal else position]).delta
    if sweep.attack.minimal:
        delta = sweep.threat.ball(batch, sweep.eps[position], sweep.task.bounds).project(delta)
    return delta


def _predicted(sweep: Sweep, samples: Batch, x: Tensor, purpose: Literal["clean", "verdict"]) -> NDArray[np.integer]:
    found = [np.zeros(0, np.int64)]
    for piece in chunks(torch.arange(len(samples)), sweep.task.shape):
        batch = samples[piece].to(sweep.device)
        goal = None if purpose == "clean" else sweep.threat.goal(batch.y, sweep.task.outputs)
        predicted, _ = sweep.predicted(batch, x[piece].to(sweep.device), purpose, goal)
        found.append(predicted.cpu().numpy())
    return labels(np.concatenate(found), sweep.task.outputs.codes)
