"""Published certificates that state what does not follow, or are of no published victim, are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ecgbench.results.certificate_faults import certificate_faults
from tests.made_up_certificates import certificate, proves, publish

KNOWN = {("beats", "mlp", "none", 0): "weights"}


def faults(leaderboard: Path) -> list[str]:
    return certificate_faults(leaderboard, KNOWN)[1]


def test_a_certificate_that_follows_has_no_fault(tmp_path: Path) -> None:
    assert faults(tmp_path) == []
    publish(certificate(proves("12", "1")), tmp_path)
    publish(certificate(proves("12", "1"), threat="l2"), tmp_path)
    bounds, found = certificate_faults(tmp_path, KNOWN)
    assert found == [] and [record.threat for record, _ in bounds.certificates] == ["l2", "linf"]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"model": "cnn"}, "is of a victim that is not published"),
        ({"weights": "others"}, "is of weights others; the published victim has weights: make it again."),
        ({"key": "k" * 64}, "has a key that is not the digest of its identity"),
        ({"certificate": "crown-ibp", "statistical": True}, "states statistical True; crown-ibp is False"),
        ({"protocol": "standard[per_class=4]"}, "states protocol 'standard[per_class=4]'; its identity names another"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, facts: dict[str, Any], reason: str) -> None:
    publish(certificate(proves("12", "1"), **facts), tmp_path)
    (fault,) = faults(tmp_path)
    assert fault.startswith((tmp_path / "certificates").as_posix()) and reason in fault


@pytest.mark.parametrize(
    ("stated", "value", "reason"),
    [
        ("seed", 1, "states seed 1; its identity names 0."),
        ("limit", 5, "states limit 5; its identity names None."),
        ("certificate", "ibp", "states certificate 'ibp'; its identity names another one."),
        ("threat", "l2", "states threat 'l2'; its identity names another one."),
        ("proven", [0.9, 0.1], "states a proven that does not follow from its proofs"),
        ("clean", 0.9, "states a clean that does not follow"),
        ("schema", 2, "states a schema that does not follow"),
        ("more", 1, "unknown field `more`"),
    ],
)
def test_what_is_altered_by_hand_is_named(tmp_path: Path, stated: str, value: object, reason: str) -> None:
    record, certified = certificate(proves("12", "1"))
    identity = record.identity | {"certificate": _of("certificate", "crown"), "threat": _of("threat", "linf")}
    path = publish(certificate(certified, identity=identity), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {stated: value}))
    assert any(reason in fault for fault in faults(tmp_path))


def _of(kind: str, words: str) -> Any:
    from ecgbench.registry.catalog import discover
    from ecgbench.registry.identity import identity

    return identity(discover().resolve(kind, words))


def test_files_out_of_their_place_are_named(tmp_path: Path) -> None:
    path = publish(certificate(proves("12", "1")), tmp_path)
    other = path.with_name("other.json")
    other.write_bytes(path.read_bytes())
    other.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes())
    first, second = faults(tmp_path)
    assert "other.json is not where it belongs; expected certificates/beats/mlp-none-crown-linf-seed0-" in first
    assert "other.json holds the same key as" in second
    other.unlink()
    (fault,) = faults(tmp_path)
    assert fault == f"{other.with_suffix('.npz').as_posix()} belongs to no record; expected a .json of its name."
    other.with_suffix(".npz").unlink()
    path.with_suffix(".npz").write_bytes(b"")
    (fault,) = faults(tmp_path)
    assert "states other proofs than those beside it" in fault
