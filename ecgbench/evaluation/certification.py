"""A certificate over growing eps: which samples no attack can make adversarial, beside what an attack found.

A sample that is wrong when clean is not asked for. What is not proven at one eps is not asked for at a larger one: its
ball holds the smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgbench.core.certificates import Certificate, Proof
from ecgbench.core.data import Batch, Samples, Task
from ecgbench.core.errors import ContractError, EcgbenchError, StoreError
from ecgbench.core.interfaces import returned
from ecgbench.core.progress import Checkpoint, SweepProgress
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.victim import Victim, chunks
from ecgbench.evaluation.feasibility import check_feasible
from ecgbench.evaluation.guard import guarded
from ecgbench.evaluation.lending import AS_LENT, lent, tensors, unlabelled, unwritten, victim_change
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import check_grid


@dataclass(frozen=True)
class Certified:
    """What is proven of n samples at e sizes of the ball (ascending).

    `ids`, `y`, `clean`, `weight` (n,) as in `Outcomes`. Per eps, shape (e, n): `proven`, and `queries` spent on the
    sample.
    """

    eps: NDArray[np.float64]
    ids: NDArray[np.int64]
    y: NDArray[np.int64]
    clean: NDArray[np.int64]
    weight: NDArray[np.float32]
    proven: NDArray[np.bool_]
    queries: NDArray[np.int64]

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of the samples that is proven at each eps, as metrics weigh them."""
        return tuple(float(np.average(row, weights=self.weight)) for row in self.proven)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Every field by name, as it is stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> Certified:
        """Raises StoreError where a field is missing, added, of another shape or type, or does not follow."""
        if set(arrays) != set(_KINDS):
            raise StoreError(f"a certificate holds {sorted(arrays)}; expected {sorted(_KINDS)}.")
        made = cls(**arrays)  # type: ignore[arg-type]
        n, e = made.y.size, made.eps.size
        for name, (kind, per_eps) in _KINDS.items():
            value, want = arrays[name], (e,) if name == "eps" else (e, n) if per_eps else (n,)
            if value.shape != want or value.dtype != kind:
                raise StoreError(f"a certificate: {name} is {value.dtype} {value.shape}; expected {kind} {want}.")
        if not (np.diff(made.eps, prepend=0) > 0).all():
            raise StoreError("a certificate: eps does not ascend from above 0.")
        if (made.proven & (made.clean != made.y)).any():
            raise StoreError("a certificate: a sample is proven that is wrong when clean.")
        if (made.proven[1:] & ~made.proven[:-1]).any():
            raise StoreError("a certificate: a sample is proven at an eps and not at a smaller one.")
        return made


_KINDS: dict[str, tuple[Any, bool]] = {
    "eps": (np.float64, False),
    **{name: (np.int64, False) for name in ("ids", "y", "clean")},
    "weight": (np.float32, False),
    "proven": (np.bool_, True),
    "queries": (np.int64, True),
}


@dataclass(frozen=True)
class Certification:
    """All that one certification is made of; `run` does it. `eps` ascend, in the unit of the threat.

    The certificate is lent copies of the samples and of the victim.
    """

    certificate: Certificate
    victim: Victim
    task: Task
    samples: Samples
    threat: Threat
    eps: tuple[float, ...]
    rng: RandomStream
    device: str = "cpu"

    def run(self, checkpoint: Checkpoint) -> tuple[Certified, tuple[float, ...]]:
        """What is proven, and the CPU seconds that each eps took; a killed one goes on after its last eps.

        Raises EcgbenchError for a grid or threat that cannot be or a victim that the method cannot read,
        ContractError where the certificate breaks a promise.
        """
        check_grid(self.eps)
        check_feasible(self.threat, self.task, self.eps)
        clean, n, e = self._clean(), len(self.samples), len(self.eps)
        proven, queries = torch.zeros(e, n, dtype=torch.bool), torch.zeros(e, n, dtype=torch.int64)
        seconds = torch.zeros(e, dtype=torch.float64)
        goal = self.threat.goal(self.samples.y, self.task.outputs)
        open_ = goal.eligible & (clean == self.samples.y)
        done = 0
        kept = checkpoint.load()
        if kept is not None:
            proven, queries, seconds = (kept[name] for name in ("proven", "queries", "seconds"))
            done = int(kept["done"])
        for place in range(e):
            if place >= done:
                began = process_time()
                for rows, proof in self._proofs(open_, self.eps[place]):
                    proven[place, rows], queries[place, rows] = proof.proven, proof.queries
                seconds[place] = process_time() - began
                state = {"proven": proven, "queries": queries, "seconds": seconds}
                checkpoint.save({**state, "done": torch.tensor(place + 1)})
                checkpoint.report(SweepProgress(self.eps[place], place, e, n, n))
            open_ = proven[place]
        return self._certified(clean, proven, queries), tuple(seconds.tolist())

    def _proofs(self, open_: Tensor, eps: float) -> Iterator[tuple[Tensor, Proof]]:
        rows, borrowed = open_.nonzero().squeeze(1), lent(self.victim)
        for piece in chunks(rows, self.task.shape):
            batch = self.samples[piece].to(self.device)
            loan = batch.copy()
            ball, goal = (
                self.threat.ball(loan, eps, self.task.bounds),
                self.threat.goal(loan.y, self.task.outputs),
            )
            parts = [*tensors(loan), *tensors(ball), *tensors(goal)]
            with guarded(self.certificate), unwritten(self.certificate, parts):
                proof = self.certificate.prove(borrowed, loan, ball, goal, self.rng.fold_in("certificate"))
            yield piece, _checked(self.certificate, proof, len(piece))
        change = victim_change(borrowed.module, self.victim.module)
        if change is not None:
            raise ContractError(self.certificate, AS_LENT, change)

    def _clean(self) -> Tensor:
        pieces = chunks(torch.arange(len(self.samples)), self.task.shape)
        return torch.cat([self._predicted(self.samples[piece].to(self.device)).cpu() for piece in pieces])

    def _predicted(self, batch: Batch) -> Tensor:
        y = batch.y.clone()
        with guarded(self.victim.name), unlabelled(self.samples.y, batch.y, self.task.test.y):
            answers = self.victim.answers(batch.x, batch, self.rng.fold_in("clean"))
        return self.task.outputs.predict(answers, y)

    def _certified(self, clean: Tensor, proven: Tensor, queries: Tensor) -> Certified:
        samples = self.samples
        return Certified(
            eps=np.array(self.eps, dtype=np.float64),
            ids=samples.ids.numpy(),
            y=samples.y.numpy(),
            clean=clean.numpy(),
            weight=samples.weight.numpy(),
            proven=proven.numpy(),
            queries=queries.numpy(),
        )


def _checked(certificate: Certificate, proof: object, n: int) -> Proof:
    """A proof of n rows. Raises ContractError for anything else that a certificate returns."""
    found = returned(certificate, "prove", proof, Proof)
    for name, kind in (("least", torch.float64), ("error", torch.float64), ("queries", torch.int64)):
        value = getattr(found, name)
        if not isinstance(value, Tensor) or value.shape != (n,) or value.dtype != kind:
            got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ContractError(certificate, f"{name} of {n} rows, {kind}", got)
    if not bool((found.error >= 0).all()):
        raise ContractError(certificate, "an error of at least 0", f"{float(found.error.min()):g}")
    return Proof(found.least.cpu(), found.error.cpu(), found.queries.cpu())


@dataclass(frozen=True)
class BothSides:
    """Robust accuracy at one eps lies in [`proven`, `attacked`]; `open_samples` are those decided neither way."""

    eps: float
    proven: float
    attacked: float
    open_samples: int
    decided: float

    @property
    def exact(self) -> bool:
        """Whether nothing is left between the two."""
        return self.open_samples == 0


def both_sides(certified: Certified, outcomes: Outcomes, statistical: bool = False) -> list[BothSides]:
    """What certificate and attack say together, at each eps that both have.

    Raises EcgbenchError where they are of other samples, or where a proven sample was made adversarial: then host,
    certificate or attack is at fault. A `statistical` proof is one of the votes of all noise, and the attack was judged
    by those of a few draws, which may differ: such a sample counts as open.
    """
    if not np.array_equal(certified.ids, outcomes.ids) or not np.array_equal(certified.y, outcomes.y):
        raise EcgbenchError("certificate and outcomes are of different samples; expected one protocol and limit.")
    found = []
    for place, eps in enumerate(certified.eps):
        for column in np.flatnonzero(outcomes.eps == eps):
            proven, robust = certified.proven[place], outcomes.correct & ~outcomes.adversarial[column]
            wrong = np.flatnonzero(proven & ~robust)
            if len(wrong) and not statistical:
                raise EcgbenchError(
                    f"sample {int(certified.ids[wrong[0]])} is proven at eps {eps:g} and was made adversarial there "
                    f"({len(wrong)} in all): the certificate or the host is at fault; please report this."
                )
            weight, between = certified.weight, robust != proven
            share = [float(np.average(side, weights=weight)) for side in (proven, robust, ~between)]
            found.append(BothSides(float(eps), share[0], share[1], int(between.sum()), share[2]))
    return found
