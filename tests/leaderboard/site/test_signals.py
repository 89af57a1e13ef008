"""Perturbations that runs saved, on the pages of their rows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.leaderboard.site.signals import SHOWN, chosen
from tests.command_line import BEATS, TINY, Answer, ecgbench

STAYS = "synthetic-icu[stays=200]"


def run(home: Path, leaderboard: Path, *words: str) -> None:
    command = (
        "run",
        *words,
        "--attack",
        "fgsm",
        "--save-perturbations",
        "20",
        "--results",
        str(leaderboard / "results"),
    )
    assert ecgbench(home, *command).code == 0


def site(home: Path, leaderboard: Path, *datasets: str) -> Answer:
    asked = [word for dataset in datasets for word in ("--signals", dataset)]
    return ecgbench(home, "board", "site", str(home / "site"), "--leaderboard", str(leaderboard), *asked)


def test_saved_perturbations_are_shown_of_the_datasets_that_are_named(tmp_path: Path) -> None:
    leaderboard = tmp_path / "leaderboard"
    run(tmp_path, leaderboard, *TINY, "--eps", "0.5")
    run(tmp_path, leaderboard, "--dataset", STAYS, "--model", "linear", "--defense", "none[epochs=1]", "--eps", "1")
    assert site(tmp_path, leaderboard).code == 0
    assert not list((tmp_path / "site").glob("signals/*"))
    assert site(tmp_path, leaderboard, BEATS, STAYS).code == 0
    drawn = {path.name for path in (tmp_path / "site" / "signals").iterdir()}
    shown = {
        page.stem: re.findall(r'src="../signals/([^"]+)"', page.read_text())
        for page in (tmp_path / "site" / "rows").glob("*.html")
    }
    assert len(shown) == 2 and {name for names in shown.values() for name in names} == drawn
    assert all(key in name for key, names in shown.items() for name in names)
    samples = [[name for name in names if name.startswith("sample")] for names in shown.values()]
    assert [len(each) for each in samples] == [SHOWN, SHOWN]
    assert any("susceptibility" in name for name in drawn)
    beats = next(names for key, names in shown.items() if not any("susceptibility" in name for name in names))
    assert ">mV</text>" in (tmp_path / "site" / "signals" / beats[0]).read_text()


def test_a_dataset_without_rows_is_refused(tmp_path: Path) -> None:
    leaderboard = tmp_path / "leaderboard"
    run(tmp_path, leaderboard, *TINY, "--eps", "0.5")
    refused = site(tmp_path, leaderboard, "mitbih")
    assert refused.code != 0 and "dataset" in refused.err and BEATS in refused.err and not (tmp_path / "site").exists()


def test_samples_that_fell_are_shown_first_and_every_class_in_turn() -> None:
    y = np.array([0, 0, 0, 0, 0, 1, 1], np.int16)
    attacked = np.array([0, 1, 1, 1, 1, 0, 1], np.int16)
    kept = Perturbations(
        ids=np.arange(10, 17),
        x=np.zeros((7, 1, 8), np.float32),
        delta=np.ones((7, 1, 8), np.float32),
        scale=np.ones(7, np.float32),
        y=y,
        clean=y,
        attacked=attacked,
    )
    assert chosen(kept).ids.tolist() == [11, 12, 13, 15]
