"""A trial answers, counts and remembers the first adversarial perturbation of every row that lies in its ball."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.errors import ContractError
from ecgbench.core.losses import margin, pair_margin
from ecgbench.core.outputs import SINGLE_LABEL, SingleLabel
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Goal, Threat
from ecgbench.core.trial import Trial, Watch
from ecgbench.core.victim import CHUNK_BYTES, Victim, chunks, evaluating, frozen
from tests.problems import Written, linear_problem, thresholds, trial_of

LEVELS = [0.15, 0.35, 0.75, 5.0]
EPS = 1.0


def trial(watch: Watch = "first", gradients: bool = True) -> Trial:
    """Rows fall where the first number of delta passes 0.15, 0.35, 0.75 and 5 (never, at eps 1)."""
    samples, victim = thresholds(LEVELS)
    return trial_of(victim, samples, Threat("linf"), EPS, watch=watch, gradients=gradients)


def push(*amounts: float) -> Tensor:
    return torch.tensor([[[amount, 0.0]] for amount in amounts])


# remembering


def test_the_first_adversarial_point_of_each_row_is_remembered() -> None:
    seen = trial()
    for amount in (0.1, 0.2, 0.5, 0.9):
        seen.logits(push(*[amount] * 4))
    assert seen.is_adversarial.tolist() == [True, True, True, False]
    assert seen.memory.delta[:, 0, 0].tolist() == pytest.approx([0.2, 0.5, 0.9, 0])


@pytest.mark.parametrize("ask", ["scores", "look", "gradient", "module"])
def test_every_way_of_asking_is_watched(ask: str) -> None:
    seen, delta = trial(), push(0.2, 0.2, 0.2, 0.2)
    asked: dict[str, Callable[[], object]] = {
        "scores": lambda: seen.logits(delta),
        "look": lambda: seen.submit(delta),
        "gradient": lambda: seen.gradient(delta, margin),
        "module": lambda: seen.module()(seen.batch.x + delta),
    }
    asked[ask]()
    assert seen.is_adversarial.tolist() == [True, False, False, False]
    assert torch.equal(seen.memory.delta[0], delta[0])


def test_an_adversarial_point_outside_the_ball_is_no_fall() -> None:
    seen = trial()
    hit, _ = seen.gradient(push(1.01, 0.9, 0.9, 0.9), margin)
    assert hit.tolist() == [False, True, True, False]
    outside_mask = push(0.9, 0.9, 0.9, 0.9)
    outside_mask[0, 0, 1] = -0.1
    assert not seen.submit(outside_mask)[0]
    assert seen.is_adversarial.tolist() == [False, True, True, False]


def test_only_what_is_presented_counts_when_the_last_point_decides() -> None:
    seen = trial(watch="last")
    seen.logits(push(0.9, 0.9, 0.9, 0.9))
    assert not seen.gradient(push(0.9, 0.9, 0.9, 0.9), margin)[0].any()
    seen.module()(seen.batch.x + 0.9)
    assert not seen.is_adversarial.any()
    assert seen.submit(push(0.2, 0.2, 0.2, 0.2)).tolist() == [True, False, False, False]
    assert seen.is_adversarial.tolist() == [True, False, False, False]


def test_an_unwatched_trial_remembers_and_counts_nothing() -> None:
    seen = trial(watch="never")
    seen.logits(push(0.9, 0.9, 0.9, 0.9))
    assert not seen.gradient(push(0.9, 0.9, 0.9, 0.9), margin)[0].any()
    assert not seen.submit(push(0.9, 0.9, 0.9, 0.9)).any()
    assert not seen.is_adversarial.any() and not seen.memory.delta.any()
    assert not seen.memory.forwards.any() and not seen.memory.gradients.any()


def test_the_best_answer_is_the_remembered_one_of_rows_that_fell() -> None:
    seen = trial()
    assert torch.equal(seen.best(push(0.3, 0.3, 0.3, 0.3)), push(0.3, 0.3, 0.3, 0.3))
    seen.submit(push(0.2, 0.2, 0.2, 0.2))
    assert torch.equal(seen.best(push(0.3, 0.3, 0.3, 0.3)), push(0.2, 0.3, 0.3, 0.3))


def test_the_component_that_felled_a_row_is_named() -> None:
    seen = trial()
    seen.submit(push(0.2, 0.2, 0.2, 0.2))
    seen.named("square").submit(push(0.9, 0.9, 0.9, 0.9))
    assert [seen.memory.components[place] for place in seen.memory.by] == ["", "square", "square", ""]


# sub-trials


def test_a_sub_trial_shares_the_memory_of_the_whole() -> None:
    seen = trial()
    part = seen[torch.tensor([2, 0])]
    part.submit(push(0.9, 0.1))
    assert seen.is_adversarial.tolist() == [False, False, True, False]
    assert seen.memory.forwards.tolist() == [1, 0, 1, 0]
    assert part[torch.tensor([1])].rows.tolist() == [0]


def test_what_stands_is_the_sub_trial_of_rows_that_have_not_fallen() -> None:
    seen = trial()
    seen.submit(push(0.2, 0.2, 0.9, 0.2))
    left = seen.remaining()
    assert left.rows.tolist() == [1, 3] and len(left) == 2
    left.submit(push(0.5, 0.5))
    assert seen.remaining().rows.tolist() == [3]


def test_state_is_kept_by_row_where_a_batch_repeats_a_sample() -> None:
    samples, victim = thresholds([0.15, 0.15])
    repeated = samples[torch.tensor([0, 0, 1])]
    seen = trial_of(victim, repeated, Threat("linf"), EPS)
    seen.submit(push(0.2, 0.1, 0.1))
    assert seen.is_adversarial.tolist() == [True, False, False]


def test_a_rival_follows_its_row_into_a_sub_trial() -> None:
    problem = linear_problem(3, (1, 6), n=4)
    rival = (problem.task.test.y + 1) % 3
    seen = trial_of(problem.victim, problem.task.test, Threat("l2"), 1.0).toward(rival)
    rows = torch.tensor([3, 1])
    _, grad = seen[rows].gradient(torch.zeros(2, 1, 6), pair_margin)
    expected = problem.weight[rival[rows]] - problem.weight[problem.task.test.y[rows]]
    torch.testing.assert_close(grad.flatten(1).double(), torch.tensor(expected))


def test_the_rivals_of_a_row_are_the_other_classes_by_their_clean_logits() -> None:
    problem = linear_problem(4, (1, 6), n=30)
    seen = trial_of(problem.victim, problem.task.test, Threat("linf"), 0.01)
    logits = problem.victim.module(problem.task.test.x)
    for row, rivals in enumerate(seen.rivals().tolist()):
        others = [label for label in range(4) if label != int(problem.task.test.y[row])]
        assert rivals == sorted(others, key=lambda label: -float(logits[row, label]))


def test_a_row_that_stands_once_for_each_rival_is_one_row_to_the_memory() -> None:
    problem = linear_problem(3, (1, 6), n=4)
    seen = trial_of(problem.victim, problem.task.test, Threat("l2"), 9.0)
    copies = seen.toward_each(seen.rivals())
    assert copies.rows.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and copies.goal.rival is not None
    assert copies.goal.rival.view(4, 2).equal(seen.rivals())
    delta = torch.zeros(8, 1, 6)
    weight = torch.tensor(problem.weight, dtype=torch.float32)
    step = weight[copies.goal.rival[1]] - weight[problem.task.test.y[0]]
    delta[1] = 8 * step / step.norm()
    assert copies.submit(delta)[1] and seen.is_adversarial.tolist() == [True, False, False, False]
    assert copies.is_adversarial.tolist() == [True, True] + 6 * [False]
    assert seen.memory.delta[0].equal(delta[1])


# counting and access


def test_forwards_and_gradients_are_counted_by_sample() -> None:
    seen = trial()
    seen.logits(push(0, 0, 0, 0))
    seen[torch.tensor([1, 2])].gradient(push(0, 0), margin)
    seen[torch.tensor([2])].submit(push(0))
    assert seen.memory.forwards.tolist() == [1, 2, 3, 1]
    assert seen.memory.gradients.tolist() == [0, 1, 1, 0]


def test_the_gradient_is_that_of_the_loss_for_the_perturbation() -> None:
    problem = linear_problem(2, (1, 6), n=5)
    seen = trial_of(problem.victim, problem.task.test, Threat("l2"), 1.0)
    _, grad = seen.gradient(torch.zeros(5, 1, 6), margin)
    own = problem.task.test.y
    expected = torch.tensor(problem.weight[1 - own] - problem.weight[own])
    torch.testing.assert_close(grad.flatten(1).double(), expected)


def test_no_gradient_reaches_the_weights_or_the_caller() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
    samples, _ = thresholds(LEVELS)
    seen = trial_of(Victim(module), samples, Threat("linf"), EPS)
    delta = push(0, 0, 0, 0)
    _, grad = seen.gradient(delta, margin)
    assert not seen.logits(delta).requires_grad and not grad.requires_grad and not delta.requires_grad
    assert all(weight.grad is None for weight in module.parameters())


def test_score_access_yields_no_gradient_by_any_way() -> None:
    seen = trial(gradients=False)
    with pytest.raises(ContractError, match="no gradient to be asked for"):
        seen.gradient(push(0, 0, 0, 0), margin)
    with pytest.raises(ContractError, match="no autograd through the victim"):
        seen.module()(seen.batch.x.clone().requires_grad_())
    assert not seen.logits(push(0, 0, 0, 0).requires_grad_()).requires_grad
    assert seen[torch.tensor([0])].named("x").gradients_allowed is False


# the module of a foreign loop


def test_a_foreign_loop_gets_logits_gradients_and_is_counted() -> None:
    seen = trial()
    module, x = seen.module(), (seen.batch.x + push(0.2, 0, 0, 0)).requires_grad_()
    module(x).sum().backward()
    assert x.grad is not None and x.grad.any()
    module(x.detach())
    assert seen.memory.forwards.tolist() == [2] * 4
    assert seen.memory.gradients.tolist() == [1] * 4
    assert seen.is_adversarial.tolist() == [True, False, False, False]


def test_a_foreign_loop_that_picks_its_own_rows_is_refused() -> None:
    seen = trial()
    with pytest.raises(ContractError, match="batches of 4 rows, got 2"):
        seen.module()(seen.batch.x[:2])
    assert seen[torch.tensor([0, 1])].module()(seen.batch.x[:2]).shape == (2, 2)


def test_the_module_of_a_trial_is_in_eval_mode() -> None:
    assert not trial().module().training


# the victim


class Masked(Module):
    """Logits that show what the module was given."""

    takes_mask = True

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.stack([(x * mask).flatten(1).sum(1), mask.expand_as(x).flatten(1).sum(1).float()], 1)


class Drawn(Module):
    """Logits of pure noise."""

    takes_rng = True

    def forward(self, x: Tensor, rng: RandomStream, ids: Tensor) -> Tensor:
        return rng.normal(ids, (2,))


def test_a_module_that_asks_for_the_mask_gets_that_of_its_rows() -> None:
    samples, _ = thresholds(LEVELS)
    seen = trial_of(Victim(Masked()), samples, Threat("linf"), EPS)
    assert seen[torch.tensor([1])].logits(push(0.5)).tolist() == [[0.5, 1.0]]


def test_a_randomised_module_draws_afresh_at_every_forward_and_by_sample() -> None:
    samples, _ = thresholds(LEVELS)
    first, again = (trial_of(Victim(Drawn()), samples, Threat("linf"), EPS) for _ in range(2))
    draws = [first.logits(push(0, 0, 0, 0)) for _ in range(2)]
    assert not torch.equal(*draws)
    assert torch.equal(again[torch.tensor([2])].logits(push(0)), draws[0][2:3])


def test_a_foreign_loop_meets_fresh_draws_too() -> None:
    samples, _ = thresholds(LEVELS)
    module = trial_of(Victim(Drawn()), samples, Threat("linf"), EPS).module()
    assert not torch.equal(module(samples.x), module(samples.x))


def asked(draws: int, victim: Victim) -> Trial:
    samples, _ = thresholds(LEVELS)
    free = torch.ones_like(samples.y, dtype=torch.bool)
    ball, goal = Threat("linf").ball(samples, EPS), Goal(samples.y, untargeted=True, eligible=free)
    return Trial.begin(victim, samples, ball, goal, RandomStream((0, "victim")), draws=draws)


def test_an_answer_of_several_draws_is_their_mean_and_each_is_counted() -> None:
    one, four = asked(1, Victim(Drawn())), asked(4, Victim(Drawn()))
    single = torch.stack([one.logits(push(0, 0, 0, 0)) for _ in range(4)])
    assert torch.allclose(four.logits(push(0, 0, 0, 0)), single.mean(0))
    assert one.memory.forwards.tolist() == four.memory.forwards.tolist() == [4] * 4


class Tossed(torch.nn.Module):
    """Class 1 leads by the first number times 0 or 2, at random: by the first number, on average."""

    takes_rng = True

    def forward(self, x: Tensor, rng: RandomStream, ids: Tensor) -> Tensor:
        lead = x[:, 0, 0] * 2 * (rng.uniform(ids, ()) < 0.5)
        return torch.stack([torch.zeros_like(lead), lead], 1)


def test_the_gradient_of_many_draws_nears_that_of_the_expectation() -> None:
    few, many = (asked(draws, Victim(Tossed())).gradient(push(0, 0, 0, 0), margin)[1][:, 0, 0] for draws in (1, 2000))
    assert set(few.tolist()) <= {0.0, 2.0}
    assert many.tolist() == pytest.approx([1.0] * 4, abs=0.1)


def test_probes_and_gradients_of_several_draws_are_counted_too() -> None:
    trial = asked(3, Victim(Tossed()))
    trial.gradient(push(0, 0, 0, 0), margin)
    trial.probe(push(0, 0, 0, 0), torch.ones(5, 1, 2), trial.ball.eps, margin)
    assert trial.memory.gradients.tolist() == [3] * 4 and trial.memory.forwards.tolist() == [3 + 15] * 4


def test_a_victim_that_is_not_randomised_is_asked_once() -> None:
    _samples, victim = thresholds(LEVELS)
    trial = asked(20, victim)
    trial.logits(push(0, 0, 0, 0))
    assert trial.memory.forwards.tolist() == [1] * 4


def test_a_randomised_victim_predicts_what_most_draws_say() -> None:
    samples, _ = thresholds([0.0] * 200)
    counts = torch.stack(
        [Victim(Drawn()).logits(samples.x, samples, RandomStream((1,)).fold_in("draw", n)).argmax(1) for n in range(15)]
    )
    predicted = Victim(Drawn()).predict(samples.x, samples, RandomStream((1,)))
    assert torch.equal(predicted, (counts.sum(0) > 7).long())


def test_a_logit_that_is_not_finite_is_no_prediction() -> None:
    samples, _ = thresholds(LEVELS)
    victim = Victim(Written(lambda x: torch.tensor([[0.0, 1.0], [torch.nan, 0], [torch.inf, 0], [2, 1]])))
    assert victim.predict(samples.x, samples, RandomStream((0,))).tolist() == [1, -1, -1, 0]


@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (4, 2, 2), (4, 0), ()])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    samples, _ = thresholds(LEVELS)
    with pytest.raises(ContractError, match=r"expected logits of shape \(4, classes\)"):
        Victim(Written(lambda x: torch.zeros(shape))).predict(samples.x, samples, RandomStream((0,)))


def test_evaluating_gives_every_submodule_its_own_mode_back() -> None:
    module = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout())).train()
    module[1].eval()
    with pytest.raises(RuntimeError), evaluating(module) as victim:
        assert not any(part.training for part in victim.module.modules())
        raise RuntimeError
    assert [part.training for part in module.modules()] == [True, True, False, False]


def test_a_frozen_victim_is_in_eval_mode_with_weights_at_rest() -> None:
    victim = frozen(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout()).train())
    assert not any(part.training for part in victim.module.modules())
    assert not any(weight.requires_grad for weight in victim.module.parameters())
    assert victim.device == torch.device("cpu")


@pytest.mark.parametrize("shape", [(1, 187), (12, 5000), (3, 8, 8)])
def test_chunks_hold_a_fixed_number_of_bytes_whatever_the_machine(shape: tuple[int, ...]) -> None:
    rows = CHUNK_BYTES // (4 * math.prod(shape))
    pieces = chunks(torch.arange(rows * 2 + 1), shape)
    assert [len(piece) for piece in pieces] == [rows, rows, 1]
    assert torch.equal(torch.cat(pieces), torch.arange(rows * 2 + 1))


def test_a_chunk_holds_one_sample_of_any_size_and_nobody_makes_none() -> None:
    assert [len(piece) for piece in chunks(torch.arange(3), (30, 1, 256, 256))] == [1, 1, 1]
    assert chunks(torch.arange(0), (1, 187)) == []


class Steep(torch.autograd.Function):
    """A step: 0, with an infinite slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, end: float) -> Tensor:
        ctx.end = end
        return torch.zeros_like(x)

    @staticmethod
    def backward(ctx: Any, *oracle: Tensor) -> tuple[Tensor, None]:
        return ctx.end * oracle[0].sign(), None


ROUGH = Written(lambda x: torch.stack([-x[:, 0, 0], x[:, 0, 0] + (0 * x[:, 0, 1]).abs().sqrt()], 1))
BLIND = {
    "detached": Written(lambda x: torch.stack([-x[:, 0, 0], x[:, 0, 0]], 1).detach()),
    "by weights alone": Written(
        lambda x: torch.stack([x[:, 0, 0], x[:, 0, 0]], 1).detach() + torch.ones(2).requires_grad_()
    ),
}


def test_a_gradient_that_is_not_finite_is_zero_there_and_the_row_is_remembered() -> None:
    samples, _ = thresholds(LEVELS)
    trial = trial_of(Victim(ROUGH), samples, Threat("l2"), EPS)
    _, gradient = trial.gradient(push(0, 0, 0, 0), margin)
    plain = trial_of(Victim(Written(lambda x: torch.stack([-x[:, 0, 0], x[:, 0, 0]], 1))), samples, Threat("l2"), EPS)
    assert torch.equal(gradient, plain.gradient(push(0, 0, 0, 0), margin)[1])
    assert bool(trial.memory.rough.all()) and not bool(plain.memory.rough.any())
    x = samples.x.clone().requires_grad_()
    trial.module()(x)[:, 1].sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("end", [torch.inf, -torch.inf])
def test_an_infinite_gradient_keeps_its_sign_and_a_finite_step(end: float) -> None:
    samples, _ = thresholds(LEVELS)
    steep = Written(lambda x: torch.stack([0 * x[:, 0, 0], Steep.apply(x[:, 0, 0], end)], 1))  # type: ignore[no-untyped-call]
    trial = trial_of(Victim(steep), samples, Threat("l2"), EPS)
    _, gradient = trial.gradient(push(0, 0, 0, 0), margin)
    step = trial.ball.steepest(gradient)
    assert bool(torch.isfinite(step).all()) and bool((step[:, 0, 0].sign() == gradient[:, 0, 0].sign()).all())
    assert bool((step.flatten(1).norm(dim=1) - 1).abs().max() < 1e-5) and bool(trial.memory.rough.all())


@pytest.mark.parametrize("module", BLIND.values(), ids=BLIND)
def test_a_victim_without_gradient_gives_zeros(module: torch.nn.Module) -> None:
    samples, _ = thresholds(LEVELS)
    trial = trial_of(Victim(module), samples, Threat("linf"), EPS)
    assert not bool(trial.gradient(push(0, 0, 0, 0), margin)[1].any())


def test_a_foreign_loop_meets_zeros_where_logits_have_no_gradient() -> None:
    samples, _ = thresholds(LEVELS)
    trial = trial_of(Victim(BLIND["detached"]), samples, Threat("linf"), EPS)
    x = samples.x.clone().requires_grad_()
    trial.module()(x)[:, 1].sum().backward()
    assert x.grad is not None and not bool(x.grad.any())
    assert torch.equal(trial.module()(x), Victim(BLIND["detached"]).logits(x, samples, RandomStream((0,))))


def test_a_slope_is_found_where_gradients_are_off() -> None:
    samples, victim = thresholds(LEVELS)
    trial = trial_of(victim, samples, Threat("linf"), EPS)
    with torch.no_grad():
        off = trial.gradient(push(0, 0, 0, 0), margin)[1]
    assert bool(off.any()) and torch.equal(off, trial.gradient(push(0, 0, 0, 0), margin)[1])


# equal logits decide against the victim

LOGITS = [[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [3.0, 3.0, 3.0], [0.0, 0.0, 5.0], [1e-45, 0.0, 0.0], [-0.0, 0.0, -1.0]]


@pytest.mark.parametrize(
    ("y", "expected"),
    [(0, [1, 1, 1, 2, 0, 1]), (1, [0, 2, 0, 2, 0, 0]), (2, [0, 1, 0, 2, 0, 0])],
)
def test_a_sample_is_right_only_if_its_class_is_above_every_other(y: int, expected: list[int]) -> None:
    logits, labels = torch.tensor(LOGITS), torch.full((6,), y)
    goal = Threat("linf").goal(labels, SingleLabel(tuple("abc")))
    assert (
        SINGLE_LABEL.predict(logits, labels).tolist() == SINGLE_LABEL.predict(logits, labels, goal).tolist() == expected
    )
    own = logits[:, y]
    others = logits.masked_fill(torch.arange(3) == y, -torch.inf).amax(1)
    assert torch.equal(SINGLE_LABEL.predict(logits, labels) == y, own > others)


@pytest.mark.parametrize(
    ("y", "target", "expected"),
    [(0, "b", [1, 1, 1, 2, 0, 1]), (0, "c", [1, 2, 2, 2, 0, 1]), (1, "a", [0, 2, 0, 2, 0, 0])],
)
def test_a_target_among_the_largest_logits_is_reached(y: int, target: str, expected: list[int]) -> None:
    logits, labels = torch.tensor(LOGITS), torch.full((6,), y)
    aim = Threat("linf", target=target).goal(labels, SingleLabel(tuple("abc")))
    predicted = SINGLE_LABEL.predict(logits, labels, aim)
    assert predicted.tolist() == expected
    goal = "abc".index(target)
    assert torch.equal(aim.met(predicted), logits[:, goal] >= logits.amax(1))


@pytest.mark.parametrize(
    "row",
    [[torch.nan, 0.0], [0.0, torch.nan], [torch.inf, 0.0], [0.0, -torch.inf], [3e38, -3e38], [-torch.inf, -torch.inf]],
)
def test_logits_whose_differences_are_not_finite_are_no_prediction(row: list[float]) -> None:
    for others in ([[0.0, 1.0]], [[0.0, 0.0]], []):
        logits = torch.tensor([row, *others])
        y = torch.zeros(len(logits), dtype=torch.int64)
        assert SINGLE_LABEL.predict(logits, y).tolist() == [-1, *([1] * len(others))]


def test_large_and_tiny_logits_are_ranked_as_they_are() -> None:
    for scale in (1e-45, 1e-38, 1.0, 1e30, 1.7e38):
        logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, 1.0]]) * scale
        assert SINGLE_LABEL.predict(logits, torch.tensor([0, 1, 0])).tolist() == [1, 0, 1]
    assert SINGLE_LABEL.predict(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)).tolist() == []


class Voting(Module):
    """Answers draw n of sample i by the rule given."""

    takes_rng = True

    def __init__(self, rule: Callable[[int], list[float]]) -> None:
        super().__init__()
        self.rule, self.draw = rule, -1

    def forward(self, x: Tensor, rng: RandomStream, ids: Tensor) -> Tensor:
        self.draw += 1
        return torch.tensor([self.rule(self.draw % 15)]).expand(len(x), -1)


@pytest.mark.parametrize(
    ("rule", "y", "expected"),
    [
        (lambda n: [1.0, 0.0, 0.0] if n < 8 else [0.0, 1.0, 0.0], 0, 0),  # most draws
        (lambda n: [1.0, 0.0, 0.0] if n < 7 else [0.0, 1.0, 0.0] if n < 14 else [0.0, 0.0, 1.0], 0, 1),  # as many
        (lambda n: [1.0, 0.0, 0.0] if n < 7 else [0.0, 1.0, 0.0] if n < 14 else [0.0, 0.0, 1.0], 1, 0),
        (lambda n: [0.0, 0.0, 0.0], 0, 1),
        (lambda n: [0.0, torch.nan, 0.0] if n == 11 else [1.0, 0.0, 0.0], 0, -1),  # one draw is enough
    ],
)
def test_votes_are_counted_and_equal_ones_decide_against_the_victim(
    rule: Callable[[int], list[float]], y: int, expected: int
) -> None:
    samples, _ = thresholds(LEVELS)
    batch = replace(samples, y=torch.full_like(samples.y, y))
    assert Victim(Voting(rule)).predict(batch.x, batch, RandomStream((0,))).tolist() == [expected] * 4


def test_a_trial_finds_a_tie_and_remembers_it() -> None:
    samples, _ = thresholds(LEVELS)
    victim = Victim(Written(lambda x: torch.zeros(len(x), 2)))
    for threat in (Threat("linf"), Threat("linf", target="b")):
        batch = replace(samples, y=torch.zeros_like(samples.y))
        trial = Trial.begin(
            victim, batch, threat.ball(batch, 1.0), threat.goal(batch.y, SingleLabel(tuple("ab"))), RandomStream((0,))
        )
        trial.logits(torch.zeros_like(batch.x))
        assert bool(trial.is_adversarial.all())
