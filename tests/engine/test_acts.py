"""Whatever a plugin does as an attack, a model or a defense, the rows of the others are those of a grid without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.command_line import BEATS, Answer, ecgbench
from tests.engine.hostile import ACTS, HOSTILE
from tests.engine.records import figures

HONEST = {"model": "linear", "defense": "none[epochs=1]", "attack": ["fgsm", "identity", "noise", "pgd[steps=3]"]}
CODE, TORCH = "the code of ecgbench left as it was", "settings of torch left as they were"
REASONS = {
    "boom": "RuntimeError",
    "sysexit": "SystemExit",
    "kbd": "KeyboardInterrupt",
    "genexit": "GeneratorExit",
    "baseexc": "Mine",
    "osexit": "exit 3: the job's process ended without a result",
    "osexit0": "exit 0: the job's process ended without a result",
    "segv": "signal 11 (SIGSEGV): the job was killed",
    "hang": "timeout: the job was ended after",
    "hold": "timeout: the job was ended after",
    "ask": "EOFError",
    "leak": "the job has too many files open",
    "deaf": "timeout: the job was ended after",
    "memory": "memory: the job was ended when it held more than",
    "patch_contains": CODE,
    "patch_predict": CODE,
    "patch_code": CODE,
    "patch_summarize": CODE,
    "dtype": TORCH,
    "gradoff": TORCH,
    "flush": TORCH,
    "matmul": TORCH,
}
"""Acts that must fail their cell, and what its reason must hold; any other may be a row like that of `nothing`."""


def grid(**parts: Any) -> str:
    """A part of a suite."""
    lines = [f"{name} = {value!r}" for name, value in (HONEST | parts).items()]
    return "\n".join([f'[[grid]]\ndataset = "{BEATS}"\neps = 0.05', *lines, ""])


def selector(act: str) -> str:
    return "hostile" if act == "nothing" else f"hostile[act={act}]"


def is_hostile(record: dict[str, Any]) -> bool:
    return any(record[place].startswith("hostile") for place in ("attack", "model", "defense"))


def run(home: Path, suite: str, *options: str) -> Answer:
    home.mkdir(exist_ok=True)
    (home / "suite.toml").write_text(suite)
    return ecgbench(home, "run", str(home / "suite.toml"), *HOSTILE, "--json", *options)


def hostile_rows(folder: Path, honest: str, bad: str, *limits: str) -> list[dict[str, Any]]:
    """Run both grids together; what came of the bad one, if all others are as without it, now and from the store."""
    expected = run(folder / "alone", honest)
    answer = run(folder / "beside", bad + honest, "--isolate", "--jobs", "2", *limits)
    assert answer.code == 3 and expected.code == 0
    lines = [line for line, row in zip(answer.out.splitlines(), answer.records, strict=True) if not is_hostile(row)]
    assert figures(Answer(0, "\n".join(lines), "")) == figures(expected)
    later = run(folder / "beside", honest)
    assert sorted(later.out.splitlines()) == sorted(lines)
    return [record for record in answer.records if is_hostile(record)]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["attack", "model", "defense"])
def test_every_act_harms_its_own_cell_alone(place: str, tmp_path: Path) -> None:
    bad = grid(**({"attack": ["fgsm"]} | {place: [selector(act) for act in ACTS]}))
    rows = hostile_rows(tmp_path, grid(), bad, "--timeout", "120s", "--memory", "1.5GB")
    by_selector = {record[place]: record for record in rows}
    calm = by_selector[selector("nothing")]
    for act in ACTS:
        record = by_selector[selector(act)]
        if act in REASONS:
            assert record["status"] == "failed" and REASONS[act] in record["error"], (act, record["error"])
        else:
            assert record["error"] or record["scores"] == calm["scores"], act
    assert calm["status"] == "ok" and len(rows) == len(ACTS)


def test_a_training_that_dies_harms_its_own_cell_alone(tmp_path: Path) -> None:
    one = {"attack": ["fgsm"]}
    (row,) = hostile_rows(tmp_path, grid(**one), grid(**one, model=selector("osexit")))
    assert row["status"] == "failed" and REASONS["osexit"] in row["error"]
