"""Plugin code at work in this process: what it prints goes to stderr, and what it sets is put back.

A setting that changes the host's own arithmetic fails the cell by the plugin's name; one that does not, such as the
number of threads, is put back without a word. Deaths of the process and replaced methods of the host are not seen.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TextIO, TypeVar

import numpy as np
import torch

from ecgbench.core.errors import ContractError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Heard = TypeVar("Heard")
TINY = sys.float_info.min
MODES: list[torch.inference_mode] = []  # put back after a plugin; each ends with its object


@dataclass(frozen=True)
class Setting:
    """A state of the process: how to read and to set it; `numeric` if arithmetic depends on it."""

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]
    numeric: bool = False


def _set_mkldnn(on: bool) -> None:
    torch.backends.mkldnn.enabled = on  # type: ignore[assignment]


def _set_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # a device, cpu too, costs a mode on every call


def _set_inference(on: bool) -> None:
    mode = torch.inference_mode(on)
    mode.__enter__()
    MODES.append(mode)


def _umask() -> int:
    mask = os.umask(0o077)  # it can only be read by being set
    os.umask(mask)
    return mask


def _set_environment(kept: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(kept)


def _set_filters(kept: list[Any]) -> None:
    warnings.resetwarnings()  # which also forgets what the filters of before have decided
    warnings.filters[:] = kept  # type: ignore[index]


def _set_signals(kept: list[Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in zip(SIGNALS, kept, strict=True):
            signal.signal(number, handler)


def _folder() -> str | None:
    with suppress(OSError):
        return os.getcwd()  # noqa: PTH109 - a Path of it would be made for every call
    return None


def _set_folder(kept: str | None) -> None:
    if kept is not None:
        os.chdir(kept)


SETTINGS = (
    Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype, numeric=True),
    Setting("the default device", lambda: torch.empty(0).device, _set_device, numeric=True),
    Setting("inference mode", torch.is_inference_mode_enabled, _set_inference, numeric=True),
    Setting("grad mode", torch.is_grad_enabled, torch.set_grad_enabled, numeric=True),
    Setting(
        "autocast",
        lambda: torch.is_autocast_enabled("cpu"),
        lambda on: torch.set_autocast_enabled("cpu", on),
        numeric=True,
    ),
    Setting(
        "the precision of float32 products",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
        numeric=True,
    ),
    Setting("mkldnn", lambda: torch.backends.mkldnn.enabled, _set_mkldnn, numeric=True),
    Setting("flushing of denormal numbers", lambda: TINY / 2 == 0, torch.set_flush_denormal, numeric=True),
    Setting(
        "deterministic algorithms",
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda kept: torch.use_deterministic_algorithms(kept[0], warn_only=kept[1]),
    ),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    Setting("threads", torch.get_num_threads, torch.set_num_threads),
    Setting("numpy's errors", np.geterr, lambda kept: np.seterr(**kept)),
    Setting("filters of warnings", lambda: list(warnings.filters), _set_filters),
    Setting("the working directory", _folder, _set_folder),
    Setting("the umask", _umask, os.umask),
)
SLOW = (  # to read, and no matter to the cell itself
    Setting("signal handlers", lambda: [signal.getsignal(number) for number in SIGNALS], _set_signals),
    Setting("the environment", lambda: dict(os.environ), _set_environment),
)


@contextmanager
def guarded(who: object) -> Iterator[None]:
    """Run code of the plugin `who`; settings are afterwards as they were.

    Raises ContractError where one that is numeric had changed, whatever the plugin raised itself.
    """
    before = [setting.get() for setting in SETTINGS]
    try:
        yield
    finally:
        found = _put_back(SETTINGS, before)
        if found:
            blame(who, "settings of torch left as they were", found[0])


def blame(who: object, expected: str, got: str) -> None:
    """Raise ContractError in place of whatever is being raised; but a run that is interrupted ends."""
    if not isinstance(sys.exc_info()[1], KeyboardInterrupt):
        raise ContractError(who, expected, got)


def named(*plugins: object) -> str:
    """Plugins of which one is at fault."""
    return " or ".join(map(repr, plugins))


def _put_back(settings: Sequence[Setting], before: Sequence[Any]) -> list[str]:
    """Restore what has changed; what was found instead, of the numeric ones."""
    found = []
    for setting, kept in zip(settings, before, strict=True):
        now = setting.get()
        if now != kept:
            setting.put(kept)
            if setting.numeric:
                found.append(f"{setting.name} {now} instead of {kept}")
    return found


@contextmanager
def apart() -> Iterator[None]:
    """Run a whole cell: what is written to stdout goes to stderr; generators and `SLOW` settings are put back."""
    before = [setting.get() for setting in SLOW]
    with generators_kept(), STDOUT.moved():
        try:
            yield
        finally:
            _put_back(SLOW, before)


@contextmanager
def generators_kept() -> Iterator[None]:
    """The global generators of torch, numpy and Python are afterwards as they were."""
    states = np.random.get_state(), random.getstate()
    cuda = torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else []):
        try:
            yield
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])


class _Stdout:
    """Where stdout leads: to stderr while any cell runs, `sys.stdout` and the file descriptor alike.

    The first that enters moves it, the last that leaves puts it back, so that runs in several threads do not mix it up.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.RLock(), 0
        self._stream: TextIO | None = None
        self._kept: dict[int, int] = {}

    @contextmanager
    def moved(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._move()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._put_back()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """As it was before the first cell."""
        with self._lock:
            if not self._inside:
                yield
                return
            self._put_back()
            try:
                yield
            finally:
                self._move()

    def _move(self) -> None:
        self._stream = sys.stdout
        _flush(self._stream)
        with suppress(OSError):  # a process without them has nothing to spoil
            self._kept = {number: os.dup(number) for number in (1, 2)}
            os.dup2(2, 1)
        sys.stdout = sys.stderr

    def _put_back(self) -> None:
        _flush(sys.__stdout__)  # where a plugin wrote round the redirection
        sys.stdout = self._stream
        for number, copy in self._kept.items():
            os.dup2(copy, number)  # also where a plugin closed it
            os.close(copy)
        self._kept = {}


STDOUT = _Stdout()


def heard(tell: Callable[[Heard], None]) -> Callable[[Heard], None]:
    """`tell` as it works outside of `apart`: what it prints reaches stdout."""

    def outside(progress: Heard) -> None:
        with STDOUT.in_place():
            tell(progress)
            _flush(sys.stdout)

    return outside


def _flush(stream: TextIO | None) -> None:
    with suppress(OSError, ValueError, AttributeError):
        stream.flush()  # type: ignore[union-attr]
