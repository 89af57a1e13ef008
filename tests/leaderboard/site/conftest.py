from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
import pytest

from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.leaderboard.board import write
from ecgbench.leaderboard.site import write_site
from ecgbench.results.published import Published, publish
from tests.made_up_rows import Facts, made_up, raised, row

HOSTILE = "<script src=//evil.example/x.js></script>\"'&[x](//evil.example) ${7*7} {{7*7}}"
"""What a stranger may call a dataset or a defense."""


def drawn(draw: int, patients: int, *, weighted: bool = False, samples: int = 60, **facts: Unpack[Facts]) -> Published:
    """A row whose samples are right or wrong by chance, less often the larger eps; its seed is 0 or 1."""
    rng = np.random.default_rng(draw)
    plain = made_up(["", ""], n=samples, groups=patients)
    wrong = rng.random((3, samples)) < np.array([0.1, 0.3 + 0.02 * draw, 0.6])[:, None]
    wrong = np.logical_or.accumulate(wrong, 0)
    weights = np.random.default_rng(0).choice([1.0, 0.75, 3.0], samples).astype(np.float32)
    labels = np.where(wrong, 1 - plain.y, plain.y).astype(np.int16)
    made = replace(plain, clean=labels[0], predicted=labels[1:], adversarial=wrong[1:])
    facts.setdefault("seed", draw % 2)
    return row(replace(made, weight=weights) if weighted else made, **facts)


def outcomes(one: Published) -> Outcomes:
    """The outcomes of a row that has them."""
    assert one.outcomes is not None
    return one.outcomes


def small_board() -> list[Published]:
    """Rows of every kind: with patients, weighted, without patients, flagged, failed, partial, of hostile names."""
    return [
        *(drawn(at, 7, defense=name, synthetic=False) for at, name in enumerate(["none", "madry", "trades", "nsr"])),
        drawn(4, 7, defense="none", attack="fgsm", checks=raised("LOSS")),
        *(drawn(at, 5, weighted=True, dataset="weighted", defense=name) for at, name in enumerate(["none", "madry"])),
        *(
            drawn(at, 0, dataset="alone", defense=name, synthetic=True)
            for at, name in enumerate(["none", "madry", "x"])
        ),
        row(model="resnet"),
        row(made_up(["", ""]), model="cnn", limit=10, dataset="parts"),
        drawn(6, 3, dataset=HOSTILE, defense=HOSTILE, notes=(HOSTILE,), attack="pgd[steps=2]", weighting=HOSTILE),
    ]


@pytest.fixture(scope="session")
def leaderboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaderboard")
    for one in small_board():
        publish(one.record, one.outcomes, folder / "results")
    write(folder)
    return folder


@pytest.fixture(scope="session")
def site(leaderboard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_site(leaderboard, folder)
    return folder
