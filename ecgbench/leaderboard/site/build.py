"""The files of a site: made from published results alone, the same bytes wherever and whenever they are made."""

from __future__ import annotations

import bz2
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ecgbench.core.errors import StoreError, accessing
from ecgbench.figures import Figure, draw, fault
from ecgbench.leaderboard.answer import LONGEST, answers, at_first_sight, caveats, verdict
from ecgbench.leaderboard.board import STUDIES, pages_behind, with_standing
from ecgbench.leaderboard.bounds import BOTH_SIDES, bracket, decided
from ecgbench.leaderboard.check_rows import KnownDatasets
from ecgbench.leaderboard.figures import FIGURES, board_figures
from ecgbench.leaderboard.flags_page import FLAGS_PAGE, badges_link, best_known_link
from ecgbench.leaderboard.front import READING, ahead_words, more, rank_words
from ecgbench.leaderboard.naming import RESULTS, Names, dataset_page, victim_page, who
from ecgbench.leaderboard.perturbations import read_perturbations
from ecgbench.leaderboard.sections import sections
from ecgbench.leaderboard.site.entries import Entry, entries
from ecgbench.leaderboard.site.html import INDEX, Html, assets
from ecgbench.leaderboard.site.paired import samples_of, script, scripts
from ecgbench.leaderboard.site.row_pages import row_facts
from ecgbench.leaderboard.site.signals import SignalPlot, maps, plots
from ecgbench.leaderboard.site.table import COLUMNS, lines
from ecgbench.leaderboard.titles import read_titles
from ecgbench.leaderboard.wording import number
from ecgbench.registry.catalog import discover
from ecgbench.results.bounds import Bounds
from ecgbench.results.frame import frame
from ecgbench.results.labels import FOLDER as LABELS
from ecgbench.results.published import place, read_results
from ecgbench.results.record import Record
from ecgbench.studies.study import Study, read_studies

ROWS, COMPARE = "rows.html", "compare.html"
RECORDS = "data/records.jsonl.bz2"
"""All records, a line each, with what their keys are made of: an eighth of what they take one by one."""
FOLDERS = ("rows", "data", "pages", FIGURES, "signals")


def write_site(leaderboard: Path, folder: Path) -> Path:
    """Write the site of a leaderboard into `folder`; returns its first page.

    Files of an earlier site that the new one lacks are removed. Raises StoreError where `folder` holds anything else,
    or the leaderboard cannot be shown.
    """
    _check_free(folder)
    made = files(leaderboard)
    earlier = [path for name in FOLDERS for path in (folder / name).rglob("*") if path.is_file()]
    for path, content in made.items():
        _write(folder / path, content)
    for old in earlier:
        if old.relative_to(folder).as_posix() not in made:
            old.unlink()
    return folder / INDEX


def files(leaderboard: Path) -> dict[str, bytes]:
    """Every file of the site by its path. Raises StoreError for damaged results, or where there are none."""
    bounds = Bounds.read(leaderboard)
    rows = [bounds.judged(row) for row in with_standing(read_results(leaderboard / RESULTS), leaderboard)]
    if not rows:
        raise StoreError(f"{(leaderboard / RESULTS).as_posix()} holds no record; expected one or more to show.")
    studies, titles = read_studies(leaderboard / STUDIES), read_titles(leaderboard)
    names, records = Names.of(titles, sections(rows, bounds)), [row.record for row in rows]
    every = entries(names)
    html = Html({f"{RESULTS}/{place(entry.record).as_posix()}": entry.id for entry in every})
    made = {**assets(), INDEX: html.render("index.html", INDEX, _front(names, records, studies))}
    made |= dict(html.page(page) for page in pages_behind(names, records, studies))
    made |= table_pages(html, every)
    made |= _row_files(html, every, bounds, leaderboard)
    made |= _downloads(every)
    for name, figure in board_figures(names, studies, records).items():
        made[f"{FIGURES}/{name}"] = _drawn(leaderboard / FIGURES / name, figure)
    return made


def table_pages(html: Html, every: Sequence[Entry]) -> dict[str, bytes]:
    """The table of all rows, and the page that compares two of them."""
    options = {
        column.name: sorted({word for entry in every for word in column.words(entry)})
        for column in COLUMNS
        if column.filter
    }
    facts = {"columns": COLUMNS, "options": options, "lines": lines(every)}
    return {ROWS: html.render(ROWS, ROWS, facts), COMPARE: html.render(COMPARE, COMPARE, {})}


def _front(names: Names, records: Sequence[Record], studies: Sequence[Study]) -> dict[str, object]:
    found = answers(names)
    shown, unshown = at_first_sight(found)
    return {
        "names": names,
        "rows": len(records),
        "answers": [(one, verdict(one), caveats(one, found)) for one in shown],
        "longest": LONGEST,
        "bracket": bracket,
        "decided": decided,
        "both_sides": BOTH_SIDES,
        "proven": any(one.victim.sides for answer in shown for one in answer.placed),
        "rank": rank_words,
        "ahead": ahead_words,
        "who": who,
        "badges_link": badges_link,
        "best_known_link": best_known_link,
        "victim_page": victim_page,
        "dataset_page": dataset_page,
        "flags_page": FLAGS_PAGE,
        "reading": READING,
        "more": list(more(names, records, studies, unshown)),
    }


def _row_files(html: Html, every: Sequence[Entry], bounds: Bounds, leaderboard: Path) -> Iterator[tuple[str, bytes]]:
    datasets = KnownDatasets(leaderboard / LABELS, discover())
    for entry in every:
        signals, susceptible = _perturbed(entry.record, leaderboard, datasets)
        for name, figure in susceptible.items():
            yield f"signals/{name}", draw(figure).encode()
        shown = [(f"signals/{name}", figure.title) for name, figure in susceptible.items()]
        path = f"rows/{entry.id}.html"
        yield path, html.render("row.html", path, row_facts(entry, bounds) | {"signals": signals, "maps": shown})


def _perturbed(
    record: Record, leaderboard: Path, datasets: KnownDatasets
) -> tuple[list[SignalPlot], dict[str, Figure]]:
    """Plots and maps of the perturbations that the leaderboard has of a row."""
    kept = read_perturbations(record, leaderboard)
    if kept is None or record.provenance is None:
        return [], {}
    task = datasets.task(record.dataset, record.provenance.data)
    return ([], {}) if task is None else (plots(record, task, kept), maps(record, task, kept))


def _downloads(every: Sequence[Entry]) -> Iterator[tuple[str, bytes]]:
    """All records, tables of all rows as CSV and JSON, and the scripts that the page of comparison loads."""
    records = [entry.record for entry in every]
    yield RECORDS, bz2.compress(b"".join(record.json() + b"\n" for record in records))
    yield "data/results.csv", frame(records).to_csv(index=False, lineterminator="\n").encode()
    yield "data/results-wide.csv", frame(records, wide=True).to_csv(index=False, lineterminator="\n").encode()
    told = [_told(entry) for entry in every]
    yield "data/results.json", msgspec.json.encode(told) + b"\n"
    yield "data/results.js", script("results", told)
    known = [(e.id, e.label, samples_of(e.row.outcomes)) for e in every if e.row.outcomes is not None]
    yield "data/index.js", script("index", known)
    yield from scripts(every)


def _told(entry: Entry) -> dict[str, object]:
    """A row as JSON for a table of one's own."""
    record = entry.record
    facts = ("key", "status", "dataset", "model", "defense", "attack", "threat", "protocol", "seed", "limit", "n")
    scores = [
        {"eps": s.eps, "acc": s.acc, "prec": s.prec, "f1": s.f1, "acc_interval": s.interval.acc} for s in record.scores
    ]
    return {
        "id": entry.id,
        **{name: getattr(record, name) for name in facts},
        **{"groups": record.groups, "unit": record.unit, "headline": record.headline},
        **{"badge": entry.badge, "flags": entry.flags, "marks": entry.marks, "scores": scores},
        "best_known": {number(eps): left for eps, left in entry.row.best_known.items()},
    }


def _drawn(path: Path, figure: Figure) -> bytes:
    """The text of a figure: that of the file at `path` where it shows the figure; drawing takes time."""
    if path.is_file():
        content = path.read_bytes()
        if fault(content.decode("utf-8", "replace"), figure) is None:
            return content
    return draw(figure).encode()


def _check_free(folder: Path) -> None:
    """Raises StoreError unless a site may be written into `folder`."""
    with accessing(folder, "read"):
        if not folder.exists():
            return
        if not folder.is_dir():
            raise StoreError(f"{folder.as_posix()} is no folder; expected one for the site, or a name that is free.")
        script, earlier = folder / "site.js", assets()["site.js"].splitlines()[0]
        if any(folder.iterdir()) and not (script.is_file() and script.read_bytes().startswith(earlier)):
            raise StoreError(
                f"{folder.as_posix()} holds other files; expected an empty folder, or one with an earlier site."
            )


def _write(path: Path, content: bytes) -> None:
    """Unlike results, what can be made again is not flushed to the disk file by file."""
    with accessing(path):
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
