"""Noise belongs to a sample: the same in any batch, order and process, fresh wherever the path says so."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgbench.core.random import RandomStream, stream
from tests.problems import generators

RNG = RandomStream((0, "attack", 0.1))
IDS = torch.tensor([5, 0, 17, 2**40, 3, -1, 8, 90])
KINDS = ["uniform", "normal", "signs"]

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_a_sample_meets_the_same_noise_in_any_order_and_subset(kind: str) -> None:
    whole = getattr(RNG, kind)(IDS, (3, 8))
    order = torch.tensor([6, 2, 7, 0, 1])
    assert torch.equal(getattr(RNG, kind)(IDS[order], (3, 8)), whole[order])


@kinds
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_sample_meets_the_same_noise_in_any_batch_size(kind: str, size: int) -> None:
    ids = torch.arange(2500)
    pieces = [getattr(RNG, kind)(piece, (1, 7)) for piece in ids.split(size)]
    assert torch.equal(torch.cat(pieces), getattr(RNG, kind)(ids, (1, 7)))


@given(seed=st.integers(0, 2**31), ids=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=20, unique=True))
@settings(deadline=None, max_examples=50)
def test_a_row_alone_is_the_row_of_any_batch(seed: int, ids: list[int]) -> None:
    rng = RandomStream((seed,))
    alone = torch.cat([rng.uniform(torch.tensor([sample]), (4,)) for sample in ids])
    assert torch.equal(alone, rng.uniform(torch.tensor(ids), (4,)))


def test_another_process_draws_the_same_bits() -> None:
    program = f"""
import hashlib, torch
from ecgbench.core.random import RandomStream, stream
rng, ids = RandomStream({RNG.path!r}), torch.tensor({IDS.tolist()})
for kind in {KINDS!r}:
    print(hashlib.sha256(getattr(rng, kind)(ids, (1, 187)).numpy().tobytes()).hexdigest())
"""
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = [hashlib.sha256(getattr(RNG, kind)(IDS, (1, 187)).numpy().tobytes()).hexdigest() for kind in KINDS]
    assert other.stdout.split() == here


def test_the_first_values_are_those_of_this_version() -> None:
    """A change here changes every outcome ever made: say so in the changelog."""
    found = RandomStream((0, "attack")).uniform(torch.tensor([0, 1]), (2,))
    assert found.tolist() == [[0.5051553845405579, 0.28932517766952515], [0.85147625207901, 0.06067162752151489]]
    assert RandomStream((0, "attack")).seed == 6961199328643425381


def test_every_step_of_the_path_and_every_sample_draws_afresh() -> None:
    streams = [
        RNG,
        RNG.fold_in(0),
        RNG.fold_in(1),
        RNG.fold_in("1"),
        RNG.fold_in(1.0),
        RNG.fold_in(0, 1),
        RNG.fold_in(1, 0),
        RandomStream((1, "attack", 0.1)),
    ]
    draws = torch.stack([rng.uniform(IDS, (16,)) for rng in streams]).flatten(0, 1)
    assert len({tuple(row) for row in draws.tolist()}) == len(streams) * len(IDS)


def test_a_path_is_built_step_by_step() -> None:
    assert RandomStream((0,)).fold_in("epoch", 3).fold_in("step", 1) == RandomStream((0, "epoch", 3, "step", 1))


def test_each_repeat_of_a_sample_in_a_batch_draws_afresh() -> None:
    ids = torch.tensor([7, 3, 7, 7, 3])
    draws = RNG.uniform(ids, (32,))
    assert len({tuple(row) for row in draws.tolist()}) == 5
    assert torch.equal(draws[:2], RNG.uniform(ids[:2], (32,)))
    assert torch.equal(draws[[0, 2, 3]], RNG.uniform(torch.tensor([7, 7, 7]), (32,)))


def test_draws_have_the_moments_of_their_distribution() -> None:
    n = 400_000
    ids = torch.arange(n // 100)
    for kind, mean, variance, fourth in (("uniform", 0.5, 1 / 12, 1 / 80), ("normal", 0, 1, 3), ("signs", 0, 1, 1)):
        draws = getattr(RNG, kind)(ids, (100,)).double()
        assert draws.mean() == pytest.approx(mean, abs=5 * (variance / n) ** 0.5)
        spread = (fourth - variance**2) / n
        assert (draws - mean).square().mean() == pytest.approx(variance, abs=5 * spread**0.5 + 1e-6)


def test_neighbouring_samples_places_and_paths_are_uncorrelated() -> None:
    draws = torch.stack([RNG.fold_in(step).normal(torch.arange(500), (200,)) for step in range(2)])
    pairs = ((draws[:, 1:], draws[:, :-1]), (draws[..., 1:], draws[..., :-1]), (draws[0], draws[1]))
    for one, other in pairs:
        assert abs(float((one * other).mean())) < 5 / one.numel() ** 0.5


def test_uniform_is_flat_in_every_tenth() -> None:
    counts = torch.histc(RNG.uniform(torch.arange(1000), (100,)), 10, 0, 1)
    assert (counts - 10_000).abs().max() < 5 * (10_000 * 0.9) ** 0.5


def test_no_draw_is_0_or_1_or_no_sign_even_at_the_ends_of_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = torch.tensor([0, -1, 1 << 41, -(1 << 63), (1 << 63) - 1, 1 << 62])
    monkeypatch.setattr("ecgbench.core.random._mix", lambda bits: ends.expand(len(bits), 6) if bits.ndim == 2 else bits)
    uniform = RNG.uniform(torch.arange(2), (6,))
    assert float(uniform.min()) > 0 and float(uniform.max()) < 1
    assert torch.isfinite(RNG.normal(torch.arange(2), (6,))).all()
    assert (RNG.signs(torch.arange(2), (6,)).abs() == 1).all()


def test_the_global_generators_are_left_alone() -> None:
    before = generators()
    for kind in KINDS:
        getattr(RNG, kind)(IDS, (4,))
    torch.randperm(5, generator=RNG.generator())
    assert generators() == before


def test_a_generator_is_fixed_by_its_path() -> None:
    first, again, other = (torch.randperm(50, generator=rng.generator()) for rng in (RNG, RNG, RNG.fold_in(1)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nobody_and_nothing_draw_nothing() -> None:
    assert RNG.uniform(torch.tensor([], dtype=torch.int64), (1, 4)).shape == (0, 1, 4)
    assert RNG.normal(IDS, ()).shape == (8,)


def test_the_streams_of_the_host_are_those_that_published_rows_were_drawn_from() -> None:
    seeds = [stream("attack", 3).seed, stream("train", 0).seed, stream("weights", 0).seed, stream("rebuilt").seed]
    assert seeds == [6043445071189351965, 5053647422441284027, 3129016798826229324, 549611630532989197]
