"""Plugin code leaves the process as it found it: what changes arithmetic is an error, the rest is put back."""

from __future__ import annotations

import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from threading import Event, Thread

import numpy as np
import pytest
import torch

from ecgbench.core.errors import ContractError
from ecgbench.evaluation.guard import SETTINGS, SLOW, apart, guarded, heard


def _mkldnn() -> None:
    torch.backends.mkldnn.enabled = not torch.backends.mkldnn.enabled  # type: ignore[assignment]


MODE = torch.inference_mode()
NUMERIC: dict[str, Callable[[], object]] = {
    "the default dtype": lambda: torch.set_default_dtype(torch.float64),
    "the default device": lambda: torch.set_default_device("meta"),
    "inference mode": MODE.__enter__,
    "grad mode": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu").__enter__(),
    "the precision of float32 products": lambda: torch.set_float32_matmul_precision("medium"),
    "mkldnn": _mkldnn,
    "flushing of denormal numbers": lambda: torch.set_flush_denormal(True),
}
HARMLESS: dict[str, Callable[[], object]] = {
    "the recursion limit": lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 7),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "numpy's errors": lambda: np.seterr(all="raise"),
    "filters of warnings": lambda: warnings.simplefilter("ignore"),
    "the working directory": lambda: os.chdir("/"),
    "the umask": lambda: os.umask(0o777),
}
APART: dict[str, Callable[[], object]] = {
    "signal handlers": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "the environment": os.environ.clear,
}


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """Torch itself writes into the environment when it is made deterministic."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)


def readings() -> list[object]:
    return [setting.get() for setting in (*SETTINGS, *SLOW)]


def test_every_setting_is_tried() -> None:
    names = {setting.name: setting.numeric for setting in SETTINGS}
    assert names == dict.fromkeys(NUMERIC, True) | dict.fromkeys(HARMLESS, False)
    assert {setting.name for setting in SLOW} == set(APART)


@pytest.mark.parametrize("name", NUMERIC)
def test_a_setting_that_changes_arithmetic_is_put_back_and_blamed_on_the_plugin(name: str) -> None:
    before = readings()
    with pytest.raises(ContractError, match=rf"^Plugin\(1\) broke its contract: .*got {name} "), guarded("Plugin(1)"):
        NUMERIC[name]()
    assert readings() == before


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_other_setting_is_put_back_in_silence(name: str) -> None:
    before = readings()[: len(SETTINGS)]
    with guarded("Plugin(1)"):
        HARMLESS[name]()
        assert readings()[: len(SETTINGS)] != before
    assert readings()[: len(SETTINGS)] == before


@pytest.mark.parametrize("name", APART)
def test_what_a_cell_leaves_in_the_process_is_put_back(name: str) -> None:
    before = readings()
    with apart():
        APART[name]()
        assert readings() != before
    assert readings() == before


def test_the_setting_is_the_fault_and_not_what_came_of_it_but_an_interrupt_stays_one() -> None:
    with pytest.raises(ContractError, match="grad mode False"), guarded("Plugin(1)"):
        torch.set_grad_enabled(False)
        raise RuntimeError("does not require grad")
    with pytest.raises(KeyboardInterrupt), guarded("Plugin(1)"):
        torch.set_grad_enabled(False)
        raise KeyboardInterrupt
    assert torch.is_grad_enabled()


def test_nothing_that_a_cell_writes_reaches_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write("before\n")
    with apart():
        sys.stdout.write("printed\n")
        os.write(1, b"written\n")
        assert sys.__stdout__ is not None
        sys.__stdout__.write("round\n")
    sys.stdout.write("after\n")
    sys.stdout.flush()
    out, err = capfd.readouterr()
    assert out == "before\nafter\n"
    assert {"printed", "written", "round"} <= set(err.split())


def test_who_listens_to_a_run_prints_as_ever(capfd: pytest.CaptureFixture[str]) -> None:
    def tell(progress: int) -> None:
        sys.stdout.write(f"told {progress}\n")

    with apart(), apart():
        sys.stdout.write("spoilt\n")
        heard(tell)(1)
        sys.stdout.write("spoilt\n")
        heard(tell)(2)
    heard(tell)(3)
    out, err = capfd.readouterr()
    assert out == "told 1\ntold 2\ntold 3\n" and err == "spoilt\nspoilt\n"


def test_two_threads_put_stdout_back_once(capfd: pytest.CaptureFixture[str]) -> None:
    """The first to enter is the first to leave: its end must not leave the other one's stderr in stdout's place."""
    entered, left = Event(), Event()

    def other() -> None:
        with apart():
            entered.set()
            left.wait(10)

    thread = Thread(target=other)
    with apart():
        thread.start()
        entered.wait(10)
    left.set()
    thread.join()
    sys.stdout.write("after\n")
    sys.stdout.flush()
    os.write(1, b"and after\n")
    assert capfd.readouterr().out == "after\nand after\n"


def test_a_closed_stdout_is_open_again(capfd: pytest.CaptureFixture[str]) -> None:
    with apart():
        os.close(1)
    sys.stdout.write("after\n")
    sys.stdout.flush()
    assert capfd.readouterr().out == "after\n"


def test_global_generators_stand_where_they_stood() -> None:
    before = torch.random.get_rng_state(), repr(np.random.get_state()), random.getstate()
    with apart():
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (repr(np.random.get_state()), random.getstate()) == before[1:]
