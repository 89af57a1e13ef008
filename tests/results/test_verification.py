import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import msgspec
import numpy as np
import pytest

from ecgbench.checks.chance import verdict
from ecgbench.registry.catalog import discover
from ecgbench.registry.identity import identity
from ecgbench.results.published import outcomes_path, publish, read_published, read_results
from ecgbench.results.record import Cost
from ecgbench.results.verification import strays, verify
from ecgbench.storage.arrays import pack
from ecgbench.storage.store import key_of
from tests.made_up_rows import Facts, changed, curve_of, made_up, outcomes_of, provenance_of, raised, row

KINDS = ("dataset", "model", "defense", "attack", "threat", "protocol")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    outcomes = made_up(["03", "0345"], clean="9")
    return publish(row(outcomes).record, outcomes, tmp_path / "results")


def one_fault(path: Path) -> str:
    (fault,) = verify([read_published(path)])
    assert fault.startswith(path.as_posix())
    return fault


def restate(path: Path, **facts: Unpack[Facts]) -> None:
    """Alter facts of the record and write it as carefully as `publish` does."""
    path.write_bytes(msgspec.structs.replace(read_published(path).record, **facts).pretty())


def test_what_was_published_has_no_fault(path: Path, tmp_path: Path) -> None:
    publish(row().record, None, tmp_path / "results")
    grouped = made_up(["1", "12"], groups=3, n=9)
    publish(row(grouped, model="cnn").record, grouped, tmp_path / "results")
    assert verify(read_results(tmp_path / "results")) == [] == strays(tmp_path)


def test_a_digit_altered_by_hand_is_found(path: Path) -> None:
    path.write_text(path.read_text().replace('"acc": 0.7', '"acc": 0.8', 1))
    assert "scores[eps=0.1].acc is 0.8; recomputed from the outcomes it is 0.7." in one_fault(path)


@pytest.mark.parametrize("change", [{"raised": True}, {"effect": 0.4}], ids=["raised", "effect"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_check_of_the_clean_predictions_that_its_outcomes_contradict_is_found(
    path: Path, at: int, change: dict[str, Any]
) -> None:
    row = read_published(path)
    checks = list(row.record.checks)
    assert checks[:2] == list(verdict(outcomes_of(row)))
    checks[at] = replace(checks[at], **change)
    restate(path, checks=tuple(checks))
    assert f"{checks[at].code} is {checks[at].raised}" in one_fault(path)


@pytest.mark.parametrize("by", [1e-6, -1e-8])
def test_a_last_digit_altered_is_found(path: Path, by: float) -> None:
    curve = curve_of(read_published(path))
    restate(path, curve=replace(curve, auc=curve.auc + by))
    assert "curve.auc is 0." in one_fault(path)


def test_the_last_bits_of_another_platform_are_forgiven(path: Path) -> None:
    curve = curve_of(read_published(path))
    restate(path, curve=replace(curve, auc=float(np.nextafter(curve.auc, 1))))
    assert verify([read_published(path)]) == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"seed": 1}, "seed is 1; recomputed from the outcomes it is 0."),
        ({"limit": 5}, "limit is 5; recomputed from the outcomes it is null."),
        ({"cost": Cost(forwards=61)}, "cost.forwards is 61; recomputed from the outcomes it is 48."),
        ({"checks": tuple(replace(c, code="LOSX") for c in raised())}, "no check is named 'LOSX'."),
        ({"n": 11}, "n is 11; recomputed from the outcomes it is 10."),
        ({"groups": 3}, "groups is 3; recomputed from the outcomes it is null."),
        ({"counts": {"N": 4, "V": 6}}, "counts.N is 4; recomputed from the outcomes it is 5."),
        ({"eps": (0.1, 0.3)}, "eps[1] is 0.3; recomputed from the outcomes it is 0.2."),
        ({"scores": ()}, "scores is []; recomputed"),
        ({"curve": None}, "curve is null; recomputed"),
        ({"uncertainty": None}, "uncertainty.draws is 0; expected 1 to 10000."),
        ({"classes": ("N",)}, "its outcomes cannot be scored: outcomes hold classes 0 to 1; expected 0 to 0."),
        ({"provenance": None}, "beside it, and provenance."),
        ({"checks": tuple(replace(c, raised=False) for c in raised("LOSS"))}, "LOSS is False for an effect of 1"),
        ({"model": "resnet"}, "is not where its record belongs; expected beats/resnet-none-pgd-linf-seed0-"),
        (
            {"key": "f" * 64},
            "is not where its record belongs; expected beats/mlp-none-pgd-linf-seed0-ffffffffffff.json",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_fact_altered_by_hand_is_found(path: Path, facts: Facts, said: str) -> None:
    restate(path, **facts)
    assert any(said in fault for fault in verify([read_published(path)]))


@pytest.mark.parametrize("code", ["LOSS", "NOOP", "CHANCE", "ONECLASS", "DYNAMIC"])
def test_every_standard_check_stands_once(path: Path, code: str) -> None:
    checks = read_published(path).record.checks
    (chosen,) = (check for check in checks if check.code == code)
    restate(path, checks=(*checks, chosen))
    assert any(
        f"the check {code} stands here 2 times; expected once." in fault for fault in verify([read_published(path)])
    )
    restate(path, checks=tuple(check for check in checks if check != chosen))
    assert any(
        f"the check {code} stands here 0 times; expected once." in fault for fault in verify([read_published(path)])
    )


def test_an_audit_stands_as_a_whole(path: Path) -> None:
    checks = read_published(path).record.checks
    restate(path, checks=(*checks, replace(checks[-1], code="BATCHDEP")))
    assert any("the check NOTCONV stands here 0 times" in fault for fault in verify([read_published(path)]))


def test_perturbations_that_are_all_nothing_raise_noop(path: Path) -> None:
    checks = read_published(path).record.checks
    restate(path, checks=tuple(replace(check, raised=check.code == "NOOP") for check in checks))
    assert any(
        "NOOP is True; recomputed from the outcomes it is False." in fault for fault in verify([read_published(path)])
    )


def test_what_no_sweep_makes_is_found(path: Path) -> None:
    outcomes = outcomes_of(read_published(path))
    forged = replace(outcomes, size=outcomes.size + np.float32(1))
    outcomes_path(path).write_bytes(pack(forged))
    faults = verify([read_published(path)])
    assert any("has a perturbation larger than eps" in fault and path.as_posix() in fault for fault in faults)


def test_a_cell_in_other_words_is_the_same_cell(path: Path) -> None:
    one = read_published(path)
    spelled = changed(one, key="b" * 64, attack="pgd[rel_step=0.1]")
    assert any("holds the same cell, by its provenance, as" in fault for fault in verify([one, spelled]))


def test_a_row_that_cannot_be_looked_at_is_one_fault_and_stops_no_other(path: Path) -> None:
    one = read_published(path)
    strange = msgspec.structs.replace(provenance_of(one), identity={"victim": 7, "sources": [1]})
    faults = verify([changed(one, provenance=strange), replace(one, path=one.path.with_name("other.json"))])
    assert any("cannot be checked" in fault for fault in faults) and any("other.json" in fault for fault in faults)


def test_a_class_renamed_by_hand_is_found(path: Path) -> None:
    restate(path, classes=("N", "S"))
    first, *_ = verify([read_published(path)])
    assert 'counts is {"N":5,"V":5}; recomputed from the outcomes it is {"N":5,"S":5}.' in first


def test_fewer_resamples_by_hand_are_found(path: Path) -> None:
    uncertainty = read_published(path).record.uncertainty
    assert uncertainty is not None
    restate(path, uncertainty=replace(uncertainty, draws=10))
    assert any("interval" in fault for fault in verify([read_published(path)]))


def test_an_altered_identity_is_found(path: Path) -> None:
    made = provenance_of(read_published(path))
    restate(path, provenance=msgspec.structs.replace(made, identity=made.identity | {"made": "down"}))
    assert "provenance.outcomes is" in one_fault(path)


def test_a_provenance_without_a_victim_is_found(path: Path) -> None:
    restate(path, provenance=msgspec.structs.replace(provenance_of(read_published(path)), identity={"made": "up"}))
    assert any("does not say who was attacked" in fault for fault in verify([read_published(path)]))


@pytest.mark.parametrize("field", ["victim", "data"])
def test_an_altered_key_of_victim_or_data_is_found(path: Path, field: str) -> None:
    made = provenance_of(read_published(path))
    restate(path, provenance=msgspec.structs.replace(made, **{field: "f" * 64}))
    assert f"provenance.{field} is" in one_fault(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        *(("attack", words) for words in ("pgd100", "pgd20[abs_step=0.01]")),
        *(("threat", words) for words in ("l2", "linf[mask=false]")),
        ("protocol", "standard[success=last]"),
        ("defense", "adaptive"),
        ("model", "cnn"),
        ("dataset", "mitbih"),
    ],
)
def test_words_that_do_not_mean_what_was_run_are_found(tmp_path: Path, kind: str, words: str) -> None:
    outcomes = made_up(["03", "0345"], clean="9")
    honest = row(outcomes, dataset="synthetic-beats", attack="pgd20").record
    stated, catalog = honest.provenance, discover()
    assert stated is not None
    run = {one: identity(catalog.resolve(one, getattr(honest, one))) for one in KINDS}
    made = stated.identity
    made |= {one: run[one] for one in ("attack", "threat", "protocol")}
    made["victim"] |= {one: run[one] for one in ("dataset", "model", "defense")}
    keys = msgspec.structs.replace(stated, outcomes=key_of(made), victim=key_of(made["victim"]), identity=made)
    honest = msgspec.structs.replace(honest, provenance=keys)
    path = publish(honest, outcomes, tmp_path)
    assert verify([read_published(path)]) == []
    altered = publish(msgspec.structs.replace(honest, **{kind: words}), outcomes, tmp_path / "altered")
    (fault,) = verify([read_published(altered)])
    assert f"{kind} is {words!r}; its provenance names another one." in fault


def test_outcomes_altered_by_hand_are_found_by_digest_and_by_score(path: Path) -> None:
    outcomes = outcomes_of(read_published(path))
    better = replace(outcomes, predicted=np.where(outcomes.ids == 0, 0, outcomes.predicted).astype(np.int16))
    outcomes_path(path).write_bytes(pack(better))
    faults = verify([read_published(path)])
    assert any("provenance.outcomes_digest is" in fault for fault in faults)
    assert any("scores[eps=0.1].acc is 0.7; recomputed from the outcomes it is 0.8." in fault for fault in faults)


def test_outcomes_that_change_no_score_are_found_by_digest(path: Path) -> None:
    outcomes = outcomes_of(read_published(path))
    slower = replace(outcomes, forwards=outcomes.forwards + 1)
    outcomes_path(path).write_bytes(pack(slower))
    assert any(hashlib.sha256(pack(slower)).hexdigest() in fault for fault in verify([read_published(path)]))


def test_missing_outcomes_are_found(path: Path) -> None:
    outcomes_path(path).unlink()
    assert f"expected {outcomes_path(path).name} beside it" in one_fault(path)


def test_outcomes_without_a_record_are_found(path: Path, tmp_path: Path) -> None:
    path.unlink()
    assert strays(tmp_path) == [f"{outcomes_path(path).as_posix()} belongs to no record; expected a .json of its name."]


def test_a_record_rewritten_by_hand_is_found(path: Path) -> None:
    path.write_text(path.read_text().replace("{", '{"praise": "the best row",', 1))
    assert "not written as it was published" in one_fault(path)


def test_a_failed_row_with_scores_is_found(path: Path) -> None:
    restate(path, status="failed")
    assert "is failed; expected an error, no scores and no outcomes." in one_fault(path)


def test_a_key_and_a_cell_that_appear_twice_are_found(path: Path) -> None:
    one = read_published(path)
    copy, rerun = replace(one, path=path.with_name("copy.json")), changed(one, key="b" * 64)
    assert any("holds the same key" in fault for fault in verify([one, copy]))
    assert any("holds the same cell as" in fault for fault in verify([one, rerun]))
