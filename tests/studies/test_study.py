"""A study is read as it is meant, its exceptions in their order; and what is no study is refused by place."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgbench.core.errors import StoreError
from ecgbench.registry.catalog import discover
from ecgbench.studies.study import read_study
from tests.made_up_study import OTHERWISE, STUDY, VALUES, path

__all__ = ["path"]
SHIPPED = sorted((Path(__file__).parents[2] / "leaderboard" / "published").glob("*.toml"))


def test_of_two_exceptions_the_later_counts_and_what_none_names_stays(path: Path) -> None:
    path.write_text(STUDY + OTHERWISE)
    study = read_study(path)
    plain, _, odd = study.values
    assert study.row(plain) == ("beats", "linf", "last", "mlp", "pgd", "none[epochs=3]")
    assert study.row(odd) == ("beats", "linf", "limit[n=5]", "mlp", "pgd", "odd[a=2]")
    assert (study.partial(plain), study.partial(odd)) == ("3 epochs", "3 epochs")
    assert ("defense", "odd[a=2]") in study.meant() and ("protocol", "last") in study.meant()


def test_what_judges_has_the_victims_of_the_exceptions_and_a_protocol_of_its_own(path: Path) -> None:
    path.write_text(f'{STUDY}[judged]\nof = "PGD"\nattack = "strict"\nprotocol = "parts"\n{OTHERWISE}')
    study = read_study(path)
    assert study.judging_row(study.values[0]) == ("beats", "linf", "parts", "mlp", "strict", "none[epochs=3]")
    assert ("attack", "strict") in study.meant() and ("protocol", "parts") in study.meant()
    path.write_text(STUDY)
    assert read_study(path).judging_row(study.values[0]) is None


def test_values_may_be_saved_by_a_spreadsheet(path: Path) -> None:
    plain = read_study(path).values
    (path.parent / "values.csv").write_bytes(b"\xef\xbb\xbf" + VALUES.replace("\n", "\r\n").encode())
    assert read_study(path).values == plain


@pytest.mark.parametrize(
    ("exception", "fault"),
    [
        ('where.attack = "pgd"\n', "where.attack, has 'pgd'; did you mean 'PGD'?"),
        ('where.class = "N"\n', r"\.where, has the field 'class'; known: attack, method, model\."),
        ('method.even = "none"\n', "method, has 'even'; known: odd, plain."),
        ('protcol = "last"\n', ", has the field 'protcol'; did you mean 'protocol'?"),
        ('threat = "l2"\n', "has the field 'threat'; known: attack, method, model, partial, protocol, where."),
        ('method = "none"\n', r"method = 'none'; expected a table \[method\]"),
        ('partial = ""\n', "partial = ''; expected text"),
        ("partial = true\n", "partial = True; expected text"),
    ],
)
def test_an_exception_in_words_that_nobody_knows_is_refused(exception: str, fault: str, path: Path) -> None:
    path.write_text(f"{STUDY}[[otherwise]]\n{exception}")
    with pytest.raises(StoreError, match=rf"study\.toml(, | gives )otherwise\[0\].*{fault}"):
        read_study(path)


@pytest.mark.parametrize(
    ("judged", "fault"),
    [
        ('of = "PGD"\n', "lacks attack; expected at least of, attack"),
        ('attack = "strict"\n', "lacks of"),
        ('of = "pgd"\nattack = "strict"\n', "has 'pgd'; did you mean 'PGD'"),
        ('of = "PGD"\nattack = "strict"\nprotocl = "last"\n', "has the field 'protocl'; did you mean 'protocol'"),
        ('of = "PGD"\nattack = "strict"\nthreat = "l2"\n', "has the field 'threat'"),
    ],
)
def test_a_judge_in_words_that_nobody_knows_is_refused(judged: str, fault: str, path: Path) -> None:
    path.write_text(f"{STUDY}[judged]\n{judged}")
    with pytest.raises(StoreError, match=rf"study\.toml, judged(\.of)?, {fault}"):
        read_study(path)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("plain,0,0.9", "plain,0,nine", "line 2 has eps '0', value 'nine'"),
        ("plain,0,0.9", "plain,0", "line 2 has eps '0', value None"),
        ("plain,0,0.9", "plain,0,1.9", "line 2 is no value"),
        ("plain,0,0.9", "plain,0,0.9,0.8", "line 2 is no value"),
        ("acc,odd", "auc,odd", "line 4 is no value"),
        ("1,MLP,PGD,acc,odd", "\n\n1,MLP,PGD,auc,odd", "line 6 is no value"),
        ("PGD,acc,odd", "FGSM,acc,odd", "line 4, attack, has 'FGSM'; known: PGD"),
        ("plain,0.1,0.5", "plain,0.0,0.5", "line 3 repeats a value; expected each of them once"),
        ("table,model", "model,table", "has columns"),
        ("0.9", '"' + "0" * 200_000 + '"', "cannot be read: field larger than"),
    ],
)
def test_a_damaged_table_is_refused_by_line(old: str, new: str, fault: str, path: Path) -> None:
    values = path.parent / "values.csv"
    values.write_text(VALUES.replace(old, new))
    with pytest.raises(StoreError, match=rf"values\.csv.*{fault}"):
        read_study(path)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("[method]", "[mthod]", "has the field 'mthod'; did you mean 'method'"),
        ("citation", "cit", "has the field 'cit'; did you mean 'citation'"),
        ('threat = "linf"\n', "", "lacks threat; expected at least citation, values"),
        ('"linf"', '["linf"]', r"gives threat = \['linf'\]; expected text"),
        ('plain = "none"', "plain = 5", "gives method.plain = 5; expected text"),
        ('[model]\nMLP = "mlp"\n', "", r"lacks \[model\]"),
        ('dataset = "beats"\n', 'dataset = "beats"\nmodel = "x"\n', "is not TOML"),
        (
            'dataset = "beats"\n',
            'dataset = "beats"\notherwise = "x"\n',
            r"otherwise = 'x'; expected tables \[\[oth",
        ),
    ],
)
def test_a_damaged_study_is_refused(old: str, new: str, fault: str, path: Path) -> None:
    path.write_text(STUDY.replace(old, new))
    with pytest.raises(StoreError, match=rf"study\.toml {fault}|study\.toml gives {fault}"):
        read_study(path)


@pytest.mark.parametrize("name", ["none.csv", "a\\u0000b"])
def test_a_study_without_its_values_is_refused(name: str, path: Path) -> None:
    path.write_text(STUDY.replace("values.csv", name))
    with pytest.raises(StoreError, match="cannot be read"):
        read_study(path)


@pytest.mark.parametrize("content", [b"\xff", b"a = " + b"[" * 5000, b"citation"])
def test_what_is_no_toml_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"study\.toml is not TOML"):
        read_study(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_selectors_of_a_shipped_study_are_canonical(path: Path) -> None:
    catalog = discover()
    for kind, text in read_study(path).meant():
        assert catalog.canonical(kind, catalog.resolve(kind, text)) == text


def test_the_twelve_tables_of_ma_and_liang_are_whole() -> None:
    (study,) = (read_study(path) for path in SHIPPED if path.stem == "ma-liang-2020")
    assert len(study.values) == 756 == 12 * 9 * 7
    assert next(f.value for f in study.values if (f.table, f.method, f.eps) == ("5", "loss2", 0.1)) == 0.61
