"""Records as tables: every figure is the record's."""

from __future__ import annotations

import io

import pandas
import pytest

import ecgbench
from ecgbench.results.frame import frame
from ecgbench.results.record import Record
from tests.made_up_rows import made_up, raised, row


def records() -> list[Record]:
    return [
        row(made_up(["0", "01"])).record,
        row(made_up(["1", "12"]), attack="fgsm", checks=raised("LOSS", "STEP")).record,
        row().record,
    ]


def test_a_long_table_has_a_row_for_each_eps() -> None:
    table = frame(records())
    assert len(table) == 3 + 3 + 1
    first = table[(table.attack == "pgd") & (table.status == "ok")]
    assert first.eps.tolist() == [0.0, 0.1, 0.2] and first.acc.tolist() == [1.0, 0.9, 0.8]
    score = records()[0].score(0.1)
    assert score is not None
    assert first[["acc_low", "acc_high"]].iloc[1].tolist() == list(score.interval.acc)
    assert table[table.attack == "fgsm"]["flags"].unique().tolist() == ["LOSS STEP"]
    failed = table[table.status == "failed"]
    assert len(failed) == 1 and failed.acc.isna().all()


def test_a_wide_table_has_a_row_for_each_record() -> None:
    table = frame(records(), wide=True)
    assert len(table) == 3 and table["acc@0.1"].tolist()[:2] == [0.9, 0.9] and table["f1@0"].tolist()[:2] == [1.0, 1.0]


def test_no_record_is_an_empty_table() -> None:
    assert frame([]).empty


def test_a_table_survives_a_file() -> None:
    table = frame(records())
    again = pandas.read_csv(io.StringIO(table.to_csv(index=False)))
    assert again.acc.dropna().tolist() == pytest.approx(table.acc.dropna().tolist())


def test_the_front_door_has_it() -> None:
    assert ecgbench.frame is frame
