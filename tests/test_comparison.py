"""Published figures beside ours: joined by what was run, never by luck; and what is no study is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_rows import made_up, row

from ecgbench.board import render
from ecgbench.catalog import discover
from ecgbench.comparison import agreement, agreements, pairs
from ecgbench.errors import StoreError
from ecgbench.study import read_study

STUDY = """
citation = "Somebody 2020, table 1"
values = "values.csv"
dataset = "beats"
threat = "linf"
protocol = "standard"
[model]
MLP = "mlp"
[attack]
PGD = "pgd"
[method]
plain = "none"
odd = "odd[a=1]"
"""
VALUES = """table,model,attack,metric,method,eps,value
1,MLP,PGD,acc,plain,0,0.9
1,MLP,PGD,acc,plain,0.1,0.5
1,MLP,PGD,acc,odd,0.1,0.7
"""
OTHERWISE = """
[[otherwise]]
where = { attack = "PGD", model = "MLP" }
protocol = "last"
partial = "3 epochs"
method = { plain = "none[epochs=3]" }
[[otherwise]]
where.method = "odd"
protocol = "limit[n=5]"
[otherwise.method]
odd = "odd[a=2]"
"""
SHIPPED = sorted((Path(__file__).parent.parent / "leaderboard" / "published").glob("*.toml"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "values.csv").write_text(VALUES)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def test_a_figure_meets_the_mean_over_seeds_of_the_same_cell(path: Path) -> None:
    rows = [row(made_up(["01", "01"]), seed=0), row(made_up(["0123", "0123"]), seed=1)]
    clean, attacked, other = pairs(read_study(path), [one.record for one in rows])
    assert clean.difference == pytest.approx(0.1) and attacked.difference == pytest.approx(0.7 - 0.5)
    assert attacked.ours is not None and attacked.ours.sd == pytest.approx(0.1414, abs=1e-3)
    assert other.ours is None and other.difference is None


@pytest.mark.parametrize(
    "other", [{"attack": "fgsm"}, {"limit": 5}, {"threat": "l2"}, {"protocol": "last"}, {"dataset": "ecg"}]
)
def test_another_cell_is_not_compared(other: dict[str, object], path: Path) -> None:
    assert agreement(pairs(read_study(path), [row(made_up(["0", "0"]), **other).record])) is None


def test_an_attack_may_have_been_counted_by_a_protocol_of_its_own(path: Path) -> None:
    path.write_text(STUDY + '[[otherwise]]\nwhere.attack = "PGD"\nprotocol = "last"\n')
    study = read_study(path)
    assert agreement(pairs(study, [row(made_up(["0", "0"]), protocol="last").record])) is not None
    assert agreement(pairs(study, [row(made_up(["0", "0"])).record])) is None


def test_of_two_exceptions_the_later_counts_and_what_none_names_stays(path: Path) -> None:
    path.write_text(STUDY + OTHERWISE)
    study = read_study(path)
    plain, _, odd = study.figures
    assert study.row(plain) == ("beats", "linf", "last", "mlp", "pgd", "none[epochs=3]")
    assert study.row(odd) == ("beats", "linf", "limit[n=5]", "mlp", "pgd", "odd[a=2]")
    assert (study.partial(plain), study.partial(odd)) == ("3 epochs", "3 epochs")
    assert ("defense", "odd[a=2]") in study.meant() and ("protocol", "last") in study.meant()


def test_partial_rows_are_compared_apart_and_say_so(path: Path) -> None:
    path.write_text(STUDY + OTHERWISE)
    rows = [row(made_up(["01", "01"]), defense=defense, protocol="last") for defense in ("none", "none[epochs=3]")]
    (how, near), *others = agreements(pairs(read_study(path), [one.record for one in rows])).items()
    assert (how, near.compared, near.of, others) == ("3 epochs", 2, 3, [])
    text = render(rows, [read_study(path)])
    assert "- 2 of 3 values stand beside ours, partial (3 epochs): mean" in text
    assert "Table 1, partial (3 epochs), mean absolute difference" in text


@pytest.mark.parametrize(
    ("exception", "fault"),
    [
        ('where.attack = "pgd"\n', "attack, has 'pgd'; did you mean 'PGD'?"),
        ('where.class = "N"\n', "where, has 'class'; known: attack, method, model."),
        ('method.even = "none"\n', "method, has 'even'; known: odd, plain."),
        ('protcol = "last"\n', "has 'protcol'; did you mean 'protocol'?"),
        ('method = "none"\n', r"gives method = 'none'; expected a table \[method\]"),
    ],
)
def test_an_exception_in_words_that_nobody_knows_is_refused(exception: str, fault: str, path: Path) -> None:
    path.write_text(f"{STUDY}[[otherwise]]\n{exception}")
    with pytest.raises(StoreError, match=rf"study\.toml, \[\[otherwise\]\] 1.*{fault}"):
        read_study(path)


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
    assert agreement(pairs(read_study(path), [row().record])) is None


def test_agreement_is_over_the_values_that_have_both_sides(path: Path) -> None:
    found = agreement(pairs(read_study(path), [row(made_up(["01", "01"])).record]))
    assert found is not None and (found.compared, found.of) == (2, 3)
    assert (found.mean, found.largest) == (pytest.approx((0.1 + 0.3) / 2), pytest.approx(0.3))


def test_the_board_shows_both_figures_and_how_near_they_are(path: Path) -> None:
    text = render([row(made_up(["01", "01"]))], [read_study(path)])
    assert "| plain | 1.000 / 0.90 | 0.800 / 0.50 |" in text and "| odd | — | — / 0.70 |" in text
    assert "- 2 of 3 values stand beside ours: mean absolute difference 0.200, largest 0.300." in text


def test_a_study_without_a_row_of_ours_is_not_on_the_board(path: Path) -> None:
    assert "Beside published" not in render([row(made_up(["0", "0"]), attack="fgsm")], [read_study(path)])


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("plain,0,0.9", "plain,0,nine", "line 2 has eps '0', value 'nine'"),
        ("plain,0,0.9", "plain,0,1.9", "line 2 is no figure"),
        ("acc,odd", "auc,odd", "line 4 is no figure"),
        ("PGD,acc,odd", "FGSM,acc,odd", "line 4 has attack 'FGSM'; expected one of PGD"),
        ("table,model", "model,table", "has columns"),
    ],
)
def test_a_damaged_table_is_refused_by_line(old: str, new: str, fault: str, path: Path) -> None:
    values = path.parent / "values.csv"
    values.write_text(VALUES.replace(old, new))
    with pytest.raises(StoreError, match=fault):
        read_study(path)


@pytest.mark.parametrize(("old", "new"), [("[method]", "[mthod]"), ("citation", "cit"), ("values.csv", "none.csv")])
def test_a_damaged_study_is_refused(old: str, new: str, path: Path) -> None:
    path.write_text(STUDY.replace(old, new))
    with pytest.raises(StoreError, match=r"study\.toml"):
        read_study(path)


def test_words_that_are_no_table_are_refused(path: Path) -> None:
    path.write_text('model = "x"\n' + STUDY.replace('[model]\nMLP = "mlp"\n', ""))
    with pytest.raises(StoreError, match=r"study\.toml gives model = 'x'; expected a table \[model\]"):
        read_study(path)


@pytest.mark.parametrize(
    ("judged", "fault"),
    [
        ('of = "PGD"\n', "lacks 'attack'; expected an attack"),
        ('attack = "strict"\n', "lacks 'of'"),
        ('of = "pgd"\nattack = "strict"\n', "of, has 'pgd'; did you mean 'PGD'"),
        ('of = "PGD"\nattack = "strict"\nthreats = "l2"\n', "has 'threats'; did you mean 'threat'"),
    ],
)
def test_a_judge_in_words_that_nobody_knows_is_refused(judged: str, fault: str, path: Path) -> None:
    path.write_text(f"{STUDY}[judged]\n{judged}")
    with pytest.raises(StoreError, match=rf"study\.toml, judged, .*{fault}"):
        read_study(path)


def test_exceptions_are_a_list_of_tables(path: Path) -> None:
    path.write_text('otherwise = "x"\n' + STUDY)
    with pytest.raises(StoreError, match=r"gives otherwise = 'x'; expected tables \[\[otherwise\]\]"):
        read_study(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_selectors_of_a_shipped_study_are_canonical(path: Path) -> None:
    catalog = discover()
    for kind, text in read_study(path).meant():
        assert catalog.canonical(kind, catalog.resolve(kind, text)) == text


def test_the_twelve_tables_of_ma_and_liang_are_whole() -> None:
    (study,) = (read_study(path) for path in SHIPPED if path.stem == "ma-liang-2020")
    assert len(study.figures) == 756 == 12 * 9 * 7
    assert next(f.value for f in study.figures if (f.table, f.method, f.eps) == ("5", "loss2", 0.1)) == 0.61
