"""Trainings in bfloat16: where a machine's kernels are right, and where they save enough time."""

from __future__ import annotations

import copy
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from time import process_time
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Batch
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.progress import Checkpoint, Note
from ecgbench.core.random import stream
from ecgbench.core.victim import Victim, evaluating

Precision = Literal["float32", "bf16", "auto"]

LOGITS, GRADIENTS = 0.25, 0.75
"""Largest |bf16 - float32| / |float32|, as norms, of a batch's logits and of its gradients.

bfloat16 keeps 8 bits. In 33 convolutions exact sums of products of operands rounded to it move the logits by 0.01 to
0.12 and the gradients, through ReLU and pooling that switch, by 0.2 to 0.56; right kernels give the same. Kernels
seen to be wrong move the logits by 0.9 and more.
"""
WORTH = 1.75
"""How many times as fast bfloat16 must be for `auto` to take it.

Seen of resnet34: 1.2 to 1.45 without matrix units, 2.5 with them; nearer to either the noise of a timing would decide.
"""


class MixedPrecision(Module):
    """A module that can compute in bfloat16, and does inside `reduced`, for which its forward asks `autocast`.

    `precision` is how it is trained; outside of a training it answers in float32.
    """

    precision: Precision = "float32"
    bf16: bool = False

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """What the part of the forward that may be in bfloat16 runs in."""
        return torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext()


@contextmanager
def reduced(module: Module, bf16: bool = True) -> Iterator[None]:
    """Inside, all parts that can do so compute in bfloat16."""
    parts = _parts(module) if bf16 else []
    for part in parts:
        part.bf16 = True
    try:
        yield
    finally:
        for part in parts:
            part.bf16 = False


def in_bf16(module: Module, batch: Batch, checkpoint: Checkpoint) -> bool:
    """Whether `module` is trained in bfloat16: as its `precision` says, "auto" where that is right and faster.

    Whether it is faster is measured once on a machine and then remembered; whether it is right is asked of every
    training, on `batch`. Raises EcgbenchError where bfloat16 is demanded and wrong.
    """
    asked = {part.precision for part in _parts(module)}
    if "bf16" in asked:
        fault = wrong(module, batch)
        if fault is not None:
            raise EcgbenchError(f"precision=bf16 is refused: {fault}; expected precision=float32 or auto.")
        return True
    if "auto" not in asked:
        return False
    times = checkpoint.measured_once(_measurement(module, batch), lambda: speedup(module, batch))
    fault = wrong(module, batch) if times >= WORTH else None
    taken = times >= WORTH and fault is None
    reason = fault or f"on this machine bf16 is {times:.2f} times as fast, and taken from {WORTH} on"
    checkpoint.report(Note(f"training in {'bf16' if taken else 'float32'}: {reason}."))
    return taken


def wrong(module: Module, batch: Batch) -> str | None:
    """What bfloat16 gets wrong on a batch, as the end of a sentence; None where it only rounds."""
    for what, error in errors(module, batch).items():
        allowed = LOGITS if what == "logits" else GRADIENTS
        if not error <= allowed:
            return f"on this machine its {what} are off by {error:.2g} of their size, where rounding explains {allowed}"
    return None


def errors(module: Module, batch: Batch) -> dict[str, float]:
    """|bf16 - float32| / |float32| of logits, parameter gradients and input gradients in train mode.

    The gradients are those of the logits along their own values in float32. `module` is left as it was.
    """
    exact = _answers(module, batch, bf16=False)
    rough = _answers(module, batch, bf16=True, along=exact[0])
    names = ("logits", "parameter gradients", "input gradients")
    return {name: _distance(*pair) for name, *pair in zip(names, rough, exact, strict=True)}


def speedup(module: Module, batch: Batch) -> float:
    """How many times as fast bfloat16 is: a step in train mode and an input gradient in eval mode together.

    In CPU seconds, the least of three in turn, which other processes of the machine disturb least.
    """
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for bf16 in (False, True) * 4:
        start = process_time()
        _answers(module, batch, bf16)
        with evaluating(module):
            _answers(module, batch, bf16)
        seconds[bf16].append(process_time() - start)
    return min(seconds[False][1:]) / min(seconds[True][1:])


def _parts(module: Module) -> list[MixedPrecision]:
    return [part for part in module.modules() if isinstance(part, MixedPrecision)]


def _answers(module: Module, batch: Batch, bf16: bool, along: Tensor | None = None) -> list[Tensor]:
    """Logits, parameter gradients and input gradients of a copy, the same draws of dropout each time."""
    other = copy.deepcopy(module)
    x = batch.x.clone().requires_grad_()
    weights = [weight for weight in other.parameters() if weight.requires_grad]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with reduced(other, bf16):
            logits = Victim(other).logits(x, batch, stream("precision"))
    along = logits.detach() if along is None else along
    oracle = torch.autograd.grad(logits, [x, *weights], along, allow_unused=True, materialize_grads=True)
    return [logits.detach(), torch.cat([gradient.flatten() for gradient in oracle[1:]]), oracle[0]]


def _distance(rough: Tensor, exact: Tensor) -> float:
    gap = float((rough.double() - exact.double()).norm())
    return gap / float(exact.double().norm()) if gap else 0.0


def _measurement(module: Module, batch: Batch) -> dict[str, str]:
    """What a speedup depends on: processor, torch, threads, and the work."""
    shapes = [f"{name} {tuple(value.shape)}" for name, value in module.state_dict().items()]
    return {
        "what": "times as fast in bf16",
        "processor": _processor(),
        "kernels": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "device": batch.x.device.type,
        "torch": str(torch.__version__),
        "threads": str(torch.get_num_threads()),
        "module": " ".join(type(part).__qualname__ for part in _parts(module)),
        "weights": ", ".join(shapes),
        "batch": str(tuple(batch.x.shape)),
    }


def _processor() -> str:
    """Name and instruction sets, as far as the system tells them."""
    told = [torch.backends.cpu.get_cpu_capability(), platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for word in ("model name", "flags"):
        told += [line.partition(":")[2].strip() for line in lines if line.startswith(word)][:1]
    return "; ".join(told)
