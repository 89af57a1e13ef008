"""A run that is killed loses at most the epoch or the chunk it was in: the next one ends with the same record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ecgbench import run
from ecgbench.core.progress import Epoch, Progress
from tests.command_line import Answer, ecgbench, finished, spawn, stages, wait_for

SMALL, LARGE = "synthetic-beats[beats=1200]", "synthetic-beats[beats=5000]"
EPS = ",".join(f"{number / 2000:g}" for number in range(1, 25))


def command(dataset: str, defense: str, attack: str, eps: str = "0.02,0.05") -> tuple[str, ...]:
    parts = ("--dataset", dataset, "--model", "mlp", "--defense", defense, "--attack", attack, "--eps", eps)
    return ("run", *parts, "--json", "--quiet")


def killed(home: Path, stage: str, after: int, *words: str) -> dict[str, Tensor]:
    """Kill -9 the command when it has kept `after` states of `stage`; the last state that it left."""
    home.mkdir()
    process = spawn(home, *words)
    seen: set[int] = set()

    def enough() -> bool:
        seen.update(path.stat().st_mtime_ns for path in unfinished(home, stage))
        return len(seen) >= after

    wait_for(process, enough)
    process.kill()
    assert finished(process).code == -9
    assert stage not in stages(home), "it was killed too late"
    (path,) = unfinished(home, stage)
    return load_file(path)


def unfinished(home: Path, stage: str) -> list[Path]:
    return list((home / "store" / "unfinished").glob(f"{stage}-*/main.safetensors"))


def figures(answer: Answer) -> dict[str, Any]:
    """The one record, but for its seconds."""
    assert answer.code == 0, answer
    (record,) = answer.records
    cost = {name: value for name, value in record["cost"].items() if not name.endswith("_seconds")}
    return {**record, "cost": cost}


def weights(home: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((home / "store" / "victims").glob("*/*.safetensors"))]


@pytest.mark.parametrize(
    ("defense", "epochs"),
    [
        ("none[epochs=60]", 60),
        ("none[epochs=60,keep=best]", 60),
        ("adaptive[attack=pgd[steps=2,rel_step=0.5],epochs=25]", 25),
    ],
)
def test_a_killed_training_goes_on_and_ends_in_the_same_record(defense: str, epochs: int, tmp_path: Path) -> None:
    words = command(SMALL, defense, "fgsm")
    state = killed(tmp_path / "killed", "victims", 2, *words)
    assert 2 <= int(state["counters"][0]) < epochs
    assert figures(ecgbench(tmp_path / "killed", *words)) == figures(ecgbench(tmp_path / "whole", *words))
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert "unfinished" not in stages(tmp_path / "killed")


def test_a_killed_attack_goes_on_and_ends_in_the_same_record(tmp_path: Path) -> None:
    words = command(LARGE, "none[epochs=1]", "pgd[steps=20,rel_step=0.1]", EPS)
    state = killed(tmp_path / "killed", "outcomes", 3, *words)
    assert 0 < int(state["place"][0]) < 24
    assert figures(ecgbench(tmp_path / "killed", *words)) == figures(ecgbench(tmp_path / "whole", *words))
    assert "unfinished" not in stages(tmp_path / "killed")


def test_a_killed_training_is_gone_on_with_at_its_next_epoch(tmp_path: Path) -> None:
    words = command(SMALL, "none[epochs=60]", "fgsm")
    done = int(killed(tmp_path / "killed", "victims", 10, *words)["counters"][0])
    told: list[Progress] = []
    run(
        dataset=SMALL,
        model="mlp",
        attack="fgsm",
        defense="none[epochs=60]",
        store=tmp_path / "killed",
        tell=told.append,
    )
    epochs = [each.number for each in told if isinstance(each, Epoch)]
    assert 10 <= done < 60 and epochs == list(range(done + 1, 61))


def test_a_state_spoiled_by_the_kill_is_begun_again(tmp_path: Path) -> None:
    words = command(SMALL, "none[epochs=40]", "fgsm")
    killed(tmp_path / "killed", "victims", 2, *words)
    (path,) = unfinished(tmp_path / "killed", "victims")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(SafetensorError):
        load_file(path)
    assert figures(ecgbench(tmp_path / "killed", *words)) == figures(ecgbench(tmp_path / "whole", *words))
