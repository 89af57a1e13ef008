"""When a row is contradicted, and which of its samples are attacked again."""

from __future__ import annotations

import numpy as np
import pytest

from ecgbench.core.outputs import SingleLabel
from ecgbench.core.threat import Threat
from ecgbench.evaluation.sweep import Protocol
from ecgbench.results.structure import Structure
from ecgbench.submissions.rerun import Rerun, drawn_rows
from tests.made_up_rows import CLASSES, made_up


@pytest.mark.parametrize(
    ("found", "contradicted"),
    [
        (Rerun(0, 50), False),
        (Rerun(1, 50), True),
        (Rerun(0, 50, adversarial=1), True),
        (Rerun(0, 50, robust=1), True),
        (Rerun(0, 199, adversarial=1), True),
        (Rerun(0, 200, adversarial=1), False),
        (Rerun(0, 200, adversarial=1, robust=1), True),
        (Rerun(0, 50, adversarial=6, repeatable=False), False),  # 2^-6 = 0.016
        (Rerun(0, 50, adversarial=7, repeatable=False), True),  # 2^-7 = 0.008
        (Rerun(0, 50, adversarial=7, robust=7, repeatable=False), False),
        (Rerun(0, 50, robust=20, repeatable=False), False),
        (Rerun(0, 50, hidden=("LOSS",)), True),
    ],
)
def test_a_row_is_contradicted_where_more_differs_than_rounding_or_chance_explain(
    found: Rerun, contradicted: bool
) -> None:
    assert (found.fault is not None) == contradicted


def structure(n: int, clean: str = "") -> Structure:
    outcomes = made_up(["", ""], n=n, clean=clean)
    return Structure(outcomes, Threat("linf"), Protocol(), SingleLabel(CLASSES), False)


@pytest.mark.parametrize(("n", "drawn"), [(10, 10), (60, 50), (1000, 50), (1010, 51), (2000, 100)])
def test_a_twentieth_is_drawn_and_no_fewer_than_fifty(n: int, drawn: int) -> None:
    rows = drawn_rows(structure(n), "key", "seed")
    assert len(rows) == len(set(rows.tolist())) == drawn and rows.max() < n


def test_only_attacked_samples_are_drawn() -> None:
    assert drawn_rows(structure(10, clean="37"), "key", "seed").tolist() == [0, 1, 2, 4, 5, 6, 8, 9]


def test_what_is_drawn_follows_from_key_and_seed_alone() -> None:
    every = structure(1000)
    draws = [drawn_rows(every, *words) for words in (("k", "a"), ("k", "a"), ("k", "b"), ("l", "a"))]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2]) and not np.array_equal(draws[0], draws[3])


def test_every_sample_is_drawn_equally_often() -> None:
    every = structure(100)
    times = sum(np.isin(np.arange(100), drawn_rows(every, "key", str(seed))).astype(int) for seed in range(400))
    assert np.min(times) > 130 and np.max(times) < 270  # 200 expected, standard deviation 10
