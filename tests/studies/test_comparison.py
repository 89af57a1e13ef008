"""Published values beside ours: joined by what was run, never by luck, and said so where they are not alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgbench.leaderboard.board import pages
from ecgbench.leaderboard.markdown import markdown
from ecgbench.results.published import Published
from ecgbench.studies.comparison import agreement, agreements, pairs, tables
from ecgbench.studies.study import Study, read_study
from tests.made_up_rows import Facts, made_up, row
from tests.made_up_study import OTHERWISE, STUDY, VALUES, path

__all__ = ["path"]


def render(rows: list[Published], studies: list[Study]) -> str:
    """All pages of a board."""
    return "".join(markdown(page) for page in pages(rows, studies))


def test_a_figure_meets_the_mean_over_seeds_of_the_same_cell(path: Path) -> None:
    rows = [row(made_up(["01", "01"]), seed=0), row(made_up(["0123", "0123"]), seed=1)]
    clean, attacked, other = pairs(read_study(path), [one.record for one in rows])
    assert clean.difference == pytest.approx(0.1) and attacked.difference == pytest.approx(0.7 - 0.5)
    assert attacked.ours is not None and attacked.ours.sd == pytest.approx(0.1414, abs=1e-3)
    assert other.ours is None and other.difference is None


@pytest.mark.parametrize(
    "other", [{"attack": "fgsm"}, {"limit": 5}, {"threat": "l2"}, {"protocol": "last"}, {"dataset": "ecg"}]
)
def test_another_cell_is_not_compared(other: Facts, path: Path) -> None:
    assert agreements(pairs(read_study(path), [row(made_up(["0", "0"]), **other).record])) == {}


def test_an_attack_may_have_been_counted_by_a_protocol_of_its_own(path: Path) -> None:
    path.write_text(STUDY + '[[otherwise]]\nwhere.attack = "PGD"\nprotocol = "last"\n')
    study = read_study(path)
    compared = pairs(study, [row(made_up(["0", "0"]), protocol="last").record])
    assert agreement(compared).compared == 2 and tables(compared)[0].remarks == ("protocol last",)
    assert agreements(pairs(study, [row(made_up(["0", "0"])).record])) == {}
    text = render([row(made_up(["0", "0"]), protocol="last")], [study])
    assert "protocol last; mean absolute difference 0.250." in text


def test_partial_rows_are_compared_apart_and_say_so(path: Path) -> None:
    path.write_text(STUDY + OTHERWISE)
    rows = [row(made_up(["01", "01"]), defense=defense, protocol="last") for defense in ("none", "none[epochs=3]")]
    (how, near), *others = agreements(pairs(read_study(path), [one.record for one in rows])).items()
    assert (how, near.compared, near.of, others) == ("3 epochs", 2, 3, [])
    text = render(rows, [read_study(path)])
    assert "- 2 of 3 values stand beside ours (partial: 3 epochs): mean" in text
    assert "protocol last; partial: 3 epochs; mean absolute difference 0.200 (partial)." in text
    assert "| plain (partial) | 1.000 / 0.90 | 0.800 / 0.50 |" in text


def test_whole_and_partial_rows_of_one_table_are_not_averaged(path: Path) -> None:
    path.write_text(STUDY + '[[otherwise]]\nwhere.method = "odd"\npartial = "1 epoch"\n')
    rows = [row(made_up(["01", "01"])), row(made_up(["0123", "0123"]), defense="odd[a=1]")]
    text = render(rows, [read_study(path)])
    assert "- 2 of 2 values stand beside ours: mean absolute difference 0.200, largest 0.300." in text
    assert "- 1 of 1 values stand beside ours (partial: 1 epoch): mean absolute difference 0.100" in text
    assert "partial: 1 epoch; mean absolute difference 0.200; mean absolute difference 0.100 (partial)." in text
    assert "| plain | " in text and "| odd (partial) | " in text
    text = render(rows[1:], [read_study(path)])
    assert "- 0 of 2 values stand beside ours: mean absolute difference \u2014, largest \u2014." in text


def test_a_figure_may_be_that_of_one_class(path: Path) -> None:
    csv = path.parent / "values.csv"
    csv.write_text(
        VALUES.replace("acc,plain,0,", "f1[N],plain,0,").replace("acc,plain,0.1", "recall[nobody],plain,0.1")
    )
    one = row(made_up(["01", "01"]))
    clean, unknown, _ = pairs(read_study(path), [one.record])
    known = one.record.scores[0].by_class["N"]
    assert known is not None and clean.ours is not None and clean.ours.mean == known.f1
    assert unknown.ours is None


def test_a_failed_row_is_not_compared(path: Path) -> None:
    assert agreements(pairs(read_study(path), [row().record])) == {}


def test_agreement_is_over_the_values_that_have_both_sides(path: Path) -> None:
    found = agreement(pairs(read_study(path), [row(made_up(["01", "01"])).record]))
    assert (found.compared, found.of) == (2, 3)
    assert (found.mean, found.largest) == pytest.approx(((0.1 + 0.3) / 2, 0.3))


def test_the_board_shows_both_figures_and_how_near_they_are(path: Path) -> None:
    text = render([row(made_up(["01", "01"]))], [read_study(path)])
    assert "| plain | 1.000 / 0.90 | 0.800 / 0.50 |" in text and "| odd | — | — / 0.70 |" in text
    assert "- 2 of 3 values stand beside ours: mean absolute difference 0.200, largest 0.300." in text


def test_a_study_without_a_row_of_ours_is_not_on_the_board(path: Path) -> None:
    assert "Beside published" not in render([row(made_up(["0", "0"]), attack="fgsm")], [read_study(path)])
