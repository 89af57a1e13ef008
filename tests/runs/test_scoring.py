"""A record says what ran in words, counts what was counted, and names what it was made from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from ecgbench.core.data import Samples, Task
from ecgbench.core.threat import Threat
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.registry.catalog import discover
from ecgbench.registry.identity import Identity
from ecgbench.registry.installed import DISTRIBUTION
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.scoring import CellLabels, Costs, score, unscored, versions
from ecgbench.storage.arrays import pack
from ecgbench.storage.store import key_of
from tests.made_up_rows import UNRAISED, made_up

CATALOG = discover()
CELL = Cell(
    dataset=CATALOG.resolve("dataset", "synthetic-beats[beats=200]"),
    model=CATALOG.resolve("model", "linear"),
    defense=CATALOG.resolve("defense", "none"),
    attack=CATALOG.resolve("attack", "pgd[steps=20, rel_step=1/4]"),
    threat=Threat("linf"),
    eps=(0.1, 0.2),
    seed=3,
)
EMPTY = Samples.of(torch.zeros(0, 1, 4), torch.zeros(0, dtype=torch.int64))
TASK = Task("beats", ("N", "V"), EMPTY, EMPTY, EMPTY, unit="1", physical="mV", notes=("made up",), synthetic=True)
MADE_OF: Identity = {"stage": "outcomes", "victim": {"stage": "victim", "data": "d1"}, "weights": {"victim": "w1"}}


def scored(outcomes: Outcomes, **changes: Any) -> Record:
    labels = CellLabels.of(replace(CELL, **changes), CATALOG)
    return score(labels, TASK, UNRAISED, Costs(1.23456, 2.5), MADE_OF, "k" * 64, pack(outcomes))


@pytest.mark.parametrize(
    ("eps", "decides"),
    [((0.01, 0.03, 0.1), 0.03), ((0.01, 0.02, 0.1), 0.02), ((0.05, 0.1), 0.05), ((0.03,), 0.03)],
)
def test_the_headline_is_the_datasets_own_else_the_nearest_smaller_else_the_first(
    eps: tuple[float, ...], decides: float
) -> None:
    assert CELL.dataset.defaults.headline == 0.03
    assert replace(CELL, eps=eps).headline == decides


@pytest.mark.parametrize("threat", [Threat("l2"), Threat("linf", unit="mV")])
def test_under_a_threat_of_another_norm_or_unit_it_is_the_middle_of_the_grid(threat: Threat) -> None:
    assert replace(CELL, threat=threat, eps=(0.01, 0.03, 0.1)).headline == 0.03
    assert replace(CELL, threat=threat, eps=(0.1, 0.3, 1.0)).headline == 0.3


def test_a_record_names_its_cell_by_canonical_selectors_and_who_offers_them() -> None:
    record = scored(made_up(["0", "01"]))
    assert (record.dataset, record.model, record.defense) == ("synthetic-beats[beats=200]", "linear", "none")
    assert (record.attack, record.threat, record.protocol, record.seed) == ("pgd20", "linf", "standard", 3)
    assert record.provenance is not None
    assert record.provenance.plugins == dict.fromkeys(
        ("dataset", "model", "defense", "attack"), f"{DISTRIBUTION} {versions()['ecgbench']}"
    )


def test_a_record_states_the_task_its_samples_and_one_score_per_size() -> None:
    record = scored(made_up(["0", "013"], clean="9", groups=5))
    assert (record.n, record.groups, record.classes, record.counts) == (10, 5, ("N", "V"), {"N": 5, "V": 5})
    assert (record.notes, record.synthetic, record.weighting) == (("made up",), True, "every sample counts once")
    assert [(each.eps, each.acc) for each in record.scores] == [(0.0, 0.9), (0.1, 0.8), (0.2, pytest.approx(0.6))]
    assert record.score(0.0) == record.scores[0] and record.score(0.3) is None
    assert record.checks == UNRAISED and record.flags == ()


def test_samples_without_a_group_are_of_no_patient() -> None:
    assert scored(made_up(["0", "01"])).groups is None


@pytest.mark.parametrize(("unit", "stated"), [("native", "1"), ("physical", "mV"), ("mV", "mV")])
def test_eps_is_stated_in_the_unit_of_the_threat(unit: str, stated: str) -> None:
    assert scored(made_up(["0", "01"]), threat=Threat("linf", unit=unit)).unit == stated


def test_costs_are_totals_and_queries_the_mean_over_attacked_samples() -> None:
    outcomes = made_up(["0", "01"])
    idle = np.arange(10) >= 8  # never attacked
    outcomes = replace(outcomes, forwards=np.where(idle, 0, outcomes.forwards).astype(np.int32))
    cost = scored(outcomes).cost
    assert (cost.forwards, cost.gradients, cost.queries) == ((8 + 7) * 3, (10 + 9) * 2, 5.6)
    assert (cost.train_seconds, cost.attack_seconds) == (1.235, 2.5)


def test_nobody_attacked_costs_nothing() -> None:
    outcomes = made_up(["", ""])
    none = np.zeros_like(outcomes.forwards)
    cost = scored(replace(outcomes, forwards=none, gradients=none)).cost
    assert (cost.forwards, cost.gradients, cost.queries) == (0, 0, 0.0)


def test_provenance_names_the_keys_the_data_and_the_bytes_of_the_outcomes() -> None:
    outcomes = made_up(["0", "01"])
    made = scored(outcomes).provenance
    assert made is not None
    assert (made.victim, made.outcomes, made.data) == (key_of(MADE_OF["victim"]), key_of(MADE_OF), "d1")
    assert made.outcomes_digest == hashlib.sha256(pack(outcomes)).hexdigest()
    assert made.identity == MADE_OF and {"torch", "numpy", "scipy", "python", "ecgbench"} <= set(made.versions)


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_cell_without_scores_says_why_and_claims_nothing(status: Literal["failed", "skipped"]) -> None:
    record = unscored(CellLabels.of(CELL, CATALOG), status, "it broke.")
    assert (record.status, record.error, record.scores, record.n) == (status, "it broke.", (), 0)
    assert record.provenance is None and record.curve is None and record.uncertainty is None
    assert record.attack == "pgd20" and record.eps == (0.1, 0.2)


def test_cells_without_scores_have_keys_of_their_own() -> None:
    cells = [CELL, replace(CELL, seed=4), replace(CELL, limit=5), replace(CELL, eps=(0.1,))]
    keys = {unscored(CellLabels.of(cell, CATALOG), "failed", why).key for cell in cells for why in ("one", "other")}
    assert len(keys) == len(cells)
