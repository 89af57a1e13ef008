"""The published JSON Schema is that of the code, and tells a record from what is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from ecgbench.results.record import SCHEMA, Record, read_record, schema
from tests.command_line import TINY, ecgbench
from tests.made_up_rows import made_up, row

PUBLISHED = json.loads((Path(__file__).parents[2] / "docs" / "record.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(PUBLISHED)
AT_LEAST = (
    *("schema", "status", "key", "dataset", "model", "defense", "attack", "threat", "seed", "n", "scores"),
    *("checks", "cost", "provenance"),
)


def undescribed(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: undescribed(each) for name, each in part.items() if name != "description"}
    return [undescribed(each) for each in part] if isinstance(part, list) else part


def written(record: Record) -> dict[str, Any]:
    return dict(json.loads(record.json()))


def test_the_published_schema_is_a_schema_and_that_of_the_code() -> None:
    VALID.check_schema(PUBLISHED)
    assert undescribed(PUBLISHED) == undescribed(json.loads(json.dumps(schema()))), "run: python docs/make.py"
    assert PUBLISHED["$defs"]["Record"]["properties"]["schema"]["enum"] == [SCHEMA]


@pytest.mark.parametrize("outcomes", [made_up(["0", "013"]), made_up(["0", "01"], groups=5), None])
def test_a_record_writes_every_field_and_is_valid_and_read_back(outcomes: Any) -> None:
    record = row(outcomes).record
    assert set(AT_LEAST) <= set(written(record)) == set(PUBLISHED["$defs"]["Record"]["properties"])
    VALID.validate(written(record))
    assert read_record(record.json(), "here") == read_record(record.pretty(), "here") == record


def test_what_run_prints_is_one_valid_record_a_line(tmp_path: Path) -> None:
    answer = ecgbench(tmp_path, "run", *TINY, "--attack", "fgsm", "--attack", "identity", "--json", "--eps", "0.1")
    assert answer.code == 0 and len(answer.records) == 2
    for line, record in zip(answer.out.splitlines(), answer.records, strict=True):
        VALID.validate(record)
        assert read_record(line.encode(), "here").json().decode() == line
        assert [score["eps"] for score in record["scores"]] == [0.0, 0.1]


def test_a_cell_that_gave_no_score_is_a_valid_record_too(tmp_path: Path) -> None:
    answer = ecgbench(
        tmp_path, "run", *TINY, "--attack", "pgd[update=adamax]", "--threat", "l2", "--eps", "1", "--json"
    )
    (record,) = answer.records
    VALID.validate(record)
    assert record["status"] == "skipped" and record["error"] and not record["scores"]


def dropped(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda record: record.pop(name)


def changed(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda record: record.update({name: value})


@pytest.mark.parametrize(
    "spoil",
    [
        *(dropped(name) for name in ("status", "key", "eps", "seed")),
        changed("schema", SCHEMA + 1),
        changed("status", "fine"),
        changed("seed", "0"),
        changed("eps", ["0.1"]),
        lambda record: record["scores"][0].pop("acc"),
        lambda record: record["scores"][0].update(acc=None),
        lambda record: record["checks"].append({"code": "NOISE"}),
        lambda record: record["uncertainty"].pop("draws"),
    ],
)
def test_schema_and_reader_refuse_the_same_spoiled_records(spoil: Callable[[dict[str, Any]], object]) -> None:
    record = written(row(made_up(["0", "013"])).record)
    spoil(record)
    assert not VALID.is_valid(record)
    with pytest.raises(Exception, match="here is not a record of schema"):
        read_record(msgspec.json.encode(record), "here")
