"""The command line: results on stdout, all else on stderr, one sentence and a status of its own for every fault."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import termios
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

from ecgbench.cli import cli, progress
from ecgbench.cli.tables import tables
from ecgbench.core.errors import StoreError
from ecgbench.core.progress import Epoch, SweepProgress
from tests.command_line import (
    START,
    TINY,
    Answer,
    ecgbench,
    environment,
    finished,
    sentence,
    spawn,
    stages,
    stamps,
    wait_for,
)
from tests.made_up_rows import made_up, row
from tests.plugins.datasets.test_mitbih import tree

FGSM = ("run", *TINY, "--attack", "fgsm", "--eps", "0.03,0.1")
BOTH = (*FGSM, "--attack", "identity")
REMARK = "note: these signals are synthetic, no recordings;"

PLUGIN = '''
"""Plugins that go wrong."""
import os, time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import torch
from ecgbench import hookimpl
from ecgbench.core.data import Samples, Task
from ecgbench.core.interfaces import Attack, Dataset, Defaults, Defense
from ecgbench.core.threat import Threat
from ecgbench_plugins.defenses.none import Standard

@dataclass(frozen=True)
class Breaks(Attack):
    """Raises."""
    def perturb(self, trial, rng):
        raise RuntimeError("the attack broke")

@dataclass(frozen=True)
class Gaps(Dataset):
    """Holds a NaN."""
    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.1,), 0.1)
    def load(self, root):
        x = torch.zeros(8, 1, 4)
        x[5, 0, 2] = float("nan")
        split = Samples.of(x, torch.arange(8) % 2)
        return Task("gaps", ("N", "V"), split, split, split)

@dataclass(frozen=True)
class Odd(Dataset):
    """Breaks where its files are asked for."""
    defaults: ClassVar[Defaults] = Defaults(Threat("linf"), (0.1,), 0.1)
    def files(self, root):
        raise ZeroDivisionError("by what?")
    def load(self, root):
        return None

@dataclass(frozen=True)
class Slow(Standard):
    """Says that it fits, and waits for a sign."""
    def fit(self, model, task, rng, checkpoint):
        folder = Path(os.environ["SIGNS"])
        with (folder / "fits").open("a") as log:
            log.write("fit\\n")
        while not (folder / "go").exists():
            time.sleep(0.002)
        return super().fit(model, task, rng, checkpoint)

@hookimpl
def attacks():
    return {"breaks": Breaks()}

@hookimpl
def datasets():
    return {"gaps": Gaps(), "odd": Odd()}

@hookimpl
def defenses():
    return {"slow": Slow(epochs=1)}
'''


@pytest.fixture
def plugin(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "goes_wrong.py").write_text(PLUGIN)
    return "--plugin", str(tmp_path / "goes_wrong.py")


# help


HELP = """
import sys
from ecgbench.cli import main
for words in {commands}:
    sys.argv = ["ecgbench", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
heavy = {{"torch", "numpy", "pandas", "scipy", "sklearn", "wfdb", "pooch", "matplotlib", "msgspec"}} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    groups = {name: list(getattr(command, "commands", {"": None})) for name, command in cli.commands.items()}
    commands = [["--help"], ["--version"]]
    commands += [[name, *([sub] if sub else []), "--help"] for name, subs in groups.items() for sub in subs]
    code = HELP.format(commands=commands)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "") and "ecgbench run --model" in done.stdout


def test_without_a_command_the_help_is_shown(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path)
    assert "Usage: ecgbench" in answer.out + answer.err and "internal" not in answer.err


# what cannot be planned: status 2


USAGE = {
    "run": "no model is given",
    "run --model mpl --attack pgd": "no model is named 'mpl'; did you mean 'mlp'?",
    "run --model mlp --attack pdg100": "no attack is named 'pdg100'; did you mean 'pgd100'?",
    "run --model mlp --attack pgd --defense adaptve": "did you mean 'adaptive'?",
    "run --model mlp --attack pgd --dataset synthetic": "did you mean 'synthetic-icu'?",
    "run --model mlp --attack pgd --threat l3": "known: l2, linf.",
    "run --model mlp --attack pgd --protocol standrad": "did you mean 'standard'?",
    "run --model mlp --attack pgd --defense adaptive[attack=pdg]": "no attack is named 'pdg'; did you mean 'pgd'?",
    "run --model mlp --attack pgd[stepz=3]": "pgd has no parameter 'stepz'; did you mean 'steps'?",
    "run --model mlp --attack pgd[steps=many]": "pgd: steps expects a whole number; got many.",
    "run --model mlp --attack pgd[steps=0]": "pgd[steps=0] is refused",
    "run --model mlp --attack pgd --dataset synthetic-beats[beats=5]": "beats=5 given; expected 100 or more",
    "run --model mlp --attack pgd --eps -0.1": "eps -0.1 given; expected a finite number above 0.",
    "run --model mlp --attack pgd --eps nan": "eps nan given",
    "run --model mlp --attack pgd --eps inf": "eps inf given",
    "run --model mlp --attack pgd --eps 0.1,x": "eps 'x' given",
    "run --model mlp --attack pgd --eps 1/0": "eps '1/0' given",
    "run --model mlp --attack pgd --eps 0": "eps 0 alone",
    "run --model mlp --attack pgd --threat l2": "threat 'l2' is given without eps",
    "run --model mlp --attack pgd --seed -1": "seed '-1' given; expected a whole number of 0 or more.",
    "run --model mlp --attack pgd --seed 1.5": "seed '1.5' given",
    "run --model mlp --attack pgd --limit 0": "limit 0 given; expected 1 or more samples.",
    "run --model mlp --attack pgd --limit some": "'some' is not a valid integer",
    "run --model mlp --attack pgd --device abacus": "device 'abacus' is not there",
    "run --model mlp --attack pgd --data mitbih": "--data 'mitbih' given; expected NAME=PATH.",
    "run --model mlp --attack pgd --data mitbih=nowhere": "there is no nowhere.",
    "run --model mlp --attack pgd --data mitbit=.": "no dataset is named 'mitbit'; did you mean 'mitbih'?",
    "run --model mlp --attack pgd --plugin nowhere.py": "plugin 'nowhere.py' is refused",
    "run --modle mlp": "Did you mean",
    "run nowhere.toml": "the suite nowhere.toml cannot be read: No such file or directory; expected a TOML file.",
    "run nowhere.toml --model mlp": "a suite file and selectors were both given",
    "rnu": "Did you mean 'run'?",
    "plan --model mpl --attack pgd": "did you mean 'mlp'?",
    "explain": "Missing argument 'KEY'",
    "explain 0123": "0 known cells begin with '0123'",
    "list attakcs": "'attakcs' is not one of",
    "info pgd21": "did you mean 'pgd20'?",
    "info mlp[width=3]": "did you mean 'widths'?",
    "results show": "no record is kept here",
    "results show 0123": "0 records begin with '0123'",
    "results compare 0 1": "0 records begin with '0'",
    "data get mitbhi": "did you mean 'mitbih'?",
    "data get synthetic-beats": "is embedded; nothing is downloaded",
    "data get mimic3": "reads files that everyone brings along; nothing is downloaded",
    "data path synthetic-beats": "is embedded; it has no folder",
}


@pytest.mark.parametrize("command", USAGE)
def test_what_cannot_be_done_is_said_in_one_sentence(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = ecgbench(tmp_path, *command.split())
    assert USAGE[command] in sentence(answer) and answer.code == 2
    assert not list(tmp_path.iterdir()), "nothing was to be written"


SUITES = {
    "cannot.toml": "cannot be read",
    "no.toml": "is not TOML",
    "empty.toml": "lacks [[grid]]",
    "key.toml": "did you mean 'attack'?",
    "eps.toml": "eps -1.0 given",
}


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_that_is_none_is_said_in_one_sentence(name: str, tmp_path: Path) -> None:
    grid = '[[grid]]\nmodel = "mlp"\nattack = "pgd"\n'
    texts = {"no.toml": "[[grid", "empty.toml": "", "key.toml": f"{grid}atack = 3\n", "eps.toml": f"{grid}eps = -1\n"}
    for each, text in texts.items():
        (tmp_path / each).write_text(text)
    answer = ecgbench(tmp_path, "run", str(tmp_path / name))
    assert SUITES[name] in sentence(answer) and answer.code == 2


def test_a_selector_with_a_slip_shows_where(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, "run", "--model", "mlp", "--attack", "pgd[steps=")
    assert (
        answer.code == 2 and answer.err.splitlines()[-1].index("^") == answer.err.splitlines()[-2].index("[steps=") + 7
    )


def test_a_fault_of_our_own_says_so_and_shows_its_traceback_on_request(tmp_path: Path, plugin: tuple[str, str]) -> None:
    command = ("plan", "--model", "linear", "--attack", "fgsm", "--dataset", "odd", *plugin)
    answer = ecgbench(tmp_path, *command)
    assert sentence(answer).startswith("internal error, ZeroDivisionError: by what?") and answer.code == 1
    answer = ecgbench(tmp_path, "--debug", *command)
    assert "Traceback" in answer.err and answer.code == 1


# what it prints


def test_stdout_holds_results_only_and_the_log_one_line_a_cell(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, *BOTH, "--json")
    assert answer.code == 0 and [record["attack"] for record in answer.records] == ["fgsm", "identity"]
    training, first, second, remark = answer.err.splitlines()
    assert training.startswith("note: training a victim: no published one like it is in ")
    assert first.startswith("[1/2] synthetic-beats[beats=200] linear none[epochs=1] fgsm seed 0: ACC ")
    assert second.startswith("[2/2]") and remark.startswith(REMARK)


def test_the_table_has_three_figures_per_size_and_names_the_synthetic_data(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, *FGSM, "--quiet")
    lines = answer.out.splitlines()
    assert lines[0].startswith("synthetic-beats[beats=200], synthetic,") and "50 test samples" in lines[0]
    assert all(len(line) <= 80 for line in lines)
    at = next(number for number, line in enumerate(lines) if line.startswith("linear none[epochs=1] fgsm: "))
    rows = [line.split() for line in lines[at + 2 : at + 5]]
    assert [name for name, *_ in rows] == ["ACC", "PREC", "F1"]
    assert all(re.fullmatch(r"\d\.\d{3}", figure) for _, *figures in rows for figure in figures)
    assert answer.err.startswith(REMARK) and len(answer.err.splitlines()) == 1


def test_the_same_command_gives_the_same_bytes_and_touches_nothing(tmp_path: Path) -> None:
    first, before = ecgbench(tmp_path, *BOTH, "--json"), stamps(tmp_path)
    again = ecgbench(tmp_path, *BOTH, "--json")
    assert again.out == first.out and stamps(tmp_path) == before
    assert ecgbench(tmp_path, *BOTH).out == ecgbench(tmp_path, *BOTH).out and stamps(tmp_path) == before


def test_on_a_terminal_training_and_attack_show_how_far_they_are_and_what_is_left(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    words = ["run", "--dataset", "synthetic-beats[beats=400]", "--model", "mlp", "--defense", "none[epochs=60]"]
    words += ["--attack", "pgd[steps=30]", "--eps", "0.001,0.002,0.003", "--no-isolate"]
    with subprocess.Popen(
        [sys.executable, "-c", START, *words], env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = bytearray()
        with suppress(OSError):  # the terminal is gone when the command ends
            while piece := os.read(ours, 4096):
                shown += piece
    os.close(ours)
    text = shown.decode()
    assert process.returncode == 0 and re.search(r"\[1/1\] train:.*\d+/60 \[\d\d:\d\d<[\d:]+", text), text
    assert re.search(r"\[1/1\] prepare.*\[1/1\] attack eps 0.001 \(1/3\)", text, re.DOTALL), text


def test_a_suite_is_the_same_cells_as_its_options(tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(
        '[[grid]]\ndataset = "synthetic-beats[beats=200]"\nmodel = "linear"\ndefense = "none[epochs=1]"\n'
        'attack = ["fgsm", "identity"]\neps = [0.03, 0.1]\n'
    )
    assert ecgbench(tmp_path, "run", str(suite), "--json").out == ecgbench(tmp_path, *BOTH, "--json").out


def test_options_may_be_repeated_or_joined_by_commas(tmp_path: Path) -> None:
    joined = ecgbench(tmp_path, "plan", *FGSM[1:], "--seed", "0,1", "--json")
    apart = ecgbench(tmp_path, "plan", *FGSM[1:-2], "--eps", "0.1", "--eps", "0.03", "-s", "0", "-s", "1", "--json")
    assert joined.out == apart.out and [cell["seed"] for cell in joined.records] == [0, 1]


def test_the_costly_checks_are_made_on_demand_by_an_option_or_a_suite(tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(
        '[[grid]]\ndataset = "synthetic-beats[beats=200]"\nmodel = "linear"\ndefense = "none[epochs=1]"\n'
        'attack = "fgsm"\neps = [0.03, 0.1]\naudit = true\n'
    )
    option, file = ecgbench(tmp_path, *FGSM, "--audit", "--json"), ecgbench(tmp_path, "run", str(suite), "--json")
    assert option.out == file.out
    assert "ACTIVE-TEST" in [check["code"] for check in option.records[0]["checks"]]
    assert ecgbench(tmp_path, "explain", option.records[0]["key"]).out.endswith("nothing is missing.\n")


def test_a_run_is_drawn_with_the_samples_it_keeps(tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    plain = ecgbench(tmp_path, *FGSM)
    answer = ecgbench(tmp_path, *FGSM, "--limit", "30", "--save-perturbations", "2", "--figures", str(drawn))
    names = sorted(path.name for path in drawn.iterdir())
    assert answer.code == plain.code == 0 and len(names) == 4 and sum(name.startswith("sample") for name in names) == 2
    assert all(b"ecgbench figure, shows" in (drawn / name).read_bytes() for name in names)
    assert "perturbations" in stages(tmp_path) and not (tmp_path / "leaderboard").exists()


def test_a_run_without_scores_draws_nothing(tmp_path: Path, plugin: tuple[str, str]) -> None:
    drawn = tmp_path / "drawn"
    answer = ecgbench(
        tmp_path, "run", *TINY, *plugin, "-a", "breaks", "--save-perturbations", "2", "--figures", str(drawn)
    )
    assert answer.code == 4 and not drawn.exists()


def test_perturbations_may_be_kept_by_a_suite_and_are_planned(tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(
        '[[grid]]\ndataset = "synthetic-beats[beats=200]"\nmodel = "linear"\ndefense = "none[epochs=1]"\n'
        'attack = "fgsm"\neps = [0.03, 0.1]\nsave_perturbations = 2\n'
    )
    ecgbench(tmp_path, *FGSM)
    planned = ecgbench(tmp_path, "plan", str(suite))
    assert "to save perturbations" in planned.out
    assert "no perturbation is kept" in ecgbench(tmp_path, "explain", planned.out.split()[0]).out
    ecgbench(tmp_path, "run", str(suite))
    assert ecgbench(tmp_path, "plan", *FGSM[1:], "--save-perturbations", "2").out.split()[1] == "cached"
    assert (
        sentence(ecgbench(tmp_path, *FGSM, "--save-perturbations", "-1"))
        == "save_perturbations -1 given; expected 0 or more samples."
    )


def test_a_victim_that_wavers_unsaid_is_scored_and_flagged_RANDOM(tmp_path: Path) -> None:  # noqa: N802
    fakes = "ecgbench.testing.fakes.nondeterministic"
    answer = ecgbench(tmp_path, *FGSM[:-4], "--defense", "noisy", *FGSM[-4:], "--plugin", fakes, "--json")
    (record,) = [each for each in answer.records if "noisy" in each["defense"]]
    assert record["status"] == "ok", record["error"]
    assert [check["raised"] for check in record["checks"] if check["code"] == "RANDOM"] == [True]


def test_a_part_of_the_samples_is_marked(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, *FGSM, "--limit", "10")
    assert "10 test samples" in answer.out and "partial" in answer.out.partition("threat")[0]


# status


def test_status_0_3_and_4_are_all_some_and_no_cells(tmp_path: Path, plugin: tuple[str, str]) -> None:
    good = ecgbench(tmp_path, *FGSM, *plugin)
    some = ecgbench(tmp_path, *FGSM, *plugin, "--attack", "breaks")
    none = ecgbench(tmp_path, "run", *TINY, *plugin, "--attack", "breaks", "--attack", "breaks", "--seed", "0,1")
    assert [answer.code for answer in (good, some, none)] == [0, 3, 4]
    said = " ".join(some.out.split())
    assert "breaks, seed 0: RuntimeError in attack breaks, goes_wrong.py line 19: the attack broke" in said
    assert "ACC" in some.out and not any("Traceback" in answer.err for answer in (some, none))


def test_a_failed_cell_is_printed_and_published_as_a_record_and_not_kept(
    tmp_path: Path, plugin: tuple[str, str]
) -> None:
    answer = ecgbench(
        tmp_path, "run", *TINY, *plugin, "--attack", "breaks", "--json", "--results", str(tmp_path / "out")
    )
    (record,) = answer.records
    assert (record["status"], record["error"]) == (
        "failed",
        "RuntimeError in attack breaks, goes_wrong.py line 19: the attack broke",
    )
    assert set(stages(tmp_path)) == {"victims"}
    (published,) = (tmp_path / "out").rglob("*.*")
    assert json.loads(published.read_bytes()) == record


def test_an_impossible_pair_is_skipped_with_a_reason(tmp_path: Path) -> None:
    impossible = ("--attack", "pgd[update=adamax]", "--threat", "l2", "--eps", "1")
    answer = ecgbench(tmp_path, "run", *TINY, *impossible, "--results", str(tmp_path / "out"))
    assert answer.code == 4 and answer.out.startswith("skipped: ") and "needs update=plain" in answer.out
    assert not (tmp_path / "out").exists()


def test_an_interrupt_says_one_line_and_what_was_done_is_gone_on_with(tmp_path: Path) -> None:
    command = (
        "run",
        "--dataset",
        "synthetic-beats[beats=400]",
        "--model",
        "linear",
        "--defense",
        "none[epochs=1000000]",
    )
    process = spawn(tmp_path, *command, "--attack", "fgsm", "--quiet")
    wait_for(process, lambda: any((tmp_path / "store" / "unfinished").glob("victims-*/*.safetensors")))
    process.send_signal(signal.SIGINT)
    answer = finished(process)
    assert (answer.code, answer.out) == (130, "")
    assert answer.err.strip() == "interrupted; what was finished is kept, and the same command goes on from there."
    assert set(stages(tmp_path)) == {"unfinished"}


def test_of_two_commands_on_one_cell_one_trains_and_the_other_waits_and_reads(
    tmp_path: Path, plugin: tuple[str, str]
) -> None:
    command = ("run", *TINY[:-1], "slow", "--attack", "fgsm", *plugin, "--json")
    first = spawn(tmp_path, *command, SIGNS=str(tmp_path))
    wait_for(first, (tmp_path / "fits").exists)
    second = spawn(tmp_path, *command, SIGNS=str(tmp_path))
    assert second.stderr is not None
    assert re.match(r"note: another process is working on (victims|outcomes)/\w+; waiting", second.stderr.readline())
    (tmp_path / "go").touch()
    answers = finished(first), finished(second)
    assert [answer.code for answer in answers] == [0, 0] and answers[0].out == answers[1].out
    assert (tmp_path / "fits").read_text() == "fit\n" and "damaged" not in stages(tmp_path)


# recordings: status 5


MITBIH = ("--dataset", "mitbih", *TINY[2:], "--attack", "fgsm", "--attack", "identity", "--eps", "0.1")


def run_on(data: Path, home: Path) -> Answer:
    return ecgbench(home, "run", *MITBIH, "--data", f"mitbih={data}")


def unhappy(answer: Answer, home: Path) -> str:
    assert answer.code == 5 and stages(home) == {}, answer
    return sentence(answer)


def test_missing_recordings_are_said_with_the_next_step(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, "run", "--dataset", "mitbih", "--model", "mlp", "--attack", "pgd")
    assert "ecgbench data get mitbih" in unhappy(answer, tmp_path)


def test_a_folder_without_recordings_is_said(tmp_path: Path) -> None:
    assert "found no RECORDS below" in unhappy(run_on(tmp_path, tmp_path), tmp_path)


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    data = tree(tmp_path / "mitdb")
    (data / "118.dat").unlink()
    assert "118.dat is missing" in unhappy(run_on(data, tmp_path), tmp_path)


def test_a_record_cut_short_is_named(tmp_path: Path) -> None:
    data = tree(tmp_path / "mitdb")
    (data / "118.dat").write_bytes((data / "118.dat").read_bytes()[:-999])
    assert "record 118 is damaged" in unhappy(run_on(data, tmp_path), tmp_path)


def test_a_signal_with_a_nan_names_its_sample(tmp_path: Path, plugin: tuple[str, str]) -> None:
    answer = ecgbench(tmp_path, "run", *plugin, "--dataset", "gaps", *TINY[2:], "--attack", "fgsm")
    assert "sample 5 holds a value that is not finite" in unhappy(answer, tmp_path)


def test_missing_recordings_of_one_dataset_are_said_before_another_is_run(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, *FGSM, "--dataset", "mitbih")
    assert "found no RECORDS" in unhappy(answer, tmp_path)


def test_recordings_make_the_same_cells_wherever_they_lie_and_others_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tree(tmp_path / "mitdb")
    assert run_on(data, tmp_path).code == 0

    def works(place: str, **variables: str) -> set[tuple[str, str]]:
        given = ("--data", f"mitbih={place}") if place else ()
        answer = ecgbench(tmp_path, "plan", *MITBIH, *given, "--json", **variables)
        return {(cell["attack"], cell["work"]) for cell in answer.records}

    kept, gone = ({(attack, work) for attack in ("fgsm", "identity")} for work in ("none", "train"))
    (tmp_path / "link").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    for place in (f"{data}/", "mitdb", "./mitdb/", "link", str(tmp_path)):
        assert works(place) == kept, place
    monkeypatch.chdir(data)
    assert works("../mitdb", OMP_NUM_THREADS="2") == works("", ECGBENCH_DATA=str(tmp_path)) == kept
    annotations = (data / "118.atr").read_bytes()
    (data / "118.atr").write_bytes(annotations[:-2] + b"\0\0\0\0")
    assert works(str(data)) == gone
    (data / "118.atr").write_bytes(annotations)
    assert works(str(data)) == kept


def test_data_says_where_recordings_are(tmp_path: Path) -> None:
    data = tree(tmp_path / "data" / "mitdb")
    assert ecgbench(tmp_path, "data", "path", "mitbih").out == f"{data}\n"
    told = ecgbench(tmp_path, "data", "list").out
    listed = dict(re.findall(r"^  (\S+)\s+(\S+)", told, re.MULTILINE))
    assert all(len(line) <= 80 for line in told.splitlines())
    assert listed["mitbih"] == "10" and listed["cinc2017"] == "missing:" and listed["synthetic-beats"] == "embedded"
    answer = ecgbench(tmp_path, "data", "verify", "mitbih")
    assert answer.code == 5 and "Traceback" not in answer.err


# what lies in the store


def files_of(home: Path, stage: str, name: str) -> list[Path]:
    return sorted((home / "store" / stage).glob(f"*/{name}"))


def test_a_record_edited_by_hand_is_set_aside_and_scored_again(tmp_path: Path) -> None:
    first = ecgbench(tmp_path, *FGSM, "--json")
    (path,) = files_of(tmp_path, "records", "record.json")
    path.write_text(re.sub(r'"acc":[\d.]+', '"acc":1.0', path.read_text()))
    again = ecgbench(tmp_path, *FGSM, "--json")
    assert again.code == 0 and again.out == first.out
    said, *_ = again.err.splitlines()
    assert said.startswith("note: records/") and "changed by hand; it is set aside" in said


def test_a_result_without_its_files_is_made_again(tmp_path: Path) -> None:
    first = ecgbench(tmp_path, *FGSM, "--json")
    for stage in ("outcomes", "records"):
        for path in files_of(tmp_path, stage, "*"):
            path.unlink()
    again = ecgbench(tmp_path, *FGSM, "--json")
    assert again.code == 0 and again.records[0]["scores"] == first.records[0]["scores"]
    assert sum("lacks its files" in line for line in again.err.splitlines()) == 2
    assert len(stages(tmp_path)["damaged"]) == 2


@pytest.mark.parametrize("command", ["show", "compare"])
def test_an_edited_record_is_not_shown(command: str, tmp_path: Path) -> None:
    key = ecgbench(tmp_path, *FGSM, "--json").records[0]["key"]
    (path,) = files_of(tmp_path, "records", "record.json")
    path.write_text(path.read_text().replace('"seed":0', '"seed":1'))
    answer = ecgbench(tmp_path, "results", command, *([key] if command == "show" else [key, key]))
    note, error = answer.err.splitlines()
    assert answer.code == 1 and not answer.out and note.startswith("note: records/") and "damaged" in error


def test_results_shows_what_run_printed_by_key_by_its_beginning_and_all(tmp_path: Path) -> None:
    made = ecgbench(tmp_path, *BOTH, "--json")
    keys = [record["key"] for record in made.records]
    assert ecgbench(tmp_path, "results", "show", *keys, "--json").out == made.out
    assert ecgbench(tmp_path, "results", "show", keys[0][:12]).out == ecgbench(tmp_path, *FGSM).out
    everything = ecgbench(tmp_path, "results", "show", "--json").records
    assert {record["key"] for record in everything} == set(keys)


def test_results_compares_two_records_sample_by_sample(tmp_path: Path) -> None:
    keys = [record["key"] for record in ecgbench(tmp_path, *BOTH, "--json").records]
    lines = ecgbench(tmp_path, "results", "compare", *keys).out.splitlines()
    assert lines[2].startswith("eps 0: A - B = +0.000 [+0.000, +0.000]") and len(lines) == 5
    assert [line.split(":")[0] for line in lines[2:]] == ["eps 0", "eps 0.03", "eps 0.1"]


# published figures


@pytest.fixture
def study(tmp_path: Path) -> tuple[str, ...]:
    """A study of one cell that was run, at two eps of which one was not."""
    assert ecgbench(tmp_path, *FGSM, "--results", str(tmp_path / "results")).code == 0
    (record,) = ecgbench(tmp_path, *FGSM, "--json").records
    words = {
        kind: {"theirs": record["defense" if kind == "method" else kind]} for kind in ("model", "attack", "method")
    }
    place = {name: record[name] for name in ("dataset", "threat", "protocol")}
    facts = [
        f"{name} = {json.dumps(text)}" for name, text in ({"citation": "They", "values": "values.csv"} | place).items()
    ]
    tables = [f"[{kind}]\ntheirs = {json.dumps(meant['theirs'])}" for kind, meant in words.items()]
    (tmp_path / "study.toml").write_text("\n".join([*facts, *tables]))
    values = [f"7,theirs,theirs,acc,theirs,{eps},0.25" for eps in ("0.1", "0.2")]
    (tmp_path / "values.csv").write_text("\n".join(["table,model,attack,metric,method,eps,value", *values]))
    return ("study", "compare", str(tmp_path / "study.toml"), "--results", str(tmp_path / "results"))


def test_compare_prints_ours_beside_theirs(tmp_path: Path, study: tuple[str, ...]) -> None:
    (record,) = ecgbench(tmp_path, *FGSM, "--json").records
    (acc,) = (score["acc"] for score in record["scores"] if score["eps"] == 0.1)
    out = ecgbench(tmp_path, *study).out
    assert re.match(r"They\n.*, linf, protocol standard; ours / published\n\ntable 7\ntheirs theirs ACC", out)
    assert re.search(rf"^theirs +{acc:.2f} / 0.25 +- / 0.25$", out, re.MULTILINE)
    assert out.endswith(
        f"\n1 of 2 values compared: mean absolute difference {abs(acc - 0.25):.3f}, largest {abs(acc - 0.25):.3f}\n"
    )


def test_compare_says_which_rows_are_partial(tmp_path: Path, study: tuple[str, ...]) -> None:
    path = Path(study[2])
    path.write_text(path.read_text() + '\n[[otherwise]]\nwhere.model = "theirs"\npartial = "1 epoch"\n')
    out = ecgbench(tmp_path, *study).out
    assert "\ntable 7; partial: 1 epoch\n" in out and "\ntheirs (partial) " in out
    assert "1 of 2 values compared (partial: 1 epoch): mean" in out


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "fgsm",
            "pgd[steps=40,loss=ce]",
            "means 'pgd[steps=40,loss=ce]'; expected the attack as records have it: pgd.",
        ),
        ("fgsm", "fgms", "no attack is named 'fgms'; did you mean 'fgsm'?"),
        ("values.csv", "gone.csv", "cannot be read"),
    ],
)
def test_compare_refuses_words_that_would_never_meet_a_row(
    old: str, new: str, fault: str, tmp_path: Path, study: tuple[str, ...]
) -> None:
    path = Path(study[2])
    path.write_text(path.read_text().replace(old, new))
    answer = ecgbench(tmp_path, *study)
    assert answer.code and fault in sentence(answer)


def test_results_whose_outcomes_are_gone_say_so(tmp_path: Path) -> None:
    key = ecgbench(tmp_path, *FGSM, "--json").records[0]["key"]
    for path in files_of(tmp_path, "outcomes", "outcomes.npz"):
        path.unlink()
    for command in (("results", "compare", key, key), (*FGSM, "--results", str(tmp_path / "out"))):
        answer = ecgbench(tmp_path, *command)
        assert answer.code and "outcomes" in answer.err.splitlines()[-1] and "Traceback" not in answer.err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.json"))


# the board


@pytest.fixture
def board(tmp_path: Path) -> tuple[Path, Path]:
    """A leaderboard with one published record, built; its folder and the record's file."""
    folder = tmp_path / "leaderboard"
    assert ecgbench(tmp_path, *FGSM, "--results", str(folder / "results")).code == 0
    assert ecgbench(tmp_path, "board", "build", "--leaderboard", str(folder)).code == 0
    (path,) = folder.rglob("*.json")
    return folder, path


def test_a_published_row_stands_on_the_board_and_is_checked(board: tuple[Path, Path], tmp_path: Path) -> None:
    folder, path = board
    answer = ecgbench(tmp_path, "board", "check", "--leaderboard", str(folder))
    assert (answer.code, answer.err) == (0, "")
    assert any("| fgsm |" in page.read_text() for page in (folder / "pages").rglob("*.md"))
    assert path.with_suffix(".npz").is_file()
    before = path.read_bytes()
    assert ecgbench(tmp_path, *FGSM, "--results", str(folder / "results")).code == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("edit", ["figure", "cut", "other", "empty"])
def test_a_record_edited_on_the_board_is_found(edit: str, board: tuple[Path, Path], tmp_path: Path) -> None:
    folder, path = board
    text = path.read_text()
    record = json.loads(text)
    record["scores"][1]["acc"] = 1.0
    path.write_text(
        {"figure": json.dumps(record, indent=2) + "\n", "cut": text[:99], "other": "[1]", "empty": ""}[edit]
    )
    page = (folder / "README.md").read_bytes()
    check = ecgbench(tmp_path, "board", "check", "--leaderboard", str(folder))
    assert check.code == 1 and not check.out and path.name in check.err and "Traceback" not in check.err
    if edit != "figure":
        build = ecgbench(tmp_path, "board", "build", "--leaderboard", str(folder))
        assert build.code == 1 and path.name in sentence(build) and (folder / "README.md").read_bytes() == page
        shown = ecgbench(tmp_path, "results", "show", str(path))
        assert shown.code == 1 and path.name in sentence(shown)


def test_a_fresh_home_beside_a_leaderboard_uses_its_published_victims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = ecgbench(tmp_path / "here", *FGSM, "--results", "leaderboard/results", "--victims", "--json")
    used = ecgbench(tmp_path / "there", *FGSM, "--json")
    assert trained.code == used.code == 0 and "victims" not in stages(tmp_path / "there")
    note, *_ = used.err.splitlines()
    assert note.startswith("note: using the published victim")
    assert used.records[0]["scores"] == trained.records[0]["scores"]
    again = ecgbench(tmp_path / "there", *FGSM, "--json", "--retrain")
    assert "published" not in again.err and len(stages(tmp_path / "there")["victims"]) == 1
    assert again.records[0]["scores"] == trained.records[0]["scores"]


def test_a_row_that_vanished_is_found(board: tuple[Path, Path], tmp_path: Path) -> None:
    folder, path = board
    path.unlink()
    answer = ecgbench(tmp_path, "board", "check", "--leaderboard", str(folder))
    assert answer.code == 1 and "Traceback" not in answer.err


def test_a_leaderboard_that_is_not_there_is_said(tmp_path: Path) -> None:
    for command in ("build", "check"):
        answer = ecgbench(tmp_path, "board", command, "--leaderboard", str(tmp_path / "none"))
        assert answer.code == 1 and "is no folder" in sentence(answer)


# names


def test_list_names_every_plugin_with_its_distribution(tmp_path: Path) -> None:
    lines = ecgbench(tmp_path, "list").out.splitlines()
    titles = [line for line in lines if not line.startswith(" ")]
    ours = [f"{kind} of ecgbench-robustness" for kind in ("datasets", "models", "attacks", "defenses", "certificates")]
    assert [title.rpartition(" ")[0] for title in titles[:5]] == ours and titles[5:] in ([], ["not installed:"])
    assert all(len(line) <= 80 for line in lines)
    for name in ("mitbih", "synthetic-beats", "mlp", "cnn", "linear", "pgd100", "fgsm", "none", "adaptive"):
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1
    assert ecgbench(tmp_path, "list", "models").out.splitlines()[0].startswith("models of ecgbench-robustness ")


def test_presets_of_a_class_are_listed_by_what_they_change(tmp_path: Path) -> None:
    lines = ecgbench(tmp_path, "list", "attacks").out.splitlines()
    told = dict(line.split(maxsplit=1) for line in lines if line.startswith("  pgd"))
    assert told == {
        "pgd": "PGD of Madry et al. 2018, section 2.1, on any ball.",
        "pgd-cinc-study": "pgd[abs_step=0.02,start=zero,steps=20]",
        "pgd100": "pgd[steps=100]",
        "pgd20": "pgd[rel_step=0.25,steps=20]",
    }


def test_list_ends_with_what_cannot_be_used_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(EntryPoint(name, f"tests_{name}", "ecgbench") for name in ("adapter", "typo"))
    monkeypatch.setattr("ecgbench.registry.catalog.entry_points", lambda group: points)
    monkeypatch.syspath_prepend(tmp_path)
    lacking = "import ecgbench.core.errors as e\nraise e.NotInstalledError('lib', 'install it with `pip install lib`')"
    advice = "lib is not installed; install it with `pip install lib`."
    (tmp_path / "tests_adapter.py").write_text(lacking)
    (tmp_path / "tests_typo.py").write_text("imprt lib")
    said = ecgbench(tmp_path, "list").out.splitlines()
    at = said.index("not installed:")
    assert said[at + 1] == f"  adapter             {advice}" and said[at + 2] == "broken:"
    assert said[at + 3].startswith("  typo                SyntaxError: invalid syntax")
    assert " ".join(ecgbench(tmp_path, "list", "plugins").out.split()).startswith(f"adapter unknown {advice}")
    assert sentence(ecgbench(tmp_path, "info", "adapter.PGD")) == advice


def test_plugins_are_listed_with_their_distribution_and_state(tmp_path: Path) -> None:
    lines = {line.split()[0]: line.split()[1:] for line in ecgbench(tmp_path, "list", "plugins").out.splitlines()}
    for name in ("pgd", "mitbih", "mlp", "adaptive"):
        assert lines[name][0] == "ecgbench-robustness" and lines[name][-1] == "ok"


def test_a_plugin_file_is_listed_told_and_used(tmp_path: Path, plugin: tuple[str, str]) -> None:
    assert "breaks" in ecgbench(tmp_path, "list", "attacks", *plugin).out
    assert ecgbench(tmp_path, "info", "breaks", *plugin).out.startswith("breaks  (attack, local")


def test_info_tells_parameters_as_they_are_set(tmp_path: Path) -> None:
    out = ecgbench(tmp_path, "info", "adaptive[eps=8/255]").out
    assert out.startswith("adaptive[eps=8/255]  (defense, ecgbench")
    assert "  eps = 8/255  (float)" in out and "  attack = pgd20[steps=10]  (Attack)" in out


# tables


def test_seeds_are_a_row_with_mean_and_spread_but_two_records_of_a_seed_are_two_rows() -> None:
    one = row(made_up(["0", "01"])).record
    other = msgspec.structs.replace(row(made_up(["012", "0123"])).record, key="f" * 64)
    assert "0.800 ±0.141" in tables([one, msgspec.structs.replace(other, seed=1)])
    apart = tables([one, other])
    assert "±" not in apart and " 0.900 " in apart and " 0.700 " in apart


def test_a_part_of_the_samples_has_a_table_of_its_own() -> None:
    one = row(made_up(["0", "01"])).record
    assert tables([one, msgspec.structs.replace(one, limit=10)]).count("partial") == 1
    assert tables([one, msgspec.structs.replace(one, limit=10)]).count("test samples") == 2


def test_a_flag_is_explained_below_the_table() -> None:
    facts = row(made_up(["0", "01"])).record
    raised = tuple(replace(check, raised=check.code == "NOISE", effect=np.pi / 100) for check in facts.checks)
    text = tables([msgspec.structs.replace(facts, checks=raised)])
    assert "  NOISE: made up (effect 0.0314, limit 0.005)" in text.splitlines()


def test_two_classes_have_an_auroc_marked_where_the_attack_did_not_go_on() -> None:
    made = made_up(["0", "01"])
    odds = np.where(made.y, 1.0, -1.0) * np.array([[1.0], [1.0], [-1.0]])
    made = replace(made, logits=odds[:, :, None].astype(np.float16), threshold=np.array([0.0]))
    one = row(made).record
    marked, plain = tables([one]), tables([msgspec.structs.replace(one, goes_on=True)])
    assert [line.split()[1:] for line in marked.splitlines() if "AUROC*" in line] == [["1.000", "1.000", "0.000"]]
    assert "AUROC" in plain and "*" not in plain and "first success" in marked
    assert "AUROC" not in tables([row(made_up(["0", "01"])).record])


@pytest.mark.parametrize(("quiet", "every", "lines"), [(False, 0.0, True), (False, 3600.0, False), (True, 0.0, False)])
def test_a_log_has_a_line_now_and_then_while_a_cell_is_worked_on(
    quiet: bool, every: float, lines: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", every)
    reporter = progress.Reporter(quiet)
    reporter.begin(1, 2)
    reporter.tell(Epoch(3, 50, 0.8125, None))
    reporter.tell(SweepProgress(0.05, 1, 4, 30, 120))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("[1/2] train: 3/50 loss 0.812\n[1/2] attack eps 0.05 (2/4): 30/120\n" if lines else "")


def test_a_leaderboard_may_be_named_by_option_or_variable(tmp_path: Path) -> None:
    board = tmp_path / "board"
    first = ecgbench(tmp_path / "there", *FGSM, "--results", str(board / "results"), "--victims", "--json")
    named = ecgbench(tmp_path / "here", *FGSM, "--leaderboard", str(board), "--json")
    variable = ecgbench(tmp_path / "also", *FGSM, "--json", ECGBENCH_LEADERBOARD=str(board))
    assert "training a victim" in first.err and "using the published victim" not in first.err
    for answer in (named, variable):
        assert "using the published victim" in answer.err and "training a victim" not in answer.err
        assert answer.records[0]["scores"] == first.records[0]["scores"]
    planned = ecgbench(tmp_path / "planned", "plan", *FGSM[1:], "--leaderboard", str(board))
    assert " to attack " in planned.out
    assert "has no folder checkpoints" in sentence(ecgbench(tmp_path, *FGSM, "--leaderboard", str(tmp_path)))


def test_json_prints_each_record_when_its_cell_is_done(tmp_path: Path, plugin: tuple[str, str]) -> None:
    with patch("ecgbench.cli.run._publish", side_effect=[None, StoreError("the disk is full.")]):
        answer = ecgbench(
            tmp_path, *FGSM, *plugin, "-a", "breaks", "--json", "--results", str(tmp_path / "out"), "--quiet"
        )
    assert [record["status"] for record in answer.records] == ["ok", "failed"]
    assert answer.code == 1 and answer.err.splitlines()[-1] == "error: the disk is full."
    assert "RuntimeError in attack breaks" in answer.err
