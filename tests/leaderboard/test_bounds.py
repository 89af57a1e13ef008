"""The board shows [proven, attacked] where certificates asked for all samples, and a contradiction fails the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from ecgbench.core.fingerprint import digest
from ecgbench.leaderboard.board import check, pages, write
from ecgbench.leaderboard.markdown import markdown
from ecgbench.leaderboard.sections import sections
from ecgbench.results.bounds import Bounds
from ecgbench.results.published import publish as publish_row
from ecgbench.storage.arrays import pack_tensors
from ecgbench.storage.store import Store, key_of
from tests.made_up_certificates import certificate, proves, publish
from tests.made_up_rows import made_up, row


def two_attacks() -> list[Any]:
    """Together they break 0, 1 and 3 at 0.1, 4 as well at 0.2."""
    return [row(made_up(["03", "034"])), row(made_up(["01", "01"]), attack="fgsm")]


def shown(rows: list[Any], *certificates: Any, path: str = "pages/beats.md") -> list[str]:
    made = pages(rows, bounds=Bounds(certificates))
    return next(markdown(page) for page in made if page.path == path).splitlines()


def test_the_worst_case_over_attacks_stands_beside_what_all_certificates_prove() -> None:
    proofs = certificate(proves("25", "")), certificate(proves("6789", "9"), certificate="ibp")
    (section,) = sections(two_attacks(), Bounds(proofs))
    (victim,) = section.victims
    sides = {eps: (side.proven, side.attacked, side.open_samples) for eps, side in victim.sides.items()}
    assert sides == {0.1: (0.6, 0.7, 1), 0.2: (0.1, 0.6, 5)}
    assert {one.certificate for one in section.certificates} == {"crown", "ibp"}
    assert not sections(two_attacks())[0].victims[0].sides


def test_a_mean_over_seeds_needs_proofs_of_every_seed() -> None:
    first, second = row(made_up(["0", "01"])), row(made_up(["0", "04"]), seed=1)
    made = second.record.provenance
    assert made is not None
    provenance = msgspec.structs.replace(made, weights="others")
    second = type(second)(msgspec.structs.replace(second.record, provenance=provenance), second.outcomes, second.path)
    one, other = certificate(proves("123", "3")), certificate(proves("12345", "3"), weights="others", seed=1)
    assert not sections([first, second], Bounds((one,)))[0].victims[0].sides
    side = sections([first, second], Bounds((one, other)))[0].victims[0].sides[0.1]
    assert (side.proven, side.attacked, side.open_samples) == pytest.approx((0.4, 0.9, 10))


def test_pages_say_what_is_proven_and_what_is_exact() -> None:
    rows, proofs = two_attacks(), (certificate(proves("2456789", "9")), certificate(proves("25", "2"), threat="l2"))
    text = shown(rows, *proofs)
    assert "| none | proven, attacked | 0.700 exact | [0.100, 0.600] |" in text
    assert "| | decided | 1.000 | 0.500 |" in text
    assert "The figure of none is exact: all that the attacks left is proven." in "".join(text)
    first = shown(rows, *proofs, path="README.md")
    (line,) = (line for line in first if line.startswith("| 1 |"))
    assert line.endswith("| 0.700 exact | 1.000 |") and any("no attack can lower" in line for line in first)
    own = shown(rows, *proofs, path="pages/beats/mlp-none.md")
    assert any(line.startswith("| 0.2 | 0.600 | ") and line.endswith("| [0.100, 0.600] | 0.500 |") for line in own)
    (line,) = (line for line in own if line.startswith("| `crown` "))
    assert (
        line.startswith("| `crown` | 0 | 10 | 1.000 | 0.700 | 0.100 | 2 | | [") and "(../../certificates/beats/" in line
    )
    assert "proven" not in "".join(shown(rows)) and "proven" not in "".join(shown(rows, path="README.md"))


def test_an_open_headline_is_said_in_the_answer() -> None:
    (said,) = (line for line in shown(two_attacks(), certificate(proves("25", "2"))) if "keeps" in line)
    assert said.endswith("Of none at least 0.200 is proven, and 0.500 of the samples are decided.")


@pytest.fixture
def leaderboard(tmp_path: Path) -> Path:
    """One row of a published victim, and its certificate."""
    weights = {"weight": torch.tensor([1.0])}
    words = {"dataset": "beats", "model": "mlp", "defense": "none", "seed": 0, "classes": ["N", "V"], "shape": [1, 3]}
    card = msgspec.json.encode(words | {"bounds": None, "rate": None, "weights": digest(weights)})
    files = {"weights.safetensors": pack_tensors(weights), "victim.json": card}
    one, identity = row(made_up(["03", "034"])), {"made": "up", "seed": 0, "data": "data"}
    assert one.record.provenance is not None
    Store(tmp_path / "checkpoints").put("victims", identity, files)
    made = one.record.provenance.identity | {"weights": {"victim": digest(weights)}}
    facts = {"weights": digest(weights), "identity": made, "outcomes": key_of(made)}
    provenance = msgspec.structs.replace(one.record.provenance, **facts)
    publish_row(msgspec.structs.replace(one.record, provenance=provenance), one.outcomes, tmp_path / "results")
    publish(certificate(proves("25", "2"), weights=digest(weights)), tmp_path)
    write(tmp_path)
    return tmp_path


def test_a_board_with_certificates_is_checked(leaderboard: Path) -> None:
    assert check(leaderboard) == []
    path = next(leaderboard.glob("certificates/*/*.json"))
    path.write_bytes(path.read_bytes().replace(b'"clean": 1.0', b'"clean": 0.9'))
    assert f"{path.as_posix()} states a clean that does not follow from its proofs; make it again." in check(
        leaderboard
    )


def test_a_row_that_contradicts_a_certificate_is_a_fault_and_shown_as_failed(leaderboard: Path) -> None:
    path = next(leaderboard.glob("certificates/*/*.json"))
    publish(certificate(proves("24", "24"), weights=json_of(path)["weights"]), leaderboard)
    faults = check(leaderboard)
    assert "sample 4 is proven at eps 0.2 by crown" in faults[0] and "please report this." in faults[0]
    assert any("is stale" in fault for fault in faults)
    write(leaderboard)
    (fault,) = check(leaderboard)
    assert fault == faults[0]
    text = (leaderboard / "pages/beats/mlp-none.md").read_text()
    assert "failed: sample 4 is proven" in text and "worst case over attacks" not in text


def json_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return found
