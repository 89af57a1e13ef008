"""Perturbations that runs saved, on the pages of their rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecgbench.core.data import Samples, Task
from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.leaderboard.check_rows import KnownDatasets
from ecgbench.leaderboard.perturbations import (
    faults_of_perturbations,
    file_of,
    read_perturbations,
    write_perturbations,
)
from ecgbench.leaderboard.site import files
from ecgbench.leaderboard.site.signals import SHOWN, chosen, plots
from ecgbench.registry.catalog import discover
from ecgbench.results.published import read_results
from tests.command_line import BEATS, TINY, Answer, ecgbench
from tests.made_up_rows import made_up, provenance_of, row

STAYS = "synthetic-icu[stays=200]"
OF_STAYS = ("--dataset", STAYS, "--model", "linear", "--defense", "none[epochs=1]")
NOTHING = Samples.of(torch.zeros(1, 2, 5), torch.zeros(1, dtype=torch.int64))


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


def put(home: Path, leaderboard: Path, *datasets: str) -> Answer:
    return ecgbench(home, "board", "perturbations", *datasets, "--leaderboard", str(leaderboard))


@pytest.fixture(scope="module")
def leaderboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of beats and stays whose perturbations were saved and put beside their rows."""
    home = tmp_path_factory.mktemp("home")
    run(home, home / "leaderboard", *TINY, "--eps", "0.5")
    run(
        home, home / "leaderboard", "--dataset", STAYS, "--model", "linear", "--defense", "none[epochs=1]", "--eps", "1"
    )
    assert "signal" not in "".join(files(home / "leaderboard"))
    assert put(home, home / "leaderboard", BEATS, STAYS).code == 0
    return home / "leaderboard"


def test_signals_stand_before_and_after_with_the_perturbation_in_its_unit(leaderboard: Path) -> None:
    made = files(leaderboard)
    for one in read_results(leaderboard / "results"):
        text = made[f"rows/{one.record.key[:12]}.html"].decode()
        kept = read_perturbations(one.record, leaderboard)
        assert kept is not None
        if one.record.dataset == STAYS:
            shown = re.findall(r'src="\.\./(signals/[^"]+susceptibility[^"]+)"', text)
            assert shown and all(b"<svg" in made[path] for path in shown) and '<figure class="signal">' not in text
            continue
        some = chosen(kept)
        assert len(some.ids) == text.count('<figure class="signal">') == SHOWN and text.count(">mV</text>") == 2 * SHOWN
        for at, sample in enumerate(some.ids.tolist()):
            caption = re.search(rf"<figcaption>(Sample {sample}: .*?)</figcaption>", text)
            moved = some.delta[at, 0] * some.scale[at]
            assert caption and f"Largest change: {np.abs(moved).max():.3g} mV." in caption[1]
        task = KnownDatasets(leaderboard / "datasets", discover()).task(one.record.dataset, provenance_of(one).data)
        assert task is not None
        first = plots(one.record, task, kept)[0]
        assert (first.perturbation.low, first.perturbation.high) == tuple(
            f"{end(some.delta[0] * some.scale[0].astype(np.float64)):.2g}" for end in (np.min, np.max)
        )


def test_a_lead_is_drawn_to_its_scale() -> None:
    x, y = np.zeros((1, 2, 5), np.float32), np.zeros(1, np.int16)
    x[0, 1] = [0, 1, 2, 3, 4]
    delta = np.zeros((1, 2, 5), np.float32)
    delta[0, 1, 2] = 0.5
    kept = Perturbations(np.array([3]), x, delta, np.ones(1, np.float32), y, y, 1 - y)
    task = Task(name="t", classes=("N", "V"), train=NOTHING, val=NOTHING, test=NOTHING, unit="mV", rate=5.0)
    (one,) = plots(row(made_up(["", ""])).record, task, kept)
    before, after = one.signal.lines
    assert before == "70.0,162.0 197.5,124.5 325.0,87.0 452.5,49.5 580.0,12.0"
    assert after == before.replace("325.0,87.0", "325.0,68.2")
    assert one.perturbation.lines == ("70.0,252.0 197.5,252.0 325.0,186.0 452.5,252.0 580.0,252.0",)
    assert "lead 2 of 2: N; predicted N when clean, V when perturbed" in one.caption
    assert (one.end, one.across, one.unit) == ("1", "s", "mV") and "Largest change: 0.5 mV" in one.caption


def test_a_dataset_without_rows_is_refused(leaderboard: Path, tmp_path: Path) -> None:
    refused = put(tmp_path, leaderboard, "mitbih")
    assert refused.code != 0 and "dataset" in refused.err and BEATS in refused.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda kept: {"y": 1 - kept.y}, "other labels 'y'"),
        (lambda kept: {"attacked": 1 - kept.attacked}, "other labels 'attacked'"),
        (lambda kept: {"ids": kept.ids + 100_000}, "samples that the row has not"),
        (lambda kept: {"ids": kept.ids[:1].repeat(len(kept.ids))}, "or one twice"),
    ],
)
def test_perturbations_that_are_not_the_rows_are_a_fault(
    leaderboard: Path, tmp_path: Path, change: Callable[[Perturbations], dict[str, Any]], said: str
) -> None:
    rows = [row for row in read_results(leaderboard / "results") if row.record.dataset == BEATS]
    kept = read_perturbations(rows[0].record, leaderboard)
    assert kept is not None
    write_perturbations(rows[0].record, replace(kept, **change(kept)), tmp_path)
    (fault,) = faults_of_perturbations(rows, tmp_path)
    assert said in fault and not faults_of_perturbations(read_results(leaderboard / "results"), leaderboard)


def test_damaged_and_lonely_files_are_faults(leaderboard: Path, tmp_path: Path) -> None:
    (first, *_) = rows = read_results(leaderboard / "results")
    path = file_of(first.record, tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK")
    path.with_name("lonely.npz").write_bytes(b"PK")
    damaged, lonely = faults_of_perturbations(rows, tmp_path)
    assert "holds no readable perturbations" in damaged and "is of no row that is here" in lonely


def test_adversarial_samples_are_shown_first_and_every_class_in_turn() -> None:
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
    assert chosen(kept).ids.tolist() == [11, 12, 15]
