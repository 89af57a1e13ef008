"""The real stays of the challenge against what was counted on them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ecgbench.core.data import Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.errors import DataError
from ecgbench.storage.download import unpinned
from ecgbench_plugins.datasets.icu2012 import Icu2012

HOME = os.environ.get("ECGBENCH_DATA")
pytestmark = [pytest.mark.real, pytest.mark.skipif(HOME is None, reason="ECGBENCH_DATA is not set")]
EMPTY = (
    *(139060, 140501, 140936, 141264, 142731, 142998, 143656, 145611, 147514, 150309, 150649, 155655, 156254),
    158238,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    root = DataRoot(Path(HOME or ""), cache=tmp_path_factory.mktemp("cache"))
    try:
        Icu2012(test="both").files(root)
    except DataError as error:
        pytest.skip(str(error))
    return root


@pytest.fixture(scope="module")
def task(root: DataRoot) -> Task:
    for how in ("files", "cache"):
        start = time.perf_counter()
        task = Icu2012(test="both").load(root)
        print(f"icu2012 from {how}: {time.perf_counter() - start:.2f} s")  # noqa: T201
    return task


def test_rows_and_anomalies_are_counted_exactly(task: Task) -> None:
    assert task.notes[1] == (
        "5273818 rows: 2403 without a parameter's name and 1412 at 48:00 left out, 11792 repeats of a time and "
        "parameter averaged"
    )
    assert task.notes[2] == (
        "impossible values left out: pH 21, PaCO2 4, Lactate 1, BUN 2, Mg 1, HR 46, SBP 2443, DBP 2413, Temp 289, "
        "RespRate 172, SaO2 2"
    )


def test_14_stays_have_none_of_the_18_features(task: Task) -> None:
    assert task.notes[3] == f"14 stays without any of the 18 features left out: {', '.join(map(str, EMPTY))}"
    assert [len(part) for part in (task.train, task.val, task.test)] == [3197, 799, 7990]


def test_as_many_died_as_is_known(task: Task) -> None:
    assert int(task.train.y.sum() + task.val.y.sum()) == 554
    b = task.test.ids < 152871
    assert [int(task.test.y[b].sum()), int(task.test.y[~b].sum())] == [568, 585]


def test_values_fill_the_hours_as_was_measured_on_set_a(root: DataRoot) -> None:
    task = Icu2012(attackable="observed").load(root)
    seen = torch.cat([task.train.mask, task.val.mask]).float().mean((0, 1))
    known = {"K": 7.5, "pH": 12.2, "Lactate": 4.1, "Albumin": 1.2, "HR": 90.0, "SBP": 88.6, "Temp": 37.1, "SaO2": 4.1}
    found = {name: 100 * float(share) for name, share in zip(task.features, seen, strict=True)}
    assert {name: found[name] for name in known} == pytest.approx(known, abs=0.15)


def test_a_logistic_regression_reaches_what_the_prototype_did(root: DataRoot) -> None:
    task = Icu2012().load(root)
    fitted = LogisticRegression(C=0.01, max_iter=300).fit(task.train.x.flatten(1).numpy(), task.train.y.numpy())
    score = roc_auc_score(task.test.y.numpy(), fitted.decision_function(task.test.x.flatten(1).numpy()))
    assert score == pytest.approx(0.763, abs=0.01)


def test_the_files_are_those_that_the_plugin_pins(root: DataRoot) -> None:
    remote = Icu2012.remote
    assert remote is not None and unpinned("icu2012", remote, Icu2012().files(root)) == []
