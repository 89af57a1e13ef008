from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecgbench.leaderboard.board import write
from ecgbench.leaderboard.site import write_site
from ecgbench.results.published import Published, publish
from tests.made_up_rows import made_up, raised, row

HOSTILE = "<script src=//evil.example/x.js></script>\"'&[x](//evil.example) ${7*7} {{7*7}}"
"""What a stranger may call a dataset or a defense."""


def drawn(seed: int, groups: int, *, weighted: bool = False, n: int = 60, **facts: object) -> Published:
    """A row whose samples are right or wrong by chance, less often the larger eps."""
    rng = np.random.default_rng(seed)
    plain = made_up(["", ""], n=n, groups=groups)
    wrong = rng.random((3, n)) < np.array([0.1, 0.3 + 0.02 * seed, 0.6])[:, None]
    wrong = np.logical_or.accumulate(wrong, 0)
    weight = np.random.default_rng(0).choice([1.0, 0.75, 3.0], n).astype(np.float32) if weighted else plain.weight
    labels = np.where(wrong, 1 - plain.y, plain.y).astype(np.int16)
    made = replace(plain, weight=weight, clean=labels[0], predicted=labels[1:], adversarial=wrong[1:])
    return row(made, seed=seed % 2, **facts)


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
