"""Each figure of a board shows what its section, victim, table or sample has, under a name of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecgbench.core.data import Samples
from ecgbench.evaluation.perturbations import Perturbations
from ecgbench.figures.values import Curves, Figure, Matrices, Panels, Signals
from ecgbench.leaderboard.figures import board_figures, curves_names, of_perturbations, run_figures
from ecgbench.leaderboard.naming import Names
from ecgbench.leaderboard.sections import sections
from ecgbench.leaderboard.titles import Titles
from ecgbench.results.published import Published
from ecgbench.studies.study import Judged, Study, Value
from tests.made_up_rows import Facts, made_up, raised, row
from tests.problems import task_of

STUDY = Study(
    name="study",
    citation="Somebody 2020",
    dataset="beats",
    threat="linf",
    protocol="standard",
    selectors={"model": {"MLP": "mlp"}, "attack": {"PGD": "pgd"}, "method": {"plain": "none", "odd": "odd"}},
    values=tuple(
        Value("1", "MLP", "PGD", metric, method, eps, value)
        for metric in ("acc", "prec")
        for method in ("plain", "odd")
        for eps, value in ((0.0, 0.9), (0.1, 0.5), (0.3, 0.2))
    ),
)


def figures(*rows: Published, studies: tuple[Study, ...] = ()) -> dict[str, Figure]:
    names = Names.of(Titles(), sections(rows))
    return board_figures(names, studies, [one.record for one in rows]) if studies else run_figures(names)


def curves(*rows: Published) -> Curves:
    (found,) = (figure for figure in figures(*rows).values() if isinstance(figure, Curves))
    return found


def matrices(*rows: Published) -> list[Matrices]:
    return [figure for figure in figures(*rows).values() if isinstance(figure, Matrices)]


def test_a_curve_is_the_worst_case_over_attacks_with_its_interval() -> None:
    rows = row(made_up(["01", "012"]), attack="a"), row(made_up(["23", "2345"]), attack="b")
    (section,) = sections(rows)
    (line,) = curves(*rows).lines
    assert line.eps == (0.0, 0.1, 0.2) and line.values == (1.0, 0.6, 0.4)
    assert line.band[1] == section.victims[0].interval and line.band[0][1] == 1.0
    assert all(low < value < high for value, (low, high) in zip(line.values[1:], line.band[1:], strict=True))


def test_each_model_has_curves_of_its_own() -> None:
    rows = row(made_up(["01", "01"]), model="mlp"), row(made_up(["0", "0"]), model="cnn")
    found = [figure for figure in figures(*rows).values() if isinstance(figure, Curves)]
    assert [[line.label for line in shown.lines] for shown in found] == [["cnn, none"], ["mlp, none"]]


def test_victims_that_rank_have_a_line_and_flags_stand_beside_their_names() -> None:
    shown = curves(
        row(made_up(["0", "0"]), defense="good"),
        row(made_up(["", ""]), defense="flagged", checks=raised("LOSS")),
        row(made_up(["", ""]), defense="part", limit=10),
        row(defense="broken"),
    )
    assert [line.label for line in shown.lines] == ["good", "flagged, LOSS"]
    assert [line.mark for line in shown.lines] == [0, 2] and shown.headline == 0.1 and shown.x == "eps in mV"


def test_a_part_of_the_split_is_drawn_where_nothing_ranks() -> None:
    assert [line.label for line in curves(row(made_up(["", ""]), limit=10)).lines] == ["none, partial"]
    assert figures(row()) == {}


def test_matrices_are_weighted_shares_of_all_seeds_in_the_worst_case() -> None:
    weight = np.array([1, 1, 3, 1, 1, 1, 1, 1, 1, 1], np.float32)
    one, other = (replace(made_up(wrong, clean="1"), weight=weight) for wrong in (["12", "12"], ["1", "1"]))
    (found,) = matrices(row(one, seed=0), row(other, seed=1))
    assert found.classes == ("N", "V") and found.counts == (5, 5)
    (_, clean), (name, attacked) = found.panels
    assert name == "worst case at eps 0.1"
    assert clean == ((1.0, 0.0), (0.2, 0.8))
    assert attacked[0] == pytest.approx((11 / 14, 3 / 14)) and attacked[1] == (0.2, 0.8)
    assert found.panels[0][0] == "clean" and len(matrices(row(one, attack="a"), row(other, attack="b"))) == 1


def test_a_class_without_samples_has_no_shares() -> None:
    (found,) = matrices(row(made_up(["0", "0"]), classes=("N", "V", "F")))
    assert found.counts == (5, 5, 0) and found.panels[0][1][2] == (0.0, 0.0, 0.0)


def test_many_classes_have_no_matrix() -> None:
    assert matrices(row(made_up(["0", "0"]), classes=tuple("ABCDEFG"))) == []
    assert len(matrices(row(made_up(["0", "0"]), classes=tuple("ABCDEF")))) == 1


def test_terms_that_look_alike_in_a_file_name_have_files_of_their_own() -> None:
    rows = [
        row(made_up(["0", "0"]), threat=threat) for threat in ("l2[a]", "l2-a", "L2-a" + "x" * 99, "L2-a" + "x" * 98)
    ]
    names = [name for section in sections(rows) for name in curves_names(section).values()]
    assert len({str(name).lower() for name in names}) == 4 and len(figures(*rows)) == 8
    assert all(len(str(name)) < 100 for name in names)


def test_published_accuracies_are_dashed_beside_ours_where_both_stand() -> None:
    found = figures(row(made_up(["01", "01"])), studies=(STUDY,))
    (shown,) = (f for name, f in found.items() if name.startswith("study") and isinstance(f, Curves))
    ours, theirs = shown.lines
    assert (ours.label, ours.eps, ours.values, ours.dashed) == ("plain, ours", (0.0, 0.1), (1.0, 0.8), False)
    assert (theirs.label, theirs.eps, theirs.values, theirs.dashed) == (
        "plain, published",
        (0.0, 0.1),
        (0.9, 0.5),
        True,
    )
    assert ours.mark == theirs.mark and shown.x == "eps in mV"


JUDGED = replace(STUDY, judged=Judged("PGD", "strict", "parts"))


def judged(*rows: Published, study: Study = JUDGED) -> list[Panels]:
    return [figure for figure in figures(*rows, studies=(study,)).values() if isinstance(figure, Panels)]


def test_what_judges_a_victim_stands_beside_what_was_published_and_ours() -> None:
    ours = (row(made_up(["01", "01"]), seed=seed) for seed in (0, 1))
    strict = [
        row(made_up(wrong), attack="strict", protocol="parts", seed=seed)
        for seed, wrong in enumerate((["0123", "0123"], ["012345", "012345"]))
    ]
    (shown,) = judged(*ours, *strict)
    ((method, (theirs, replay, verdict)),) = shown.panels
    assert method == "plain" and [line.mark for line in (theirs, replay, verdict)] == [0, 1, 2]
    assert (theirs.values, theirs.dashed, theirs.band) == ((0.9, 0.5, 0.2), True, ())
    assert (replay.label, replay.values[1]) == ("ours", 0.8)
    assert verdict.label == "judged" and verdict.values[1] == pytest.approx(0.5)
    one, other = (record.record.score(0.1).interval.acc for record in strict)  # type: ignore[union-attr]
    assert verdict.band[1] == (min(one[0], other[0]), max(one[1], other[1]))
    assert shown.title.endswith("and what judges the same victims\njudged by strict, protocol parts")


def test_seeds_that_were_not_judged_do_not_stand_beside_the_verdict() -> None:
    ours = (row(made_up([wrong, wrong]), seed=seed) for seed, wrong in enumerate(["01", "0123"]))
    (shown,) = judged(*ours, row(made_up(["012345", "012345"]), attack="strict", protocol="parts", seed=1))
    ((_, (_, replay, verdict)),) = shown.panels
    assert (replay.values[1], verdict.values[1]) == (0.6, 0.4)


def test_a_seed_with_other_eps_counts_where_it_has_them() -> None:
    ours = (
        row(made_up(["01", "0123"], eps=eps), eps=eps, seed=seed) for seed, eps in enumerate([(0.1, 0.2), (0.1, 0.3)])
    )
    strict = (row(made_up(["0", "0"]), attack="strict", protocol="parts", seed=seed) for seed in (0, 1))
    (shown,) = judged(*ours, *strict)
    ((_, (_, replay, _)),) = shown.panels
    assert (replay.eps, replay.values) == ((0.0, 0.1, 0.2, 0.3), (1.0, 0.8, 0.6, 0.6))


@pytest.mark.parametrize(
    "other", [{"protocol": "standard"}, {"attack": "pgd9"}, {"defense": "odd"}, {"limit": 5}, {"seed": 7}]
)
def test_nothing_judges_a_victim_that_did_not_meet_it(other: Facts) -> None:
    ours = row(made_up(["01", "01"]))
    facts: Facts = {"attack": "strict", "protocol": "parts", **other}
    assert judged(ours, row(made_up(["0", "0"]), **facts)) == []
    assert judged(ours, row(made_up(["0", "0"]), attack="strict", protocol="parts"), study=STUDY) == []


def test_a_study_without_rows_of_ours_has_no_figure() -> None:
    assert len(figures(row(made_up(["0", "0"]), threat="l2"), studies=(STUDY,))) == 1


def kept(scale: float, physical: str | None) -> Signals:
    x = torch.arange(8.0).view(1, 1, 8)
    samples = Samples.of(x, torch.tensor([1]), scale=torch.tensor([scale]))
    task = replace(task_of(samples, 2), classes=("N", "V"), physical=physical, rate=125.0)
    ones, label = np.ones(1, np.int16), np.zeros(1, np.int16)
    deltas = Perturbations(np.array([7]), x.numpy(), (x / 2).numpy(), samples.scale.numpy(), ones, ones, label)
    (figure,) = of_perturbations(row(made_up(["", ""])).record, task, deltas).values()
    assert isinstance(figure, Signals)
    return figure


def test_a_kept_sample_is_shown_in_its_physical_unit() -> None:
    shown = kept(2.0, "mV")
    assert shown.clean == (tuple(2.0 * v for v in range(8)),) and shown.delta == (tuple(1.0 * v for v in range(8)),)
    assert (shown.unit, shown.rate) == ("mV", 125.0)
    assert shown.title.startswith("sample 7: V; predicted V, under attack at eps 0.1 N\nbeats, mlp")


def test_a_signal_without_a_physical_unit_is_shown_as_it_is() -> None:
    shown = kept(2.0, None)
    assert shown.clean == (tuple(1.0 * v for v in range(8)),) and shown.unit == "unit of the signal"
