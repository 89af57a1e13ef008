"""How far rows of others were checked when they came: the reports that lie in `submissions/` of a leaderboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from ecgbench.core.errors import StoreError
from ecgbench.results.published import Published

FOLDER = "submissions"
Badge = Literal["reproduced", "rescored", "claimed"]
OWN = "own"
"""What a row is called that is nobody's submission."""
MEANINGS = {
    OWN: "made by this project, with the code that is published here",
    "reproduced": "sent in by others, and run again here: all clean predictions, and the attack on samples drawn later",
    "rescored": "sent in by others: its figures follow from its outcomes, but it was not run again",
    "claimed": "sent in by others, of a dataset or a plugin that is not known here: it does not rank",
}
"""What a badge says of a row; the flags' page explains them."""


class Verdict(Struct, frozen=True, kw_only=True):
    """What was found of one row.

    "reproduced": its weights give its clean predictions, and its attack the same on samples drawn after submission.
    "rescored": its figures follow from its outcomes, and its samples are its dataset's; it was not run again.
    "claimed": its dataset or one of its plugins is not known here, so it does not rank. `why` says what was done.
    """

    key: str
    row: str
    badge: Badge
    why: str


class Report(Struct, frozen=True, kw_only=True):
    """What was found of a submission of this `digest`; `nonce` and digest fix which samples were attacked again.

    `faults` refuse it as a whole.
    """

    digest: str
    nonce: str
    rows: tuple[Verdict, ...]
    faults: tuple[str, ...]


def write_report(report: Report) -> bytes:
    """The report as people read it."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def with_badges(rows: Sequence[Published], leaderboard: Path) -> list[Published]:
    """The rows with their badges. Raises StoreError for a damaged report."""
    badges = {verdict.key: verdict.badge for _, report in _reports(leaderboard) for verdict in report.rows}
    return [replace(row, badge=badges.get(row.record.key)) for row in rows]


def faults_of_badges(rows: Sequence[Published], leaderboard: Path) -> list[str]:
    """A sentence for each report that cannot be read, or is of a row that is not here."""
    keys = {row.record.key for row in rows}
    try:
        return [
            f"{path.as_posix()} is about row {verdict.key[:12]}, which is not here; restore it, or remove the report."
            for path, report in _reports(leaderboard)
            for verdict in report.rows
            if verdict.key not in keys
        ]
    except StoreError as fault:
        return [str(fault)]


def _reports(leaderboard: Path) -> Iterator[tuple[Path, Report]]:
    for path in sorted((leaderboard / FOLDER).glob("*.json")):
        try:
            yield path, msgspec.json.decode(path.read_bytes(), type=Report)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as fault:
            raise StoreError(f"{path.as_posix()} is no report of a submission: {fault}.") from None
