"""Kept perturbations are those of the sweep: same predictions, same sizes, for every protocol and kind of attack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecgbench.core.errors import ContractError, StoreError
from ecgbench.core.interfaces import Attack
from ecgbench.core.progress import Checkpoint
from ecgbench.core.threat import Threat
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.perturbations import Perturbations, find_perturbations
from ecgbench.evaluation.sweep import Protocol, Sweep
from ecgbench.storage.arrays import pack_arrays, unpack_arrays
from ecgbench_plugins.attacks.noise import Noise
from ecgbench_plugins.attacks.pgd import PGD
from tests.evaluation.test_sweep import GRID, Nearest, sweep
from tests.problems import generators, random_mlp

SHORT = PGD(steps=6, rel_step=0.25)


def swept(attack: Attack = SHORT, protocol: Protocol = Protocol(), n: int = 120) -> tuple[Sweep, Outcomes]:  # noqa: B008
    task, victim = random_mlp(n, classes=2)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    made = replace(sweep(attack, replace(task, test=task.test[order]), victim), protocol=protocol)
    return made, made.run(Checkpoint())


@pytest.mark.parametrize(
    ("attack", "protocol"),
    [
        (SHORT, Protocol()),
        (SHORT, Protocol(success="last")),
        (SHORT, Protocol(sweep="independent", clean_wrong="attacked")),
        (Noise(), Protocol()),
        (Nearest(), Protocol()),
    ],
)
@pytest.mark.parametrize("eps", GRID)
def test_the_sweeps_own_perturbations_are_found_again(attack: Attack, protocol: Protocol, eps: float) -> None:
    made, outcomes = swept(attack, protocol)
    kept = find_perturbations(made, outcomes, eps, 1000)
    rows = np.array([outcomes.ids.tolist().index(sample) for sample in kept.ids])
    place = GRID.index(eps)
    assert np.array_equal(kept.attacked, outcomes.at(eps)[rows]) and np.array_equal(kept.clean, outcomes.clean[rows])
    assert np.abs(kept.delta).max((1, 2)) == pytest.approx(outcomes.size[place][rows], abs=1e-6)
    expected = outcomes.correct if protocol.clean_wrong == "wrong" else np.ones(len(outcomes.y), bool)
    assert len(rows) == expected.sum() > len(np.unique(outcomes.adversarial[place][rows])) == 2


def test_the_first_attacked_samples_by_id_are_kept() -> None:
    made, outcomes = swept()
    kept = find_perturbations(made, outcomes, 0.1, 5)
    assert kept.ids.tolist() == sorted(outcomes.ids[outcomes.correct])[:5] and len(kept.delta) == 5
    some = find_perturbations(made, outcomes, 0.1, 3)
    np.testing.assert_allclose(some.delta, kept.delta[:3], atol=1e-6)


def test_only_samples_that_the_goal_means_are_kept() -> None:
    task, victim = random_mlp(60)
    made = sweep(SHORT, task, victim, Threat("linf", source_classes=("1",), target="0"))
    outcomes = made.run(Checkpoint())
    assert set(find_perturbations(made, outcomes, 0.1, 60).y.tolist()) == {1}


def test_a_split_of_which_nothing_was_attacked_keeps_nothing() -> None:
    made, outcomes = swept(n=20)
    kept = find_perturbations(made, replace(outcomes, clean=1 - outcomes.y), 0.1, 3)
    assert len(kept.ids) == len(kept.attacked) == 0 and kept.x.shape == (0, 1, 24)


def test_a_perturbation_that_breaks_the_threat_is_not_kept() -> None:
    class Far(PGD):
        def perturb(self, trial, rng):  # type: ignore[no-untyped-def]
            return 2 * super().perturb(trial, rng)

    made, outcomes = swept()
    with pytest.raises(ContractError, match="expected linf size"):
        find_perturbations(replace(made, attack=Far(steps=2, restarts=1)), outcomes, 0.1, 5)


def test_no_random_generator_is_touched() -> None:
    made, outcomes = swept(n=20)
    before = generators()
    find_perturbations(made, outcomes, 0.1, 5)
    assert generators() == before


def test_kept_perturbations_come_back_from_a_file_as_they_were() -> None:
    kept = find_perturbations(*swept(n=20), 0.1, 5)
    back = Perturbations.from_arrays(unpack_arrays(pack_arrays(kept.arrays())))
    for name, array in kept.arrays().items():
        np.testing.assert_array_equal(array, back.arrays()[name], strict=True)


@pytest.mark.parametrize("name", ["ids", "x", "delta", "scale", "y", "clean", "attacked"])
def test_arrays_that_are_no_perturbations_are_refused(name: str) -> None:
    arrays = find_perturbations(*swept(n=20), 0.1, 5).arrays()
    with pytest.raises(StoreError, match="expected"):
        Perturbations.from_arrays({each: value for each, value in arrays.items() if each != name})
    with pytest.raises(StoreError, match="expected"):
        Perturbations.from_arrays(arrays | {name: arrays[name][:2]})
    with pytest.raises(StoreError, match="expected"):
        Perturbations.from_arrays(arrays | {name: arrays[name].astype(np.float64)})
