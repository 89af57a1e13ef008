"""The eight points of the adapters' contract, each with an attack whose library is a function of this file."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from ecgbench.core.data import Samples
from ecgbench.core.errors import ContractError
from ecgbench.core.outputs import SingleLabel
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.trial import Trial
from ecgbench.core.victim import Victim, frozen
from ecgbench.evaluation.lending import module_change
from ecgbench.evaluation.sweep import Sweep
from ecgbench.testing.problem import Problem
from ecgbench.testing.traces import fresh_generators
from ecgbench_plugins.attacks.adapters.base import AttackRequest
from ecgbench_plugins.attacks.adapters.signature import Parameter
from ecgbench_plugins.attacks.adapters.traits import Traits
from ecgbench_plugins.attacks.adapters.view import VictimModule, ball_view, groups, picture, signal_view
from tests.plugins.adapters.library_world import RANGE, RNG, Normed, Written, kept_sevens, mild, trial_of


@dataclass(frozen=True)
class Asking(Written):
    """A library made of `answer`; it sees rows together, or one by one where `single`."""

    answer: Callable[[AttackRequest], Tensor] = lambda request: request.u

    def ask(self, request: AttackRequest) -> Tensor:
        return self.answer(request)


class Single(Asking):
    traits: ClassVar[Traits] = Traits(("linf", "l2"), single=True)


def batch_problem(norm: Norm = "linf", bounds: tuple[float, float] | None = None) -> Problem:
    return mild(norm, bounds=bounds, native=True)


# 1 what an attack can and cannot is said before anything is computed


@pytest.mark.parametrize(
    ("traits", "problem", "words"),
    [
        (Traits(("l2",)), mild(), "test.Written is made for l2; this threat is linf."),
        (Traits(targeted="never"), mild(target="A"), "cannot aim at a target"),
        (Traits(targeted="only"), mild(), "can only aim at a target"),
        (Traits(classes=6), mild(), "needs 6 classes or more; here are 5."),
        (Traits(most=100), mild(), "of 100 at most; a sample here has 187."),
        (Traits(shape="square"), mild(), "samples here have the shape (1, 187)."),
        (Traits(refused="it is late"), mild(), "cannot run here: it is late."),
        (Traits(shape="square"), mild(shape=(3, 8, 8)), None),
        (Traits(shape="colour"), mild(shape=(3, 8, 8)), None),
        (Traits(classes=5, most=187), mild(), None),
    ],
)
def test_1_what_does_not_fit_is_refused_in_a_sentence(traits: Traits, problem: Problem, words: str | None) -> None:
    of = type("Bound", (Written,), {"traits": traits})()
    said = of.unfit(problem.task, problem.threat)
    assert said is None if words is None else words in str(said)


# 2 coordinates


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_2_the_ball_is_the_cube_and_rows_of_different_eps_look_alike(norm: Norm) -> None:
    trial = mild(norm, bounds=None).trial()
    view = ball_view(trial)
    assert trial.ball.bounds is None and len(trial.ball.eps.unique()) > 1
    corner = view.delta(torch.ones_like(view.origin))
    assert torch.equal(corner, trial.ball.eps * trial.batch.mask.expand_as(corner)) and view.eps == 0.5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_2_features_with_units_of_their_own_look_alike_where_no_bounds_bind(norm: Norm) -> None:
    problem = mild(norm, bounds=None)
    whole = problem.task.test
    scale = whole.scale.view(-1, 1, 1) * torch.linspace(0.5, 20, 187)
    task = replace(problem.task, test=replace(whole, scale=scale))
    trial = replace(problem, task=task).trial()
    view = ball_view(trial)
    u = torch.rand(view.origin.shape)
    size = trial.ball.size(view.delta(u)) / trial.ball.eps.flatten()
    torch.testing.assert_close(size, trial.ball.norm.size(2 * (u - 0.5) * trial.batch.mask))
    assert view.eps == 0.5 and view.length(problem.eps) == pytest.approx(0.5)
    assert trial.ball.contains(Written(gain=0.01).perturb(trial, RNG)).all()
    assert Written().unfit(task, problem.threat) is None
    hemmed = replace(task, bounds=(-50.0, 50.0))
    assert "has one eps for all features" in str(Written().unfit(hemmed, problem.threat))
    assert Written().unfit(hemmed, replace(problem.threat, unit="native")) is None


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_2_where_bounds_bind_the_cube_is_the_range_of_the_signal(norm: Norm) -> None:
    trial = batch_problem(norm, RANGE).trial()
    view = signal_view(trial)
    assert torch.equal(view.origin, trial.batch.x) and bool((view.width == 1).all())
    assert view.eps == float(trial.ball.eps[0])
    assert float(view.delta(view.origin).abs().amax()) == 0


def test_2_where_bounds_bind_a_signal_looks_the_same_whatever_its_batch_or_its_room() -> None:
    seen: list[AttackRequest] = []
    trial = batch_problem(bounds=(-50.0, 50.0)).trial()  # so wide that no ball is cut
    for part in (trial, trial[torch.tensor([3])]):
        Asking(answer=lambda request: seen.append(request) or request.u).perturb(part, RNG)  # type: ignore[func-returns-value]
    assert torch.equal(seen[0].u[3:4], seen[1].u) and seen[0].eps == seen[1].eps == float(trial.ball.eps[0]) / 100


def test_2_an_open_end_of_the_bounds_is_that_of_the_signals_plus_eps() -> None:
    problem = batch_problem(bounds=RANGE)
    x, eps = problem.trial().batch.x, problem.eps
    view = signal_view(replace(problem.trial(), ball=problem.threat.ball(problem.trial().batch, eps, (0.0, inf))))
    assert torch.allclose(view.origin * view.width, x, atol=1e-6)
    assert float(view.width[0]) == pytest.approx(float(x.amax()) + eps)


def test_2_a_signal_that_must_leave_the_edge_is_kept_off_it() -> None:
    view = signal_view(batch_problem(bounds=RANGE).trial(), inner=True)
    assert 0.049 < float(view.origin.min()) < 0.06 and 0.94 < float(view.origin.max()) < 0.951


def test_2_lengths_are_in_the_unit_of_eps_and_keep_the_librarys_ratio_by_default() -> None:
    seen: list[AttackRequest] = []
    trial = batch_problem().trial()
    eps = float(trial.ball.eps[0])
    for of in (Asking(), Asking(alpha=eps / 4)):
        replace(of, answer=lambda request: seen.append(request) or request.u).perturb(trial, RNG)  # type: ignore[func-returns-value]
    assert seen[0].parameters == {"gain": 1.0, "alpha": pytest.approx(0.5 / 3)}
    assert seen[1].parameters["alpha"] == pytest.approx(0.5 / 4)


@pytest.mark.parametrize(
    ("shape", "image"),
    [((187,), (1, 1, 187)), ((12, 50), (12, 1, 50)), ((3, 8, 8), (3, 8, 8)), ((4, 1, 6, 6), (4, 6, 6))],
)
def test_2_a_lead_is_a_channel_of_height_1(shape: tuple[int, ...], image: tuple[int, ...]) -> None:
    u = torch.rand(2, *shape)
    assert picture(u).shape == (2, *image) and torch.equal(picture(u).flatten(), u.flatten())


@pytest.mark.parametrize("bounds", [None, RANGE])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_2_a_row_of_eps_0_and_a_masked_place_stay_as_they_are(norm: Norm, bounds: tuple[float, float] | None) -> None:
    problem = mild(norm, bounds=bounds)
    assert float(Written(gain=0.0).perturb(problem.trial(), RNG).abs().amax()) == 0
    assert float(Written().perturb(problem.trial(eps=0.0), RNG).abs().amax()) == 0
    if bounds is None and norm == "linf":
        delta = Written().perturb(problem.trial(), RNG)
        assert bool((delta[~problem.task.test.mask.expand_as(delta)] == 0).all()) and float(delta.abs().amax()) > 0


# 3 the tap


def test_3_the_tap_counts_forwards_and_gradients_of_every_row() -> None:
    def answer(request: AttackRequest) -> Tensor:
        u = request.u.clone().requires_grad_()
        request.module(u).sum().backward()
        with torch.no_grad():
            request.module(u.detach().double())
        return request.u

    trial = batch_problem().trial()
    Asking(answer=answer).perturb(trial, RNG)
    assert trial.memory.forwards.tolist() == [3] * len(trial)  # the last one is the look of the host
    assert trial.memory.gradients.tolist() == [1] * len(trial)


def test_3_a_row_of_its_own_may_be_asked_in_any_number_of_variants() -> None:
    def answer(request: AttackRequest) -> Tensor:
        assert request.module(request.u.repeat(7, 1, 1)).shape == (7, 5)
        return request.u

    trial = batch_problem().trial()
    Single(answer=answer).perturb(trial, RNG)
    assert trial.memory.forwards.tolist() == [8] * len(trial)


def test_3_rows_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ContractError, match="batches of 32 rows, got 5"):
        Asking(answer=lambda request: request.module(request.u[:5])).perturb(batch_problem().trial(), RNG)


def test_3_an_attack_of_scores_meets_no_gradient() -> None:
    trial = batch_problem().trial(gradients=False)
    with pytest.raises(ContractError, match="no autograd through the victim"):
        Asking(answer=lambda request: request.module(request.u.requires_grad_())).perturb(trial, RNG)


def test_3_the_first_adversarial_iterate_is_remembered_exactly_and_only_inside_the_ball() -> None:
    def push(trial: Trial, by: float) -> Callable[[AttackRequest], Tensor]:
        weight = next(trial.victim.module.parameters()).detach()
        y = trial.batch.y

        def answer(request: AttackRequest) -> Tensor:
            rival = request.module(request.u).detach().scatter(1, y[:, None], -torch.inf).argmax(1)
            way = (weight[rival] - weight[y]).sign().view_as(request.u)
            request.module(request.u + by * request.eps * way)
            return request.u

        return answer

    trial = batch_problem().trial()
    delta = Asking(answer=push(trial, 1.0)).perturb(trial, RNG)
    assert float(delta.abs().amax()) == 0 and 0.3 < float(trial.is_adversarial.float().mean()) < 1
    assert bool(trial.ball.contains(trial.best(delta)).all())
    trial = batch_problem().trial()
    Asking(answer=push(trial, 1.01)).perturb(trial, RNG)
    assert not bool(trial.is_adversarial.any())


def test_3_positive_logits_differ_by_a_constant_of_the_row() -> None:
    view = ball_view(batch_problem().trial())
    gap = VictimModule(view, positive=True)(view.origin) - VictimModule(view)(view.origin)
    assert torch.allclose(gap, gap[:, :1].expand_as(gap), atol=1e-6)
    assert float(VictimModule(view, positive=True)(view.origin).amin()) == 0


# 4 candidates: what the tap saw and what came back, whatever the library claims


def test_4_a_library_that_steps_back_in_the_end_has_still_found_what_it_asked() -> None:
    problem = batch_problem()
    sweep = Sweep(Single(), Victim(problem.module), problem.task, problem.threat, (problem.eps,), RNG)

    def answer(request: AttackRequest) -> Tensor:
        many = request.u + request.eps * (2 * torch.rand(200, *request.u.shape[1:]).round() - 1)
        request.module(many)
        return request.u

    sure = replace(sweep, attack=Single(answer=answer)).run(Checkpoint())
    assert int(sure.adversarial.sum()) > 0 and int(sweep.run(Checkpoint()).adversarial.sum()) == 0


# 5 verification is the host's


@pytest.mark.parametrize("bounds", [None, RANGE])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_5_rounding_is_forgiven_and_a_step_outside_is_a_fault(norm: Norm, bounds: tuple[float, float] | None) -> None:
    def stepped(gain: float) -> Callable[[AttackRequest], Tensor]:
        def answer(request: AttackRequest) -> Tensor:
            way = torch.where(request.u > 0.5, -1.0, 1.0) * (1 - 1e-6)
            size = way.flatten(1).norm(dim=1) if request.norm == "l2" else 1.0
            return request.u + gain * request.eps * way / (size.view(-1, 1, 1) if request.norm == "l2" else 1.0)  # type: ignore[union-attr]

        return answer

    problem = batch_problem(norm, bounds)
    problem = replace(problem, threat=replace(problem.threat, mask=False))
    problem.trial().ball.contains(Asking(answer=stepped(1.0)).perturb(problem.trial(), RNG)).all()
    with pytest.raises(ContractError, match="expected a perturbation inside the ball, got one"):
        Asking(answer=stepped(1.01)).perturb(problem.trial(), RNG)


def test_5_the_answer_of_a_minimal_attack_is_clipped_and_judged_at_every_size() -> None:
    class Far(Asking):
        minimal: ClassVar[bool] = True

    problem = batch_problem()
    far = Far(answer=lambda request: torch.ones_like(request.u))
    trial = trial_of(problem, far)
    assert bool(trial.ball.contains(far.perturb(trial, RNG)).all())
    grid = (problem.eps / 4, problem.eps / 2, problem.eps)
    outcomes = Sweep(far, Victim(problem.module), problem.task, problem.threat, grid, RNG).run(Checkpoint())
    assert np.allclose(outcomes.size.max(1), grid) and outcomes.forwards[:2].sum() == 0


# 6 isolation


class Careless(Normed):
    """Counts its own forwards in a buffer, as no victim should."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return super().forward(x)


def vandal(request: AttackRequest) -> Tensor:
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    request.module.train()
    request.module.requires_grad_(True)
    request.module(request.u.clone().requires_grad_()).sum().backward()
    print("done")  # noqa: T201
    return request.u


def trial_on(victim: Victim, training: bool = False) -> Trial:
    samples = Samples.of(torch.rand(8, 1, 187), torch.zeros(8, dtype=torch.int64))
    ball = Threat("linf").ball(samples, 0.1)
    goal = Threat("linf").goal(samples.y, SingleLabel(tuple("ABCDE")))
    return Trial.begin(victim, samples, ball, goal, RandomStream(("victim",)), watch="never" if training else "first")


def test_6_modes_weights_gradients_flags_and_generators_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    module, other = Normed().eval(), Normed().eval()
    module.layers[4].train()  # dropout left on, on purpose
    other.layers[4].train()
    for weight in module.parameters():
        weight.grad = torch.full_like(weight, 7.0)
    trial = trial_on(Victim(module), training=True)
    with fresh_generators() as moved:
        Asking(answer=vandal).perturb(trial, RNG)
        assert moved() is None
    assert kept_sevens(module) and all(weight.requires_grad for weight in module.parameters())
    for weight in module.parameters():
        weight.grad = None
    assert module_change(module, other) is None and capsys.readouterr().out == ""


def test_6_a_victim_that_changes_under_attack_voids_the_cell() -> None:
    with pytest.raises(ContractError, match="weights and buffers as they were, got another calls"):
        Asking(answer=vandal).perturb(trial_on(frozen(Careless())), RNG)


def test_6_what_was_changed_comes_back_after_a_failure_too() -> None:
    module = Normed().eval()
    trial = trial_on(Victim(module))
    with fresh_generators() as moved:
        with pytest.raises(ZeroDivisionError):
            Asking(answer=lambda request: request.u * (1 // 0)).perturb(trial, RNG)
        assert moved() is None
    assert all(weight.requires_grad for weight in module.parameters())


# 7 determinism


def draws(request: AttackRequest) -> Tensor:
    more = torch.rand_like(request.u) + float(np.random.random()) + random.random()
    return request.u + request.eps * (more / 3 - 0.5)


def test_7_an_answer_is_fixed_by_the_seed_and_the_samples_whatever_their_order() -> None:
    problem, rows = batch_problem(), torch.arange(32).flip(0)
    first = Asking(answer=draws).perturb(problem.trial(), RNG)
    again = Asking(answer=draws).perturb(problem.trial(rows=rows), RNG)
    assert torch.equal(first[rows], again)
    assert not torch.equal(first, Asking(answer=draws).perturb(problem.trial(), RandomStream(("attack", 1))))
    assert not torch.equal(first[:5], Asking(answer=draws).perturb(problem.trial(rows=torch.arange(5)), RNG))


def test_7_rows_of_their_own_do_not_know_their_batch() -> None:
    problem = batch_problem()
    first = Single(answer=draws).perturb(problem.trial(), RNG)
    assert torch.equal(first[:5], Single(answer=draws).perturb(problem.trial(rows=torch.arange(5)), RNG))


@pytest.mark.parametrize(
    ("traits", "state"),
    [
        (Traits(), "sample"),
        (Traits(coupled=True), "chunk"),
        (Traits(coupled=True, single=True), "sample"),
        (Traits(signal=True), "chunk"),
        (Traits(signal=True, single=True), "sample"),
        (Traits(seedable=False), "none"),
    ],
)
def test_7_an_attack_states_what_fixes_its_answer(traits: Traits, state: str) -> None:
    assert type("Bound", (Written,), {"traits": traits})().determinism == state


def test_7_rows_go_in_groups_of_one_eps_by_rising_id() -> None:
    trial = mild().trial(rows=torch.tensor([5, 3, 4]))
    assert [rows.tolist() for rows in groups(trial, single=True, together=False)] == [[1], [2], [0]]
    assert [rows.tolist() for rows in groups(trial, single=False, together=True)] == [[1, 2, 0]]
    assert sorted(rows.tolist() for rows in groups(trial, single=False, together=False)) == [[0], [1], [2]]
    assert not list(groups(mild().trial(eps=0.0), single=True, together=False))


# 8 failure is a state


def test_8_an_exception_of_the_library_is_not_a_robust_sample() -> None:
    def broken(request: AttackRequest) -> Tensor:
        raise IndexError("channel 3 is out of range")

    problem = batch_problem()
    sweep = Sweep(Asking(answer=broken), Victim(problem.module), problem.task, problem.threat, (0.1,), RNG)
    with pytest.raises(IndexError, match="channel 3"):
        sweep.run(Checkpoint())


def test_8_an_answer_that_is_no_number_fails_the_cell() -> None:
    problem = batch_problem()
    nowhere = Asking(answer=lambda request: request.u * torch.nan)
    sweep = Sweep(nowhere, Victim(problem.module), problem.task, problem.threat, (0.1,), RNG)
    with pytest.raises(ContractError, match="finite values"):
        sweep.run(Checkpoint())


def test_8_a_result_belongs_to_one_version_of_the_library() -> None:
    with pytest.raises(ValueError, match=r"other 1\.0 given; installed is none 1\.0"):
        Written(library="other 1.0")
    assert Written().libraries == {"none": "1.0"}


class Stepping(Written):
    """Its gain is a count."""

    given: ClassVar = {**Written.given, "gain": Parameter("gain", 2, "int")}


@pytest.mark.parametrize(("name", "value"), [("gain", 0), ("gain", -3), ("alpha", 0.0), ("alpha", -0.1)])
def test_a_count_below_1_and_a_size_of_0_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name}={value:g}(\.0)? given; expected"):
        Stepping(**{name: value})  # type: ignore[arg-type]
    Written(gain=0.0)


def test_a_foreign_value_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(Written(gain=2.0))) == Written(gain=2.0) != Written()
