"""What is proven at each eps is what the closed form says, and a proof that an attack contradicts is a fault."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import numpy as np
import pytest
import torch

from ecgbench.core.certificates import Certificate, Proof
from ecgbench.core.data import Batch
from ecgbench.core.errors import ContractError, EcgbenchError, StoreError
from ecgbench.core.progress import Checkpoint
from ecgbench.core.random import RandomStream
from ecgbench.core.threat import Ball, Goal, Threat
from ecgbench.core.victim import Victim
from ecgbench.evaluation.certification import Certification, Certified, both_sides
from ecgbench.evaluation.outcomes import Outcomes
from ecgbench.evaluation.sweep import Sweep
from ecgbench.results.certificates import (
    pack_certified,
    publish_certificate,
    read_certificate,
    read_certificates,
    summary,
)
from ecgbench_plugins.attacks.strict import Strict
from ecgbench_plugins.certificates.crown import LinearBounds
from tests.command_line import ecgbench
from tests.problems import KilledError, Linear, MemoryCheckpoint, linear_problem, reach

NAME = "synthetic-beats-beats-200-linear-none-epochs-1-seed0"
VICTIM = ("--dataset", "synthetic-beats[beats=200]", "--model", "linear", "--defense", "none[epochs=1]")
EPS = (0.01, 0.05)
LINF = Threat("linf")
Fault = Literal["none", "shape", "negative", "writes", "none at all"]


@dataclass(frozen=True)
class Claims(Certificate):
    """Says that all is proven, or breaks a promise."""

    fault: Fault = "none"
    statistical: ClassVar[bool] = False

    def prove(self, victim: Victim, batch: Batch, ball: Ball, goal: Goal, rng: RandomStream) -> Proof:
        n = len(batch) + (self.fault == "shape")
        if self.fault == "writes":
            batch.x.zero_()
        if self.fault == "none at all":
            return None  # type: ignore[return-value]
        error = torch.full((n,), -1.0 if self.fault == "negative" else 0.0, dtype=torch.float64)
        return Proof(torch.ones(n, dtype=torch.float64), error, torch.full((n,), 3))


def certification(problem: Linear, certificate: Certificate) -> Certification:
    return Certification(
        certificate, problem.victim, problem.task, problem.task.test, LINF, EPS, RandomStream(("certificate", 0))
    )


def attacked(problem: Linear) -> Outcomes:
    rng = RandomStream(("attack", 0))
    return Sweep(Strict("quick"), problem.victim, problem.task, LINF, EPS, rng).run(Checkpoint())


def problem_of_two() -> Linear:
    return linear_problem(2, (1, 20), n=60)


def test_a_linear_victim_is_proven_where_the_closed_form_says_and_attack_and_proof_meet() -> None:
    problem = problem_of_two()
    certified, seconds = certification(problem, LinearBounds()).run(Checkpoint())
    for place, eps in enumerate(EPS):
        lead = -reach(problem, LINF, eps)
        assert certified.proven[place].tolist() == (lead > 0).tolist()
    assert certified.shares == tuple(certified.proven.mean(1)) and len(seconds) == 2
    sides = both_sides(certified, attacked(problem))
    assert [side.eps for side in sides] == [*EPS]
    assert all(side.exact and side.proven == side.attacked and side.decided == 1 for side in sides)


def test_a_proven_sample_that_was_made_adversarial_is_a_fault_of_certificate_or_host() -> None:
    problem = problem_of_two()
    outcomes, certified = attacked(problem), certification(problem, Claims()).run(Checkpoint())[0]
    with pytest.raises(EcgbenchError, match=r"is proven at eps 0\.0[15] and was made adversarial there .* report"):
        both_sides(certified, outcomes)
    sides = both_sides(certified, outcomes, statistical=True)
    assert sides[1].open_samples == int(outcomes.adversarial[1].sum()) and not sides[1].exact


def test_what_lies_between_is_open() -> None:
    problem = problem_of_two()
    outcomes, certified = attacked(problem), certification(problem, LinearBounds()).run(Checkpoint())[0]
    robust = np.flatnonzero(certified.proven[1])[:3]
    less = certified.proven.copy()
    less[1, robust] = False
    side = both_sides(replace(certified, proven=less), outcomes)[1]
    assert side.open_samples == 3 and not side.exact and side.decided == pytest.approx(1 - 3 / 60)
    assert side.attacked - side.proven == pytest.approx(3 / 60)


def test_other_samples_are_not_compared() -> None:
    problem = problem_of_two()
    outcomes, certified = attacked(problem), certification(problem, LinearBounds()).run(Checkpoint())[0]
    with pytest.raises(EcgbenchError, match="different samples"):
        both_sides(replace(certified, ids=certified.ids + 1), outcomes)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("shape", "expected least of"),
        ("negative", "expected an error of at least 0"),
        ("writes", "another x"),
        ("none at all", "expected prove to return a Proof, got None"),
    ],
)
def test_a_certificate_that_breaks_a_promise_is_refused(fault: Fault, reason: str) -> None:
    problem = problem_of_two()
    with pytest.raises(ContractError, match=reason):
        certification(problem, Claims(fault)).run(Checkpoint())
    assert float(problem.task.test.x.abs().sum()) > 0


def test_samples_that_are_wrong_when_clean_are_neither_asked_for_nor_proven() -> None:
    problem = problem_of_two()
    test = problem.task.test
    test = replace(test, y=torch.where(torch.arange(60) < 5, 1 - test.y, test.y))
    task = replace(problem.task, test=test)
    certified, _ = certification(replace(problem, task=task), Claims()).run(Checkpoint())
    assert not certified.proven[:, :5].any() and certified.proven[:, 5:].all()
    assert certified.queries[0].tolist() == [0] * 5 + [3] * 55


def test_a_killed_certification_goes_on_after_its_last_eps() -> None:
    problem, checkpoint = problem_of_two(), MemoryCheckpoint(dies_at=1)
    with pytest.raises(KilledError):
        certification(problem, LinearBounds()).run(checkpoint)
    resumed, _ = certification(problem, LinearBounds()).run(MemoryCheckpoint(checkpoint.state))
    whole, _ = certification(problem, LinearBounds()).run(Checkpoint())
    assert all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(*map(arrays, (resumed, whole)), strict=True)
    )


def arrays(certified: Certified) -> list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    return list(certified.arrays().values())


def test_proofs_that_do_not_follow_are_refused() -> None:
    certified, _ = certification(problem_of_two(), LinearBounds()).run(Checkpoint())
    good = certified.arrays()
    assert Certified.from_arrays(good).shares == certified.shares
    assert certified.proven[0].sum() > certified.proven[1].sum()
    for bad, reason in (
        (good | {"proven": certified.proven[::-1]}, "proven at an eps and not at a smaller one"),
        (good | {"clean": 1 - certified.y}, "proven that is wrong when clean"),
        (good | {"eps": certified.eps[::-1]}, "does not ascend"),
        (good | {"eps": certified.eps - certified.eps[0]}, "from above 0"),
        (good | {"queries": certified.queries[:1]}, "queries is int64"),
        ({name: each for name, each in good.items() if name != "ids"}, "expected"),
    ):
        with pytest.raises(StoreError, match=reason):
            Certified.from_arrays(bad)


def test_the_command_prints_both_sides_and_publishes_what_can_be_checked(
    published: tuple[Path, Path], tmp_path: Path
) -> None:
    home, checkpoints = published
    options = ("--leaderboard", str(checkpoints.parent), "-e", "0.01,0.05", "--per-class", "4")
    answer = ecgbench(home, "certify", NAME, *options, "-c", "ibp", "-c", "crown", "--results", str(tmp_path))
    assert answer.code == 0, answer.err
    rows = [line.split() for line in answer.out.splitlines()[-4:]]
    assert [row[0] for row in rows] == ["ibp", "ibp", "crown", "crown"]
    assert all(row[2] == row[3] and row[4] == "0" and row[6] == "yes" for row in rows)
    found = read_certificates(tmp_path)
    assert [record.certificate for record, _ in found] == ["crown", "ibp"]
    record, certified = found[0]
    assert [f"{share:.4f}" for share in record.proven] == [row[2] for row in rows[2:]]
    (path,) = tmp_path.glob("certificates/*/*-crown-linf-*.json")
    assert read_certificate(path)[0] == record
    content = path.with_suffix(".npz").read_bytes()
    changed = json.loads(path.read_bytes()) | {"proven": [1.0, 1.0]}
    with pytest.raises(StoreError, match="proven that does not follow"):
        publish_certificate(msgspec.convert(changed, type(record)), content, tmp_path)
    path.with_suffix(".npz").write_bytes(content[:-1])
    with pytest.raises(StoreError, match="other proofs"):
        read_certificate(path)
    assert certified.eps.tolist() == [0.01, 0.05]


def test_several_victims_are_certified_one_after_the_other(published: tuple[Path, Path]) -> None:
    home, checkpoints = published
    options = ("--leaderboard", str(checkpoints.parent), "-e", "0.05", "-a", "none", "--per-class", "2")
    answer = ecgbench(home, "certify", NAME, NAME, *options)
    first, other = answer.out.split("\n\n" + NAME)
    assert answer.code == 0 and first.strip().splitlines()[1:] == other.strip().splitlines()[1:]


def test_a_cell_whose_attack_breaks_what_is_proven_on_the_leaderboard_has_failed(
    published: tuple[Path, Path], tmp_path: Path
) -> None:
    home, checkpoints = published
    options = ("--leaderboard", str(checkpoints.parent), "-a", "none", "-e", "0.4", "--per-class", "0")
    assert ecgbench(home, "certify", NAME, *options, "--results", str(tmp_path)).code == 0
    ((record, certified),) = read_certificates(tmp_path)
    command = ("run", *VICTIM, "--attack", "fgsm", "--eps", "0.4", "--results", str(tmp_path / "results"), "--json")
    (row,) = ecgbench(home, *command).records
    assert row["status"] == "ok" and not certified.proven.all()
    wrong = replace(certified, proven=(certified.clean == certified.y)[None])
    content = pack_certified(wrong)
    stated = summary(wrong) | {"content": hashlib.sha256(content).hexdigest()}
    publish_certificate(msgspec.structs.replace(record, **stated), content, tmp_path)
    answer = ecgbench(home, *command)
    (row,) = answer.records
    assert answer.code == 4 and row["status"] == "failed" and not row["scores"]
    assert "is proven at eps 0.4 by crown" in row["error"] and "please report this" in row["error"]
    (path,) = (tmp_path / "results").rglob("*.json")
    assert json.loads(path.read_bytes())["status"] == "failed" and not path.with_suffix(".npz").exists()


def test_a_second_certification_is_found(published: tuple[Path, Path]) -> None:
    home, checkpoints = published
    command = (
        "certify",
        NAME,
        "--leaderboard",
        str(checkpoints.parent),
        "-e",
        "0.05",
        "-a",
        "none",
        "--per-class",
        "2",
    )
    first, again = (ecgbench(home, *command) for _ in range(2))
    assert first.code == 0 and first.out == again.out
    assert len(list((home / "store" / "certificates").iterdir())) >= 1
    row = first.out.splitlines()[-1].split()
    assert row[:2] == ["crown", "0.05"] and len(row) == 4


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home and the checkpoints of a small victim that was published there."""
    home = tmp_path_factory.mktemp("home")
    results = home / "leaderboard" / "results"
    answer = ecgbench(
        home, "run", *VICTIM, "--attack", "identity", "--eps", "0.1", "--results", str(results), "--victims"
    )
    assert answer.code == 0, answer.err
    return home, results.parent / "checkpoints"
