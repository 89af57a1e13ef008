"""The sparse attack: the least L1 norm on linear victims, every sample for itself, and what the studies' code finds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import Module

from ecgbench.core.data import Samples, Task
from ecgbench.core.outputs import SingleLabel
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.trial import Trial, Watch
from ecgbench.core.victim import Victim
from ecgbench.testing.problem import linear_problem
from ecgbench_plugins.attacks.ista import ISTA, Found, Moments, attacks
from ecgbench_plugins.models.lstm import Network, Recurrent

RNG = RandomStream(("attack", 0))


def offered(name: str) -> ISTA:
    attack = attacks()[name]
    assert isinstance(attack, ISTA)
    return attack


EHR, AA = offered("ista-ehr"), offered("ista-aa")


class Line(Module):
    """Logits (0, w x + b)."""

    def __init__(self, weight: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.weight, self.offset = weight, offset

    def forward(self, x: Tensor) -> Tensor:
        score = x.flatten(1).double() @ self.weight + self.offset
        return torch.stack([torch.zeros_like(score), score], 1).float()


@dataclass(frozen=True)
class Stays:
    """Made-up stays of a linear victim of two classes, each right, with the least L1 norm that flips it.

    `critical` (n,) is the weight of the L1 norm above which the hinge is not worth its price.
    """

    victim: Line
    samples: Samples
    least: Tensor
    critical: Tensor

    @classmethod
    def drawn(cls, seed: int, size: float = 0.1, n: int = 100, eps: float = 1.0) -> Stays:
        generator = torch.Generator().manual_seed(seed)
        weight = size * torch.randn(864, generator=generator, dtype=torch.float64)
        x = torch.rand(n, 48, 18, generator=generator)
        score = x.flatten(1).double() @ weight
        victim = Line(weight, 0.003 * size - score.median())
        score = score + victim.offset
        least, critical = least_l1(weight, x, score, eps)
        return cls(victim, Samples.of(x, (score > 0).long()), least, critical)

    def trial(self, rows: Tensor | None = None, eps: float = 1.0, watch: Watch = "last") -> Trial:
        return begin(self.victim, self.samples if rows is None else self.samples[rows], eps, watch)


def least_l1(weight: Tensor, x: Tensor, score: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Of each row the least L1 norm that brings `score` to 0, largest weights first, each to the end of its box."""
    flat = x.flatten(1).double()
    room = torch.where(-score.sign()[:, None] * weight.sign() > 0, 1 - flat, flat).clamp(max=eps)
    order = weight.abs().argsort(descending=True)
    room, steep = room[:, order], weight.abs()[order]
    gained = (room * steep).cumsum(1)
    full = (gained < score.abs()[:, None]).sum(1)
    before = torch.cat([torch.zeros(len(x), 1, dtype=torch.float64), gained], 1).gather(1, full[:, None]).squeeze(1)
    spent = torch.cat([torch.zeros(len(x), 1, dtype=torch.float64), room.cumsum(1)], 1).gather(1, full[:, None])
    last = steep[full.clamp(max=len(steep) - 1)]
    return spent.squeeze(1) + (score.abs() - before) / last, last


def begin(victim: Module, samples: Samples, eps: float = 1.0, watch: Watch = "last") -> Trial:
    threat, outputs = Threat("linf"), SingleLabel(("lives", "dies"))
    batch = samples[torch.arange(len(samples))]
    ball, goal = threat.ball(batch, eps, (0.0, 1.0)), threat.goal(batch.y, outputs)
    frozen = Victim(victim.eval().requires_grad_(False), outputs)
    return Trial.begin(frozen, batch, ball, goal, RandomStream(("v",)), watch=watch)


def l1(delta: Tensor) -> Tensor:
    return delta.double().abs().flatten(1).sum(1)


@pytest.mark.parametrize(("seed", "size"), [(0, 0.001), (1, 0.1), (2, 10.0)])
def test_on_linear_victims_of_any_scale_the_least_l1_norm_is_found_and_never_undercut(size: float, seed: int) -> None:
    stays = Stays.drawn(seed, size)
    largest = float(stays.victim.weight.abs().max())
    found = ISTA(steps=800, weight=0.3 * float(stays.critical.min()) / largest, revisions=0).search(stays.trial())
    ratio = l1(found.best) / stays.least
    assert float(ratio.min()) >= 1 - 1e-5
    assert float((ratio <= 1.01).double().mean()) >= 0.99
    assert bool(((stays.samples.x + found.best).clamp(0, 1) - stays.samples.x - found.best).abs().max() <= 1e-6)


def test_a_constant_step_goes_round_the_optimum() -> None:
    stays = Stays.drawn(0)
    share = 0.3 * float(stays.critical.min() / stays.victim.weight.abs().max())
    attack = ISTA(steps=800, weight=share, decay="constant", revisions=0)
    assert float((l1(attack.search(stays.trial()).best) / stays.least <= 1.01).double().mean()) < 0.8


def test_a_weight_above_the_critical_one_finds_nothing_until_it_is_revised() -> None:
    stays = Stays.drawn(0)
    hopeless = ISTA(weight=1.5, revisions=0)
    assert bool((hopeless.search(stays.trial()).best == 0).all())
    assert bool((replace(hopeless, revisions=19).search(stays.trial()).first_at > 0).all())


def test_inside_a_box_the_least_l1_norm_is_that_of_the_box() -> None:
    stays = Stays.drawn(2, eps=0.2)
    found = ISTA(steps=800, weight=0.2, revisions=0).search(stays.trial(eps=0.2))
    ratio = (l1(found.best) / stays.least)[found.first_at >= 0]
    assert len(ratio) == len(stays.least) and float(ratio.min()) >= 1 - 1e-5 and float(ratio.quantile(0.95)) <= 1.02
    assert float(found.best.abs().max()) <= 0.2 * (1 + 1e-6)


def test_the_scale_of_the_logits_changes_nothing_unless_asked_for() -> None:
    stays = Stays.drawn(0)
    louder = replace(stays, victim=Line(1024 * stays.victim.weight, 1024 * stays.victim.offset))
    torch.testing.assert_close(ISTA(steps=40).search(louder.trial()).best, ISTA(steps=40).search(stays.trial()).best)
    raw = ISTA(steps=40, scale="logits", revisions=0)
    assert not torch.allclose(raw.search(louder.trial()).best, raw.search(stays.trial()).best, atol=1e-3)


def test_a_sample_alone_and_among_others_gets_the_same() -> None:
    stays = Stays.drawn(0, n=6)
    together = ISTA(steps=60).search(stays.trial())
    for row in range(6):
        alone = ISTA(steps=60).search(stays.trial(torch.tensor([row])))
        for name in ("first", "best", "first_at", "best_at", "l1"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row])


def lstm(stays: int = 8) -> tuple[Module, Samples]:
    """An untrained recurrent victim, whose own predictions are the labels."""
    x = torch.rand(stays, 48, 18, generator=torch.Generator().manual_seed(0))
    split = Samples.of(x, torch.arange(stays) % 2)
    task = Task("stays", ("lives", "dies"), split, split, split, bounds=(0.0, 1.0))
    torch.manual_seed(0)
    module = Recurrent(hidden=8, dense=8).build(task).eval()
    assert isinstance(module, Network)
    with torch.no_grad():
        module.head.bias.sub_(module(x).diff(dim=1).median() * torch.tensor([-0.5, 0.5]))
        return module, Samples.of(x, module(x).argmax(1))


def test_an_lstm_is_attacked_alike_stay_by_stay_and_in_a_batch() -> None:
    module, samples = lstm()
    together = ISTA(steps=60).search(begin(module, samples))
    alone = Found.joined([ISTA(steps=60).search(begin(module, samples[torch.tensor([row])])) for row in range(8)])
    assert bool((together.first_at > 0).all())
    torch.testing.assert_close(alone.best, together.best, atol=1e-3, rtol=0)


def test_going_on_after_the_first_success_lowers_the_l1_norm() -> None:
    module, samples = lstm()
    first, best = (ISTA(steps=100, stop_at_first=stop).search(begin(module, samples)) for stop in (True, False))
    assert torch.equal(first.best, first.first) and torch.equal(first.first, best.first)
    assert float((l1(best.best) / l1(best.first)).mean()) < 0.6
    assert bool((best.best_at > best.first_at).all())


def test_the_best_success_is_what_the_trial_remembers() -> None:
    stays = Stays.drawn(0, n=8)
    for watch in ("first", "last"):
        trial = stays.trial(watch=watch)
        delta = ISTA(steps=60).perturb(trial, RNG)
        assert bool(trial.is_adversarial.all())
        assert torch.equal(trial.best(torch.zeros_like(delta)), delta)
        assert torch.equal(delta, ISTA(steps=60).search(stays.trial()).best)
    assert trial.memory.gradients.tolist() == [60] * 8 and trial.memory.forwards.tolist() == [60 + 1 + 10 + 1] * 8


def test_what_a_success_can_spare_is_left_out() -> None:
    stays = Stays.drawn(0, n=8)
    whole, trimmed = (ISTA(steps=60, trim=trim).search(stays.trial()) for trim in (False, True))
    kept = trimmed.best != 0
    assert torch.equal(torch.where(kept, whole.best, 0.0), trimmed.best) and torch.equal(whole.first, trimmed.first)
    assert bool((kept.flatten(1).sum(1) <= (whole.best != 0).flatten(1).sum(1)).all())
    assert float(kept.sum()) < 0.8 * float((whole.best != 0).sum())
    torch.testing.assert_close(trimmed.l1.double(), l1(trimmed.best), rtol=1e-5, atol=0)
    smallest = torch.where(kept, trimmed.best.abs(), torch.inf).flatten(1).argmin(1)
    fewer = trimmed.best.flatten(1).scatter(1, smallest[:, None], 0.0).view_as(trimmed.best)
    assert not bool(stays.trial().submit(fewer).any()) and bool(stays.trial().submit(trimmed.best).all())


def test_rows_that_are_done_cost_nothing_more_where_the_first_success_is_enough() -> None:
    trial = Stays.drawn(0, n=8).trial()
    found = ISTA(stop_at_first=True).search(trial)
    assert trial.memory.gradients.tolist() == (found.first_at + 1).tolist()


def test_a_success_shrinks_until_the_lead_is_gained_back() -> None:
    stays = Stays.drawn(0, n=8)
    with_margin = ISTA(kappa=0.2).search(stays.trial()).best
    without = ISTA().search(stays.trial()).best
    assert bool((l1(without) <= l1(with_margin) + 1e-6).all())


def test_cells_outside_the_mask_stay_as_they_are() -> None:
    stays = Stays.drawn(0, n=8)
    mask = torch.rand(8, 48, 18, generator=torch.Generator().manual_seed(1)) < 0.5
    trial = begin(stays.victim, replace(stays.samples, mask=mask))
    delta = ISTA().perturb(trial, RNG)
    assert bool((delta[~mask] == 0).all()) and bool(trial.is_adversarial.all())


def test_the_code_of_the_first_study_finds_nothing_from_a_fresh_state() -> None:
    """A first step of Adam is exactly its rate, 0.1, and below the threshold of 0.15."""
    module, samples = lstm()
    fresh = replace(EHR, carry=False, steps=30).search(begin(module, samples))
    assert bool((fresh.best == 0).all()) and bool((fresh.first_at == -1).all())
    lower = replace(EHR, carry=False, steps=30, weight=0.05).search(begin(module, samples))
    assert bool((lower.first_at > 0).all())


def test_the_code_of_the_first_study_gives_a_sample_what_its_predecessors_left() -> None:
    module, samples = lstm()
    attack = replace(EHR, weight=0.05)
    rows = torch.arange(8)
    forward, backward = (attack.search(begin(module, samples[order])).first for order in (rows, rows.flip(0)))
    assert torch.equal(forward[0], replace(attack, carry=False).search(begin(module, samples)).first[0])
    assert not torch.equal(forward, backward.flip(0))
    assert attack.determinism == "chunk" and ISTA().determinism == "sample"


def test_the_code_of_the_second_study_steps_by_the_mean_over_its_batch() -> None:
    module, samples = lstm()
    alone = replace(AA, steps=3, weight=0.0, batch=1).search(begin(module, samples)).first
    eight = replace(AA, steps=3, weight=0.0, batch=8, step=8 * AA.step).search(begin(module, samples)).first
    torch.testing.assert_close(alone, eight)


@pytest.mark.parametrize(("update", "optimizer"), [("adam", torch.optim.Adam), ("rmsprop", torch.optim.RMSprop)])
def test_moments_are_those_of_torch(
    update: Literal["adam", "rmsprop"], optimizer: type[torch.optim.Adam | torch.optim.RMSprop]
) -> None:
    gradients = torch.randn(5, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    parameter = torch.zeros(3, 4, 2, requires_grad=True)
    theirs = optimizer([parameter], lr=0.1)
    ours, moments = torch.zeros(3, 4, 2), Moments.fresh(torch.zeros(3, 4, 2))
    for gradient in gradients:
        parameter.grad = -gradient
        theirs.step()
        step, moments = moments.step(gradient, update)
        ours = ours + 0.1 * step
    torch.testing.assert_close(ours, parameter.detach())


@pytest.mark.parametrize("penalty", ["frobenius", "column"])
def test_penalties_have_the_gradients_of_their_norms(penalty: Literal["frobenius", "column"]) -> None:
    delta = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    norm = delta.flatten(1).norm(dim=1) if penalty == "frobenius" else torch.linalg.matrix_norm(delta, ord=1)
    (expected,) = torch.autograd.grad(norm.sum(), delta)
    attack = ISTA(scale="logits", penalty=penalty)
    torch.testing.assert_close(attack._penalty_gradient(delta.detach()), expected)
    flat = attack._penalty_gradient(torch.zeros(3, 4, 2))
    assert isinstance(flat, Tensor) and bool((flat == 0).all())


def test_what_cannot_be_is_refused() -> None:
    for wrong in ({"steps": 0}, {"step": 0.0}, {"weight": -1.0}, {"kappa": -1.0}, {"revisions": -1}, {"batch": -1}):
        with pytest.raises(
            ValueError, match="expected steps of 1 or more, a step above 0, and the others of 0 or more"
        ):
            replace(ISTA(), **wrong)
    with pytest.raises(ValueError, match="expected scale=logits beside them"):
        ISTA(update="adam")
    with pytest.raises(ValueError, match="expected the batch whose moments are carried on"):
        ISTA(carry=True)
    volume = linear_problem("linf", (3, 8, 8), 2)
    assert AA.unfit(volume.task, volume.threat) == (
        "penalty=column sums the columns of (time, features); linear problem has samples of (3, 8, 8)."
    )
