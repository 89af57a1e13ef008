"""Ways in which a library gives a wrong number without a word, by their number in the reference, each made harmless."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torchattacks
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Samples
from ecgbench.core.outputs import SingleLabel
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim, frozen
from ecgbench.evaluation.lending import module_change
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Protocol, Sweep
from ecgbench.registry.identity import identity
from ecgbench.testing import LinearVictim
from ecgbench.testing.problem import Problem, critical_size
from ecgbench.testing.traces import fresh_generators
from tests.plugins.adapters.library_world import RANGE, RNG, Normed, attack, kept_sevens, mild, trial_of


def fell(problem: Problem, text: str, module: Module | None = None, **trial: Any) -> Tensor:
    """Which rows a named attack fells, by the judgement of the bare module."""
    of = attack(text)
    where = trial_of(problem, of, **trial)
    delta = of.perturb(where, RNG)
    delta = where.best(delta) if where.watch == "first" else delta
    with torch.no_grad():
        return where.goal.met((module or problem.module)(where.batch.x + delta).argmax(1))


def swept(text: str, problem: Problem, *grid: float, protocol: Protocol | None = None) -> Outcomes:
    sweep = Sweep(
        attack(text),
        Victim(problem.module),
        problem.task,
        problem.threat,
        grid,
        RandomStream((0,)),
        protocol or Protocol(),
    )
    return sweep.run(Checkpoint())


def plain_trial(module: Module, training: bool = False) -> Trial:
    """Z-scored rows before any victim; weights trainable, as inside a training."""
    samples = Samples.of(3 * RandomStream(("x",)).normal(torch.arange(8), (1, 187)), torch.arange(8) % 5)
    ball, goal = Threat("linf").ball(samples, 0.3), Threat("linf").goal(samples.y, SingleLabel(tuple("ABCDE")))
    return Trial.begin(
        Victim(module), samples, ball, goal, RandomStream(("victim",)), watch="never" if training else "first"
    )


@pytest.mark.parametrize("text", ["torchattacks.PGD[random_start=false,steps=20]", "foolbox.LinfPGD", "art.PGD"])
def test_trap_1_and_12_z_scored_signals_are_neither_clamped_nor_refused(text: str) -> None:
    problem = mild(bounds=None)
    assert float(problem.task.test.x.abs().amax()) > 3
    found = fell(problem, text)
    assert not bool(found[problem.critical > problem.eps].any())
    assert float(found[problem.critical < 0.8 * problem.eps].float().mean()) > 0.95


@pytest.mark.parametrize(
    "text",
    [
        "torchattacks.PGD[steps=2]",
        "torchattacks.CW[steps=10]",
        "torchattacks.DeepFool[steps=2]",
        "foolbox.LinfPGD[steps=2]",
        "art.FGM",
    ],
)
def test_traps_2_3_4_and_10_modes_buffers_and_gradients_are_not_the_librarys(text: str) -> None:
    module, other = Normed().eval(), Normed().eval()
    module.layers[4].train(), other.layers[4].train()  # a mixed mode: dropout draws, all else is at rest
    for weight in module.parameters():
        weight.grad = torch.full_like(weight, 7.0)
    trial = plain_trial(module, training=True)
    attack(text).perturb(trial, RNG)
    assert kept_sevens(module)
    for weight in module.parameters():
        weight.grad = None
    assert module_change(module, other) is None


@pytest.mark.parametrize(
    ("text", "steps", "queries", "parts"),
    [
        ("torchattacks.AutoAttack", 100, 5000, ["APGD", "APGDT", "FAB", "Square"]),
        ("torchattacks.AutoAttack[queries=7,steps=3]", 3, 7, ["APGD", "APGDT", "FAB", "Square"]),
        ("torchattacks.AutoAttack[queries=7,version=plus]", 100, 7, ["APGD", "APGD", "FAB", "Square", "APGDT", "FAB"]),
        ("torchattacks.AutoAttack[version=rand]", 100, 5000, ["APGD", "APGD"]),
    ],
)
def test_trap_5_the_parts_of_autoattack_take_the_work_of_the_reference_or_what_is_said(
    monkeypatch: pytest.MonkeyPatch, text: str, steps: int, queries: int, parts: list[str]
) -> None:
    taken: list[tuple[str, int]] = []

    def noted(self: Any, images: Tensor, labels: Tensor) -> Tensor:
        for part in self._autoattack.attacks:
            square = isinstance(part, torchattacks.Square)
            taken.append((type(part).__name__, part.n_queries if square else part.steps))
        return images

    monkeypatch.setattr(torchattacks.AutoAttack, "forward", noted)
    of = attack(text)
    of.perturb(mild().trial(rows=torch.tensor([0])), RNG)
    assert taken == [(part, queries if part == "Square" else steps) for part in parts]
    said = identity(of)["fields"]
    assert (said["steps"], said["queries"], said["library"]) == (steps, queries, "torchattacks 3.5.1")


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "whole"])
@pytest.mark.parametrize("bounds", [None, RANGE], ids=["z-scored", "unit"])
@pytest.mark.parametrize(
    ("text", "reach"),
    [
        ("torchattacks.AutoAttack[queries=20,steps=20]", 0.99),
        ("torchattacks.APGD[steps=20]", 0.65),  # cross-entropy leaves rows at 0.75, as it does in our own apgd
        ("torchattacks.APGDT[steps=20]", 0.99),
        ("torchattacks.FAB", 0.99),
        ("torchattacks.Square[n_queries=300]", 0.4),
    ],
)
def test_autoattack_and_its_parts_find_what_there_is_with_padding_in_reach_or_not(
    text: str, reach: float, bounds: tuple[float, float] | None, masked: bool
) -> None:
    problem = mild(bounds=bounds)
    threat = replace(problem.threat, mask=masked)
    critical = critical_size(problem.module, problem.task, threat)
    problem = replace(problem, threat=threat, critical=critical, eps=float(critical.quantile(0.5)))
    order = (critical / problem.eps).argsort()
    hard, hopeless = (critical[order] < reach * problem.eps).sum(), (critical[order] <= problem.eps).sum()
    rows = torch.cat([order[hard - 2 : hard], order[hopeless : hopeless + 2]])
    assert fell(problem, text, rows=rows).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("text", "classes", "fits"),
    [
        ("torchattacks.APGDT", 3, False),
        ("torchattacks.APGDT[steps=2]", 4, True),
        ("torchattacks.AutoAttack", 3, False),
        ("torchattacks.APGD[loss=dlr]", 2, False),
        ("torchattacks.APGD[steps=2]", 2, True),
        ("torchattacks.FAB[steps=2]", 2, True),
    ],
)
def test_trap_6_losses_over_several_classes_get_as_many_as_they_need(text: str, classes: int, fits: bool) -> None:
    problem = mild(classes=classes)
    said = attack(text).unfit(problem.task, problem.threat)
    assert (said is None) == fits and ("classes or more" in (said or "classes or more"))
    if fits:
        assert fell(problem, text, rows=torch.arange(4)).shape == (4,)


def test_trap_7_the_generators_go_on_as_if_nothing_had_reset_them() -> None:
    of, problem = attack("torchattacks.APGD[steps=2]"), mild()
    rows = torch.arange(2)
    with fresh_generators() as moved:
        first = of.perturb(problem.trial(rows=rows), RNG)
        assert moved() is None
    with fresh_generators(salt=1):
        again = of.perturb(problem.trial(rows=rows), RNG)
    assert torch.equal(first, again)
    start = attack("torchattacks.PGD[steps=1]")
    one, other = (start.perturb(problem.trial(rows=rows), RandomStream(("attack", seed))) for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "text",
    [
        "art.PGD[max_iter=2,num_random_init=1]",
        "art.HopSkipJump[max_iter=1,max_eval=10,init_eval=5]",
        "art.BoundaryAttack[max_iter=2]",
    ],
)
def test_trap_8_what_numpy_draws_is_seeded_too(text: str) -> None:
    of, problem = attack(text), mild("l2", native=True)
    rows = torch.arange(3)
    with fresh_generators():
        first = of.perturb(trial_of(problem, of, rows), RNG)
    with fresh_generators(salt=1):
        assert torch.equal(first, of.perturb(trial_of(problem, of, rows), RNG))
    assert float(first.abs().amax()) > 0


def test_trap_9_a_sample_meets_its_own_draws_or_the_attack_says_that_it_does_not() -> None:
    of, problem = attack("torchattacks.SPSA[nb_sample=8]"), mild(native=True, bounds=None)
    whole = of.perturb(problem.trial(rows=torch.arange(6)), RNG)
    assert torch.equal(whole[4:], of.perturb(problem.trial(rows=torch.arange(4, 6)), RNG))
    states = {name: getattr(attack(name), "determinism") for name in ("torchattacks.SPSA", "torchattacks.PGD")}  # noqa: B009
    assert states == {"torchattacks.SPSA": "sample", "torchattacks.PGD": "chunk"}


@pytest.mark.parametrize("bounds", [None, RANGE])
@pytest.mark.parametrize("text", ["torchattacks.FGSM", "foolbox.FGSM", "art.FGM"])
def test_trap_11_every_row_has_its_own_eps(text: str, bounds: tuple[float, float] | None) -> None:
    problem = mild(bounds=bounds)
    trial = problem.trial(watch="last")
    size = trial.ball.size(attack(text).perturb(trial, RNG))
    assert len(trial.ball.eps.unique()) > 1
    assert torch.allclose(size, trial.ball.eps.flatten(), rtol=1e-4)


def test_trap_13_a_minimal_attack_runs_once_and_is_tested_at_every_eps() -> None:
    problem = mild()
    grid = tuple(problem.eps * part for part in (0.25, 0.5, 0.75, 1.0))
    outcomes = swept("foolbox.LinfFMNAttack[steps=60]", problem, *grid)
    assert outcomes.forwards[:3].sum() == 0 and outcomes.forwards[3].max() <= 63
    for place, eps in enumerate(grid):
        assert abs(int(outcomes.adversarial[place].sum()) - int((problem.critical <= eps).sum())) <= 2


def test_trap_14_a_library_in_float64_asks_a_victim_in_float32() -> None:

    class Strict(LinearVictim):
        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype == torch.float32
            return super().forward(x)

    problem = mild("l2")
    module = Strict(problem.module.weight.detach(), problem.module.offset)
    of = attack("art.HopSkipJump[max_iter=1,max_eval=10,init_eval=5]")
    trial = trial_of(problem, of, torch.arange(2))
    assert of.perturb(Trial.begin(frozen(module), trial.batch, trial.ball, trial.goal, RNG), RNG).dtype == torch.float32


@pytest.mark.parametrize("bounds", [None, RANGE])
def test_trap_15_deepfool_overshoots_by_its_overshoot_and_not_by_the_range(bounds: tuple[float, float] | None) -> None:
    problem = mild("l2", bounds=bounds, native=True)
    of = attack("art.DeepFool")
    rows = (problem.critical < 0.8 * problem.eps).nonzero().squeeze(1)
    trial = trial_of(problem, of, rows)
    size = trial.ball.size(of.perturb(trial, RNG)) / problem.critical[rows] * problem.task.test.scale[rows]
    assert 0.9 < float(size.median()) < 1.3


def test_trap_16_a_sample_wrong_when_clean_is_not_corrected() -> None:
    problem = mild(native=True)
    y = (problem.task.test.y + torch.arange(32) % 2) % 5
    wrong = (y != problem.task.test.y).numpy()
    task = problem.task.limited(None)
    test = Samples.of(task.test.x, y, mask=task.test.mask)
    threat, grid = problem.threat, (0.3 * problem.eps,)
    sweep = Sweep(
        attack("art.PGD[max_iter=4]"),
        Victim(problem.module),
        replace(task, test=test),
        threat,
        grid,
        RandomStream((0,)),
        Protocol(clean_wrong="attacked"),
    )
    outcomes = sweep.run(Checkpoint())
    assert wrong.sum() == 16 and bool(outcomes.adversarial[0][wrong].all())


def test_trap_17_forwards_that_only_feed_a_log_are_counted() -> None:
    calls: list[int] = []

    class Counting(Normed):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return super().forward(x)

    module = Counting().eval()
    calls.clear()
    trial = plain_trial(module.requires_grad_(False))
    attack("art.PGD[max_iter=5]").perturb(trial, RNG)
    assert trial.memory.gradients.tolist() == [5] * 8
    assert int(trial.memory.forwards.sum()) == sum(calls) >= 8 * 7


@pytest.mark.parametrize("text", ["torchattacks.CW[c=100,steps=60,lr=0.05]", "torchattacks.EADEN[initial_const=1]"])
@pytest.mark.parametrize("shift", [-100.0, 100.0])
def test_trap_18_a_shift_of_all_logits_changes_nothing(shift: float, text: str) -> None:
    problem = mild("l2", bounds=None, native=True)
    shifted = LinearVictim(problem.module.weight.detach(), problem.module.offset + shift)
    other = Problem(shifted, problem.task, problem.threat, problem.eps, problem.critical)
    rows = torch.arange(8)
    base = fell(problem, text, rows=rows)
    assert int(base.sum()) >= 3 and int((base != fell(other, text, rows=rows)).sum()) <= 1


def test_trap_19_cw_moves_what_lies_on_the_edge_of_the_range() -> None:
    problem = mild("l2", native=True)
    x = problem.task.test.x.round()
    samples = Samples.of(x, problem.task.test.y)
    of = attack("torchattacks.CW[c=100,steps=30]")
    ball, goal = problem.threat.ball(samples, 5.0, RANGE), problem.threat.goal(samples.y, problem.task.outputs)
    delta = of.perturb(Trial.begin(frozen(problem.module), samples, ball, goal, RNG, watch="last"), RNG)
    moved = delta[(goal.met(problem.module(x + delta).argmax(1))).nonzero().squeeze(1)]
    assert len(moved) >= 8 and float((moved != 0).float().mean()) > 0.4


def test_trap_20_spsa_reaches_the_budget_that_it_is_given() -> None:
    problem = mild(native=True)
    trial = problem.trial(rows=torch.arange(4), watch="last", gradients=False)
    delta = attack("torchattacks.SPSA[nb_iter=60,nb_sample=16]").perturb(trial, RNG)
    assert float(trial.ball.size(delta).amin()) > 0.99 * problem.eps


@pytest.mark.parametrize(
    "text", ["torchattacks.PGD[random_start=false]", "foolbox.LinfPGD[random_start=false]", "art.PGD[max_iter=5]"]
)
def test_trap_22_no_prediction_is_no_success(text: str) -> None:

    class Torn(LinearVictim):
        """Answers only for clean signals."""

        def forward(self, x: Tensor) -> Tensor:
            logits = super().forward(x)
            strange = torch.stack([(x - row).abs().flatten(1).amax(1) < 1e-6 for row in clean]).any(0)
            return torch.where(strange[:, None], logits, torch.nan)

    problem = mild(native=True)
    clean = problem.task.test.x
    trial = problem.trial()
    module = Torn(problem.module.weight.detach(), problem.module.offset)
    torn = Trial.begin(frozen(module), trial.batch, trial.ball, trial.goal, RNG)
    attack(text).perturb(torn, RNG)
    assert not bool(torn.is_adversarial.any())
