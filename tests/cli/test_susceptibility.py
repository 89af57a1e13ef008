"""`ecgbench susceptibility`: from saved perturbations to tables, JSON and figures."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ecgbench.cli.susceptibility import _leaderboard_of
from tests.command_line import BEATS, ecgbench, sentence

STAYS = ("--dataset", "synthetic-icu[stays=200]", "--model", "linear", "--defense", "none[epochs=2]")
ROW = (*STAYS, "--attack", "ista[steps=20]", "--eps", "1")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two rows of other seeds, whose perturbations are saved."""
    home: Path = tmp_path_factory.mktemp("home")
    assert ecgbench(home, "run", *ROW, "--seed", "0,1", "--save-perturbations", "100").code == 0
    return home


@pytest.fixture(scope="module")
def keys(home: Path) -> list[str]:
    return [record["key"] for record in ecgbench(home, "results", "show", "--json").records]


def test_each_direction_has_its_table_and_both_rows_are_compared(home: Path, keys: list[str]) -> None:
    answer = ecgbench(home, "susceptibility", *(key[:12] for key in keys), "--draws", "10")
    assert answer.code == 0
    assert answer.out.count("survived to died: ") == 2 and "  survived to died of 1 and 2: " in answer.out
    assert answer.out.count("\nLactate ") == 4 and "other data" in answer.out
    assert answer.out.startswith("1. synthetic-icu") and "\n2. synthetic-icu" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 84


def test_a_record_is_not_compared_with_itself(home: Path, keys: list[str]) -> None:
    answer = ecgbench(home, "susceptibility", keys[0], keys[1], keys[0][:12])
    assert answer.code != 0 and f"record {keys[0][:12]} is given twice; expected each record once." in answer.err


def test_json_holds_the_maps(home: Path, keys: list[str]) -> None:
    answer = ecgbench(home, "susceptibility", keys[0], "--json", "--draws", "10")
    (made,) = answer.records
    assert made["measurements"][0] == "K" and made["eps"] == 1.0
    for direction in made["directions"]:
        assert direction["successful"] <= direction["attacked"] and len(direction["s_j"]) == 18
        maps = direction["maps"]
        gmp, gpp, s = (sum(map(sum, maps[name])) for name in ("gmp", "gpp", "s"))
        assert 0 < s <= min(gmp, gpp) and sum(direction["s_j"]) == pytest.approx(s) == pytest.approx(
            sum(direction["s_i"])
        )


def test_maps_are_drawn_as_svg_and_the_same_at_every_drawing(home: Path, keys: list[str], tmp_path: Path) -> None:
    drawn = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        assert ecgbench(home, "susceptibility", keys[0], "--draws", "10", "--figures", str(folder)).code == 0
        drawn.append({path.name: path.read_text() for path in sorted(folder.iterdir())})
    assert drawn[0] == drawn[1] and len(drawn[0]) == 2
    for svg in drawn[0].values():
        text = "".join(ElementTree.fromstring(svg).itertext())
        assert all(word in text for word in ("gmp, 0 to ", "sensitivity, 0 to ", "Lactate", "hour"))
        assert len(svg) < 100_000


def test_a_published_record_is_found_by_its_file_and_its_perturbations_beside_it(home: Path, tmp_path: Path) -> None:
    board, other = tmp_path / "board", tmp_path / "other"
    assert ecgbench(home, "run", *ROW, "--results", str(board / "results")).code == 0
    (record,) = (board / "results").rglob("*.json")
    words = ("susceptibility", str(record), "--json", "--draws", "10")
    answer = ecgbench(home, *words)
    assert answer.code == 0 and "seed 0" in json.loads(answer.out)["row"]
    assert "no perturbations of record" in sentence(ecgbench(other, *words))
    assert ecgbench(home, "board", "perturbations", "synthetic-icu[stays=200]", "--leaderboard", str(board)).code == 0
    assert ecgbench(other, *words).out == answer.out


def test_a_row_without_saved_perturbations_says_how_they_are_made(tmp_path: Path) -> None:
    made = ecgbench(tmp_path, "run", *ROW, "--json").records[0]["key"]
    answer = ecgbench(tmp_path, "susceptibility", made)
    assert answer.code != 0
    assert "are kept; run its cell with --save-perturbations 1000." in answer.err
    assert "0 records begin with 'nobody'" in ecgbench(tmp_path, "susceptibility", "nobody").err


def test_beats_are_refused(tmp_path: Path) -> None:
    beats = ("--dataset", BEATS, "--model", "linear", "--defense", "none[epochs=1]", "--attack", "fgsm")
    made = ecgbench(tmp_path, "run", *beats, "--eps", "0.1", "--save-perturbations", "3", "--json").records[0]["key"]
    answer = ecgbench(tmp_path, "susceptibility", made)
    assert answer.code != 0 and "synthetic-beats[beats=200] names no measurements" in answer.err


@pytest.mark.parametrize("name", ["/row.json", "/tmp/row.json"])
def test_a_records_file_in_no_leaderboard_has_none(name: str) -> None:
    assert _leaderboard_of(Path(name)) is None and _leaderboard_of(Path("/tmp/results/icu", name[1:])) is not None
