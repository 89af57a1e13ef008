"""The training loop: balanced by tiling, the same after any interruption, the best epoch where that is asked for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Dropout, Flatten, Linear, Module, ReLU, Sequential
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from ecgbench.core.data import Batch, Samples
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.progress import Checkpoint, Epoch
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Threat
from ecgbench.core.training import Hook, Schedule, balanced_accuracy, epoch_order, recalibrate_batchnorm, train
from ecgbench.core.victim import frozen
from ecgbench.evaluation.sweep import Sweep
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.defenses.adaptive import Adaptive
from ecgbench_plugins.defenses.none import Standard
from tests.problems import KilledError, MemoryCheckpoint, blobs, generators

TASK = blobs()
RNG = RandomStream(("train", 0))
FEW = Schedule(epochs=4, batch=64, lr=1e-2)


def fresh(dropout: bool = False, normed: bool = False, seed: int = 0) -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        extra = [BatchNorm1d(24)] * normed + [Dropout(0.3)] * dropout
        return Sequential(Flatten(), Linear(16, 24), *extra, ReLU(), Linear(24, 3))


def plain(module: Module, batch: Batch, step: RandomStream) -> Tensor:
    return cross_entropy(module(batch.x), batch.y)


def trained(schedule: Schedule = FEW, checkpoint: Checkpoint | None = None, seed: int = 0, **parts: bool) -> Module:
    return train(fresh(**parts), TASK, plain, schedule, RandomStream(("train", seed)), checkpoint or Checkpoint())


def same(one: Module, other: Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


# the order of an epoch


def counts(order: Tensor, n: int) -> list[int]:
    return order.bincount(minlength=n).tolist()


def test_a_plain_epoch_meets_every_sample_once_in_a_random_order() -> None:
    order = epoch_order(torch.tensor([0] * 90 + [1] * 10), False, RNG)
    assert counts(order, 100) == [1] * 100
    assert not torch.equal(order, torch.arange(100))


@pytest.mark.parametrize(
    ("sizes", "repeats"), [((50, 20, 7), ((50, 1, 0), (20, 2, 10), (7, 7, 1))), ((6, 6), ((6, 1, 0), (6, 1, 0)))]
)
def test_a_balanced_epoch_tiles_every_class_to_the_size_of_the_largest(
    sizes: tuple[int, ...], repeats: tuple[tuple[int, int, int], ...]
) -> None:
    """Of each class: how many samples, how often each at least, and how many of them once more."""
    y = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = epoch_order(y, True, RNG)
    assert len(order) == max(sizes) * len(sizes)
    times = order.bincount(minlength=len(y))
    for label, (n, often, more) in enumerate(repeats):
        assert sorted(times[y == label].tolist()) == [often] * (n - more) + [often + 1] * more


def test_the_published_beats_are_tiled_as_the_study_states() -> None:
    """Ma and Liang 2020, the test beats: 90,590 a pass; how often each class repeats, and how many once more."""
    sizes, often, more = [18118, 556, 1448, 162, 1608], [1, 32, 12, 111, 11], [0, 326, 742, 136, 430]
    y = torch.repeat_interleave(torch.arange(5), torch.tensor(sizes))
    order = epoch_order(y, True, RNG)
    times = order.bincount()
    assert len(order) == 90_590
    for label in range(5):
        found = times[y == label].bincount(minlength=often[label] + 2)[often[label] :].tolist()
        assert found == [sizes[label] - more[label], more[label]]


def test_classes_are_dealt_in_turn_so_every_batch_is_balanced() -> None:
    y = torch.repeat_interleave(torch.arange(5), torch.tensor([40, 3, 11, 25, 1]))
    dealt = y[epoch_order(y, True, RNG)]
    assert (dealt.view(-1, 5) == dealt[:5]).all()
    for batch in dealt.split(128):
        held = batch.bincount(minlength=5)
        assert int(held.max() - held.min()) <= 1


@pytest.mark.parametrize("balanced", [True, False])
def test_the_order_is_fresh_every_epoch_and_fixed_by_its_path(balanced: bool) -> None:
    y = torch.arange(60) % 3
    first, again, other = (epoch_order(y, balanced, rng) for rng in (RNG.fold_in(0), RNG.fold_in(0), RNG.fold_in(1)))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_which_samples_are_tiled_once_more_changes_with_the_epoch() -> None:
    y = torch.tensor([0] * 10 + [1] * 7)
    extra = {tuple(epoch_order(y, True, RNG.fold_in(epoch)).bincount()[10:].tolist()) for epoch in range(10)}
    assert len(extra) > 1


def test_a_class_without_a_sample_is_passed_over() -> None:
    assert sorted(epoch_order(torch.tensor([0, 2, 2]), True, RNG).tolist()) == [0, 0, 1, 2]


# training


def test_training_learns() -> None:
    accuracy = balanced_accuracy(trained(replace(FEW, epochs=15)), TASK.test, RNG)
    assert accuracy > 0.9 > 0.6 > balanced_accuracy(fresh(), TASK.test, RNG)


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_present() -> None:
    y = torch.tensor([0, 0, 0, 2])
    samples = Samples.of(torch.tensor([[0.0], [0.0], [1.0], [2.0]]), y)
    one_hot = Linear(1, 3)
    one_hot.load_state_dict({"weight": torch.tensor([[0.0], [1.0], [1.9]]), "bias": torch.tensor([0.5, 0.0, -0.9])})
    assert one_hot(samples.x).argmax(1).tolist() == [0, 0, 1, 2]
    assert balanced_accuracy(one_hot, samples, RNG) == pytest.approx((2 / 3 + 1) / 2)


def test_the_result_is_in_eval_mode() -> None:
    assert not trained(dropout=True).training


def test_the_same_path_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (trained(dropout=True, seed=seed) for seed in (0, 0, 1))
    assert same(first, again) and not same(first, other)


def test_the_global_generators_are_left_alone() -> None:
    before = generators()
    trained(dropout=True)
    assert generators() == before


def test_every_epoch_is_told_once_with_its_loss() -> None:
    checkpoint = MemoryCheckpoint()
    trained(checkpoint=checkpoint)
    assert [(told.number, told.of, told.score) for told in checkpoint.told if isinstance(told, Epoch)] == [
        (1, 4, None),
        (2, 4, None),
        (3, 4, None),
        (4, 4, None),
    ]
    losses = [told.loss for told in checkpoint.told if isinstance(told, Epoch)]
    assert losses[-1] < losses[0]


def test_each_step_draws_from_a_path_of_its_own() -> None:
    met: list[RandomStream] = []

    def noted(module: Module, batch: Batch, step: RandomStream) -> Tensor:
        met.append(step)
        return plain(module, batch, step)

    train(fresh(), TASK, noted, replace(FEW, epochs=2), RNG, Checkpoint())
    assert len(set(met)) == len(met) > 10


def test_the_loss_told_is_the_mean_over_the_epoch_at_the_weights_of_the_moment() -> None:
    checkpoint = MemoryCheckpoint()
    train(fresh(), TASK, lambda module, batch, step: 0 * plain(module, batch, step) + len(batch), FEW, RNG, checkpoint)
    told = checkpoint.told[0]
    order = epoch_order(TASK.train.y, True, RNG)
    sizes = [len(piece) for piece in order.split(64)]
    assert isinstance(told, Epoch) and told.loss == pytest.approx(sum(size**2 for size in sizes) / len(order))


# killed and resumed


@pytest.mark.parametrize("optimizer", ["adamax", "adam"])
@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_a_training_killed_at_any_epoch_ends_with_the_same_weights(optimizer: Any, keep: Any, epoch: int) -> None:
    schedule = replace(FEW, optimizer=optimizer, keep=keep)
    killed = MemoryCheckpoint(dies_at=epoch)
    with pytest.raises(KilledError):
        trained(schedule, killed, dropout=True, normed=True)
    torch.rand(7)
    resumed = MemoryCheckpoint(killed.state)
    assert same(trained(schedule, resumed, dropout=True, normed=True), trained(schedule, dropout=True, normed=True))
    assert resumed.keeps == 4 - epoch


def test_a_finished_training_is_not_trained_again() -> None:
    checkpoint = MemoryCheckpoint()
    done = trained(checkpoint=checkpoint)
    again = MemoryCheckpoint(checkpoint.state)
    assert same(trained(checkpoint=again), done) and again.keeps == 0


def test_adversarial_training_killed_midway_ends_with_the_same_weights() -> None:
    defense = Adaptive(epochs=2, eps=0.1, attack=PGD(steps=2))
    killed = MemoryCheckpoint(dies_at=1)
    with pytest.raises(KilledError):
        defense.fit(fresh(dropout=True), TASK, RNG, killed)
    resumed = defense.fit(fresh(dropout=True), TASK, RNG, MemoryCheckpoint(killed.state))
    assert same(resumed, defense.fit(fresh(dropout=True), TASK, RNG, Checkpoint()))


# which epoch is kept, and when to stop


class Scripted(Module):
    """Its one weight counts the epochs; it is right on validation as a script says."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.scores = scores

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return -self.weight.expand(len(x), 3)
        right = torch.arange(len(x)) < self.scores[round(float(self.weight)) - 1] * len(x)
        return torch.stack([right.float(), 0.5 + 0 * right, 0 * right], 1)


def scripted(
    scores: list[float], schedule: Schedule, checkpoint: MemoryCheckpoint | None = None
) -> tuple[float, list[Epoch]]:
    """The epoch kept, and the epochs told, of a training whose validation scores are `scores`."""
    ones = Samples.of(torch.zeros(10, 1, 2), torch.zeros(10, dtype=torch.int64))
    task, checkpoint = replace(TASK, train=ones, val=ones, test=ones), checkpoint or MemoryCheckpoint()

    def up(module: Module, batch: Batch, step: RandomStream) -> Tensor:
        return module(batch.x).mean()

    module = Scripted(scores)
    train(module, task, up, replace(schedule, batch=10, lr=1.0), RNG, checkpoint)
    return float(module.weight.detach()), [told for told in checkpoint.told if isinstance(told, Epoch)]


SCORES = [0.2, 0.7, 0.5, 0.7, 0.4, 0.9, 0.1]


@pytest.mark.parametrize(
    ("keep", "patience", "kept", "told"),
    [("last", 0, 7, 7), ("best", 0, 6, 7), ("best", 4, 6, 7), ("best", 3, 2, 5), ("best", 1, 2, 3), ("last", 3, 5, 5)],
)
def test_the_asked_epoch_is_kept_and_patience_ends_a_training(keep: Any, patience: int, kept: int, told: int) -> None:
    weight, epochs = scripted(SCORES, Schedule(epochs=7, keep=keep, patience=patience))
    assert weight == pytest.approx(kept, abs=1e-3)
    assert [epoch.number for epoch in epochs] == list(range(1, told + 1))


@pytest.mark.parametrize("epoch", range(7))
@pytest.mark.parametrize(("patience", "kept"), [(0, 6), (3, 2)])
def test_a_killed_training_still_knows_its_best_epoch_and_its_patience(epoch: int, patience: int, kept: int) -> None:
    schedule, killed = Schedule(epochs=7, keep="best", patience=patience), MemoryCheckpoint(dies_at=epoch)
    with suppress(KilledError):
        scripted(SCORES, schedule, killed)
    weight, _ = scripted(SCORES, schedule, MemoryCheckpoint(killed.state))
    assert weight == pytest.approx(kept, abs=1e-3)


def test_the_validation_score_is_told_where_it_decides() -> None:
    _, epochs = scripted(SCORES, Schedule(epochs=7, keep="best"))
    assert [epoch.score for epoch in epochs] == SCORES
    assert scripted(SCORES, Schedule(epochs=2))[1][0].score is None


# what cannot be


def test_a_score_of_its_own_is_taken_on_validation_after_every_epoch_and_chooses() -> None:
    told: list[Any] = []
    asked = iter([0.2, 0.9, 0.4])

    def score(module: Module, samples: Samples, rng: RandomStream) -> float:
        assert torch.equal(samples.ids, TASK.val.ids)
        return next(asked)

    schedule = replace(FEW, epochs=3, keep="best")
    train(fresh(), TASK, plain, schedule, RNG, Checkpoint(told.append), score=score)
    assert [epoch.score for epoch in told] == [0.2, 0.9, 0.4]


def test_the_curve_of_a_training_outlives_a_kill() -> None:
    schedule, killed, whole = replace(FEW, keep="best"), MemoryCheckpoint(dies_at=2), MemoryCheckpoint()
    with pytest.raises(KilledError):
        trained(schedule, killed)
    resumed = MemoryCheckpoint(killed.state)
    trained(schedule, resumed)
    trained(schedule, whole)
    assert whole.state is not None and resumed.state is not None
    assert whole.state["curve"].shape == (4, 2) and torch.equal(resumed.state["curve"], whole.state["curve"])


def by_batches(values: Tensor, rng: RandomStream) -> tuple[Tensor, Tensor]:
    """Means over the batches of 64 that `recalibrate_batchnorm` draws of each batch's mean and unbiased variance."""
    whole = [piece for piece in epoch_order(TASK.train.y, False, rng).split(64) if len(piece) == 64]
    means, variances = zip(*((values[piece].mean(0), values[piece].var(0)) for piece in whole), strict=True)
    return torch.stack(means).mean(0), torch.stack(variances).mean(0)


def test_settled_statistics_are_those_of_the_samples_with_dropout_off() -> None:
    module = trained(dropout=True, normed=True)
    (norm,) = (part for part in module.modules() if isinstance(part, BatchNorm1d))
    linear = next(part for part in module.modules() if isinstance(part, Linear))
    with torch.no_grad():
        seen = linear(TASK.train.x.flatten(1))
    mean, variance = by_batches(seen, RNG.fold_in("settle", FEW.epochs - 1))
    torch.testing.assert_close((norm.running_mean, norm.running_var), (mean, variance))
    assert norm.momentum == 0.1 and not module.training


def test_settling_moves_no_weight_and_undoes_what_dropout_did_to_a_norm_behind_it() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Sequential(Flatten(), Dropout(0.5), BatchNorm1d(16), Linear(16, 3))
    train(module, TASK, plain, replace(FEW, recalibrate_batchnorm=False), RNG, Checkpoint())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    recalibrate_batchnorm(module, TASK.train, RNG)
    after = module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert (
        {"2.running_mean", "2.running_var"} <= changed <= {"2.running_mean", "2.running_var", "2.num_batches_tracked"}
    )
    mean, spread = by_batches(TASK.train.x.flatten(1), RNG)
    torch.testing.assert_close((after["2.running_mean"], after["2.running_var"]), (mean, spread))
    assert (before["2.running_var"] > 1.5 * spread).all()


def test_an_annealed_rate_falls_along_half_a_cosine_and_never_to_nothing() -> None:
    schedule = Schedule(epochs=4, lr=2.0, cosine_lr=True)
    assert [schedule.rate(epoch) for epoch in range(4)] == pytest.approx([2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5])
    assert {Schedule(epochs=4, lr=2.0).rate(epoch) for epoch in range(4)} == {2.0}


def test_an_annealed_training_steps_at_the_rate_of_its_epoch() -> None:
    rates: list[float] = []

    class Watch(Hook):
        def after_step(self, optimizer: Optimizer) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    schedule = replace(FEW, cosine_lr=True)
    train(fresh(), TASK, plain, schedule, RNG, Checkpoint(), [Watch()])
    assert list(dict.fromkeys(rates)) == [schedule.rate(epoch) for epoch in range(4)]


@pytest.mark.parametrize("loss", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_is_an_error_that_says_what_to_try(loss: float) -> None:
    def broken(module: Module, batch: Batch, step: RandomStream) -> Tensor:
        return plain(module, batch, step) + loss

    with pytest.raises(EcgbenchError, match=f"the training loss is {loss} in epoch 1; .* try a smaller lr"):
        train(fresh(), TASK, broken, FEW, RNG, Checkpoint())


@pytest.mark.parametrize("parts", [{"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"patience": -1}])
def test_a_schedule_that_cannot_be_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(EcgbenchError, match="expected epochs and batch of 1 or more"):
        Schedule(**parts)


@pytest.mark.parametrize("parts", [{"eps": 0.0}, {"eps": torch.inf}, {"clean": 1.0}, {"clean": -0.1}])
def test_an_adversarial_training_that_cannot_be_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(EcgbenchError, match=r"expected eps above 0|eps expects a number"):
        Adaptive(**parts)


# defenses


def robust_accuracy(module: Module, eps: float) -> float:
    sweep = Sweep(PGD(steps=20, rel_step=0.25, loss="margin"), frozen(module), TASK, Threat("linf"), (eps,), RNG)
    outcomes = sweep.run(Checkpoint())
    return float(np.mean(outcomes.predicted[0] == outcomes.y))


def test_adversarial_training_raises_robust_accuracy() -> None:
    attack, eps = PGD(steps=5, rel_step=0.5, loss="margin"), 0.8
    parts = {"epochs": 12, "batch": 64, "lr": 1e-2}
    standard = Standard(**parts).fit(fresh(), TASK, RNG, Checkpoint())  # type: ignore[arg-type]
    hardened = Adaptive(**parts, attack=attack, eps=eps).fit(fresh(), TASK, RNG, Checkpoint())  # type: ignore[arg-type]
    assert robust_accuracy(hardened, eps) > robust_accuracy(standard, eps) + 0.05


def test_a_module_is_attacked_in_eval_mode_and_updated_in_train_mode() -> None:
    modes: list[bool] = []

    def note(module: Module, given: tuple[Tensor]) -> None:
        modes.append(module.training)

    watched = fresh()
    watched.register_forward_pre_hook(note)
    Adaptive(epochs=1, batch=400, attack=PGD(steps=2), clean=0.0).fit(watched, TASK, RNG, Checkpoint())
    steps = len(modes) // 3
    assert modes == [False, False, True] * steps and steps >= 1


def test_adversarial_training_counts_each_repeat_of_a_sample_as_a_new_draw() -> None:
    """Balanced batches repeat samples; each copy begins at a point of its own."""
    starts: list[Tensor] = []

    def note(module: Module, given: tuple[Tensor]) -> None:
        if not module.training:
            starts.append(given[0].detach().clone())

    watched = fresh()
    watched.register_forward_pre_hook(note)
    rare = replace(TASK, train=TASK.train[torch.cat([torch.arange(60), (TASK.train.y == 0).nonzero()[:1, 0]])])
    Adaptive(epochs=1, batch=1000, attack=PGD(steps=1)).fit(watched, rare, RNG, Checkpoint())
    assert len(starts[0].flatten(1).unique(dim=0)) == len(starts[0])


def test_a_journal_that_keeps_nothing_changes_nothing() -> None:
    assert same(trained(checkpoint=Checkpoint()), trained(checkpoint=MemoryCheckpoint()))
