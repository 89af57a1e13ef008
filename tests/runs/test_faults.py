"""A fault of the machine ends the run and leaves nothing by halves; a fault of a plugin names it and fails its cell."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ecgbench.runs.faults import LONGEST, plain
from tests.command_line import TINY, Answer, ecgbench, environment, sentence

FGSM = ("run", *TINY, "--attack", "fgsm", "--eps", "0.05", "--json", "--quiet")


def published(home: Path) -> list[Path]:
    return sorted(path for path in (home / "out").rglob("*") if path.is_file())


def figures(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "cost": None}


# the machine


class FullDisk:
    """Refuses the change number `refused`, counted from 1, of anything below `home`, and every later one."""

    def __init__(self, home: Path, refused: int, code: int = errno.ENOSPC) -> None:
        self.home, self.refused, self.code, self.changes = home, refused, code, 0

    def meet(self, path: object) -> None:
        if isinstance(path, str | Path) and Path(path).is_relative_to(self.home):
            self.changes += 1
            if self.changes >= self.refused:
                raise OSError(self.code, os.strerror(self.code), str(path))

    @contextmanager
    def __call__(self) -> Iterator[FullDisk]:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("mkdir", "rename", "replace"):
                patch.setattr(os, name, self.before(getattr(os, name)))
            patch.setattr(os, "open", self.before(os.open, lambda flags, *_, **__: bool(flags & os.O_CREAT)))
            patch.setattr(Path, "open", self.before(Path.open, lambda mode="r", *_, **__: "w" in mode))
            yield self

    def before(self, function: Any, changes: Callable[..., bool] = lambda *_, **__: True) -> Any:
        def met(path: Any, *arguments: Any, **named: Any) -> Any:
            if changes(*arguments, **named):
                self.meet(path)
            return function(path, *arguments, **named)

        return met


def test_a_disk_that_is_full_at_any_moment_ends_the_run_and_leaves_nothing_by_halves(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    with FullDisk(whole, refused=10**9)() as disk:
        expected = ecgbench(whole, *FGSM, "--results", str(whole / "out"))
    (good,) = expected.records
    assert expected.code == 0 and disk.changes > 20
    for number in range(1, disk.changes + 1):
        home = tmp_path / str(number)
        with FullDisk(home, number)():
            answer = ecgbench(home, *FGSM, "--results", str(home / "out"))
        assert answer.code == 1 and "No space left on device" in answer.err and "free some space" in answer.err
        assert "failed" not in answer.err + answer.out and answer.err.count("\n") == 1, answer
        assert not published(home)
        if number % 3:
            continue  # the next run of every third is enough, and three times as fast
        again = ecgbench(home, *FGSM, "--results", str(home / "out"))
        assert again.code == 0 and [figures(record) for record in again.records] == [figures(good)]
        assert len(published(home)) == 2 and not list(home.rglob("*.tmp")) and not list(home.glob("store/writing/*"))


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from ecgbench.cli import main
main()
"""


@pytest.mark.parametrize("size", [16, 2000])
def test_a_limit_on_the_size_of_files_ends_the_run(size: int, tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="limits of a process are a matter of POSIX")
    words = (*FGSM, "--no-isolate", "--results", str(tmp_path / "out"))
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), *words],
        env=environment(tmp_path),
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    answer = Answer(ended.returncode, ended.stdout, ended.stderr)
    assert answer.code == 1 and "File too large" in sentence(answer)
    assert not published(tmp_path) and not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    "place", ["", "store", "store/locks", "store/victims", "store/unfinished", "store/records", "out"]
)
def test_a_file_where_a_folder_is_needed_ends_the_run(place: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / place).parent.mkdir(parents=True, exist_ok=True)
    (home / place).write_text("mine")
    out = home / "out" / "results"
    answer = ecgbench(home, *FGSM, "--results", str(out))
    assert answer.code == 1 and str(home / place) in answer.err
    assert "a file stands where a folder is needed: move it away" in answer.err.splitlines()[-1]
    assert (home / place).read_text() == "mine"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_a_store_that_may_not_be_written_ends_the_run_with_the_next_step(code: int, tmp_path: Path) -> None:
    with FullDisk(tmp_path, 1, code)():
        answer = ecgbench(tmp_path, *FGSM)
    assert answer.code == 1 and os.strerror(code) in sentence(answer) and "; " in sentence(answer)


def test_what_cannot_be_read_for_reasons_of_the_machine_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecgbench(tmp_path, *FGSM)
    read = Path.read_bytes

    def broken(path: Path) -> bytes:
        if path.name == "record.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    answer = ecgbench(tmp_path, *FGSM)
    assert answer.code == 1 and "record.json cannot be read" in sentence(answer)
    monkeypatch.undo()
    assert not (tmp_path / "store" / "damaged").exists() and ecgbench(tmp_path, *FGSM).code == 0


def test_a_file_system_without_locks_costs_a_line_and_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = ecgbench(tmp_path / "locked", *FGSM).records

    def unable(*_: object, **__: object) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr("filelock.FileLock.acquire", unable)
    answer = ecgbench(tmp_path / "home", *FGSM)
    note, _ = answer.err.splitlines()
    assert answer.code == 0 and [figures(record) for record in answer.records] == [figures(expected)]
    assert "has no locks" in note and not (tmp_path / "home" / "store" / "unfinished").exists()


def test_plans_and_figures_meet_a_full_disk_with_the_same_sentence(tmp_path: Path) -> None:
    with FullDisk(tmp_path, 1)():
        answer = ecgbench(tmp_path, "plan", *FGSM[1:-2])
    assert answer.code == 1 and "No space left" in answer.err and "Traceback" not in answer.err


# stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_stdout_is_one_sentence(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "ecgbench", "list"],
            env=environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1 and ended.stderr.startswith(
        "error: stdout cannot be written (No space left on device)"
    )
    assert len(ended.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        ended = subprocess.run(
            [sys.executable, "-m", "ecgbench", "list"],
            env=environment(tmp_path),
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (1, "")


# unfinished states


def a_text(state: Path, other: Path) -> None:
    state.write_text("my notes")


def a_cut(state: Path, other: Path) -> None:
    state.write_bytes(state.read_bytes()[:-9])


def nothing(state: Path, other: Path) -> None:
    state.write_bytes(b"")


def a_changed_number(state: Path, other: Path) -> None:
    content = bytearray(state.read_bytes())
    content[-3] ^= 1
    state.write_bytes(content)


def anothers(state: Path, other: Path) -> None:
    state.write_bytes(other.read_bytes())


def a_folder(state: Path, other: Path) -> None:
    state.unlink()
    (state / "mine").mkdir(parents=True)


def a_file_in_place_of_the_folder(state: Path, other: Path) -> None:
    state.unlink()
    state.parent.rmdir()
    state.parent.write_text("mine")


LONG = ("run", "--dataset", "synthetic-beats[beats=200]", "--model", "linear", "--attack", "fgsm", "--eps", "0.05")


def left(home: Path, defense: str) -> Path:
    """The state that a run leaves when the disk is full after some epochs."""
    with FullDisk(home, 20)():
        assert ecgbench(home, *LONG, "--defense", defense).code == 1
    (state,) = (home / "store" / "unfinished").glob("victims-*/main.safetensors")
    assert load_file(state)
    return state


@pytest.mark.parametrize(
    "foreign",
    [a_text, a_cut, nothing, a_changed_number, anothers, a_folder, a_file_in_place_of_the_folder],
    ids=lambda function: function.__name__,
)
def test_what_is_no_state_of_the_job_is_set_aside_in_a_line_and_the_job_begins_anew(
    foreign: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    words = (*LONG, "--defense", "none[epochs=20]", "--json", "--quiet")
    (expected,) = ecgbench(tmp_path / "whole", *words).records
    state, other = left(tmp_path / "home", "none[epochs=20]"), left(tmp_path / "other", "none[epochs=21]")
    foreign(state, other)
    answer = ecgbench(tmp_path / "home", *words)
    assert answer.code == 0 and [figures(record) for record in answer.records] == [figures(expected)]
    (note,) = [line for line in answer.err.splitlines() if "unfinished" in line]
    assert note.startswith("note: unfinished/victims-") and note.endswith("set aside, and the job begins anew.")
    assert len(list((tmp_path / "home" / "store" / "damaged").iterdir())) == 1


# plugins

HOSTILE = """
import errno
from dataclasses import dataclass
import numpy as np
import torch
from ecgbench.core.data import Samples
from ecgbench.core.errors import DataError, StoreError
from ecgbench.core.hookspecs import hookimpl
from ecgbench.core.interfaces import Attack, Defense, Model


class Told(Exception):
    def __str__(self):
        raise ValueError("not even this")


class Rude(BaseException):
    pass


def deeper():
    [].pop()


ACTS = {
    "index": deeper,
    "lines": lambda: (_ for _ in ()).throw(RuntimeError("a | b\\n<script>`x`</script>\\x1b[31m\\ud800" + "z" * 9999)),
    "mute": lambda: (_ for _ in ()).throw(Told()),
    "rude": lambda: (_ for _ in ()).throw(Rude("mine")),
    "exit": lambda: (_ for _ in ()).throw(SystemExit(0)),
    "data": lambda: (_ for _ in ()).throw(DataError("the attack has no data.")),
    "store": lambda: (_ for _ in ()).throw(StoreError("the attack keeps nothing.")),
    "memory": lambda: np.zeros(1 << 55),
    "memory-torch": lambda: torch.zeros(1 << 50),
    "file": lambda: open("/nowhere/at/all"),
    "disk": lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")),
}
ANSWERS = {
    "none": lambda d: None,
    "numpy": lambda d: d.numpy(),
    "float64": lambda d: d.double(),
    "half": lambda d: d.half(),
    "int": lambda d: d.long(),
    "bool": lambda d: d.bool(),
    "sparse": lambda d: d.to_sparse(),
    "complex": lambda d: d.to(torch.complex64),
    "meta": lambda d: d.to("meta"),
    "rows": lambda d: d[:-1],
    "shape": lambda d: d[..., :5],
    "list": lambda d: [d],
    "grad": lambda d: d.requires_grad_(),
}


@dataclass(frozen=True)
class Acts(Attack):
    act: str = "index"

    def perturb(self, trial, rng):
        ACTS[self.act]()


@dataclass(frozen=True)
class Answers(Attack):
    how: str = "none"

    def perturb(self, trial, rng):
        return ANSWERS[self.how](torch.zeros_like(trial.batch.x))


class Breaks(torch.nn.Module):
    def __init__(self, task):
        super().__init__()
        self.linear = torch.nn.Linear(task.shape[-1], len(task.classes))

    def forward(self, x):
        if not torch.is_grad_enabled():
            raise LookupError("inside a module")
        return self.linear(x.flatten(1))


@dataclass(frozen=True)
class Builds(Model):
    default_dataset = "synthetic-beats"
    what: str = "nothing"

    def build(self, task):
        return Breaks(task) if self.what == "breaks" else None

    def unfit(self, task):
        return True if self.what == "odd" else None


@dataclass(frozen=True)
class Fits(Defense):
    what: str = "nothing"

    def wrap(self, module, task):
        return "a module" if self.what == "wraps" else module

    def fit(self, model, task, rng, checkpoint):
        return None


@hookimpl
def attacks():
    return {"acts": Acts(), "answers": Answers()}


@hookimpl
def models():
    return {"builds": Builds()}


@hookimpl
def defenses():
    return {"fits": Fits()}
"""


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[str, str]:
    file = tmp_path / "hostile.py"
    file.write_text(HOSTILE)
    return "--plugin", str(file)


def error(home: Path, *words: str) -> str:
    """Why the one cell failed beside another that has its scores."""
    answer = ecgbench(home, "run", *words, "--eps", "0.05", "--json")
    assert answer.code in (3, 4) and "Traceback" not in answer.err, answer
    (failed,) = [record for record in answer.records if record["status"] == "failed"]
    assert answer.err.count(failed["error"]) == 1
    return str(failed["error"])


def of_attack(home: Path, hostile: tuple[str, str], attack: str) -> str:
    return error(home, *hostile, *TINY, "--attack", attack, "--attack", "identity")


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("index", r"IndexError in attack acts, hostile\.py line \d+: pop from empty list"),
        ("mute", r"Told in attack acts\[act=mute\], hostile\.py line \d+: no reason can be read"),
        ("rude", r"Rude in attack acts\[act=rude\], hostile\.py line \d+: mine"),
        ("exit", r"SystemExit in attack acts\[act=exit\], hostile\.py line \d+: 0"),
        ("data", r"the attack has no data\."),
        ("store", r"the attack keeps nothing\."),
        ("memory", r"\w*MemoryError in attack acts\[act=memory\], hostile\.py line \d+: .*allocate.*"),
        ("memory-torch", r"RuntimeError in attack acts\[act=memory-torch\], hostile\.py line \d+: .*"),
        ("file", r"FileNotFoundError in attack acts\[act=file\], hostile\.py line \d+: .*"),
        (
            "lines",
            r"RuntimeError in attack acts\[act=lines\], .* line \d+: a \| b <script>`x`</script> \[31m z+\.\.\.",
        ),
    ],
)
def test_what_a_plugin_raises_fails_its_cell_and_names_it(
    act: str, reason: str, hostile: tuple[str, str], tmp_path: Path
) -> None:
    found = of_attack(tmp_path, hostile, f"acts[act={act}]")
    assert re.fullmatch(reason, found), found
    assert len(found) < LONGEST + 100 and found.isprintable()


def test_a_full_disk_that_a_plugin_meets_ends_the_run(hostile: tuple[str, str], tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, "run", *hostile, *TINY, "--attack", "acts[act=disk]", "--quiet")
    assert answer.code == 1 and "No space left on device" in sentence(answer)


def test_memory_that_the_host_lacks_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("ecgbench.runs.stages.pack", greedy)
    answer = ecgbench(tmp_path, *FGSM)
    assert answer.code == 1 and "not enough memory" in sentence(answer)


def test_a_fault_of_the_host_itself_is_not_laid_to_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object, **__: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr("ecgbench.runs.stages.score", wrong)
    assert re.fullmatch(r"KeyError in ecgbench itself, test_faults\.py line \d+: 'lost'", error(tmp_path, *FGSM[1:-4]))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("none", "expected perturb to return a Tensor, got None"),
        ("numpy", "expected perturb to return a Tensor, got ndarray"),
        ("list", "expected perturb to return a Tensor, got list"),
        ("float64", "expected a perturbation of dtype float32, got float64"),
        ("half", "expected a perturbation of dtype float32, got float16"),
        ("int", "expected a perturbation of dtype float32, got int64"),
        ("bool", "expected a perturbation of dtype float32, got bool"),
        ("complex", "expected a perturbation of dtype float32, got complex64"),
        ("sparse", "expected a perturbation of layout strided, got sparse_coo"),
        ("meta", "expected a perturbation of device cpu, got meta"),
        ("rows", r"expected a perturbation of shape \((\d+), 1, 187\), got \((\d+), 1, 187\)"),
        ("shape", r"expected a perturbation of shape \((\d+), 1, 187\), got \((\d+), 1, 5\)"),
    ],
)
def test_a_wrong_perturbation_names_its_attack(
    how: str, expected: str, hostile: tuple[str, str], tmp_path: Path
) -> None:
    who = "answers" if how == "none" else rf"answers\[how={how}\]"
    found = of_attack(tmp_path, hostile, f"answers[how={how}]")
    assert re.fullmatch(rf"attack {who} broke its contract: {expected}\.", found), found


def test_a_perturbation_that_carries_a_gradient_is_taken_without_it(hostile: tuple[str, str], tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, "run", *hostile, *TINY, "--attack", "answers[how=grad]", "--eps", "0.05", "--json")
    assert answer.code == 0


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("-m", "builds"), "model builds broke its contract: expected build to return a Module, got None."),
        (
            ("-m", "builds[what=odd]"),
            "model builds[what=odd] broke its contract: expected unfit to return a str, got bool.",
        ),
        (("-m", "linear", "-D", "fits"), "defense fits broke its contract: expected fit to return a Module, got None."),
        (
            ("-m", "linear", "-D", "fits[what=wraps]"),
            "defense fits[what=wraps] broke its contract: expected wrap to return a Module, got str.",
        ),
    ],
)
def test_a_wrong_model_or_defense_is_named(
    parts: tuple[str, ...], expected: str, hostile: tuple[str, str], tmp_path: Path
) -> None:
    assert error(tmp_path, *hostile, *TINY[:2], *parts, "-a", "fgsm") == expected


def test_a_module_that_raises_under_attack_is_named_by_its_place(hostile: tuple[str, str], tmp_path: Path) -> None:
    words = (*TINY[:2], "-m", "builds[what=breaks]", "-D", "none[epochs=1]", "-a", "fgsm")
    found = error(tmp_path, *hostile, *words)
    assert re.fullmatch(r"LookupError in model builds\[what=breaks\], hostile\.py line \d+: inside a module", found)


DATASETS = """
from dataclasses import dataclass, replace
from pathlib import Path
from ecgbench.core.hookspecs import hookimpl
from ecgbench.core.interfaces import Dataset
from ecgbench_plugins.datasets.synthetic_beats import SyntheticBeats


@dataclass(frozen=True)
class Odd(SyntheticBeats):
    what: str = "load"

    def files(self, root):
        return {"files": ["a"], "names": {1: Path("a")}, "paths": {"a": "a"}, "raises": {}}.get(self.what, {})

    def load(self, root):
        if self.what == "raises":
            raise ZeroDivisionError("by what?")
        return None


@hookimpl
def datasets():
    return {"odd": Odd()}
"""


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("load", r"dataset odd broke its contract: expected load to return a Task, got None\."),
        ("files", r"dataset odd\[what=files\] broke its contract: expected files to return a Mapping, got list\."),
        ("names", r"dataset odd\[what=names\] broke its contract: expected files to return a str, got int\."),
        ("paths", r"dataset odd\[what=paths\] broke its contract: expected files to return a Path, got str\."),
        ("raises", r"ZeroDivisionError in dataset odd\[what=raises\], odd\.py line \d+: by what\?"),
    ],
)
def test_a_wrong_dataset_is_named_and_the_others_run(what: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(DATASETS)
    found = error(tmp_path, "-p", str(tmp_path / "odd.py"), *TINY, "-d", f"odd[what={what}]", "-a", "fgsm")
    assert re.fullmatch(expected, found), found


def test_debug_shows_the_traceback_of_a_failed_cell_with_the_plugins_file_and_line(
    hostile: tuple[str, str], tmp_path: Path
) -> None:
    answer = ecgbench(tmp_path, "--debug", "run", *hostile, *TINY, "--attack", "acts", "--json", "--quiet")
    line = next(number for number, text in enumerate(HOSTILE.splitlines(), 1) if text == "    [].pop()")
    assert f'{hostile[1]}", line {line}, in deeper' in answer.err and "IndexError: pop from empty list" in answer.err
    assert [json.loads(text)["status"] for text in answer.out.splitlines()] == ["failed"]


def test_a_reason_is_one_line_of_printable_signs_cut_where_it_is_long() -> None:
    assert plain("a\nb\t c\r\n\x1b[0m\u202e") == "a b c [0m"
    assert plain("x" * (LONGEST + 1)) == "x" * LONGEST + "..." and plain("x" * LONGEST) == "x" * LONGEST
