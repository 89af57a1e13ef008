"""Each check is raised by the victim or attack planted for it, and none by honest ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Dropout, Flatten, Module, Sequential

from ecgbench.checks.cheap import CheapChecks, Check
from ecgbench.checks.flags import NOISE
from ecgbench.checks.probe import EFFECT, FinishedSweep
from ecgbench.core.data import Samples, Task
from ecgbench.core.interfaces import Attack
from ecgbench.core.losses import margin
from ecgbench.core.outputs import SingleLabel
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim, frozen
from ecgbench.evaluation.sweep import Sweep
from ecgbench.storage.arrays import pack
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.attacks.identity import Identity
from ecgbench_plugins.attacks.noise import Noise
from ecgbench_plugins.attacks.pgd import PGD
from tests.problems import Wavering, Written, generators, linear_problem, random_mlp, small_network, task_of, thresholds

CODES = ["ONECLASS", "CHANCE", "RANDOM", "DYNAMIC", "STATE", "PROB", "GRAD", "NOOP", "NOISE", "LOSS", "STEP"]
HONEST = PGD(loss="margin")
GRID = (0.1, 0.3, 0.6)


def sweep_of(attack: Attack, task: Task, victim: Victim, threat: Threat | None = None, seed: int = 0) -> Sweep:
    return Sweep(attack, victim, task, threat or Threat("linf"), GRID, RandomStream((seed, "attack")))


def examined(sweep: Sweep, headline: float = GRID[1]) -> dict[str, Check]:
    return {check.code: check for check in CheapChecks(sweep, sweep.run(Checkpoint()), headline).run()}


def raised(sweep: Sweep, headline: float = GRID[1]) -> list[str]:
    return [code for code, check in examined(sweep, headline).items() if check.raised]


def trained(seed: int = 0) -> tuple[Task, Module]:
    """A small honest network."""
    return small_network(2400, 8, seed)


def wrapped(outer: Callable[[Tensor], Tensor] = lambda x: x, inner: Callable[[Tensor], Tensor] = lambda x: x) -> Sweep:
    """The honest attack on the trained network behind a function of its logits or of its input."""
    task, module = trained()
    return sweep_of(HONEST, task, frozen(Sequential(Written(inner), module, Written(outer))))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_honest_victim_under_an_honest_attack_raises_nothing(seed: int, norm: Norm) -> None:
    task, module = trained(seed)
    for headline in (0.1, 0.3):
        found = examined(sweep_of(HONEST, task, frozen(module), Threat(norm), seed), headline)
        assert list(found) == CODES
        assert not [code for code, check in found.items() if check.raised]


@pytest.mark.parametrize("seed", range(4))
def test_a_ball_so_large_that_the_margin_climbs_toward_the_wrong_rival_needs_the_targeted_one(seed: int) -> None:
    task, module = trained(seed)
    settled = sweep_of(PGD(loss="targeted-margin"), task, frozen(module), seed=seed)
    assert raised(settled, GRID[2]) == []


def test_a_linear_victim_raises_nothing_either() -> None:
    problem = linear_problem(2, (1, 40), 600)
    assert raised(Sweep(HONEST, problem.victim, problem.task, Threat("l2"), (0.05, 0.1), RandomStream((0,))), 0.1) == []


def test_two_forwards_that_differ_are_RANDOM() -> None:  # noqa: N802
    task, module = trained()
    dropped = Sequential(module, Dropout(0.3)).requires_grad_(False)
    dropped.train()
    assert "RANDOM" in raised(sweep_of(HONEST, task, Victim(dropped)))


def test_a_difference_of_rounding_size_is_not_RANDOM() -> None:  # noqa: N802
    assert "RANDOM" not in raised(wrapped(lambda logits: logits * (1 + 1e-6 * torch.rand(logits.shape))))


class Counting(Module):
    """Counts its forwards in a buffer."""

    def __init__(self, inner: Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x)


def test_a_buffer_that_counts_is_STATE() -> None:  # noqa: N802
    task, module = trained()
    assert raised(sweep_of(HONEST, task, frozen(Counting(module)))) == ["STATE"]


def test_a_batch_norm_left_in_train_mode_is_STATE() -> None:  # noqa: N802
    task, module = trained()
    normed = Sequential(Flatten(), BatchNorm1d(16, affine=False), module).requires_grad_(False)
    normed.train()
    assert "STATE" in raised(sweep_of(HONEST, task, Victim(normed)))


class Listening(Module):
    """Shifts a class's logit while a gradient can be asked for."""

    def __init__(self, inner: Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        return logits + torch.tensor([5.0, 0.0, 0.0]) if torch.is_grad_enabled() and x.requires_grad else logits


def test_an_answer_that_depends_on_whether_a_gradient_can_be_asked_for_is_DYNAMIC() -> None:  # noqa: N802
    task, module = trained()
    assert "DYNAMIC" in raised(sweep_of(HONEST, task, frozen(Listening(module))))


@pytest.mark.parametrize(("eot", "expected"), [(1, True), (19, True), (20, False)])
def test_a_randomised_victim_asks_for_an_attack_over_enough_draws(eot: int, expected: bool) -> None:
    samples = Samples.of(torch.full((20, 1, 4), 0.05), torch.zeros(20, dtype=torch.int64))
    found = examined(sweep_of(PGD(steps=2, eot=eot), task_of(samples, 2), Victim(Wavering())), 0.1)
    assert found["RANDOM"].raised == expected


def test_probabilities_instead_of_logits_are_PROB() -> None:  # noqa: N802
    assert raised(wrapped(lambda logits: logits.softmax(1))) == ["PROB"]


@pytest.mark.parametrize("logits", [lambda z: z.log_softmax(1), lambda z: z.sigmoid(), lambda z: 3 * z.softmax(1)])
def test_other_scores_are_not_PROB(logits: Callable[[Tensor], Tensor]) -> None:  # noqa: N802
    assert "PROB" not in raised(wrapped(logits))


def test_a_gradient_that_is_not_finite_is_GRAD() -> None:  # noqa: N802
    found = examined(wrapped(inner=lambda x: x + 0 * (x - x).abs().sqrt()))
    assert found["GRAD"].raised and found["GRAD"].effect == 1.0


def test_a_gradient_of_zero_is_no_fault_by_itself() -> None:
    assert "GRAD" not in raised(wrapped(inner=lambda x: x.relu()))


def test_an_attack_that_does_nothing_is_NOOP() -> None:  # noqa: N802
    task, module = trained()
    assert "NOOP" in raised(sweep_of(Identity(), task, frozen(module)))
    assert "NOOP" not in raised(sweep_of(Noise(), task, frozen(module)))


def fragile() -> tuple[Task, Victim]:
    """One in seven samples falls to noise: a class boundary lies right beside it."""
    x = torch.full((700, 1, 1), 5.0)
    x[::7] = 0.02
    samples = Samples.of(x, torch.ones(700, dtype=torch.int64))
    return task_of(samples, 2), Victim(Written(lambda x: torch.stack([-x[:, 0, 0], x[:, 0, 0]], 1)))


def test_an_attack_that_random_points_beat_is_NOISE() -> None:  # noqa: N802
    found = examined(sweep_of(Identity(), *fragile()))
    assert found["NOISE"].raised
    assert found["NOISE"].effect == pytest.approx(1 / 7, abs=0.03)


def test_an_attack_that_finds_what_noise_finds_is_not_NOISE() -> None:  # noqa: N802
    assert "NOISE" not in raised(sweep_of(Noise(draws=20), *fragile()))


def test_a_cross_entropy_that_saturates_is_LOSS() -> None:  # noqa: N802
    task, module = trained()
    scaled = frozen(Sequential(module, Written(lambda logits: 1000 * logits)))
    found = examined(sweep_of(PGD(loss="ce", start="zero"), task, scaled))
    assert found["LOSS"].raised and found["LOSS"].effect > 0.05
    assert raised(sweep_of(PGD(loss="margin", start="zero"), task, scaled)) == []


def test_steps_too_short_to_cross_the_ball_are_STEP() -> None:  # noqa: N802
    task, module = trained()
    found = examined(sweep_of(PGD(steps=1, rel_step=0.05, loss="margin", start="zero"), task, frozen(module)))
    assert found["STEP"].raised and found["STEP"].effect > 0.1


def test_short_steps_that_lose_nothing_are_not_STEP() -> None:  # noqa: N802
    problem = linear_problem(2, (1, 40), 400)
    sweep = Sweep(FGSM(), problem.victim, problem.task, Threat("linf"), (0.02, 0.05), RandomStream((0,)))
    found = examined(sweep, 0.05)
    assert not found["STEP"].raised and "reach 0.05 of 2 eps" in found["STEP"].note


def test_steps_long_enough_are_judged_by_no_further_descent() -> None:
    task, module = trained()
    assert examined(sweep_of(HONEST, task, frozen(module)))["STEP"].note == "steps long enough"


@dataclass(frozen=True)
class HalfHearted(Attack):
    """An honest descent that gives up on samples with an odd number."""

    def perturb(self, trial: Trial, rng: RandomStream) -> Tensor:
        even = (trial.batch.ids % 2 == 0).nonzero().squeeze(1)
        delta = torch.zeros_like(trial.batch.x)
        if len(even):
            delta[even] = HONEST.perturb(trial[even], rng)
        return delta


def test_the_effect_estimates_by_how_much_the_score_is_too_high() -> None:
    task, module = trained()
    sweep = sweep_of(HalfHearted(), task, frozen(module))
    honest = replace(sweep, attack=HONEST).run(Checkpoint())
    too_high = float((~sweep.run(Checkpoint()).adversarial[1] & honest.adversarial[1]).mean())
    assert too_high > 0.05
    assert examined(sweep)["LOSS"].effect == pytest.approx(too_high, abs=0.02)


def test_the_effect_is_a_share_of_all_samples_and_not_of_the_survivors() -> None:
    """Three in seven are wrong when clean."""
    task, victim = fragile()
    y = (torch.arange(700) % 7 < 4).long()
    found = examined(sweep_of(Identity(), replace(task, test=replace(task.test, y=y)), victim))
    assert found["NOISE"].effect == pytest.approx(1 / 7, abs=0.03)


def test_a_randomised_victim_is_judged_by_most_of_its_draws() -> None:
    """Each draw is wrong at a chance of 0.05 to 0.35, so nearly every sample is seen to waver and none falls."""
    samples = Samples.of(torch.full((300, 1, 4), 0.05), torch.zeros(300, dtype=torch.int64))
    found = examined(sweep_of(Identity(), task_of(samples, 2), Victim(Wavering())), 0.1)
    assert found["RANDOM"].raised and not found["NOISE"].raised and not found["LOSS"].raised


@pytest.mark.parametrize("fallen", [0, 1, 2])
@pytest.mark.parametrize("heavy", [1.0, 3.0])
def test_one_sample_alone_raises_nothing(fallen: int, heavy: float) -> None:
    """Of few samples one is more than half a point, and may be chance; the heaviest says how much one is."""
    samples, victim = thresholds([0.05] * fallen + [9.0] * (20 - fallen))
    weight = torch.ones(20)
    weight[-1] = heavy
    sweep = sweep_of(Identity(), task_of(replace(samples, weight=weight), 2), victim)
    finished = FinishedSweep(sweep, sweep.run(Checkpoint()), GRID[0])
    check = finished.effect_of(
        NOISE, lambda trial, _: trial.submit(trial.ball.high.expand(trial.batch.x.shape)), "all of it"
    )
    assert check.effect == pytest.approx(fallen / (19 + heavy))
    assert check.threshold == pytest.approx(heavy / (19 + heavy)) and check.threshold > EFFECT
    assert check.raised == (fallen > heavy)


def test_a_sample_counts_by_its_weight() -> None:
    """The samples that fall weigh next to nothing."""
    task, victim = fragile()
    weight = torch.where(task.test.x.flatten() < 1, 1e-3, 1.0)
    light = replace(task, test=replace(task.test, weight=weight))
    assert "NOISE" not in raised(sweep_of(Identity(), light, victim))


@pytest.mark.parametrize("headline", [0.05, 0.3, 0.45, 9.0])
def test_the_eps_looked_at_is_the_last_one_up_to_the_headline(headline: float) -> None:
    """Half the samples fall to noise at 0.3 and 0.6 only."""
    x = torch.where(torch.arange(400) % 2 == 0, 0.2, 5.0).view(400, 1, 1)
    task = task_of(Samples.of(x, torch.ones(400, dtype=torch.int64)), 2)
    victim = Victim(Written(lambda x: torch.stack([-x[:, 0, 0], x[:, 0, 0]], 1)))
    assert ("NOISE" in raised(sweep_of(Identity(), task, victim), headline)) == (headline >= 0.3)


def test_checks_do_not_depend_on_the_order_of_the_split() -> None:
    task, module = trained()
    order = torch.randperm(len(task.test), generator=torch.Generator().manual_seed(0))
    attack = PGD(steps=2, rel_step=0.3)
    one, other = (
        examined(sweep_of(attack, made, frozen(module))) for made in (task, replace(task, test=task.test[order]))
    )
    for code in ("NOISE", "LOSS", "STEP", "GRAD", "NOOP"):
        assert one[code].effect == pytest.approx(other[code].effect, abs=1e-6)


def test_checks_leave_outcomes_victim_and_generators_alone() -> None:
    task, module = trained()
    sweep = sweep_of(HONEST, task, frozen(module))
    outcomes = sweep.run(Checkpoint())
    before = pack(outcomes)
    weights, states = {name: value.clone() for name, value in module.state_dict().items()}, generators()
    CheapChecks(sweep, outcomes, GRID[1]).run()
    assert pack(outcomes) == before
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert generators() == states


@pytest.mark.parametrize("alive", ["nobody-right", "nobody-left"])
def test_where_nobody_stands_nothing_but_chance_is_raised(alive: str) -> None:
    task, victim = random_mlp(60)
    clean = victim.module(task.test.x).argmax(1)
    y = (clean + 1) % 3 if alive == "nobody-right" else clean
    task = replace(task, bounds=None, test=replace(task.test, y=y))
    sweep = replace(sweep_of(HONEST, task, victim), eps=(20.0,))
    assert raised(sweep, 20.0) == (["CHANCE"] if alive == "nobody-right" else [])


def test_a_targeted_sweep_is_judged_by_its_own_goal() -> None:
    task, module = trained()
    threat = Threat("linf", source_classes=("0",), target="2")
    assert raised(sweep_of(HONEST, task, frozen(module), threat)) == []
    assert "NOOP" in raised(sweep_of(Identity(), task, frozen(module), threat))
    assert "LOSS" in raised(sweep_of(Identity(), task, frozen(module), threat), GRID[2])


def test_the_margin_is_what_the_loss_check_climbs() -> None:
    """An attack on the margin by 20 long steps from the sample is the check itself: it finds nothing more."""
    task, module = trained()
    same = PGD(steps=20, rel_step=0.25, loss="margin", start="zero")
    assert examined(sweep_of(same, task, frozen(module)))["LOSS"].effect == 0
    assert margin(
        torch.tensor([[1.0, 3.0]]), Threat("linf").goal(torch.tensor([0]), SingleLabel(("0", "1")))
    ).tolist() == [2]
