from fractions import Fraction
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgbench.core.errors import EcgbenchError
from ecgbench.registry.grammar import NAME, Selector, SelectorError, parse

names = st.from_regex(NAME, fullmatch=True).map(str)
numbers = (
    st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.fractions(max_denominator=10**9)
)
plain = st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"]))
values: st.SearchStrategy[Any] = st.deferred(lambda: plain | selectors | st.lists(values, max_size=3).map(tuple))
selectors: st.SearchStrategy[Selector] = st.builds(
    lambda name, params: Selector(name, tuple(params.items())), names, st.dictionaries(names, values, max_size=3)
)


@settings(deadline=None)
@given(selectors)
def test_a_printed_selector_reads_back_as_itself(selector: Selector) -> None:
    assert repr(parse(str(selector))) == repr(selector)  # repr: True, 1 and 1.0 are equal but not the same


@settings(deadline=None)
@given(st.text('ab[]()=,"-.19e/ \\', max_size=25) | st.text(max_size=10))
def test_any_text_is_a_selector_or_an_error_of_ours(text: str) -> None:
    try:
        assert isinstance(parse(text), Selector)
    except EcgbenchError as error:
        assert "at column" in str(error)


def test_every_kind_of_value_is_read() -> None:
    assert parse('a[n=3,f=.5e-1,r=8/255,s="x \\u00e9",y=true,o=none,t=(1,(b,)),w=mV]').params == (
        ("n", 3),
        ("f", 0.05),
        ("r", Fraction(8, 255)),
        ("s", "x é"),
        ("y", True),
        ("o", None),
        ("t", (1, (Selector("b"),))),
        ("w", Selector("mV")),
    )


def test_a_ratio_is_exact() -> None:
    assert parse("a[x=1/3]").params == (("x", Fraction(1, 3)),)
    assert parse("a[x=0.1/3]").params == (("x", Fraction(1, 30)),)


def test_space_and_trailing_commas_mean_nothing() -> None:
    spaced = parse(" a [ x = 1 ,\n y = b [ z = ( 1 , 2 , ) , ] , ] ")
    assert spaced == parse("a[x=1,y=b[z=(1,2)]]")


def test_empty_brackets_are_no_parameters() -> None:
    assert parse("pgd[]") == parse("pgd") == Selector("pgd")


def test_dashes_and_dots_belong_to_a_name() -> None:
    assert parse("pgd-100.v2") == Selector("pgd-100.v2")


def test_selectors_nest() -> None:
    assert str(parse("a[b=c[d=e[f=1]]]")) == "a[b=c[d=e[f=1]]]"


def test_none_in_brackets_is_a_name_and_bare_none_is_no_value() -> None:
    assert parse("a[x=none]").params == (("x", None),)
    assert parse("a[x=none[]]").params == (("x", Selector("none")),)
    assert parse("none") == Selector("none")


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "expected a name, got the end"),
        ("pgd[steps=10", 13, "expected ',' or ']', got the end"),
        ("pgd[steps=10)", 13, "expected ',' or ']', got ')'"),
        ("pgd]", 4, "expected '[' or the end, got ']'"),
        ("pgd[a=1]]", 9, "expected the end, got ']'"),
        ("pgd[,]", 5, "expected a parameter or ']', got ','"),
        ("pgd[steps]", 10, "expected '=', got ']'"),
        ("pgd[steps=]", 11, "expected a value, got ']'"),
        ("pgd[a=1, b=2, a=3]", 15, "parameter 'a' is given a second time"),
        ("pgd[eps=8/0]", 11, "a division by zero is given"),
        ("pgd[eps=8 / 255]", 11, "expected ',' or ']', got '/'"),
        ("pgd[eps=-]", 9, "expected a number, got '-'"),
        ("pgd[eps=1e999]", 9, "a number beyond float64 is given"),
        ("pgd[t=(1,2]", 11, "expected ',' or ')', got ']'"),
        ('pgd[s="x]', 7, "no JSON string can be read"),
        ("8", 1, "expected a name, got '8'"),
    ],
)
def test_an_error_is_a_sentence_with_its_column_and_a_caret_there(text: str, column: int, words: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse(text)
    sentence, shown, caret = str(caught.value).split("\n")
    assert sentence == f"{words} at column {column} of the selector."
    assert shown == f"  {text}" and caret.index("^") - 2 == column - 1


def test_a_line_break_does_not_move_the_caret() -> None:
    with pytest.raises(SelectorError) as caught:
        parse("a[\nx=1,\ty]")
    assert str(caught.value).split("\n")[1:] == ["  a[ x=1, y]", f"  {' ' * 9}^"]


@pytest.mark.parametrize("text", ["a[x=1e-999999999/3]", f"a[x=1/{'9' * 9999}]", f"a[x={'9' * 9999}]", "a[x=" * 9999])
def test_no_short_text_takes_long(text: str) -> None:
    start = perf_counter()
    with pytest.raises(SelectorError):
        parse(text)
    assert perf_counter() - start < 1
