from dataclasses import replace

import msgspec
import pytest

from ecgbench.core.errors import StoreError
from ecgbench.leaderboard.sections import sections
from tests.made_up_rows import Facts, changed, made_up, provenance_of, raised, row


def test_rows_of_other_terms_stand_in_sections_of_their_own() -> None:
    outcomes = made_up(["0", "01"])
    others: list[Facts] = [{"dataset": "rhythms"}, {"threat": "l2"}, {"protocol": "last"}, {"headline": 0.2}]
    rows = [row(outcomes), *(row(outcomes, **facts) for facts in others)]
    assert len(sections(rows)) == 5


def test_made_up_data_and_other_protocols_come_last() -> None:
    outcomes = made_up(["0", "01"])
    rows = [
        row(outcomes, dataset="a", synthetic=True),
        row(outcomes, dataset="b", protocol="last"),
        row(outcomes, dataset="b"),
        row(outcomes, dataset="b", threat="z"),
    ]
    found = [(s.dataset, s.protocol, s.threat) for s in sections(rows)]
    assert found == [
        ("b", "standard", "linf"),
        ("b", "standard", "z"),
        ("b", "last", "linf"),
        ("a", "standard", "linf"),
    ]


def test_the_grid_is_the_union_of_all_grids() -> None:
    rows = row(made_up(["0"], eps=(0.1,))), row(made_up(["0", "0"], eps=(0.05, 0.1)), model="cnn")
    (section,) = sections(rows)
    assert section.eps == (0.05, 0.1)


def test_rows_stand_unflagged_first_then_by_what_is_shown() -> None:
    rows = [
        row(made_up(["", ""]), model="flagged", checks=raised("LOSS")),
        row(made_up(["0", "0"]), model="good"),
        row(model="broken"),
        row(made_up(["01", "0"]), model="fair", attack="b"),
        row(made_up(["02", "0"]), model="fair", attack="a"),
        row(made_up(["", ""]), model="part", limit=10),
        row(made_up(["13579", "13579"], clean="13579"), model="constant", checks=raised()),
        row(made_up(["012345", "0"]), model="doubted", checks=raised("LOSS")),
    ]
    (section,) = sections(rows)
    found = [(one.record.model, one.record.attack) for one in section.rows]
    assert found == [
        ("good", "pgd"),
        ("fair", "a"),
        ("fair", "b"),
        ("part", "pgd"),
        ("flagged", "pgd"),
        ("doubted", "pgd"),
        ("constant", "pgd"),
        ("broken", "pgd"),
    ]


def test_a_failed_row_needs_no_terms_to_join_its_section() -> None:
    (section,) = sections([row(made_up(["0", "0"])), row(model="cnn", classes=(), unit="", notes=(), weighting="")])
    assert section.scored is not None and section.scored.classes == ("N", "V") and len(section.rows) == 2


@pytest.mark.parametrize(
    "facts",
    [
        {"classes": ("N", "S")},
        {"weighting": "balanced"},
        {"skip_unpredicted": True},
        {"notes": ()},
        {"synthetic": True},
        {"unit": "1"},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_rows_that_were_not_scored_alike_are_refused(facts: Facts) -> None:
    outcomes = made_up(["0", "0"])
    others: Facts = {**facts, "model": "cnn"}
    with pytest.raises(StoreError, match=f"mlp-.* differ in {next(iter(facts))}; run the older one again"):
        sections([row(outcomes), row(outcomes, **others)])


@pytest.mark.parametrize(
    ("name", "value"), [("ids", 1), ("y", 0), ("weight", 2), ("group", 1)], ids=["ids", "y", "weight", "group"]
)
def test_rows_on_other_samples_are_refused(name: str, value: int) -> None:
    outcomes = made_up(["0", "0"])
    array = getattr(outcomes, name)
    other = replace(outcomes, **{name: (array + value if name == "ids" else array * 0 + value).astype(array.dtype)})
    with pytest.raises(StoreError, match=f"differ in {name}"):
        sections([row(outcomes), row(other, attack="fgsm")])


def test_attacks_on_differently_trained_victims_are_refused() -> None:
    one, other = row(made_up(["0", "0"])), row(made_up(["0", "0"]), attack="fgsm")
    made = msgspec.structs.replace(provenance_of(other), victim="another")
    with pytest.raises(StoreError, match="differ in trained victim"):
        sections([one, changed(other, provenance=made)])


def test_a_row_without_its_outcomes_is_refused() -> None:
    with pytest.raises(StoreError, match=r"has scores without outcomes at the same eps"):
        sections([replace(row(made_up(["0", "0"])), outcomes=None)])
