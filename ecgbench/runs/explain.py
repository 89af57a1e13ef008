"""Why a cell is not there: where its identity differs from the nearest result that is kept."""

from __future__ import annotations

from ecgbench.core.errors import EcgbenchError
from ecgbench.registry.identity import differences
from ecgbench.results.kept import kept_record
from ecgbench.runs.cell import Cell
from ecgbench.runs.job import AXES, CellJob, read_job, write_job
from ecgbench.runs.runner import Planned, Runner
from ecgbench.runs.stages import STAGES
from ecgbench.storage.store import write_file


def remember(runner: Runner, planned: Planned) -> None:
    """Keep what a planned key stands for, so that `explain` can be asked about it."""
    write_file(runner.store.root / "plans" / f"{planned.key}.json", write_job(CellJob.of(planned.cell, runner.catalog)))


def explain(runner: Runner, key: str) -> list[str]:
    """One line per difference, or one that says the cell is there. Raises EcgbenchError for an unknown key."""
    cell = _recall(runner, key)
    planned = runner.plan([cell])[0]
    if planned.work == "none":
        return [f"{planned.key[:12]} is kept; nothing is missing."]
    stage = next(stage for stage in STAGES.values() if stage.work == planned.work)
    now = runner.identities(cell)[stage.name]
    kept = (identity for _, identity in runner.store.identities(stage.name))
    lines = min((differences(now, then) for then in kept), key=len, default=None)
    if lines is None:
        return [f"{planned.key[:12]} is missing: no {stage.result} is kept here at all."]
    about = f"{planned.key[:12]} is missing: the nearest {stage.result} that is kept differs in"
    return [about, *(f"  {line}" for line in lines)]


def _recall(runner: Runner, key: str) -> Cell:
    """The cell that a planned key or a kept record stands for."""
    plans = {path.stem: path for path in (runner.store.root / "plans").glob("*.json")}
    records = {name for name, _ in runner.store.identities("records")}
    matches = sorted(name for name in {*plans, *records} if name.startswith(key))
    if len(matches) != 1:
        raise EcgbenchError(f"{len(matches)} known cells begin with {key!r}; expected one (see: ecgbench plan).")
    name = matches[0]
    if name not in plans:
        return _recorded(runner, name)
    try:
        job = read_job(plans[name].read_bytes())
    except (OSError, EcgbenchError):
        job = None
    if not isinstance(job, CellJob):
        raise EcgbenchError(f"what was planned as {name[:12]} cannot be read; plan it again.")
    return job.cell(runner.catalog)


def _recorded(runner: Runner, key: str) -> Cell:
    record = kept_record(runner.store, key)
    job = CellJob(
        **{kind: getattr(record, kind) for kind in AXES},
        eps=record.eps,
        seed=record.seed,
        limit=record.limit,
        audit=record.audited,
    )
    return job.cell(runner.catalog)
