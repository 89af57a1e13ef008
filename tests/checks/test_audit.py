"""Each costly check is raised by the victim or attack planted for it, and none by honest ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Module, Sequential

from ecgbench.api import data_root
from ecgbench.checks.audit import Audit
from ecgbench.checks.cheap import CheapChecks, Check
from ecgbench.core.data import Samples, Task
from ecgbench.core.interfaces import Attack
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim, frozen
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep
from ecgbench.registry.catalog import discover
from ecgbench.storage.arrays import pack
from ecgbench.testing.fakes import FAKES, HONEST, MODULES, STRONG, Bed
from ecgbench_plugins.attacks.identity import Identity
from ecgbench_plugins.attacks.noise import Noise
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.square import Square
from tests.problems import Written, generators, linear_problem, random_mlp, small_network, task_of, thresholds

CODES = ["BATCHDEP", "MASKEDGRAD", "UNBOUNDED", "LOSSSAT", "TARGETED", "NOTCONV", "BB>WB", "ACTIVE-TEST"]
STRICT = PGD(loss="targeted-margin", restarts=2)
CE = PGD(loss="ce")
EPS = 0.3


def sweep_of(attack: Attack, victim: Victim, task: Task, threat: Threat | None = None, eps: float = EPS) -> Sweep:
    return Sweep(attack, victim, task, threat or Threat("linf"), (eps,), RandomStream((0, "attack")))


def audited(sweep: Sweep, undefended: Victim | None = None, outcomes: Outcomes | None = None) -> dict[str, Check]:
    outcomes = outcomes or sweep.run(Checkpoint())
    return {check.code: check for check in Audit(sweep, outcomes, sweep.eps[-1], undefended).run()}


def raised(sweep: Sweep, undefended: Victim | None = None) -> list[str]:
    return [code for code, check in audited(sweep, undefended).items() if check.raised]


def trained(seed: int = 0) -> tuple[Task, Module]:
    """A small honest network."""
    return small_network(1800, 6, seed)


def tricked(answer: Callable[[Module, Tensor], Tensor], attack: Attack = CE) -> Sweep:
    """The attack on the trained network that is asked by a trick."""
    task, module = trained()
    return sweep_of(attack, frozen(Tricked(module, answer)), task)


class Tricked(Module):
    def __init__(self, honest: Module, answer: Callable[[Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.honest, self.answer = honest, answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self.honest, x)


def beside(x: Tensor) -> Tensor:
    """Samples of the trained task that something has moved: (n, 1)."""
    known = trained()[0].test.x.flatten(1)
    return torch.cdist(x.detach().flatten(1), known).amin(1, keepdim=True) > 1e-3


# honest victims


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_honest_victim_under_a_strong_attack_raises_nothing(seed: int, norm: Norm) -> None:
    task, module = trained(seed)
    for eps in (0.1, 0.5):
        found = audited(sweep_of(STRICT, frozen(module), task, Threat(norm), eps))
        assert list(found) == CODES
        assert not [code for code, check in found.items() if check.raised]
        assert found["MASKEDGRAD"].effect < 0.02


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_victim_raises_nothing_masked_or_beside_an_undefended_one(norm: Norm) -> None:
    problem = linear_problem(3, (1, 40), 400, masked=True, bounds=(0.0, 1.0))
    sweep = sweep_of(STRICT, problem.victim, problem.task, Threat(norm), 0.02)
    found = audited(sweep, problem.victim)
    assert list(found) == [*CODES[:-1], "TRANSFER", CODES[-1]]
    assert not [code for code, check in found.items() if check.raised]
    assert found["MASKEDGRAD"].effect < 1e-4


def test_a_targeted_sweep_is_judged_by_its_own_goal() -> None:
    task, module = trained()
    threat = Threat("linf", source_classes=("0",), target="2")
    assert raised(sweep_of(PGD(loss="margin"), frozen(module), task, threat)) == []
    assert {"NOTCONV", "ACTIVE-TEST"} & set(raised(sweep_of(PGD(steps=1), frozen(module), task, threat, 1.0)))


@pytest.mark.parametrize("alive", ["nobody-right", "nobody-left"])
def test_where_nobody_stands_nothing_is_raised(alive: str) -> None:
    task, victim = random_mlp(60)
    clean = victim.module(task.test.x).argmax(1)
    y = (clean + 1) % 3 if alive == "nobody-right" else clean
    task = replace(task, bounds=None, test=replace(task.test, y=y))
    assert raised(sweep_of(STRICT, victim, task, eps=20.0), victim) == []


# one check after another


def test_a_batch_norm_in_train_mode_is_BATCHDEP() -> None:  # noqa: N802
    task, module = trained()
    normed = Sequential(BatchNorm1d(1, affine=False), module).requires_grad_(False)
    normed.train()
    assert "BATCHDEP" in raised(sweep_of(STRICT, Victim(normed), task))


class Drawn(Module):
    """Adds noise of the sample's own stream, or of the place in the batch."""

    takes_rng = True

    def __init__(self, honest: Module, by_place: bool) -> None:
        super().__init__()
        self.honest, self.by_place = honest, by_place

    def forward(self, x: Tensor, rng: RandomStream, ids: Tensor) -> Tensor:
        owner = torch.arange(len(ids)) if self.by_place else ids
        return self.honest(x + 0.05 * rng.normal(owner, x.shape[1:]))


@pytest.mark.parametrize("by_place", [False, True])
def test_a_declared_draw_is_BATCHDEP_only_where_it_belongs_to_a_place(by_place: bool) -> None:  # noqa: N802
    task, module = trained()
    sweep = sweep_of(PGD(steps=2), frozen(Drawn(module, by_place)), task.limited(20))
    found = audited(sweep)
    assert found["BATCHDEP"].raised == by_place
    assert not found["MASKEDGRAD"].raised


class Turned(torch.autograd.Function):
    """x, with the gradient turned round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


def turned(honest: Module, x: Tensor) -> Tensor:
    return honest(Turned.apply(x))  # type: ignore[no-untyped-call]


def test_the_effect_of_MASKEDGRAD_is_what_the_cosine_lacks() -> None:  # noqa: N802
    problem = linear_problem(2, (1, 40), 200)
    effects = []
    for answer in (turned, lambda honest, x: honest(100 * x.detach() + 1e-9 * x).round(), lambda honest, x: honest(x)):
        victim = frozen(Tricked(problem.victim.module, answer))
        task = replace(problem.task, test=replace(problem.task.test, y=victim.module(problem.task.test.x).argmax(1)))
        effects.append(audited(sweep_of(Identity(), victim, task, eps=0.05))["MASKEDGRAD"].effect)
    assert effects == pytest.approx([2, 1, 0], abs=1e-4)


def test_a_mask_that_begins_beside_the_sample_is_MASKEDGRAD() -> None:  # noqa: N802
    def answer(honest: Module, x: Tensor) -> Tensor:
        return torch.where(beside(x), turned(honest, x), honest(x))

    assert "MASKEDGRAD" in raised(tricked(answer))


def test_a_gradient_that_is_not_a_number_is_MASKEDGRAD() -> None:  # noqa: N802
    assert "MASKEDGRAD" in raised(tricked(lambda honest, x: honest(x + (x - x).sqrt())))


@pytest.mark.parametrize(
    "answer",
    [
        lambda honest, x: honest(x.half().float()),
        lambda honest, x: honest(x + 0.02 * (x / 0.02).sin()),
        lambda honest, x: 1e-30 * honest(x),
        lambda honest, x: 1e6 * honest(x),
    ],
    ids=["rounding", "ripple", "tiny", "huge"],
)
def test_what_bends_or_rounds_or_scales_is_not_MASKEDGRAD(answer: Callable[[Module, Tensor], Tensor]) -> None:  # noqa: N802
    found = audited(tricked(answer, Identity()))
    assert not found["MASKEDGRAD"].raised


def test_a_mask_that_saves_nobody_is_not_MASKEDGRAD() -> None:  # noqa: N802
    """Everyone falls to the transferred answer of an attack that needs no gradient."""
    task, module = trained()
    sweep = sweep_of(Noise(draws=50), frozen(Tricked(module, turned)), task, eps=30.0)
    outcomes = sweep.run(Checkpoint())
    outcomes.adversarial[:] = True
    assert not audited(sweep, outcomes=outcomes)["MASKEDGRAD"].raised


def test_the_effect_of_UNBOUNDED_is_the_share_that_nothing_moves() -> None:  # noqa: N802
    """Signals below 0 are refused: frozen at their class. Some of them weigh three times as much."""
    x = torch.linspace(-1, 1, 200).view(200, 1, 1)
    weight = torch.where(x.flatten() < 0, 3.0, 1.0)
    task = task_of(replace(Samples.of(x, torch.zeros(200, dtype=torch.int64)), weight=weight), 2)
    steep = Written(lambda x: torch.stack([torch.full_like(x[:, 0, 0], 0.9), x[:, 0, 0].relu()], 1))
    found = audited(sweep_of(Identity(), frozen(steep), task, eps=0.01))["UNBOUNDED"]
    right = float(weight[x.flatten() < 0.9].sum() / weight.sum())
    assert found.raised and 0.7 < found.effect < right
    assert found.effect == pytest.approx(300 / 400, abs=0.02)


def test_a_class_that_never_changes_is_UNBOUNDED() -> None:  # noqa: N802
    found = audited(tricked(lambda honest, x: honest(0 * x)))
    assert found["UNBOUNDED"].raised
    assert found["UNBOUNDED"].effect > 0.2


def test_huge_logits_are_LOSSSAT_unless_the_attack_climbs_a_margin() -> None:  # noqa: N802
    assert "LOSSSAT" in raised(tricked(lambda honest, x: 1000 * honest(x)))
    assert raised(tricked(lambda honest, x: 1000 * honest(x), STRICT)) == []


def test_an_attack_on_the_wrong_rival_is_TARGETED() -> None:  # noqa: N802
    """Class 1 rises fast and stops below class 0; class 2 rises slowly and does not stop."""

    def logits(x: Tensor) -> Tensor:
        way = x[:, 0, 0]
        return torch.stack([torch.ones_like(way), 0.9 - (way - 0.2).abs(), -0.5 - 2 * way], 1)

    x = torch.linspace(-0.05, 0.05, 100).view(100, 1, 1)
    task = task_of(Samples.of(x, torch.zeros(100, dtype=torch.int64)), 3)
    attack = PGD(loss="margin", start="zero")
    found = audited(sweep_of(attack, frozen(Written(logits)), task, eps=1.0))
    assert found["TARGETED"].raised and found["TARGETED"].effect == 1


def test_a_fresh_start_finds_what_stands_still_at_the_sample() -> None:
    def answer(honest: Module, x: Tensor) -> Tensor:
        return torch.where(beside(x), honest(x), honest(x).detach())

    stuck = audited(tricked(answer, PGD(loss="margin", start="zero")))
    assert stuck["TARGETED"].raised and stuck["TARGETED"].effect > 0.03


def test_too_few_steps_are_NOTCONV() -> None:  # noqa: N802
    task, module = trained()
    found = audited(sweep_of(PGD(steps=2, rel_step=0.25, loss="margin"), frozen(module), task, eps=0.8))
    assert found["NOTCONV"].raised and found["NOTCONV"].effect > 0.02


@dataclass(frozen=True)
class Creeping(Attack):
    """Goes 0.01 a step, with `doubled` twice as far when it is asked for twice the steps."""

    access: ClassVar[Literal["gradient", "score"]] = "score"
    steps: int = 10
    doubled: bool = True

    def longer(self) -> Attack:
        return replace(self, steps=2 * self.steps) if self.doubled else self

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return trial.ball.project(torch.full_like(trial.batch.x, 0.01 * self.steps))


@pytest.mark.parametrize("doubled", [True, False])
def test_NOTCONV_is_what_twice_the_steps_find(doubled: bool) -> None:  # noqa: N802
    """From 0 again, so that a fresh start alone finds nothing: samples fall at 0.15, ten steps reach 0.1."""
    samples, victim = thresholds([0.15] * 10 + [9.0] * 10)
    check = audited(sweep_of(Creeping(doubled=doubled), victim, task_of(samples, 2)))["NOTCONV"]
    assert check.raised == doubled and check.effect == pytest.approx(0.5 * doubled)


def test_logits_on_a_grid_are_beaten_by_a_walk_without_gradients() -> None:
    found = audited(tricked(lambda honest, x: honest(x).round(decimals=1)))
    assert found["BB>WB"].raised and found["BB>WB"].effect > 0.05


def test_the_walk_without_gradients_falls_no_deeper_than_the_closed_form() -> None:
    problem = linear_problem(2, (1, 40), 300)
    found = audited(sweep_of(STRICT, problem.victim, problem.task, Threat("l2"), 0.05))
    assert found["BB>WB"].effect == 0


def test_a_victim_that_freezes_falls_to_the_undefended_one() -> None:
    task, module = trained()

    def answer(honest: Module, x: Tensor) -> Tensor:
        return honest(x).detach().sign() + 1e-9 * x.flatten(1).sum(1, keepdim=True)

    sweep = sweep_of(CE, frozen(Tricked(module, lambda honest, x: 1e-9 * honest(x) + answer(honest, x))), task)
    assert "TRANSFER" in raised(sweep, frozen(module))
    assert "TRANSFER" not in audited(sweep)


def test_an_attack_that_does_nothing_fails_the_ACTIVE_TEST() -> None:  # noqa: N802
    task, module = trained()
    assert audited(sweep_of(Identity(), frozen(module), task))["ACTIVE-TEST"].effect == 1


def test_a_victim_without_gradients_is_GRAD_and_asked_for_none() -> None:  # noqa: N802
    sweep = tricked(lambda honest, x: honest(x.detach()), Square(queries=50))
    outcomes = sweep.run(Checkpoint())
    cheap = {check.code: check for check in CheapChecks(sweep, outcomes, EPS).run()}
    costly = audited(sweep, sweep.victim, outcomes)
    assert cheap["GRAD"].raised and "gives no gradient" in cheap["LOSS"].note
    assert list(costly) == CODES
    assert "gives no gradient" in costly["UNBOUNDED"].note


# laws


def test_an_audit_does_not_depend_on_the_order_of_the_split() -> None:
    task, module = trained()
    order = torch.randperm(len(task.test), generator=torch.Generator().manual_seed(0))
    one, other = (
        audited(sweep_of(PGD(steps=3, loss="ce"), frozen(module), made))
        for made in (task, replace(task, test=task.test[order]))
    )
    assert [check.effect for check in other.values()] == pytest.approx(
        [check.effect for check in one.values()], abs=1e-5
    )


def test_an_audit_leaves_outcomes_victim_and_generators_alone() -> None:
    task, module = trained()
    sweep = sweep_of(CE, frozen(module), task)
    outcomes = sweep.run(Checkpoint())
    before = pack(outcomes)
    weights, states = {name: value.clone() for name, value in module.state_dict().items()}, generators()
    Audit(sweep, outcomes, EPS, frozen(module)).run()
    assert pack(outcomes) == before
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert generators() == states


def test_an_audit_is_the_same_each_time() -> None:
    sweep = tricked(lambda honest, x: 1000 * honest(x))
    assert audited(sweep) == audited(sweep)


# the fakes


def test_every_fake_is_a_defense_that_a_plugin_offers() -> None:
    assert set(FAKES) <= set(discover(MODULES).names("defense"))


@pytest.fixture(scope="module")
def bed() -> Bed:
    return Bed("synthetic-beats[beats=4000]", data_root({}))


@pytest.mark.slow
def test_every_fake_is_caught_by_the_check_meant_for_it(bed: Bed) -> None:
    rows = {row.victim: row for row in bed.fakes()}
    assert [name for name, code in FAKES.items() if code not in rows[name].flags] == []
    assert rows["quantised"].robust > rows["(honest)"].robust + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("model", HONEST)
def test_no_honest_victim_is_flagged_under_a_strong_attack(bed: Bed, model: str) -> None:
    rows = list(bed.honest(model, STRONG))
    assert {row.victim: row.flags for row in rows if row.flags} == {}
    assert len(rows) == 6
