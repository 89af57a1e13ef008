"""Forgeries of outcomes: each would pass a board that only computes scores from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ecgbench.core.outputs import SingleLabel
from ecgbench.core.threat import Threat
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Protocol
from ecgbench.results.structure import Structure
from tests.made_up_rows import CLASSES, made_up

HONEST = made_up(["03", "0345"], clean="9", groups=5)
LINF, GROWING = Threat("linf"), Protocol()


def faults(
    outcomes: Outcomes, threat: Threat = LINF, protocol: Protocol = GROWING, minimal: bool | None = False
) -> list[str]:
    return list(Structure(outcomes, threat, protocol, SingleLabel(CLASSES), minimal).faults())


def one(outcomes: Outcomes) -> str:
    (fault,) = faults(outcomes)
    return fault


def altered(outcomes: Outcomes = HONEST, **cells: Any) -> Outcomes:
    """The outcomes with cells (eps, sample) or samples of some arrays set."""
    arrays = {name: getattr(outcomes, name).copy() for name in cells}
    for name, (place, value) in cells.items():
        arrays[name][place] = value
    return replace(outcomes, **arrays)


def test_what_a_sweep_makes_has_no_fault() -> None:
    assert faults(HONEST) == []
    assert faults(made_up(["", ""])) == [] == faults(made_up(["0123456789"] * 2))


def test_outcomes_of_older_code_that_measured_less_have_no_fault() -> None:
    older = replace(HONEST, l0=np.full_like(HONEST.l0, -1), l1=np.full_like(HONEST.l1, np.nan))
    assert faults(older) == []


@pytest.mark.parametrize(("place", "to"), [((1, 5), False), ((1, 7), True)])
def test_a_sample_that_fell_against_its_prediction(place: tuple[int, int], to: bool) -> None:
    assert f"sample {place[1]} at eps 0.2 is adversarial or not, against its own" in one(
        altered(adversarial=(place, to))
    )


@pytest.mark.parametrize("value", [0.1002, np.nan, -0.01, np.inf])
def test_a_perturbation_larger_than_its_eps(value: float) -> None:
    assert "sample 7 at eps 0.1 has a perturbation larger than eps" in one(altered(size=((0, 7), value)))


def test_a_size_may_exceed_eps_by_rounding_alone() -> None:
    assert faults(altered(size=((0, 7), 0.1 * (1 + 1e-5)))) == []


def test_a_sample_that_recovers_at_a_larger_eps() -> None:
    back = altered(adversarial=((1, 3), False), predicted=((1, 3), HONEST.y[3]))
    assert "sample 3 at eps 0.2 was adversarial at a smaller eps" in " ".join(faults(back))


@pytest.mark.parametrize("cells", [{"size": ((1, 3), 0.01)}, {"by": ((1, 3), 1)}, {"l0": ((1, 3), 9)}])
def test_what_fell_is_carried_with_all_that_is_known_of_it(cells: dict[str, Any]) -> None:
    assert "was adversarial at a smaller eps and is another one here" in one(altered(**cells))


@pytest.mark.parametrize(
    "cells", [{"size": ((0, 9), 0.1)}, {"predicted": ((0, 9), HONEST.y[9])}, {"adversarial": ((0, 9), True)}]
)
def test_a_sample_wrong_when_clean_is_left_alone(cells: dict[str, Any]) -> None:
    assert any(
        "sample 9 at eps 0.1 is perturbed, though the protocol leaves it alone" in f for f in faults(altered(**cells))
    )


def test_it_is_attacked_where_the_protocol_says_so() -> None:
    assert any("attacked without one forward" in f for f in faults(HONEST, protocol=Protocol(clean_wrong="attacked")))


def test_an_attack_that_never_asked() -> None:
    assert "sample 7 at eps 0.1 is attacked without one forward" in one(
        altered(forwards=((0, 7), 0), gradients=((0, 7), 0))
    )


def test_an_attack_that_moves_nothing_need_not_ask() -> None:
    still = {name: np.zeros_like(getattr(HONEST, name)) for name in ("size", "l0", "l1", "forwards", "gradients")}
    none = made_up(["", ""], clean="9")
    assert faults(replace(none, **still)) == []


@pytest.mark.parametrize("place", [(1, 3), (0, 9)])
def test_answers_counted_where_nothing_was_attacked(place: tuple[int, int]) -> None:
    assert "has answers counted, though it is not attacked here" in one(altered(forwards=(place, 5)))


def test_samples_that_the_threat_does_not_mean() -> None:
    targeted = Threat("linf", target="V")
    text = " ".join(faults(HONEST, threat=targeted))
    assert "sample 1" in text and "leaves it alone" in text


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"ids": (1, 0)}, "an id stands for several samples"),
        ({"weight": (1, np.nan)}, "a weight is no number"),
        ({"weight": (1, -1.0)}, "a weight is no number"),
        ({"group": (1, -1)}, "some samples have a group and others none"),
        ({"eps": (0, 0.0)}, "eps do not ascend"),
        ({"distance": (3, 0.05)}, "distances are not the sizes"),
    ],
)
def test_samples_that_no_split_has(cells: dict[str, Any], said: str) -> None:
    assert any(said in fault for fault in faults(altered(**cells)))


def test_an_attack_that_runs_once_is_told_by_its_work() -> None:
    found = made_up(["03", "0345"], clean="9")
    once = np.zeros_like(found.forwards)
    once[-1] = np.where(found.correct, 3, 0)
    found = replace(
        found,
        forwards=once,
        gradients=once,
        distance=np.where(found.adversarial[-1], found.size[-1], np.nan).astype(np.float32),
    )
    assert faults(found, minimal=True) == [] == faults(found, minimal=None)
    assert "attacked without one forward" in " ".join(faults(found, minimal=False))


def test_a_row_whose_perturbations_are_all_nothing_is_known() -> None:
    def still(outcomes: Outcomes) -> bool:
        return Structure(outcomes, LINF, GROWING, SingleLabel(CLASSES), False).moves_nothing(0.1)

    assert not still(HONEST) and still(replace(HONEST, size=np.zeros_like(HONEST.size)))
    assert not still(replace(made_up(["0123456789"] * 2), size=np.zeros_like(HONEST.size)))
