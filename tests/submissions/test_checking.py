"""A submission is believed as far as it can be run again; a forger who knows every rule is caught by that."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load

from ecgbench import api
from ecgbench.core.errors import EcgbenchError
from ecgbench.core.fingerprint import digest
from ecgbench.evaluation.metrics import summarize
from ecgbench.evaluation.outcomes import Outcomes, spent
from ecgbench.leaderboard.badges import Report
from ecgbench.leaderboard.board import check, write
from ecgbench.results.published import Published, find, outcomes_path, publish, read_published
from ecgbench.results.record import Record
from ecgbench.runs.cell import checks_identity, record_identity
from ecgbench.runs.suite import Grid, unfold
from ecgbench.runs.zoo import CARD, STAGE, WEIGHTS
from ecgbench.storage.arrays import pack
from ecgbench.storage.store import Store, key_of
from ecgbench.submissions.checking import SubmissionCheck, accept
from ecgbench.submissions.folder import pack as packed
from tests.command_line import ecgbench
from tests.made_up_rows import outcomes_of, provenance_of

WORDS: dict[str, Any] = {
    "dataset": ("synthetic-beats[beats=400]",),
    "model": ("mlp[widths=(16,)]",),
    "defense": ("none[epochs=2]",),
}
ATTACKS = ("pgd[steps=1]", "pgd[steps=10]", "strict[budget=quick]")
EPS = (0.02, 0.05)


@dataclass(frozen=True)
class Place:
    """A machine where three attacks on one victim were run, and that victim with another seed."""

    home: Path
    records: dict[str, Record]

    @property
    def runner(self) -> Any:
        return opened(self.home)

    def packed(self, folder: Path, *attacks: str) -> Path:
        """A submission of these rows."""
        packed(self.runner, [self.records[attack].key for attack in attacks], folder)
        return folder


def opened(home: Path) -> Any:
    return api.open_runner(
        data={}, store=home, device="cpu", plugins=(), leaderboard=None, tell=lambda _: None, retrain=False
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("home")
    runner = opened(home)
    cells = unfold((Grid(**WORDS, attack=ATTACKS, eps=EPS),), runner.catalog)
    records = {attack: runner.execute(cell) for attack, cell in zip(ATTACKS, cells, strict=True)}
    other = runner.execute(unfold((Grid(**WORDS, attack=("identity",), eps=EPS, seed=(1,)),), runner.catalog)[0])
    return Place(home, records | {"other seed": other})


def checked(folder: Path, place: Place, nonce: str = "n", run_again: bool = True) -> Report:
    return SubmissionCheck(folder, folder.parent / "leaderboard", place.runner, nonce, run_again).report()


def row_of(folder: Path) -> Published:
    (path,) = find(folder / "results")
    return read_published(path)


def forged(folder: Path, outcomes: Outcomes, **facts: Any) -> None:
    """State these outcomes in the place of the only row's, with every figure and digest as a run would have made it."""
    row = row_of(folder)
    record, content = msgspec.structs.replace(row.record, **facts), pack(outcomes)
    summary = summarize(outcomes, record.outputs, skip_unpredicted=record.skip_unpredicted, challenge=record.challenge)
    made = msgspec.structs.replace(provenance_of(row), outcomes_digest=hashlib.sha256(content).hexdigest())
    cost = msgspec.structs.replace(record.cost, **spent(outcomes))
    record = msgspec.structs.replace(
        record, scores=summary.scores, curve=summary.curve, uncertainty=summary.uncertainty, cost=cost, provenance=made
    )
    outcomes_path(row.path).write_bytes(content)
    row.path.write_bytes(record.pretty())


def restored(outcomes: Outcomes, samples: NDArray[np.int64]) -> Outcomes:
    """The same with some samples robust at every eps, as a sweep that failed on them would have left them."""
    parts = {
        name: getattr(outcomes, name).copy() for name in ("predicted", "adversarial", "forwards", "by", "gradients")
    }
    parts["predicted"][:, samples] = outcomes.clean[samples]
    parts["adversarial"][:, samples] = parts["by"][:, samples] = False
    for name in ("forwards", "gradients"):
        parts[name][:, samples] = np.maximum(parts[name][:, samples], 7)
    return replace(outcomes, **parts)


def test_honest_rows_are_reproduced(place: Place, tmp_path: Path) -> None:
    report = checked(place.packed(tmp_path / "mine", *ATTACKS), place)
    assert report.faults == () and [row.badge for row in report.rows] == ["reproduced"] * 3
    assert all("0 stated robust are adversarial, 0 stated adversarial are robust" in row.why for row in report.rows)


def test_what_is_drawn_depends_on_files_and_nonce_and_can_be_drawn_again(place: Place, tmp_path: Path) -> None:
    folder = place.packed(tmp_path / "mine", "pgd[steps=1]")
    one, same, other = (checked(folder, place, nonce, run_again=False) for nonce in ("a", "a", "b"))
    assert one == same and (one.digest, one.nonce) != (other.digest, other.nonce)
    assert [row.badge for row in one.rows] == ["rescored"]


def test_perfect_robustness_is_caught(place: Place, tmp_path: Path) -> None:
    folder = place.packed(tmp_path / "mine", "pgd[steps=10]")
    outcomes = outcomes_of(row_of(folder))
    forged(folder, restored(outcomes, np.flatnonzero(outcomes.correct)))
    assert checked(folder, place, run_again=False).faults == ()
    (fault,) = checked(folder, place).faults
    assert (
        "is not what its weights and its attack give" in fault
        and "stated robust are adversarial, 0 stated adversarial" in fault
    )


def test_restored_samples_are_caught(place: Place, tmp_path: Path) -> None:
    folder = place.packed(tmp_path / "mine", "pgd[steps=10]")
    outcomes = outcomes_of(row_of(folder))
    forged(folder, restored(outcomes, np.flatnonzero(outcomes.adversarial[-1])[::4]))
    assert checked(folder, place, run_again=False).faults == ()
    (fault,) = checked(folder, place).faults
    assert "is not what its weights and its attack give" in fault


def test_strict_with_the_outcomes_of_a_weak_attack_is_caught(place: Place, tmp_path: Path) -> None:
    folder = place.packed(tmp_path / "mine", "strict[budget=quick]")
    weak = outcomes_of(row_of(place.packed(tmp_path / "weak", "pgd[steps=1]")))
    forged(folder, weak)
    assert checked(folder, place, run_again=False).faults == ()
    (fault,) = checked(folder, place).faults
    assert "stated robust are adversarial, 0 stated adversarial are robust" in fault


def test_flags_that_are_not_stated_are_caught(place: Place, tmp_path: Path) -> None:
    folder = place.packed(tmp_path / "mine", "pgd[steps=1]")
    row = row_of(folder)
    assert "LOSS" in row.record.flags
    bare = [replace(check, raised=False, effect=0.0) if check.code == "LOSS" else check for check in row.record.checks]
    row.path.write_bytes(msgspec.structs.replace(row.record, checks=tuple(bare)).pretty())
    assert checked(folder, place, run_again=False).faults == ()
    (fault,) = checked(folder, place).faults
    assert "the checks LOSS are raised here, and not stated so" in fault


def test_swapped_weights_are_caught(place: Place, tmp_path: Path) -> None:
    folder = place.packed(tmp_path / "mine", "pgd[steps=1]")
    swapped(folder, place.packed(tmp_path / "other", "other seed"), consistent=False)
    assert any("which has others" in fault for fault in checked(folder, place).faults)
    folder = place.packed(tmp_path / "again", "pgd[steps=1]")
    swapped(folder, tmp_path / "other", consistent=True)
    assert checked(folder, place, run_again=False).faults == ()
    (fault,) = checked(folder, place).faults
    assert "the weights give other predictions on" in fault


def swapped(folder: Path, other: Path, consistent: bool) -> None:
    """Put the weights of another submission's victim into this one's; `consistent`: the row names them, too."""
    mine, theirs = (Store(one / "checkpoints") for one in (folder, other))
    (key, identity), (foreign, _) = (*mine.identities(STAGE), *theirs.identities(STAGE))
    files, others = mine.get(STAGE, key), theirs.get(STAGE, foreign)
    assert files is not None and others is not None
    weights = others[WEIGHTS]
    card = json.loads(files[CARD]) | {"weights": digest(load(weights))}
    mine.put(STAGE, identity, files | {WEIGHTS: weights, CARD: json.dumps(card).encode()})
    if consistent:
        restated(folder, weights={"victim": card["weights"]})


def restated(folder: Path, **parts: Any) -> None:
    """Alter the identity of the only row, and everything that follows from it."""
    row = row_of(folder)
    made = provenance_of(row)
    identity = made.identity | parts
    key = key_of(identity)
    facts = {"identity": identity, "outcomes": key, "weights": identity["weights"]["victim"]}
    record = msgspec.structs.replace(
        row.record,
        provenance=msgspec.structs.replace(made, **facts),
        key=key_of(record_identity(key, [key_of(checks_identity(key, row.record.headline))])),
    )
    publish(record, row.outcomes, folder / "results")


def test_without_weights_a_row_is_only_rescored(place: Place, tmp_path: Path) -> None:
    folder = place.packed(tmp_path / "mine", "pgd[steps=1]")
    shutil.rmtree(folder / "checkpoints")
    report = checked(folder, place)
    assert [(row.badge, "weights of the victim" in row.why) for row in report.rows] == [("rescored", True)]


def test_other_code_of_the_host_is_refused(place: Place, tmp_path: Path) -> None:
    folder = place.packed(tmp_path / "mine", "pgd[steps=1]")
    sources = provenance_of(row_of(folder)).identity["sources"]
    restated(folder, sources=sources | {"ecgbench.core.trial": "0" * 16})
    said = "was made by other code: sources.ecgbench.core.trial: changed"
    assert any(said in fault for fault in checked(folder, place).faults)


def test_a_key_that_nothing_gives_is_refused(place: Place, tmp_path: Path) -> None:
    folder = place.packed(tmp_path / "mine", "pgd[steps=1]")
    row = row_of(folder)
    publish(msgspec.structs.replace(row.record, key="f" * 64), row.outcomes, folder / "results")
    assert any("its key is not that of its outcomes" in fault for fault in checked(folder, place).faults)


def test_a_cell_that_the_board_has_is_refused(place: Place, tmp_path: Path) -> None:
    folder = place.packed(tmp_path / "mine", "pgd[steps=1]")
    place.packed(tmp_path / "leaderboard", "pgd[steps=1]")
    (fault,) = checked(folder, place).faults
    assert "holds the same cell as" in fault


@pytest.mark.parametrize(
    "name", ["plugin.py", "checkpoints/run.sh", "checkpoints/victims/more.pkl", "results/row.json"]
)
def test_files_that_have_no_place_are_refused(place: Place, tmp_path: Path, name: str) -> None:
    folder = place.packed(tmp_path / "mine", "pgd[steps=1]")
    (folder / name).write_text("import os")
    assert any((folder / name).as_posix() in fault for fault in checked(folder, place).faults)


def test_an_accepted_submission_is_on_the_board_with_its_badge(place: Place, tmp_path: Path) -> None:
    folder, board = place.packed(tmp_path / "mine", "pgd[steps=1]"), tmp_path / "leaderboard"
    board.mkdir()
    report = accept(SubmissionCheck(folder, board, place.runner, "n"), "somebody")
    assert report.faults == () and (board / "submissions/somebody.json").is_file()
    write(board)
    assert check(board) == []
    assert "reproduced" in "".join(path.read_text() for path in (board / "pages").rglob("*.md"))
    (path,) = find(board / "results")
    path.unlink()
    outcomes_path(path).unlink()
    assert any("somebody.json is about row" in fault for fault in check(board))
    with pytest.raises(EcgbenchError, match="expected letters, digits"):
        accept(SubmissionCheck(folder, board, place.runner, "n"), "../x")


PLUGIN = '''
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
import torch
from ecgbench import Attack, hookimpl
Path(__file__).with_name("loaded").touch()

@dataclass(frozen=True)
class Up(Attack):
    """All places up by eps."""

    def perturb(self, trial, rng):
        delta = trial.ball.project(trial.ball.eps.expand_as(trial.batch.x).contiguous())
        trial.submit(delta)
        return delta

@hookimpl
def attacks() -> Mapping[str, Attack]:
    return {"up": Up()}
'''


def test_a_strangers_plugin_from_a_run_to_a_checked_folder_in_one_command(tmp_path: Path) -> None:
    plugin, home = tmp_path / "up.py", tmp_path / "home"
    plugin.write_text(PLUGIN)
    words = [part for kind, (text,) in WORDS.items() for part in (f"--{kind}", text)]
    run = ecgbench(home, "run", *words, "-a", "up", "-e", "0.05", "-p", str(plugin), "--json")
    key = run.records[0]["key"]
    mine = str(tmp_path / "mine")
    done = ecgbench(home, "submit", "pack", key[:12], mine, "-p", str(plugin), "--nonce", "n")
    assert done.code == 0 and done.out.startswith("reproduced: results/"), done.err
    (tmp_path / "loaded").unlink()
    alone = ecgbench(tmp_path / "elsewhere", "submit", "check", mine, "--report", str(tmp_path / "report.json"))
    assert alone.code == 0 and alone.out.startswith("claimed: results/") and "'up'" in alone.out
    assert not (tmp_path / "loaded").exists()
    assert msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=Report).rows[0].badge == "claimed"


def test_a_record_that_is_not_kept_is_said(tmp_path: Path) -> None:
    done = ecgbench(tmp_path, "submit", "pack", "abc", str(tmp_path / "mine"))
    assert done.code != 0 and "0 records begin with 'abc'; expected one" in done.err


def test_no_submission_is_said(tmp_path: Path) -> None:
    assert "is no folder; expected a submission" in ecgbench(tmp_path, "submit", "check", str(tmp_path / "no")).err
