"""Why a cell is not there: where its identity differs from the nearest result that is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ecgbench.core.errors import EcgbenchError
from ecgbench.registry.identity import differences
from ecgbench.results.record import Record
from ecgbench.runs.cell import Cell
from ecgbench.runs.runner import STAGES, Planned, Runner
from ecgbench.runs.suite import Grid, unfold
from ecgbench.storage.store import write_file

MADE = {
    "train": "victim",
    "attack": "attack",
    "check": "check",
    "audit": "audit",
    "score": "score",
    "save": "perturbation",
}
AXES = ("dataset", "model", "defense", "attack", "threat")


def remember(runner: Runner, planned: Planned) -> None:
    """Keep what a planned key stands for, so that `explain` can be asked about it."""
    cell = planned.cell
    words = {kind: runner.catalog.canonical(kind, getattr(cell, kind)) for kind in (*AXES, "protocol")}
    sizes = {"epsilons": list(cell.epsilons), "seed": cell.seed, "limit": cell.limit, "audited": cell.audit}
    sizes |= {"save_perturbations": cell.save_perturbations}
    write_file(runner.store.root / "plans" / f"{planned.key}.json", json.dumps({**words, **sizes}).encode())


def explain(runner: Runner, key: str) -> list[str]:
    """One line per difference, or one that says the cell is there. Raises EcgbenchError for an unknown key."""
    cell = _recall(runner, key)
    planned = runner.plan([cell])[0]
    if planned.work == "none":
        return [f"{planned.key[:12]} is kept; nothing is missing."]
    stage, what = STAGES[planned.work], MADE[planned.work]
    now = runner.identities(cell)[stage]
    kept = (identity for _, identity in runner.store.identities(stage))
    lines = min((differences(now, then) for then in kept), key=len, default=None)
    if lines is None:
        return [f"{planned.key[:12]} is missing: no {what} is kept here at all."]
    return [f"{planned.key[:12]} is missing: the nearest {what} that is kept differs in", *(f"  {x}" for x in lines)]


def _recall(runner: Runner, key: str) -> Cell:
    """The cell that a planned key or a kept record stands for."""
    plans = {path.stem: path for path in (runner.store.root / "plans").glob("*.json")}
    records = {name for name, _ in runner.store.identities("records")}
    matches = sorted(name for name in {*plans, *records} if name.startswith(key))
    if len(matches) != 1:
        raise EcgbenchError(f"{len(matches)} known cells begin with {key!r}; expected one (see: ecgbench plan).")
    name = matches[0]
    if name in plans:
        return _planned(runner, plans[name])
    files = runner.store.get("records", name)
    if files is None:
        raise EcgbenchError(f"record {key} was damaged; run its cell again.")
    record = msgspec.json.decode(files["record.json"], type=Record)
    return _cell(runner, json.loads(record.json()) | {"audited": record.audited})


def _planned(runner: Runner, path: Path) -> Cell:
    try:
        return _cell(runner, json.loads(path.read_bytes()))
    except (OSError, ValueError, LookupError, TypeError):
        raise EcgbenchError(f"what was planned as {path.stem[:12]} cannot be read; plan it again.") from None


def _cell(runner: Runner, words: Mapping[str, Any]) -> Cell:
    grid = Grid(
        **{axis: (words[axis],) for axis in AXES},
        eps=tuple(words["epsilons"]),
        seed=(words["seed"],),
        limit=words["limit"],
        protocol=words["protocol"],
        audit=words["audited"],
        save_perturbations=words.get("save_perturbations", 0),
    )
    return unfold((grid,), runner.catalog)[0]
