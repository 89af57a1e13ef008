"""Best known figures on the pages: never above a row's own."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from ecgbench.leaderboard.board import write
from ecgbench.leaderboard.counterexamples import FOLDER, Counterexamples, best_known, with_best_known
from ecgbench.leaderboard.site import files
from ecgbench.leaderboard.wording import figure
from ecgbench.results.published import publish, read_results
from tests.leaderboard.site.conftest import drawn
from tests.made_up_rows import outcomes_of

ROW = drawn(0, 3)
STATED = {score.eps: score.acc for score in ROW.record.scores}
RIGHT = np.flatnonzero(outcomes_of(ROW).at(0.1) == outcomes_of(ROW).y).tolist()
WRONG = np.flatnonzero(outcomes_of(ROW).at(0.1) != outcomes_of(ROW).y).tolist()
N = len(outcomes_of(ROW).y)


def found(size: float, *ids: int, weights: str = "weights", threat: str = "linf") -> Counterexamples:
    """Counterexamples of that size to the victim of `ROW`, or to another one."""
    named = {"victim": "beats-mlp", "weights": weights, "dataset": "beats", "threat": threat}
    return Counterexamples(**named, by="somebody", file="0" * 64, ids=ids, size=(size,) * len(ids))


def built(folder: Path, *given: Counterexamples) -> dict[str, str]:
    """The texts of pages and site of a board with these counterexamples, by path."""
    publish(ROW.record, ROW.outcomes, folder / "results")
    (folder / FOLDER).mkdir()
    for one in given:
        (folder / FOLDER / one.place()).write_bytes(msgspec.json.encode(one))
    write(folder)
    pages = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.md")}
    return pages | {path: content.decode() for path, content in files(folder).items() if path.endswith(".html")}


def test_a_counterexample_stands_beside_every_figure_that_it_lowers(tmp_path: Path) -> None:
    known = f"best known {figure(STATED[0.1] - 2 / N)}"
    pages = built(tmp_path, found(0.05, *RIGHT[:2]))
    shown = [path for path, text in pages.items() if known in text]
    assert sorted(shown) == ["README.md", "index.html", "pages/beats.html", "pages/beats.md"] + [
        f"pages/beats/mlp-none.{kind}" for kind in ("html", "md")
    ]
    assert f"Counterexamples leave {figure(STATED[0.1] - 2 / N)}" in pages["README.md"]
    row = next(text for path, text in pages.items() if path.startswith("rows/"))
    assert row.count(figure(STATED[0.1] - 2 / N)) == 2 and figure(STATED[0.1]) in row
    assert figure(STATED[0.1] - 2 / N) in pages["rows.html"]


@pytest.mark.parametrize(
    "one",
    [
        found(0.05, *WRONG[:3]),
        found(0.3, *RIGHT),
        found(0.05, *RIGHT, weights="another victim's"),
        found(0.05, *RIGHT, threat="l2"),
        found(0.05),
    ],
    ids=["wrong already", "outside of the ball", "of no row", "of another threat", "empty"],
)
def test_a_counterexample_that_lowers_nothing_changes_no_figure(tmp_path: Path, one: Counterexamples) -> None:
    pages = built(tmp_path, one)
    assert not [path for path, text in pages.items() if "best known 0" in text]
    assert "Counterexamples leave" not in pages["README.md"]
    ((_, known),) = [(row, row.best_known) for row in with_best_known(read_results(tmp_path / "results"), tmp_path)]
    assert all(value == pytest.approx(STATED[eps]) for eps, value in known.items())


def test_a_counterexample_counts_from_its_size_on() -> None:
    known = best_known(ROW, [ROW], [found(0.15, *RIGHT[:2])])
    still = [at for at in RIGHT[:2] if outcomes_of(ROW).at(0.2)[at] == outcomes_of(ROW).y[at]]
    assert known == pytest.approx({0.1: STATED[0.1], 0.2: STATED[0.2] - len(still) / N})


@given(some.dictionaries(some.integers(0, N + 5), some.floats(1e-3, 1.0)))
def test_no_counterexample_raises_a_figure(sizes: dict[int, float]) -> None:
    one = msgspec.structs.replace(found(0.0), ids=tuple(sizes), size=tuple(sizes.values()))
    known = best_known(ROW, [ROW], [one])
    assert all(value <= STATED[eps] + 1e-12 for eps, value in known.items())
