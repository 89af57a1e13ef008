"""Volumes of 8 bits and different length in a sweep: padding is never attacked nor counted."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from ecgbench.checks.audit import Audit
from ecgbench.checks.cheap import CheapChecks
from ecgbench.core.data import Samples, Task
from ecgbench.core.interfaces import Attack
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Norm, Threat
from ecgbench.core.victim import CHUNK_BYTES, Victim, chunks, frozen
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.perturbations import find_perturbations
from ecgbench.evaluation.sweep import Protocol, Sweep
from ecgbench.storage.arrays import pack
from ecgbench_plugins.attacks.apgd import APGD
from ecgbench_plugins.attacks.fgsm import FGSM
from ecgbench_plugins.attacks.mifgsm import MIFGSM
from ecgbench_plugins.attacks.noise import Noise
from ecgbench_plugins.attacks.pgd import PGD
from ecgbench_plugins.attacks.sap import SAP
from ecgbench_plugins.attacks.spsa import SPSA
from ecgbench_plugins.attacks.square import Square
from tests.volumes import PLANE, LargestSlice, counting, volumes

N = 60
ATTACKS = (
    FGSM(),
    PGD(steps=5),
    APGD(steps=6),
    MIFGSM(steps=4),
    Noise(),
    SPSA(steps=2, pairs=4),
    Square(queries=20),
    SAP(),
)


@cache
def victim() -> LargestSlice:
    """Labels about half of the volumes 1."""
    module = LargestSlice(torch.randn(PLANE, generator=torch.Generator().manual_seed(2)), 0.0)
    rows = volumes(N)[:]
    with torch.no_grad():
        module.offset = float(module(rows.x, rows.mask).sort(0).values[N // 2 - 1 : N // 2 + 1].mean())
    return module.eval()


def labelled(samples: Samples) -> Samples:
    """The volumes with the victim's own labels."""
    rows = volumes(N)[:]
    with torch.no_grad():
        return replace(samples, y=(victim()(rows.x, rows.mask)[:, 0] > 0).long())


def sweep(attack: Attack, samples: Samples, norm: Norm = "linf", grid: tuple[float, ...] = (0.01, 0.03)) -> Sweep:
    task = Task("volumes", ("no", "yes"), samples, samples, samples, bounds=(0.0, 1.0))
    return Sweep(attack, frozen(victim()), task, Threat(norm), grid, RandomStream((0, "attack")))


def test_fgsm_falls_exactly_where_the_closed_form_says() -> None:
    """Of all slices only the largest has a gradient: it moves by eps |w|_1, and then the largest slice counts."""
    samples = labelled(volumes(N))
    found = sweep(FGSM(), samples).run(Checkpoint())
    rows, step = samples[:], float(victim().weight.abs().sum())
    with torch.no_grad():
        scores = victim().scores(rows.x).masked_fill(~rows.mask.flatten(2).any(2), -torch.inf)
    top = torch.cat([scores, torch.full((N, 1), -torch.inf)], 1).topk(2, dim=1).values
    for eps, fallen in zip((0.01, 0.03), found.adversarial, strict=True):
        lowered = torch.maximum(top[:, 0] - eps * step, top[:, 1]) < 0
        raised = top[:, 0] + eps * step > 0
        expected = torch.where(samples.y == 1, lowered, raised).numpy()
        assert 0.1 < expected.mean() < 0.9 and np.array_equal(fallen, expected)
    assert (found.clean == found.y).all() and len(found.y) == N


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
def test_what_is_padded_is_never_changed_whatever_the_attack(attack: Attack, norm: Norm) -> None:
    samples = labelled(volumes(N))
    for threat in (Threat(norm), Threat(norm, mask=False)):
        made = replace(sweep(attack, samples, norm), threat=threat)
        batch = samples[torch.arange(0, N, 5)]
        delta = made.perturb(batch, 0.05).delta
        assert delta.any() and not delta[~batch.mask.expand_as(delta)].any()


def test_the_logit_of_a_volume_is_the_same_alone_and_padded() -> None:
    rows = volumes(N)[:]
    rng = RandomStream(("logits",))
    together = Victim(victim()).logits(rows.x, rows, rng)
    for row in range(N):
        one = rows[row : row + 1]
        length = int(one.lengths)  # type: ignore[arg-type]
        bare = replace(one, x=one.x[:, :length], mask=one.mask[:, :length])
        alone = Victim(victim()).logits(bare.x, bare, rng)
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=5)])
def test_outcomes_are_those_of_the_split_in_memory_in_any_chunk(
    attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = labelled(volumes(N))
    first = sweep(attack, lazy).run(Checkpoint())
    assert 0 < first.adversarial[0].sum() < first.adversarial[1].sum() < N
    assert same(first, sweep(attack, lazy[:]).run(Checkpoint()))
    monkeypatch.setattr("ecgbench.core.victim.CHUNK_BYTES", 4 * 6 * 5 * 4 * 7)
    assert same(first, sweep(attack, lazy).run(Checkpoint()))


def same(one: Outcomes, other: Outcomes) -> bool:
    return pack(one) == pack(other)


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=5)])
def test_only_the_rows_that_are_met_are_decoded_a_chunk_at_a_time(
    attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once to see that the threat fits, once clean, then whoever remains at each eps, and validation once."""
    rows = 7
    monkeypatch.setattr("ecgbench.core.victim.CHUNK_BYTES", 4 * 6 * 5 * 4 * rows)
    samples, reads = counting(N)
    made = sweep(attack, labelled(samples))
    assert not reads
    found = made.run(Checkpoint())
    assert max(reads) == rows
    assert sum(reads) == N + N + N + int((~found.adversarial[0]).sum()) + N
    reads.clear()
    kept = find_perturbations(made, found, 0.03, 5)
    assert kept.delta.shape == (5, 6, 5, 4) and sum(reads) == 10


def test_checks_and_audit_decode_no_more_than_a_chunk_at_a_time() -> None:
    samples, reads = counting(N)
    made = sweep(PGD(steps=5), labelled(samples), grid=(0.005,))
    made = replace(made, task=replace(made.task, bounds=None))
    found = made.run(Checkpoint())
    reads.clear()
    checks = [*CheapChecks(made, found, 0.005).run(), *Audit(made, found, 0.005).run()]
    assert {check.code for check in checks} >= {"NOOP", "UNBOUNDED"}
    assert reads and max(reads) <= len(chunks(torch.arange(10_000), made.task.shape)[0]) == CHUNK_BYTES // 480


# the split that is attacked


def test_a_sweep_of_the_validation_split_meets_it_and_never_the_test_split() -> None:
    test, reads = counting(N)
    val = labelled(volumes(N))
    task = Task("volumes", ("no", "yes"), val, val.select(torch.arange(20)), test, bounds=(0.0, 1.0))
    base = replace(sweep(FGSM(), val), task=task)
    found = replace(base, protocol=Protocol(split="val")).run(Checkpoint())
    assert found.ids.tolist() == val.ids[:20].tolist() and not reads
    assert np.array_equal(found.adversarial, sweep(FGSM(), val).run(Checkpoint()).adversarial[:, :20])
    assert len(base.run(Checkpoint()).ids) == N and reads


def test_no_label_of_the_attacked_split_is_in_reach_while_the_victim_answers() -> None:
    samples = labelled(volumes(N))[:]
    seen: list[bool] = []

    class Looking(LargestSlice):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            seen.append(bool((samples.y == -1).all()))
            return super().forward(x, mask)

    looking = Looking(victim().weight.detach(), victim().offset).eval()
    empty = samples[:0]
    task = Task("volumes", ("no", "yes"), empty, samples, empty, bounds=(0.0, 1.0))
    made = replace(sweep(Noise(draws=1), samples), task=task, victim=frozen(looking), protocol=Protocol(split="val"))
    made._clean(samples)
    assert seen and all(seen)
