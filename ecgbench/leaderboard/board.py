"""The board: pages made from published results alone, the same bytes wherever and whenever they are made."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import unified_diff
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ecgbench.core.errors import StoreError
from ecgbench.core.fingerprint import digest
from ecgbench.figures.values import Figure
from ecgbench.leaderboard import figures as board_figures
from ecgbench.leaderboard.badges import faults_of_badges, with_badges
from ecgbench.leaderboard.check_rows import check_results
from ecgbench.leaderboard.counterexamples import faults_of_counterexamples, with_best_known
from ecgbench.leaderboard.dataset_pages import dataset_pages
from ecgbench.leaderboard.figures import FIGURES
from ecgbench.leaderboard.flags_page import flags_page
from ecgbench.leaderboard.front import README, front
from ecgbench.leaderboard.markdown import markdown
from ecgbench.leaderboard.naming import PAGES, RESULTS, Names
from ecgbench.leaderboard.page import Page
from ecgbench.leaderboard.perturbations import faults_of_perturbations
from ecgbench.leaderboard.sections import sections
from ecgbench.leaderboard.study_pages import study_pages
from ecgbench.leaderboard.titles import Titles, read_titles
from ecgbench.leaderboard.victim_pages import victim_pages
from ecgbench.results.bounds import Bounds
from ecgbench.results.certificate_faults import certificate_faults
from ecgbench.results.published import Published, find, read_results
from ecgbench.results.record import Record, read_record
from ecgbench.results.verification import is_older
from ecgbench.runs.zoo import CHECKPOINTS, STAGE, cards, weights_by_card
from ecgbench.storage.store import Store, key_of, write_file
from ecgbench.studies.study import Study, read_studies

BEGIN, END = "<!-- board:begin -->", "<!-- board:end -->"
STUDIES = "published"
NONE, UNBOUNDED = Titles(), Bounds()


def pages(
    published: Iterable[Published], studies: Iterable[Study] = (), titles: Titles = NONE, bounds: Bounds = UNBOUNDED
) -> list[Page]:
    """The pages of these results, whatever their order, beside published studies and certificates; the first first.

    Raises StoreError where rows cannot be compared.
    """
    rows = list(published)
    records, told = [row.record for row in rows], list(studies)
    names = Names.of(titles, sections(rows, bounds))
    return [front(names, records, told), *pages_behind(names, records, told)]


def pages_behind(names: Names, records: Sequence[Record], studies: Sequence[Study]) -> list[Page]:
    """All pages but the first; none where there is no record."""
    if not records:
        return []
    return [flags_page(), *dataset_pages(names), *victim_pages(names), *study_pages(studies, records)]


def write(leaderboard: Path) -> Path:
    """Put the board into `leaderboard`: README.md, between its markers, and the files of `pages` and `figures`.

    All other text of README.md stays; pages and figures that the board no longer shows are removed.
    """
    made, figures = _made(_read(leaderboard), leaderboard, Bounds.read(leaderboard))
    first, *others = made
    text = _paged(leaderboard / README, markdown(first))
    board_figures.write(leaderboard / FIGURES, figures)
    for page in others:
        write_file(leaderboard / page.path, markdown(page).encode())
    for path in _left_over(leaderboard, made):
        path.unlink()
    write_file(leaderboard / README, text.encode())
    return leaderboard / README


def check(leaderboard: Path) -> list[str]:
    """Everything wrong with results, board and figures, a sentence each; a stale board's is followed by a diff."""
    _results(leaderboard)
    read, faults = check_results(leaderboard)
    rows = read.published
    faults += [*faults_of_badges(rows, leaderboard), *faults_of_counterexamples(leaderboard)]
    faults += faults_of_perturbations(rows, leaderboard)
    faults += of_victims(leaderboard / CHECKPOINTS.name, rows)
    bounds, about = _of_certificates(leaderboard, rows)
    faults += about
    if read.faults:
        return faults
    try:
        made, figures = _made(with_standing(rows, leaderboard), leaderboard, bounds)
        faults += board_figures.faults(leaderboard / FIGURES, figures)
        keys = {row.record.key[:12] for row in rows}
        for page in made:
            faults += _stale(leaderboard / page.path, markdown(page), keys, whole=page.path != README)
        return faults + [
            f"{path.as_posix()} is no page of the board; build it." for path in _left_over(leaderboard, made)
        ]
    except StoreError as fault:
        return [*faults, str(fault)]
    except Exception as fault:
        if not faults:
            raise
        return [*faults, f"no page can be made of these results: {type(fault).__name__}; mend them first."]


def older(leaderboard: Path) -> tuple[int, int]:
    """How many rows the present code has not made, and how many rows there are. Raises StoreError for a damaged one."""
    records = [read_record(path.read_bytes(), path.as_posix()) for path in find(_results(leaderboard))]
    return sum(map(is_older, records)), len(records)


def _of_certificates(leaderboard: Path, rows: Iterable[Published]) -> tuple[Bounds, list[str]]:
    """The certificates that can be read, what is wrong with them, and rows that contradict one."""
    try:
        known = cards(leaderboard / CHECKPOINTS.name).values()
    except StoreError:  # told as a damaged victim
        known = {}.values()
    weights = {(card.dataset, card.model, card.defense, card.seed): card.weights for _, card in known}
    bounds, faults = certificate_faults(leaderboard, weights)
    said = ((row, bounds.contradiction(row)) for row in rows)
    return bounds, faults + [f"{row.path.as_posix()}: {reason}" for row, reason in said if reason is not None]


def of_victims(checkpoints: Path, rows: Sequence[Published]) -> Iterator[str]:
    """Published victims that are damaged or not what their card says, or not what a row was made with, or gone."""
    if not checkpoints.is_dir():
        return
    store, weights = Store(checkpoints), {}
    damaged = dict(store.faults(STAGE))
    yield from (f"{store.where(STAGE, key)} {fault}; restore this published victim." for key, fault in damaged.items())
    for key, _ in store.identities(STAGE):
        files = None if key in damaged else store.get(STAGE, key)
        try:
            weights[key] = None if files is None else digest(weights_by_card(files, store.where(STAGE, key)))
        except StoreError as fault:
            yield str(fault)
    for row in rows:
        for key, named in _victims(row.record):
            if weights.get(key) not in (None, named):
                said = f"names weights {'none' if named is None else named[:12]} of {key[:12]}, which has others"
                yield f"{row.path.as_posix()} {said}; restore it, or make the row again."
        lost = row.record.provenance.checkpoint if row.record.provenance else None
        if lost is not None and not (checkpoints / STAGE / lost).is_dir():
            yield f"{row.path.as_posix()} was made with the published victim {lost[:12]}, which is missing; restore it."


def _victims(record: Record) -> Iterator[tuple[str, str | None]]:
    """Key and digest of the weights of the victims that a record was made with."""
    made: Mapping[str, Any] = record.provenance.identity if record.provenance else {}
    for role in ("victim", "surrogate"):
        if isinstance(made.get(role), Mapping):
            yield key_of(made[role]), made.get("weights", {}).get(role)


def _read(leaderboard: Path) -> list[Published]:
    if not _results(leaderboard).is_dir():
        return []
    return with_standing(read_results(_results(leaderboard)), leaderboard)


def with_standing(rows: Sequence[Published], leaderboard: Path) -> list[Published]:
    """The rows with their badges, and with what counterexamples leave. Raises StoreError for a damaged file."""
    return with_best_known(with_badges(rows, leaderboard), leaderboard)


def _made(published: Sequence[Published], leaderboard: Path, bounds: Bounds) -> tuple[list[Page], dict[str, Figure]]:
    """The pages of the board and its figures; rows that contradict a certificate have failed."""
    studies, titles = read_studies(leaderboard / STUDIES), read_titles(leaderboard)
    rows = [bounds.judged(row) for row in published]
    names, records = Names.of(titles, sections(rows)), [row.record for row in rows]
    return pages(rows, studies, titles, bounds), board_figures.board_figures(names, studies, records)


def _left_over(leaderboard: Path, made: Iterable[Page]) -> list[Path]:
    """Files among the pages that are none."""
    known = {leaderboard / page.path for page in made}
    return [path for path in sorted((leaderboard / PAGES).rglob("*")) if path.is_file() and path not in known]


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


def _stale(page: Path, board: str, keys: Collection[str], *, whole: bool) -> list[str]:
    """How a page differs from what `write` would make of it; `whole`: no text by hand stands in it."""
    if not page.is_file():
        return [f"{page.as_posix()} is missing; build the board."]
    have = _read_page(page)
    want = board if whole else _paged(page, board)
    shown = re.findall(rf"\((?:\.\./)*{RESULTS}/[^()\s]+-([^-()\s]+)\.json\)", have)
    faults = [
        f"{page.as_posix()} shows row {key}, which no record in {RESULTS} has; restore it or build the board."
        for key in dict.fromkeys(shown)
        if key not in keys
    ]
    if have == want:
        return faults
    old, new = have.splitlines(), want.splitlines()
    both = enumerate(zip_longest(old, new, fillvalue=""), 1)
    at, (was, now) = next((item for item in both if item[1][0] != item[1][1]), (len(new), ("", "")))
    diff = "\n".join(unified_diff(old, new, page.name, "built", lineterm=""))
    return [*faults, f"{page.as_posix()} is stale: line {at} is {was!r}; expected {now!r}.\n{diff}".rstrip("\n")]
