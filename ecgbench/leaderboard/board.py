"""The board: Markdown made from published results alone, the same bytes wherever and whenever it is made."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from difflib import unified_diff
from itertools import zip_longest
from pathlib import Path

from ecgbench.core.errors import StoreError
from ecgbench.figures.values import Figure
from ecgbench.leaderboard import figures as board_figures
from ecgbench.leaderboard.figures import FIGURES
from ecgbench.leaderboard.markdown import RESULTS, markdown
from ecgbench.leaderboard.sections import sections
from ecgbench.results.published import Published, find, read_published, read_results
from ecgbench.results.verification import strays, verify
from ecgbench.runs.zoo import CHECKPOINTS, STAGE
from ecgbench.storage.store import Store, write_file
from ecgbench.studies.study import Study, read_studies

BEGIN, END = "<!-- board:begin -->", "<!-- board:end -->"
STUDIES, PAGE = "published", "README.md"


def render(published: Iterable[Published], studies: Iterable[Study] = ()) -> str:
    """The board of these results, whatever their order, and beside published studies.

    Raises StoreError where rows cannot be compared.
    """
    rows = list(published)
    return markdown([row.record for row in rows], sections(rows), studies)


def build(leaderboard: Path) -> str:
    """The board of `leaderboard`/results. Raises StoreError for a missing leaderboard or a damaged result."""
    return _made(_read(leaderboard), leaderboard)[0]


def write(leaderboard: Path) -> Path:
    """Put the board into `leaderboard`/README.md, between its markers, and its figures into `leaderboard`/figures.

    All other text of the page stays; figures that the board no longer shows are removed.
    """
    page = leaderboard / PAGE
    board, figures = _made(_read(leaderboard), leaderboard)
    text = _paged(page, board)
    board_figures.write(leaderboard / FIGURES, figures)
    write_file(page, text.encode())
    return page


def check(leaderboard: Path) -> list[str]:
    """Everything wrong with results, board and figures, a sentence each; a stale board's is followed by a diff."""
    rows, faults = [], []
    for path in find(_results(leaderboard)):
        try:
            rows.append(read_published(path))
        except StoreError as fault:
            faults.append(str(fault))
    unreadable = bool(faults)
    faults += [*verify(rows), *strays(_results(leaderboard)), *_lost(leaderboard / CHECKPOINTS.name, rows)]
    if unreadable:
        return faults
    try:
        board, figures = _made(rows, leaderboard)
        faults += board_figures.faults(leaderboard / FIGURES, figures)
        return faults + _stale(leaderboard / PAGE, board, {row.record.key[:12] for row in rows})
    except StoreError as fault:
        return [*faults, str(fault)]


def _lost(checkpoints: Path, rows: Sequence[Published]) -> Iterator[str]:
    """Published victims that are damaged, and those that a row was made with and that are gone."""
    if not checkpoints.is_dir():
        return
    for folder, fault in Store(checkpoints).faults(STAGE):
        yield f"{folder.as_posix()} {fault}; restore this published victim."
    for row in rows:
        key = row.record.provenance.checkpoint if row.record.provenance else None
        if key is not None and not (checkpoints / STAGE / key).is_dir():
            yield f"{row.path.as_posix()} was made with the published victim {key[:12]}, which is missing; restore it."


def _read(leaderboard: Path) -> list[Published]:
    return read_results(_results(leaderboard)) if _results(leaderboard).is_dir() else []


def _made(rows: Sequence[Published], leaderboard: Path) -> tuple[str, dict[str, Figure]]:
    """The board and its figures."""
    parts, studies = sections(rows), read_studies(leaderboard / STUDIES)
    records = [row.record for row in rows]
    return markdown(records, parts, studies), board_figures.board_figures(parts, studies, records)


def _results(leaderboard: Path) -> Path:
    if not leaderboard.is_dir():
        raise StoreError(f"{leaderboard.as_posix()} is no folder; expected a leaderboard with a folder {RESULTS!r}.")
    return leaderboard / RESULTS


def _paged(page: Path, board: str) -> str:
    """The page with `board` between its markers. Raises StoreError if it has not one pair of them."""
    fresh = f"{BEGIN}\n{board}{END}\n"
    if not page.exists():
        return fresh
    text = _read_page(page)
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or text.count(BEGIN) + text.count(END) != 2:
        raise StoreError(
            f"{page.as_posix()} has no place for the board; expected one {BEGIN} and, after it, one {END}."
        )
    return before + fresh.removesuffix("\n") + after


def _read_page(page: Path) -> str:
    try:
        return page.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as fault:
        raise StoreError(f"{page.as_posix()} cannot be read: {fault}.") from None


def _stale(page: Path, board: str, keys: Collection[str]) -> list[str]:
    """How a page differs from what `write` would make of it."""
    if not page.is_file():
        return [f"{page.as_posix()} is missing; build the board."]
    have, want = _read_page(page), _paged(page, board)
    shown = re.findall(rf"\({RESULTS}/[^()\s]+-([^-()\s]+)\.json\)", have)
    faults = [
        f"{page.as_posix()} shows row {key}, which no record in {RESULTS} has; restore it or build the board."
        for key in dict.fromkeys(shown)
        if key not in keys
    ]
    if have == want:
        return faults
    old, new = have.splitlines(), want.splitlines()
    pairs = enumerate(zip_longest(old, new, fillvalue=""), 1)
    number, (was, now) = next((item for item in pairs if item[1][0] != item[1][1]), (len(new), ("", "")))
    diff = "\n".join(unified_diff(old, new, page.name, "built", lineterm=""))
    return [*faults, f"{page.as_posix()} is stale: line {number} is {was!r}; expected {now!r}.\n{diff}".rstrip("\n")]
