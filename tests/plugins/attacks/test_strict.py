"""Strict: the worst case over its components, sample by sample, and who found it."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import one_hot

from ecgbench.core.data import Batch, Samples, Task
from ecgbench.core.dataroot import DataRoot
from ecgbench.core.interfaces import Attack
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.training import Schedule, train
from ecgbench.core.victim import Victim, frozen
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep
from ecgbench.testing import check_attack
from ecgbench_plugins.attacks.apgd import APGD
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.strict import BUDGETS, RADII, Strict, _passes
from ecgbench_plugins.datasets.synthetic_beats import SyntheticBeats
from ecgbench_plugins.defenses.adaptive import Adaptive
from ecgbench_plugins.models.mlp import MLP
from tests.plugins.attacks.test_closed_form import assert_exact
from tests.problems import Bounds, Linear, Written, linear_problem, random_mlp, trial_of

RNG = RandomStream((0, "attack"))
QUICK = Strict("quick")
norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def test_it_keeps_its_promises() -> None:
    check_attack(QUICK, shapes=((1, 40),))


def problem(classes: int, hemmed: bool) -> Linear:
    bounds: Bounds | None = (0.0, 1.0) if hemmed else None
    return linear_problem(classes, (1, 40), 400, masked=hemmed, bounds=bounds, on_bound=0.3, seed=classes)


@norms
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("hemmed", [False, True])
def test_it_finds_the_exact_robust_accuracy_of_a_linear_victim(norm: Norm, classes: int, hemmed: bool) -> None:
    assert_exact(QUICK, problem(classes, hemmed), Threat(norm))


@norms
def test_so_it_does_toward_a_target(norm: Norm) -> None:
    assert_exact(QUICK, problem(5, hemmed=True), Threat(norm, target="1"))


def sweep(attack: Attack, victim: Victim, task: Task, eps: tuple[float, ...], norm: Norm = "linf") -> Outcomes:
    return Sweep(attack, victim, task, Threat(norm), eps, RNG).run(Checkpoint())


@norms
def test_a_larger_budget_finds_whatever_a_smaller_one_finds(norm: Norm) -> None:
    task, victim = random_mlp(100)
    eps = (0.02, 0.05) if norm == "linf" else (0.1, 0.2)
    quick, standard = (sweep(Strict(budget), victim, task, eps, norm) for budget in ("quick", "standard"))
    assert quick.adversarial.any() and not (quick.adversarial & ~standard.adversarial).any()


@pytest.mark.parametrize(("classes", "losses"), [(2, {"margin"}), (3, {"margin"}), (4, {"margin", "dlr"})])
def test_dlr_takes_turns_with_the_margin_where_there_are_four_classes(classes: int, losses: set[str]) -> None:
    samples = linear_problem(classes, (1, 40), 4, seed=classes)
    seen = trial_of(samples.victim, samples.task.test, Threat("linf"), 0.01)
    passes = list(_passes(BUDGETS["quick"], seen))
    assert {attack.loss for attack in passes} == losses
    assert [attack.start for attack in passes] == ["zero"] + 5 * ["random"]
    assert all(isinstance(attack, APGD) and attack.rival == "each" for attack in passes)


def test_robust_samples_alone_meet_the_next_part_and_every_answer_is_counted() -> None:
    task, victim = random_mlp(200)
    outcomes = sweep(QUICK, victim, task, (0.05,))
    early = outcomes.components[outcomes.by[0]] == "apgd-ce"
    assert early.any() and outcomes.forwards[0][early].max() <= 21
    robust = ~outcomes.adversarial[0] & (outcomes.clean == outcomes.y)
    others, budget = len(task.classes) - 1, BUDGETS["quick"]
    looks = sum(len(radii) for radii, _ in zip(cycle(RADII), budget.passes))
    assert robust.any() and (outcomes.gradients[0][robust] == 20 + others * sum(budget.passes)).all()
    asked = (
        20
        + 1
        + 1
        + len(budget.passes)
        + others * (sum(budget.passes) + looks + len(budget.passes))
        + sum(budget.queries)
    )
    assert (outcomes.forwards[0][robust] == asked).all()


def test_a_staircase_is_climbed_in_a_larger_budget_whenever_it_is_in_a_smaller_one() -> None:
    """Square alone finds these: each larger budget begins with the Square of the smaller one."""

    def stairs(x: Tensor) -> Tensor:
        lead = (10 * x[:, 0].mean(1)).floor() / 10 - x[:, 0, 0].detach() * 0 - 0.5
        return torch.stack([-lead, lead], 1) + 0 * x.sum((1, 2))[:, None]

    samples = Samples.of(torch.zeros(60, 1, 24), torch.zeros(60, dtype=torch.int64))
    found = []
    for budget in ("quick", "standard"):
        seen = trial_of(Victim(Written(stairs).eval()), samples, Threat("linf"), 1.0)
        Strict(budget).perturb(seen, RNG)
        found.append(seen.is_adversarial.clone())
    assert bool(found[0].any()) and not bool((found[0] & ~found[1]).any())


def test_the_outcomes_name_the_component_that_felled_each_sample() -> None:
    def steps(x: Tensor) -> Tensor:
        """A staircase, whose gradient is 0, beside a slope; a row climbs that of its last number."""
        mean = x[..., :-1].flatten(1).mean(1)
        stairs = (20 * mean).floor() / 20 + 0 * mean
        lead = torch.where(x[:, 0, -1] > 0, mean, stairs) - 0.5
        return torch.stack([-lead, lead], 1)

    x = torch.zeros(4, 1, 41)
    x[2:, :, -1] = 5.0
    mask = torch.ones(4, 1, 41, dtype=torch.bool)
    mask[..., -1] = False
    samples = Samples.of(x, torch.zeros(4, dtype=torch.int64), mask=mask)
    seen = trial_of(Victim(Written(steps).eval()), samples, Threat("linf"), 1.0)
    QUICK.perturb(seen, RNG)
    named = [seen.memory.components[number] for number in seen.memory.by.tolist()]
    assert named == ["square", "square", "apgd-ce", "apgd-ce"]


def test_what_falls_from_the_clean_sample_alone_falls() -> None:
    def trap(x: Tensor) -> Tensor:
        """Noise of any kind on the first eight numbers hides the slope of the last eight."""
        noise = x[:, 0, :8].abs().mean(1)
        lead = (x[:, 0, 8:].mean(1) - 0.5) * (noise < 0.02).float()
        return torch.stack([0.01 - lead, lead], 1)

    samples = Samples.of(torch.zeros(4, 1, 16), torch.zeros(4, dtype=torch.int64))
    adversarial = []
    for start in ("random", "zero"):
        seen = trial_of(Victim(Written(trap).eval()), samples, Threat("linf"), 1.0)
        PGD(loss="targeted-margin", start=start).perturb(seen, RNG)
        adversarial.append(bool(seen.is_adversarial.all()))
    seen = trial_of(Victim(Written(trap).eval()), samples, Threat("linf"), 1.0)
    QUICK.perturb(seen, RNG)
    assert adversarial == [False, True] and bool(seen.is_adversarial.all())


def test_padding_in_reach_cannot_save_a_victim_from_an_attack_on_the_signal_alone() -> None:
    def jammed(x: Tensor) -> Tensor:
        """A slope in the signal that any noise in the padding hides, and noise there is what every step makes."""
        lead = x[:, 0, :8].mean(1) - 0.5
        quiet = (x[:, 0, 8:].abs().sum(1) < 1e-6).float()
        return torch.stack([-lead * quiet + (1 - quiet), lead * quiet + x[:, 0, 8:].sum(1) * 1e-3], 1)

    mask = torch.arange(16).expand(4, 1, 16) < 8
    samples = Samples.of(torch.zeros(4, 1, 16), torch.zeros(4, dtype=torch.int64), mask=mask)
    seen = trial_of(Victim(Written(jammed).eval()), samples, Threat("linf", mask=False), 1.0)
    QUICK.perturb(seen, RNG)
    named = [seen.memory.components[number] for number in seen.memory.by.tolist()]
    assert seen.memory.is_adversarial.all() and named == ["apgd-margin-signal"] * 4
    assert not seen.memory.delta[~mask].any()


def test_square_too_perturbs_the_signal_alone_where_the_padding_is_open() -> None:
    def guarded(x: Tensor) -> Tensor:
        """A staircase in the signal, which only Square climbs, and noise in the padding hides it."""
        lead = (8 * x[:, 0, :40].mean(1)).round() / 4
        quiet = (x[:, 0, 40:].abs().sum(1) < 1e-6).float()
        return torch.stack([2.5 - quiet * lead, 0.5 + quiet * lead], 1) + 0 * x.sum((1, 2))[:, None]

    mask = torch.arange(48).expand(4, 1, 48) < 40
    samples = Samples.of(torch.zeros(4, 1, 48), torch.zeros(4, dtype=torch.int64), mask=mask)
    for masked, felled_by in ((True, "square"), (False, "square-signal")):
        seen = trial_of(Victim(Written(guarded).eval()), samples, Threat("linf", mask=masked), 1.0)
        Strict().perturb(seen, RNG)
        assert {seen.memory.components[number] for number in seen.memory.by.tolist()} == {felled_by}


# what it is for


def noise_to_signal(module: Module, batch: Batch, step: RandomStream) -> Tensor:
    """Squared error, margin over violating pairs, and half the noise-to-signal ratio of the true class."""
    x, y = batch.x.detach().requires_grad_(), batch.y
    logits: Tensor = module(x)
    own = logits.gather(1, y[:, None]).squeeze(1)
    error = (logits - one_hot(y, logits.shape[1])).square().sum(1).mean()
    right = logits.argmax(1) == y
    gap = (1 - own[:, None] + logits).scatter(1, y[:, None], 0.0)[right]
    pairs = (gap > 0) & (gap < 2)
    (weight,) = torch.autograd.grad(own.sum(), x, create_graph=True)
    noise = torch.log1p(weight.flatten(1).abs().sum(1) / (own.abs() + 0.01))[right]
    return error + gap[pairs].sum() / pairs.sum().clamp_min(1) + 0.5 * noise.sum() / right.sum().clamp_min(1)


def robust(attack: Attack, victim: Victim, task: Task) -> float:
    outcomes = sweep(attack, victim, task, (0.1,))
    return float(np.mean(~outcomes.adversarial[0] & (outcomes.clean == outcomes.y)))


@pytest.fixture(scope="module")
def beats() -> Task:
    task = SyntheticBeats().load(DataRoot(Path("none")))
    return replace(task, test=task.test[torch.arange(0, len(task.test), 8)])


def fresh(task: Task) -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MLP().build(task)


@pytest.mark.slow
def test_it_halves_what_pgd_reports_of_a_noise_to_signal_victim(beats: Task) -> None:
    trained = train(fresh(beats), beats, noise_to_signal, Schedule(epochs=100), RandomStream((0, "fit")), Checkpoint())
    victim = frozen(trained)
    reported = robust(PGD(steps=100), victim, beats)
    assert reported > 0.1
    assert robust(Strict(), victim, beats) < reported / 2


@pytest.mark.slow
def test_it_agrees_with_pgd_on_an_adversarially_trained_victim(beats: Task) -> None:
    defense = Adaptive(epochs=15, eps=0.1, attack=PGD(steps=7))
    victim = frozen(defense.fit(fresh(beats), beats, RandomStream((0, "fit")), Checkpoint()))
    reported = robust(PGD(steps=100), victim, beats)
    assert reported > 0.1
    assert reported - 0.05 <= robust(Strict(), victim, beats) <= reported
