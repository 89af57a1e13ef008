"""A submission checked as a board is, and then run again as far as this machine can: a badge for each row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ecgbench.core.errors import DataError, EcgbenchError, StoreError
from ecgbench.leaderboard.badges import FOLDER as SUBMISSIONS
from ecgbench.leaderboard.badges import Badge, Report, Verdict, write_report
from ecgbench.leaderboard.board import of_victims
from ecgbench.leaderboard.check_rows import KnownDatasets, Rows, faults_of_rows
from ecgbench.leaderboard.naming import RESULTS
from ecgbench.registry.identity import differences, identity
from ecgbench.results.labels import FOLDER
from ecgbench.results.published import Published, cell, find, publish, slug
from ecgbench.results.record import Record, read_record
from ecgbench.results.verification import strays
from ecgbench.runs.cell import (
    Cell,
    VictimIdentity,
    VictimSpec,
    checks_identity,
    outcomes_identity,
    record_identity,
    victim_identity,
)
from ecgbench.runs.runner import Runner
from ecgbench.runs.zoo import CHECKPOINTS, STAGE
from ecgbench.storage.store import Store, key_of, write_file
from ecgbench.submissions.folder import cell_of, misplaced, submission_digest
from ecgbench.submissions.rerun import rerun


@dataclass(frozen=True)
class SubmissionCheck:
    """A folder beside the leaderboard that it is meant for; `runner` has the plugins and recordings of this machine."""

    folder: Path
    leaderboard: Path
    runner: Runner
    nonce: str
    run_again: bool = True

    def report(self) -> Report:
        """Check, and run again. Raises StoreError where the folder is none."""
        if not self.folder.is_dir():
            raise StoreError(f"{self.folder.as_posix()} is no folder; expected a submission.")
        digest, faults = "", misplaced(self.folder)
        verdicts: list[Verdict] = []
        if not faults:
            digest = submission_digest(self.folder)
            rows = Rows.read(self.folder / RESULTS)
            faults = [*rows.faults, *self._faults(rows.published)]
            if not faults:
                for row in rows.published:
                    found = self._verdict(row, f"{digest}\0{self.nonce}")
                    (faults if isinstance(found, str) else verdicts).append(found)  # type: ignore[arg-type]
        return Report(digest=digest, nonce=self.nonce, rows=tuple(verdicts), faults=tuple(faults))

    @cached_property
    def _known(self) -> KnownDatasets:
        return KnownDatasets(self.leaderboard / FOLDER, self.runner.catalog, self.runner.recordings)

    def _faults(self, rows: Sequence[Published]) -> list[str]:
        """Everything that can be seen without running anything."""
        faults = faults_of_rows(rows, self._known)
        faults += [*strays(self.folder / RESULTS), *of_victims(self.folder / CHECKPOINTS.name, rows)]
        if not rows:
            faults.append(f"{(self.folder / RESULTS).as_posix()} holds no row; expected one or more.")
        board = {cell(record): path.name for path, record in self._on_board()}
        for row in rows:
            where = row.path.as_posix()
            if row.record.status != "ok":
                faults.append(f"{where} is {row.record.status}; expected scores.")
            elif cell(row.record) in board:
                faults.append(f"{where} holds the same cell as {board[cell(row.record)]} of the leaderboard.")
            else:
                faults += [f"{where} was made by other code: {line}." for line in self._other_code(row)]
        return faults

    def _on_board(self) -> Iterator[tuple[Path, Record]]:
        results = self.leaderboard / RESULTS
        for path in find(results) if results.is_dir() else []:
            yield path, read_record(path.read_bytes(), path.as_posix())

    def _other_code(self, row: Published) -> list[str]:
        """Where the identity of a row is not what the same words mean here; nothing where they mean nothing here."""
        made = row.record.provenance.identity if row.record.provenance else {}
        try:
            run = cell_of(row.record, self.runner)
        except EcgbenchError:
            return []
        now = outcomes_identity(
            run.setup, identity(run.attack), self._victim(made, "victim", run.victim), self._surrogate(made, run)
        )
        lines = differences(now, made)
        if not lines and not row.record.audited:  # what an audit is made of, its row does not tell
            looks = [key_of(checks_identity(key_of(made), row.record.headline))]
            if row.record.key != key_of(record_identity(key_of(made), looks)):
                lines.append("its key is not that of its outcomes, checks and scores")
        return lines

    def _surrogate(self, made: Mapping[str, Any], run: Cell) -> VictimIdentity | None:
        return None if run.surrogate is None else self._victim(made, "surrogate", run.surrogate)

    def _victim(self, made: Mapping[str, Any], role: str, spec: VictimSpec) -> VictimIdentity:
        """What a victim is made of: what its words mean here, or, of one that the leaderboard has, what it was then."""
        weights, recorded = made["weights"].get(role), made.get(role) or {}
        published = self.leaderboard / CHECKPOINTS.name / STAGE / key_of(recorded)
        if published.is_dir():
            return VictimIdentity(recorded, weights)
        return VictimIdentity(victim_identity(spec, made["victim"]["data"]), weights)

    def _verdict(self, row: Published, seed: str) -> Verdict | str:
        """The badge of a row, or the fault that running it again shows."""
        record = row.record
        badge, why = self._judged(row, seed)
        if badge is None:
            return f"{row.path.as_posix()} is not what its weights and its attack give: {why}."
        return Verdict(key=record.key, row=row.path.relative_to(self.folder).as_posix(), badge=badge, why=why)

    def _judged(self, row: Published, seed: str) -> tuple[Badge | None, str]:
        try:
            run = cell_of(row.record, self.runner)
        except EcgbenchError as fault:
            return "claimed", f"not known here: {str(fault).splitlines()[0]}"
        data = row.record.provenance.data if row.record.provenance else ""
        if self._known.task(row.record.dataset, data) is None:
            return "claimed", "neither the recordings nor the labels of its dataset are here"
        if not self.run_again:
            return "rescored", "not run again, as asked"
        try:
            if self.runner.recordings.digest(run.dataset) != data:
                return "rescored", "the recordings here are other ones"
        except DataError:
            return "rescored", "its recordings are not here"
        stores = [Store(place / CHECKPOINTS.name) for place in (self.folder, self.leaderboard)]
        return self._run_again(row, run, stores, seed)

    def _run_again(self, row: Published, run: Cell, stores: Sequence[Store], seed: str) -> tuple[Badge | None, str]:
        try:
            found = rerun(row, run, self.runner, stores, seed)
        except StoreError as fault:
            return "rescored", str(fault).removesuffix(".")
        except Exception as fault:  # weights that do not fit, or a plugin that raises what it likes
            return None, f"running it again failed: {' '.join(str(fault).split())[:300].removesuffix('.')}"
        if found.fault is not None:
            return None, found.fault
        clean = f"all {row.record.n} clean predictions and {found.drawn} attacked samples again"
        return "reproduced", f"{clean}; {found.differing}"


def accept(check: SubmissionCheck, name: str) -> Report:
    """Put the rows and victims of a submission without fault into the leaderboard, and its report under `name`.

    Raises EcgbenchError for a name that is none of a file.
    """
    if slug(name) != name:
        raise EcgbenchError(f"the name {name!r} is given; expected letters, digits, -, . and _.")
    report = check.report()
    if report.faults:
        return report
    for row in Rows.read(check.folder / RESULTS).published:
        publish(row.record, row.outcomes, check.leaderboard / RESULTS)
    mine, theirs = (Store(place / CHECKPOINTS.name) for place in (check.leaderboard, check.folder))
    for key, made_of in theirs.identities(STAGE):
        files = theirs.get(STAGE, key)
        if files is not None and mine.get(STAGE, key) is None:
            mine.put(STAGE, made_of, files)
    write_file(check.leaderboard / SUBMISSIONS / f"{name}.json", write_report(report))
    return report
