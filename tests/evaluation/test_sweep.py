"""An attack over growing eps: protocols replayed by hand, nothing depends on the batch, nothing wrong gets through."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Samples, Task
from ecgbench.core.errors import ContractError, EcgbenchError
from ecgbench.core.interfaces import Attack
from ecgbench.core.iteration import run_sequentially
from ecgbench.core.losses import margin
from ecgbench.core.progress import Checkpoint, SweepProgress
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim
from ecgbench.evaluation.lending import module_change
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Protocol, Sweep
from ecgbench.evaluation.threshold import best_thresholds
from ecgbench.runs.scoring import goes_on
from ecgbench.storage.arrays import pack
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.attacks.identity import Identity
from ecgbench_plugins.attacks.noise import Noise
from ecgbench_plugins.attacks.pgd import PGD
from tests.problems import (
    KilledError,
    MemoryCheckpoint,
    Wavering,
    Written,
    generators,
    linear_problem,
    random_mlp,
    reach,
    task_of,
    thresholds,
)

GRID = (0.02, 0.05, 0.1)
LINF = Threat("linf")
RNG = RandomStream((0, "attack"))


def sweep(attack: Attack, task: Task, victim: Victim, threat: Threat = LINF, grid: tuple[float, ...] = GRID) -> Sweep:
    return Sweep(attack, victim, task, threat, grid, RNG)


def random_sweep(attack: Attack, n: int = 300, threat: Threat = LINF) -> Sweep:
    task, victim = random_mlp(n)
    return sweep(attack, task, victim, threat, GRID if threat.norm == "linf" else tuple(4 * eps for eps in GRID))


@cache
def random_outcomes() -> Outcomes:
    return random_sweep(PGD(steps=10, rel_step=0.25)).run(Checkpoint())


def same(one: Outcomes, other: Outcomes) -> bool:
    return pack(one) == pack(other)


# what is adversarial stays so


def test_what_fell_stays_fallen_by_the_same_perturbation_at_no_further_cost() -> None:
    found = random_outcomes()
    for position in range(1, len(GRID)):
        adversarial = found.adversarial[position - 1]
        assert 0 < adversarial.sum() < found.adversarial[position].sum()
        for part in (found.predicted, found.adversarial, found.size, found.by):
            assert np.array_equal(part[position][adversarial], part[position - 1][adversarial])
        assert not found.forwards[position][adversarial].any() and not found.gradients[position][adversarial].any()


def test_a_sample_wrong_when_clean_is_wrong_at_every_eps_and_not_attacked() -> None:
    found = random_outcomes()
    wrong = found.clean != found.y
    assert 0.1 < wrong.mean() < 0.5
    assert (found.predicted[:, wrong] == found.clean[wrong]).all()
    for part in (found.adversarial, found.size, found.forwards, found.gradients):
        assert not part[:, wrong].any()


def test_survivors_are_attacked_at_every_eps_and_sizes_stay_inside() -> None:
    found = random_outcomes()
    standing = (found.clean == found.y) & ~found.adversarial
    assert (found.gradients[standing] == 10).all() and (found.forwards[standing] == 11).all()
    assert (found.size <= found.eps[:, None] * (1 + 1e-5)).all()
    assert (found.predicted[found.adversarial] != np.tile(found.y, (3, 1))[found.adversarial]).all()


def test_outcomes_carry_the_split_and_can_be_stored() -> None:
    problem = linear_problem(3, (1, 8), n=50)
    test = replace(problem.task.test, group=torch.arange(50) // 5, weight=torch.rand(50), ids=torch.arange(50) * 2)
    found = sweep(Identity(), replace(problem.task, test=test), problem.victim).run(Checkpoint())
    assert same(Outcomes.from_arrays(found.arrays()), found)
    assert found.group.tolist() == test.group.tolist() and found.ids.tolist() == test.ids.tolist()  # type: ignore[union-attr]
    assert np.array_equal(found.weight, test.weight.numpy()) and (random_outcomes().group == -1).all()


def test_progress_is_told_by_chunk_and_ends_with_everyone_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgbench.core.victim.CHUNK_BYTES", 4 * 24 * 100)
    checkpoint, made = MemoryCheckpoint(), random_sweep(Identity(), 250)
    made.run(checkpoint)
    told = [progress for progress in checkpoint.told if isinstance(progress, SweepProgress)]
    standing = int((random_mlp(250)[0].test.y.numpy() == made.run(Checkpoint()).clean).sum())
    assert [progress.done for progress in told] == [100, standing] * 3
    assert [(progress.eps, progress.position, progress.of) for progress in told[::2]] == [
        *((eps, position, 3) for position, eps in enumerate(GRID))
    ]


# nothing depends on the batch


def share_that_differs(one: Outcomes, other: Outcomes) -> float:
    assert np.array_equal(one.ids, other.ids)
    return float(np.mean((one.predicted != other.predicted).any(0) | (one.adversarial != other.adversarial).any(0)))


def large_sweep(norm: Norm) -> Sweep:
    return random_sweep(PGD(steps=10, rel_step=0.25, loss="margin"), 4000, Threat(norm))


@cache
def large_outcomes(norm: Norm) -> Outcomes:
    return large_sweep(norm).run(Checkpoint())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("rows", [60, 600])
def test_outcomes_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch, norm: Norm, rows: int) -> None:
    whole = large_outcomes(norm)
    monkeypatch.setattr("ecgbench.core.victim.CHUNK_BYTES", 4 * 24 * rows)
    pieces = large_sweep(norm).run(Checkpoint())
    assert 0.1 < whole.adversarial[0].mean() < whole.adversarial[-1].mean() < 0.7
    assert share_that_differs(whole, pieces) <= 1e-4


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_outcomes_do_not_depend_on_the_order_of_the_split(norm: Norm) -> None:
    task, victim = random_mlp(4000)
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    shuffled = replace(task, test=task.test[order])
    found = replace(large_sweep(norm), task=shuffled, victim=victim).run(Checkpoint())
    back = {
        name: value[..., order.argsort().numpy()]
        for name, value in found.arrays().items()
        if value.shape[-1:] == (4000,)
    }
    assert share_that_differs(large_outcomes(norm), replace(found, **back)) <= 1e-4  # type: ignore[arg-type]


def test_the_same_sweep_gives_the_same_outcomes_and_changes_nothing_outside() -> None:
    made = random_sweep(PGD(steps=10, rel_step=0.25))
    x, before = made.task.test.x.clone(), generators()
    assert same(made.run(Checkpoint()), random_outcomes())
    assert torch.equal(made.task.test.x, x) and generators() == before


def test_another_seed_draws_other_starts() -> None:
    made = random_sweep(Noise(draws=1))
    assert not same(replace(made, rng=RandomStream((1, "attack"))).run(Checkpoint()), made.run(Checkpoint()))


# protocols, by hand


def wavy(n: int = 120) -> tuple[Task, Victim]:
    """A victim whose classes alternate in waves: a longer way does not stay adversarial, a larger ball may miss."""
    task, _ = random_mlp(n)
    weight = RNG.normal(torch.arange(24), (3,))
    victim = Victim(Written(lambda x: torch.sin(20 * x.flatten(1) @ weight)).eval())
    clean = victim.module(task.test.x).argmax(1)
    y = torch.where(RNG.fold_in("y").uniform(task.test.ids, ()) < 0.7, clean, task.test.y)
    return replace(task, test=replace(task.test, y=y)), victim


def by_hand(module: Module, x: Tensor, y: int, eps: float, protocol: Protocol) -> Tensor:
    """PGD on one sample as one writes it: 6 steps of eps / 3 on the margin, from the sample."""
    low, high = (-x).clamp(min=-eps), (1 - x).clamp(max=eps)
    delta = torch.zeros_like(x)
    for _ in range(6):
        point = delta.clone().requires_grad_()
        logits = module((x + point)[None])[0]
        if protocol.success == "first" and int(logits.argmax()) != y:
            return delta
        others = torch.cat([logits[:y], logits[y + 1 :]])
        (others.max() - logits[y]).backward()
        assert point.grad is not None
        delta = torch.minimum(torch.maximum(delta + eps / 3 * point.grad.sign(), low), high)
    return delta


def table_by_hand(task: Task, module: Module, protocol: Protocol) -> tuple[list[list[int]], list[list[float]]]:
    """Predicted class and size for every eps and sample, sample by sample."""
    predicted, sizes = [[] for _ in GRID], [[] for _ in GRID]  # type: ignore[var-annotated]
    for x, y in zip(task.test.x, task.test.y.tolist(), strict=True):
        clean = int(module(x[None]).argmax())
        answer, size, adversarial = clean, 0.0, False
        for position, eps in enumerate(GRID):
            attacked = clean == y or protocol.clean_wrong == "attacked"
            if attacked and not (adversarial and protocol.sweep == "growing"):
                delta = by_hand(module, x, y, eps, protocol)
                answer, size = int(module((x + delta)[None]).argmax()), float(delta.abs().max())
                adversarial = answer != y
            predicted[position].append(answer)
            sizes[position].append(size)
    return predicted, sizes


@pytest.mark.parametrize("success", ["first", "last"])
@pytest.mark.parametrize("order", ["growing", "independent"])
@pytest.mark.parametrize("clean_wrong", ["wrong", "attacked"])
def test_every_protocol_is_a_plain_loop_over_samples(
    success: Literal["first", "last"],
    order: Literal["growing", "independent"],
    clean_wrong: Literal["wrong", "attacked"],
) -> None:
    task, victim = wavy()
    protocol = Protocol(success, order, clean_wrong)
    made = replace(sweep(PGD(steps=6, rel_step=1 / 3, loss="margin", start="zero"), task, victim), protocol=protocol)
    found, (predicted, sizes) = made.run(Checkpoint()), table_by_hand(task, victim.module, protocol)
    assert found.predicted.tolist() == predicted
    np.testing.assert_allclose(found.size, sizes, rtol=1e-4, atol=1e-7)


def test_the_protocols_do_differ_here() -> None:
    """Else the test above would not tell them apart."""
    task, victim = wavy()
    last = Protocol(success="last")
    for one, other in (
        (Protocol(), last),
        (Protocol(), Protocol(sweep="independent")),
        (last, replace(last, clean_wrong="attacked")),
    ):
        assert table_by_hand(task, victim.module, one)[0] != table_by_hand(task, victim.module, other)[0]


def test_an_independent_sweep_pays_for_every_eps_again() -> None:
    made = random_sweep(PGD(steps=4, rel_step=0.5, loss="margin"))
    independent = replace(made, protocol=Protocol(sweep="independent")).run(Checkpoint())
    assert (independent.gradients[:, independent.correct] > 0).all()


# goals, units, randomised victims, minimal attacks


def test_with_source_classes_all_others_keep_their_clean_class() -> None:
    found = random_sweep(
        PGD(steps=20, rel_step=0.25, loss="margin"), threat=Threat("linf", source_classes=("0",), target="2")
    ).run(Checkpoint())
    attacked = (found.y == 0) & (found.clean == 0)
    assert (found.predicted[:, ~attacked] == found.clean[~attacked]).all()
    assert not found.forwards[:, ~attacked].any() and (found.forwards[0, attacked] > 0).all()
    assert 0 < found.adversarial[-1].sum() < attacked.sum()
    assert np.array_equal(found.adversarial[:, attacked], found.predicted[:, attacked] == 2)


def test_a_targeted_row_that_merely_leaves_its_class_has_not_fallen_but_counts_as_wrong() -> None:
    """Class 1 lies between the sample and the target."""
    samples = Samples.of(torch.zeros(1, 1, 2), torch.tensor([0]))
    victim = Victim(Written(lambda x: torch.stack([0 * x[:, 0, 0] + 0.25, 3 * x[:, 0, 0], 4 * x[:, 0, 0] - 0.45], 1)))
    made = sweep(PGD(loss="margin", start="zero"), task_of(samples, 3), victim, Threat("linf", target="2"), (0.2, 0.6))
    found = made.run(Checkpoint())
    assert found.adversarial[:, 0].tolist() == [False, True]
    assert found.predicted[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_budgets_in_a_physical_unit_are_each_samples_own(norm: Norm) -> None:
    scale = 0.5 + torch.rand(500, generator=torch.Generator().manual_seed(0))
    problem, threat = linear_problem(2, (1, 30), 500, scale=scale), Threat(norm, unit="mV")
    grid = (0.01, 0.03) if norm == "linf" else (0.05, 0.15)
    found = sweep(PGD(loss="margin", start="zero"), problem.task, problem.victim, threat, grid).run(Checkpoint())
    for eps, fallen, size in zip(grid, found.adversarial, found.size, strict=True):
        lead = reach(problem, threat, eps)
        assert 0.1 < fallen.mean() < 0.9
        assert np.array_equal(fallen, lead > 0)
        assert (size <= eps * (1 + 1e-5)).all() and size[~fallen] == pytest.approx(eps)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", [PGD(loss="margin", start="zero"), FGSM()])
def test_budgets_in_the_unit_of_each_feature_are_those_of_the_signal_in_these_units(norm: Norm, attack: Attack) -> None:
    """Of two classes the lead grows by eps times the dual norm of (w1 - w0) / scale."""
    n, scale = 500, torch.tensor([0.1, 1.0, 7.0, 40.0, 2.0])
    problem = linear_problem(2, (6, 5), n, scale=scale.expand(n, 1, 5))
    ahead = ((problem.weight[1] - problem.weight[0]).reshape(6, 5) / scale.numpy()).ravel()
    gain = np.abs(ahead).sum() if norm == "linf" else np.linalg.norm(ahead)
    logits = problem.x @ problem.weight.T + problem.bias
    needed = np.abs(logits[:, 1] - logits[:, 0]) / gain
    grid = tuple(float(size) for size in np.quantile(needed, [0.3, 0.7]))
    found = sweep(attack, problem.task, problem.victim, Threat(norm, unit="mV"), grid).run(Checkpoint())
    for eps, fallen, size in zip(grid, found.adversarial, found.size, strict=True):
        sure = np.abs(needed / eps - 1) > 1e-4
        assert np.array_equal(fallen[sure], needed[sure] < eps)
        assert (size <= eps * (1 + 1e-5)).all() and size[~fallen] == pytest.approx(eps)


def test_a_randomised_victim_falls_only_where_most_fresh_draws_are_wrong() -> None:
    samples = Samples.of(torch.full((400, 1, 4), 0.05), torch.zeros(400, dtype=torch.int64))
    made = sweep(
        PGD(loss="margin", start="zero", rel_step=1.0), task_of(samples, 2), Victim(Wavering()), LINF, (0.2, 0.9)
    )
    last = replace(made, protocol=Protocol(success="last"))
    found, final = made.run(Checkpoint()), last.run(Checkpoint())
    assert (found.clean == 0).all()
    assert (found.forwards[0] < 41).mean() > 0.95  # nearly all were seen to waver at a chance of 0.25 ...
    assert found.adversarial[0].mean() < 0.05  # ... and nearly none falls by it
    assert final.adversarial[1].mean() > 0.99  # at 0.95 all do


@dataclass(frozen=True)
class StopsAtSuccess(Identity):
    """It says so itself."""

    @property
    def stops_at_success(self) -> bool:
        return True


@dataclass(frozen=True)
class Nearest(Attack):
    """The smallest perturbation that turns a linear victim of two classes, and a hair more."""

    minimal: ClassVar[bool] = True

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        zero = torch.zeros_like(trial.batch.x)
        lead = -margin(trial.logits(zero), trial.goal)
        gradient = trial.gradient(zero, margin)[1]
        step = trial.ball.steepest(gradient)
        gain = (step * gradient).flatten(1).sum(1)
        return trial.ball.project(((1.0001 * lead + 1e-4) / gain).view(-1, 1, 1) * step)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_minimal_attack_runs_once_and_its_table_is_read_from_sizes(norm: Norm) -> None:
    problem, threat = linear_problem(2, (1, 30), 2000), Threat(norm)
    grid = (0.01, 0.02, 0.03, 0.06) if norm == "linf" else (0.05, 0.1, 0.15, 0.3)
    found = sweep(Nearest(), problem.task, problem.victim, threat, grid).run(Checkpoint())
    for eps, fallen in zip(grid, found.adversarial, strict=True):
        lead = reach(problem, threat, eps)
        clear = np.abs(lead) > 1e-2
        assert clear.mean() > 0.98 and np.array_equal(fallen[clear], lead[clear] > 0)
    assert not found.forwards[:-1].any() and (found.forwards[-1] == 2).all()
    assert (found.size <= found.eps[:, None] * (1 + 1e-5)).all()
    assert (np.diff(found.adversarial.astype(int), axis=0) >= 0).all()


@dataclass(frozen=True)
class Roundabout(Nearest):
    """Meets a far point that is adversarial before it presents the nearest one."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        nearest = super().perturb(trial, rng)
        trial.logits(trial.ball.project(1e6 * nearest))
        return nearest


def test_a_minimal_attack_is_judged_by_what_it_presents_and_not_by_what_it_met() -> None:
    problem = linear_problem(2, (1, 30), 200)
    near, far = (sweep(attack, problem.task, problem.victim).run(Checkpoint()) for attack in (Nearest(), Roundabout()))
    assert near.adversarial[-1].mean() > 0.5
    assert np.array_equal(near.size, far.size) and np.array_equal(near.adversarial, far.adversarial)


def test_an_attack_that_met_an_adversarial_point_need_not_return_it() -> None:
    samples, victim = thresholds([0.05, 0.5])

    def forgetful(trial: Trial) -> Tensor:
        trial.logits(trial.ball.high.clone())
        return torch.zeros_like(trial.batch.x)

    found = sweep(Returned(forgetful), task_of(samples, 2), victim, LINF, (0.1,)).run(Checkpoint())
    assert found.adversarial[0].tolist() == [True, False]
    assert found.size[0].tolist() == pytest.approx([0.1, 0.0])


def test_the_second_victim_reaches_the_attack() -> None:
    (task, victim), (_, other) = random_mlp(20), random_mlp(20, seed=1)
    met = []

    def note(trial: Trial) -> Tensor:
        met.append(trial.surrogate)
        return torch.zeros_like(trial.batch.x)

    replace(sweep(Returned(note), task, victim), surrogate=other).run(Checkpoint())
    assert len(met) == 3 and all(each is not None and each.module is not other.module for each in met)
    assert all(module_change(each.module, other.module) is None for each in met if each is not None)


# what must not get through


@dataclass(frozen=True)
class Returned(Attack):
    """An attack that returns what a function of the trial says."""

    answer: Callable[[Trial], Tensor]
    access: ClassVar[Literal["gradient", "score"]] = "score"

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return self.answer(trial)

    def __repr__(self) -> str:
        return "Returned()"


def spoiled(trial: Trial, value: float, place: int = 0) -> Tensor:
    """Nothing but `value` at one place of the third row."""
    delta = torch.zeros_like(trial.batch.x)
    delta[2, 0, place] = value
    return delta


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (partial(spoiled, value=0.1002), "expected linf size <= 0.1, got 0.1002 on sample 30."),
        (partial(spoiled, value=torch.nan), "expected finite values, got others on sample 30."),
        (partial(spoiled, value=-torch.inf), "expected finite values, got others on sample 30."),
        (
            partial(spoiled, value=1e-6, place=5),
            "expected no change outside the mask and the bounds, got one on sample 30.",
        ),
        (
            partial(spoiled, value=0.09, place=1),
            "expected no change outside the mask and the bounds, got one on sample 30.",
        ),
        (lambda trial: torch.zeros(5, 1, 5), "expected a perturbation of shape (5, 1, 6), got (5, 1, 5)."),
        (lambda trial: torch.zeros(4, 1, 6), "expected a perturbation of shape (5, 1, 6), got (4, 1, 6)."),
    ],
)
def test_a_perturbation_that_breaks_the_threat_fails_with_rule_and_sample(
    answer: Callable[[Trial], Tensor], rule: str
) -> None:
    x = torch.full((5, 1, 6), 0.5)
    x[2, 0, 1] = 0.95
    samples = Samples.of(
        x, torch.zeros(5, dtype=torch.int64), mask=torch.arange(6).expand(5, 1, 6) < 5, ids=torch.arange(5) * 10 + 10
    )
    victim = Victim(Written(lambda x: torch.tensor([[1.0, 0.0]]).expand(len(x), 2)))
    made = sweep(Returned(answer), task_of(samples, 2, bounds=(0.0, 1.0)), victim, LINF, (0.1,))
    with pytest.raises(ContractError, match=re.escape(f"Returned() broke its contract: {rule}")):
        made.run(Checkpoint())


def test_a_point_of_the_cube_returned_under_l2_fails() -> None:
    made = random_sweep(Returned(lambda trial: torch.full_like(trial.batch.x, 0.02)), threat=Threat("l2", bounds=False))
    with pytest.raises(ContractError, match=r"expected l2 size <= 0.08, got 0.0979\d* on sample"):
        made.run(Checkpoint())


@pytest.mark.parametrize("where", [0.5, 0.55], ids=["clean", "attacked"])
def test_logits_that_are_not_finite_fail_with_the_sample(where: float) -> None:
    def logits(x: Tensor) -> Tensor:
        lead = torch.where((x[:, 0, 0] - where).abs() < 0.01, torch.nan, 1.0)
        return torch.stack([lead, 0 * lead], 1)

    x = torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1)
    samples = Samples.of(x, torch.zeros(3, dtype=torch.int64), ids=torch.tensor([7, 8, 9]))
    attack = Returned(lambda trial: torch.full_like(trial.batch.x, 0.05))
    with pytest.raises(
        ContractError, match="Written broke its contract: expected finite logits, got others on sample 8"
    ):
        sweep(attack, task_of(samples, 2), Victim(Written(logits)), LINF, (0.05,)).run(Checkpoint())


def test_an_attack_that_said_scores_gets_no_gradient() -> None:
    made = random_sweep(Returned(lambda trial: trial.gradient(trial.batch.x, margin)[1]))
    with pytest.raises(ContractError, match="expected no gradient to be asked for"):
        made.run(Checkpoint())


def test_the_host_believes_no_claim_of_an_attack() -> None:
    """A trial that says "fallen" about a harmless perturbation changes nothing."""

    def claim(trial: Trial) -> Tensor:
        trial.memory.is_adversarial.data[:] = True
        return torch.zeros_like(trial.batch.x)

    found = random_sweep(Returned(claim)).run(Checkpoint())
    assert not found.adversarial.any() and (found.predicted == found.clean).all()


@pytest.mark.parametrize("grid", [(), (0.1, 0.1), (0.2, 0.1), (0.0, 0.1), (-0.1,), (float("inf"),), (float("nan"),)])
def test_a_grid_that_cannot_be_is_refused(grid: tuple[float, ...]) -> None:
    with pytest.raises(EcgbenchError, match="expected"):
        replace(random_sweep(Identity(), 4), eps=grid).run(Checkpoint())


def test_a_threat_that_does_not_fit_the_task_is_refused_before_anything_runs() -> None:
    with pytest.raises(EcgbenchError, match="eps cannot be read in 'mV'"):
        random_sweep(Returned(lambda trial: pytest.fail("attacked")), 4, Threat("linf", unit="mV")).run(Checkpoint())


def test_a_split_in_which_nobody_is_right_costs_nothing() -> None:
    samples, victim = thresholds([1.0, 2.0])
    wrong = replace(samples, y=torch.ones(2, dtype=torch.int64))
    found = sweep(PGD(), task_of(wrong, 2), victim).run(Checkpoint())
    assert not found.forwards.any() and (found.predicted == 0).all()


# a killed sweep


@dataclass(frozen=True)
class InParts(Attack):
    """Noise, then a descent: two components under their names."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        return run_sequentially(trial, self._parts(rng))

    def _parts(self, rng: RandomStream) -> Iterator[Callable[[Trial, Tensor], Tensor]]:
        yield lambda left, at: Noise(draws=2).perturb(left.named("noise"), rng)
        yield lambda left, at: PGD(steps=5, rel_step=0.5, loss="margin").perturb(left.named("descent"), rng)


@pytest.mark.parametrize("protocol", [Protocol(), Protocol("last", "independent", "attacked")])
def test_a_sweep_killed_anywhere_ends_as_an_undisturbed_one(
    monkeypatch: pytest.MonkeyPatch, protocol: Protocol
) -> None:
    monkeypatch.setattr("ecgbench.core.victim.CHUNK_BYTES", 4 * 24 * 70)
    made = replace(random_sweep(InParts(), 200), protocol=protocol)
    whole = MemoryCheckpoint()
    undisturbed = made.run(whole)
    assert {*undisturbed.components} == {"", "noise", "descent"} and whole.keeps >= 6
    for keeps in range(whole.keeps):
        killed = MemoryCheckpoint(dies_at=keeps)
        with pytest.raises(KilledError):
            made.run(killed)
        resumed = MemoryCheckpoint(killed.state)
        assert same(made.run(resumed), undisturbed)
        assert resumed.keeps == whole.keeps - keeps


def test_a_minimal_attack_killed_midway_ends_as_an_undisturbed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecgbench.core.victim.CHUNK_BYTES", 4 * 30 * 20)
    problem = linear_problem(2, (1, 30), 60)
    made, killed = sweep(Nearest(), problem.task, problem.victim), MemoryCheckpoint(dies_at=2)
    with pytest.raises(KilledError):
        made.run(killed)
    assert same(made.run(MemoryCheckpoint(killed.state)), made.run(Checkpoint()))


def test_the_component_that_felled_a_sample_is_in_its_outcomes() -> None:
    found = random_sweep(InParts()).run(Checkpoint())
    names = found.components[found.by]
    assert {*names[found.adversarial]} == {"noise", "descent"}
    assert {*names[~found.adversarial]} == {""}


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_minimal_attack_states_the_distance_that_it_found(norm: Norm) -> None:
    problem, threat = linear_problem(2, (1, 30), 300), Threat(norm)
    grid = (0.01, 0.02, 0.03) if norm == "linf" else (0.05, 0.1, 0.15)
    found = sweep(Nearest(), problem.task, problem.victim, threat, grid).run(Checkpoint())
    here, further = (reach(problem, threat, eps) for eps in (0.0, 1.0))
    exact = -here / (further - here)
    assert (
        np.array_equal(np.isfinite(found.distance), found.adversarial[-1]) and 0.1 < found.adversarial[-1].mean() < 0.9
    )
    rows = found.adversarial[-1]
    assert found.distance[rows] == pytest.approx(exact[rows], rel=2e-2, abs=1e-5)
    assert (found.distance[rows] >= exact[rows] * (1 - 1e-4)).all() and (exact[~rows] > 0.99 * grid[-1]).all()


def test_only_a_minimal_attack_states_a_distance() -> None:
    assert np.isnan(random_outcomes().distance).all()


def test_values_changed_and_their_sum_are_measured_in_the_unit_of_the_threat() -> None:
    free = torch.arange(12).view(1, 1, 12) < torch.tensor([3, 7]).view(2, 1, 1)
    scale = torch.tensor([2.0, 0.5])
    samples = Samples.of(torch.full((2, 1, 12), 0.5), torch.tensor([0, 0]), mask=free, scale=scale)
    victim = linear_problem(2, (1, 12), 10).victim
    task = task_of(samples, 2, physical="mV")
    task = replace(task, test=replace(samples, y=victim.predict(samples.x, samples, RNG)))
    found = sweep(FGSM(), task, victim, Threat("linf", unit="mV"), (1e-3,)).run(Checkpoint())
    assert not found.adversarial.any() and found.l0.tolist() == [[3, 7]]
    assert found.l1[0] == pytest.approx([3e-3, 7e-3], rel=1e-4)


def test_of_two_classes_the_log_odds_at_what_was_returned_are_kept() -> None:
    problem = linear_problem(2, (1, 30), 300)
    val = problem.task.test[:100]
    task = replace(problem.task, val=val)
    found = sweep(PGD(steps=10, rel_step=0.25), task, problem.victim).run(Checkpoint())
    assert found.logits.shape == (4, 300, 1) and found.logits.dtype == np.float16
    logits = problem.x @ problem.weight.T + problem.bias
    assert found.logits[0, :, 0] == pytest.approx(logits[:, 1] - logits[:, 0], rel=1e-2, abs=1e-3)
    for position, predicted in enumerate([found.clean, *found.predicted]):
        clear = np.abs(found.logits[position, :, 0]) > 1e-3
        assert np.array_equal(found.logits[position, clear, 0] > 0, predicted[clear] == 1)
    assert 0 < found.adversarial[0].sum() < found.adversarial[-1].sum()
    carried = found.adversarial[0]
    assert np.array_equal(found.logits[1][carried], found.logits[2][carried])
    moved = np.abs(found.logits[-1] - found.logits[0])[~found.adversarial[-1]]
    assert (moved > 0).all()  # what is robust was attacked all the same
    of_val = found.logits[0, :100].astype(np.float64)
    assert found.threshold.tolist() == best_thresholds(of_val, val.y.numpy()[:, None] == 1, val.weight.numpy()).tolist()


def test_of_more_classes_no_logit_is_kept() -> None:
    assert random_outcomes().logits.shape == (4, 300, 0) and random_outcomes().threshold.shape == (0,)


def test_without_validation_samples_there_is_no_threshold() -> None:
    problem = linear_problem(2, (1, 8), 20)
    task = replace(problem.task, val=problem.task.test[:0])
    assert np.isnan(sweep(Identity(), task, problem.victim).run(Checkpoint()).threshold).tolist() == [True]


@pytest.mark.parametrize(
    "protocol", list(product(("first", "last"), ("growing", "independent"), ("wrong", "attacked")))
)
def test_only_a_protocol_that_attacks_everything_to_the_end_goes_on(protocol: tuple[str, str, str]) -> None:
    made = Protocol(*protocol)  # type: ignore[arg-type]
    assert goes_on(made, PGD()) == (protocol == ("last", "independent", "attacked"))
    assert not goes_on(made, Nearest()) and not goes_on(made, StopsAtSuccess())
