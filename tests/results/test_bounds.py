"""A row beside certificates: what any of them proves counts, others do not fit, and a contradiction is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ecgbench.core.errors import EcgbenchError
from ecgbench.results.bounds import Bounds
from ecgbench.results.published import Published
from tests.made_up_certificates import certificate, proves
from tests.made_up_rows import made_up, row


def attacked(threat: str = "linf") -> Published:
    """Ten samples; 0 and 3 are broken at 0.1, 4 and 5 as well at 0.2; of weights "weights"."""
    return row(made_up(["03", "0345"]), threat=threat)


def beside(one: Published, *certificates: Any) -> list[tuple[float, float, float, int]]:
    assert one.outcomes is not None
    sides = Bounds(certificates).beside(one.record, one.outcomes)
    return [(side.eps, side.proven, side.attacked, side.open_samples) for side in sides]


def test_each_eps_has_both_sides_and_what_any_certificate_proves_counts() -> None:
    assert beside(attacked(), certificate(proves("12", "1")), certificate(proves("2456789", "2"))) == [
        (0.1, 0.8, 0.8, 0),
        (0.2, 0.2, 0.6, 4),
    ]


def test_a_proof_holds_at_every_smaller_eps() -> None:
    assert beside(attacked(), certificate(proves("12", eps=(0.15,)))) == [(0.1, 0.2, 0.8, 6)]
    assert beside(attacked(), certificate(proves("12", eps=(0.3,)))) == [(0.1, 0.2, 0.8, 6), (0.2, 0.2, 0.6, 4)]
    assert beside(attacked(), certificate(proves("12", eps=(0.05,)))) == []


@pytest.mark.parametrize(
    ("proven", "row_of", "fits"),
    [
        ("linf", "linf", True),
        ("linf[mask=false]", "linf", True),
        ("linf[bounds=false,mask=false]", "linf[mask=false]", True),
        ("linf", "linf[mask=false]", False),
        ("linf[mask=false]", "linf[bounds=false]", False),
        ("l2", "linf", False),
        ("linf[unit=mV]", "linf", False),
        ("linf", "linf[target=V]", False),
        ("linf", "nobody[knows=this]", False),
    ],
)
def test_a_proof_holds_for_every_smaller_threat(proven: str, row_of: str, fits: bool) -> None:
    assert bool(beside(attacked(row_of), certificate(proves("1", "1"), threat=proven))) is fits


@pytest.mark.parametrize("facts", [{"weights": "v"}, {"dataset": "others"}, {"statistical": True}])
def test_a_certificate_of_another_victim_or_of_votes_does_not_fit(facts: dict[str, object]) -> None:
    assert beside(attacked(), certificate(proves("0", "0"), **facts)) == []
    assert Bounds((certificate(proves("0", "0"), **facts),)).contradiction(attacked()) is None


def test_a_part_of_the_samples_bounds_no_figure_but_still_cannot_be_broken() -> None:
    part = certificate(proves("6789", "69", ids=range(5, 15)))
    assert beside(attacked(), part) == [] and Bounds((part,)).contradiction(attacked()) is None
    whole = certificate(proves("12", "1"))
    assert beside(attacked(), part, whole) == [(0.1, 0.6, 0.8, 2), (0.2, 0.3, 0.6, 3)]
    wrong = Bounds((certificate(proves("5", "5", ids=range(5, 15)), key="k" * 64),))
    assert wrong.contradiction(attacked()) == (
        f"sample 5 is proven at eps 0.2 by crown ({'k' * 12}) and was made adversarial there (1 in all): the "
        "certificate or the host is at fault; please report this."
    )


def test_what_an_attack_breaks_at_a_smaller_eps_or_is_wrong_when_clean_contradicts_too() -> None:
    wrong = Bounds((certificate(proves("13", eps=(0.4,))),))
    assert "sample 3 is proven at eps 0.1" in str(wrong.contradiction(attacked()))
    with pytest.raises(EcgbenchError, match="sample 3 is proven"):
        beside(attacked(), *wrong.certificates)
    other = row(made_up(["", ""], clean="1"))
    assert "sample 1 is proven" in str(wrong.contradiction(other))


def test_labels_must_be_the_same() -> None:
    proofs = proves("1", "1")
    other = Bounds((certificate(replace(proofs, y=1 - proofs.y, clean=1 - proofs.y)),))
    assert "sample 0 has another label" in str(other.contradiction(attacked()))


def test_a_row_that_contradicts_a_proof_has_failed_and_has_no_figures() -> None:
    one, wrong = attacked(), Bounds((certificate(proves("124", "14")),))
    assert Bounds((certificate(proves("12", "1")),)).judged(one) is one
    failed = wrong.judged(one)
    assert failed.record.status == "failed" and "sample 4 is proven at eps 0.2" in str(failed.record.error)
    assert failed.outcomes is None and not failed.record.scores and failed.record.provenance is None
    assert failed.record.key == one.record.key and wrong.judged(failed) is failed
