"""Torch as results are made under it: settings that act on all code of a process, and the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from ecgbench.core.errors import EcgbenchError


@contextmanager
def standard_settings() -> Iterator[None]:
    """Gradients on, no inference mode, float32 and the CPU by default, no search for anomalies; then all as before.

    Raises EcgbenchError under autocast: it would change every module that is asked, and the attack itself.
    """
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            raise EcgbenchError(
                f"autocast is on for {kind}; expected a call outside of it; a module to be judged under autocast "
                "enters it in its own forward."
            )
    elsewhere = torch.get_default_device().type != "cpu"
    with torch.inference_mode(False), torch.enable_grad(), torch.autograd.set_detect_anomaly(False), (
        torch.device("cpu") if elsewhere else nullcontext()
    ), default_dtype(torch.float32):  # fmt: skip
        yield


@contextmanager
def default_dtype(kind: torch.dtype) -> Iterator[None]:
    """New tensors are of `kind` unless told otherwise; then as before."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def find_device(given: str | int | torch.device) -> torch.device:
    """The device of that name. Raises EcgbenchError where this machine has none."""
    try:
        device = torch.device(given)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    there = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(device.type, 0)
    if (device.index or 0) >= there:
        raise EcgbenchError(f"device {str(given)!r} is not there; expected cpu, or cuda on a machine that has it.")
    return device
