"""What a model says when it is asked first: how many logits, whether a gradient comes back, and who it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Batch
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.fingerprint import fingerprint
from ecgbench.core.outputs import Outputs
from ecgbench.core.random import RandomStream, stream
from ecgbench.core.victim import Victim
from ecgbench.user.estimator import ScoresAsLogits
from ecgbench.user.model import UserModel, one_line

ASKED = 3  # rows of a trial question


def try_out(module: UserModel, batch: Batch, outputs: Outputs) -> int:
    """Ask about a few samples, one sample, and a gradient; the number of logits.

    A model whose backward fails, or that cannot be asked while a gradient may follow, is `blind` from then on. Raises
    EcgbenchError where it cannot be asked at all, ContractError where it returns no logits of `outputs`.
    """
    rng, victim = stream("trial question"), Victim(module, outputs)
    few = batch[:ASKED].to(victim.device)
    ask: Callable[[Batch], Tensor] = lambda rows: victim.logits(rows.x, rows, rng)  # noqa: E731
    try:
        if isinstance(module.ask, ScoresAsLogits):
            module.ask.choose_reading(batch.x)
        with torch.no_grad():
            logits = ask(few)
            ask(few[:1])
    except EcgbenchError:
        raise
    except Exception as fault:
        shape = f"{tuple(few.x.shape)} {module.dtype}"
        raise EcgbenchError(f"{module.called} cannot be asked about x of shape {shape}: {one_line(fault)}") from fault
    reason = _no_gradient(victim, few, rng)
    if reason is not None:
        module.blind = True
        module.notes.append(f"no gradient reaches the signal ({reason}): attacks that need one find nothing by it")
    if isinstance(module.ask, ScoresAsLogits):
        way = "logarithms of predict_proba" if module.ask.reading == "predict_proba" else module.ask.reading
        module.notes.append(f"its {way} serve as logits")
    if logits.shape[1] == 2 and not bool(logits[:, 0].any()):
        module.notes.append("one logit z a sample, read as (0, z)")
        return 1
    return logits.shape[1]


def _no_gradient(victim: Victim, few: Batch, rng: RandomStream) -> str | None:
    """Why no gradient of the logits reaches the signal; None where one does."""
    x = few.x.clone().requires_grad_()
    try:
        logits = victim.logits(x, few, rng)
        if not logits.requires_grad:
            return "its logits are detached from it"
        found = torch.autograd.grad(logits.sum(), x, allow_unused=True)[0]
        return "its logits are detached from it" if found is None else None
    except Exception as fault:  # autograd, or a model that reads x as an array
        return one_line(fault).rstrip(".")


def identity_of(module: UserModel, batch: Batch, outputs: Outputs) -> str:
    """A digest of the weights; of what is no module, of its answers to a few samples, too."""
    weights = hashlib.sha256(fingerprint(module.parts).encode())
    if not isinstance(module.ask, Module) or isinstance(module.ask, ScoresAsLogits):
        victim = Victim(module, outputs)
        few = batch[:ASKED].to(victim.device)
        with torch.no_grad():
            weights.update(victim.logits(few.x, few, stream("trial question")).cpu().numpy().tobytes())
    return weights.hexdigest()
