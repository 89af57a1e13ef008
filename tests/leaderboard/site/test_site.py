"""The files of a site, without a browser."""

from __future__ import annotations

import bz2
import csv
import json
import re
import shlex
import shutil
from base64 import b64decode
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from ecgbench.cli.board import board
from ecgbench.cli.options import Asked, Place, grid_options
from ecgbench.core.errors import StoreError
from ecgbench.evaluation.metrics import confusion
from ecgbench.evaluation.uncertainty import Resamples, compare
from ecgbench.leaderboard.site import files, write_site
from ecgbench.leaderboard.site.charts import curves
from ecgbench.leaderboard.wording import figure
from ecgbench.results.published import Published, publish, read_results
from tests.leaderboard.site.conftest import HOSTILE, drawn, outcomes, small_board
from tests.made_up_rows import changed, provenance_of

LEADERBOARD = Path(__file__).parents[3] / "leaderboard"


class Reader(HTMLParser):
    """Elements, links and text of a page, and the cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def links(self) -> Iterator[str]:
        for _, facts in self.elements:
            yield from (value for name in ("href", "src") if (value := facts.get(name)))


def pages(site: Path) -> dict[str, Reader]:
    return {path.relative_to(site).as_posix(): Reader(path.read_text()) for path in sorted(site.rglob("*.html"))}


def told(path: Path) -> Any:
    """What a data script hands over."""
    found = re.fullmatch(r"ecgbench\.\w+\((.*)\);\n", path.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def id_of(row: Published) -> str:
    return row.record.key[:12]


def bits(text: str, n: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(b64decode(text), np.uint8))[:n].astype(bool)


def test_the_same_results_make_the_same_bytes_wherever_they_lie(leaderboard: Path, site: Path, tmp_path: Path) -> None:
    shutil.copytree(leaderboard, tmp_path / "elsewhere")
    again = files(tmp_path / "elsewhere")
    assert {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()} == set(again)
    assert all((site / path).read_bytes() == content for path, content in again.items())


def test_files_of_an_earlier_site_go_and_those_of_others_stay(leaderboard: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    write_site(leaderboard, site)
    (site / "rows" / "old.html").write_text("old")
    (site / "CNAME").write_text("ecg.example")
    assert write_site(leaderboard, site) == site / "index.html"
    assert not (site / "rows" / "old.html").exists() and (site / "CNAME").exists()


@pytest.mark.parametrize("name", ["thesis.tex", "site.js"])
def test_a_folder_with_other_files_is_left_alone(leaderboard: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(StoreError, match=r"holds other files; expected an empty folder"):
        write_site(leaderboard, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_in_place_of_the_folder_is_one_sentence(leaderboard: Path, tmp_path: Path) -> None:
    (tmp_path / "site").write_text("mine")
    with pytest.raises(StoreError, match=r"is no folder"):
        write_site(leaderboard, tmp_path / "site")


def test_without_records_there_is_no_site(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    with pytest.raises(StoreError, match="holds no record; expected one or more"):
        write_site(tmp_path, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_every_link_leads_to_a_file_of_the_site(site: Path) -> None:
    anchors = {path: {f.get("id") for _, f in page.elements} for path, page in pages(site).items()}
    for path, page in pages(site).items():
        for link in page.links():
            if link == "data:,":
                continue
            assert not re.match(r"[a-z]+:|//", link), (path, link)
            file, _, fragment = link.partition("#")
            target = (site / path).parent / unquote(file) if file else site / path
            assert target.is_file(), (path, link)
            name = target.resolve().relative_to(site.resolve()).as_posix()
            if fragment and not name.startswith("compare"):
                assert unquote(fragment) in anchors[name], (path, link)


def test_names_of_strangers_are_text_everywhere(site: Path) -> None:
    """No element, attribute or script comes from a record, and what it says is shown as it stands."""
    shown = 0
    for path, page in pages(site).items():
        scripts = [facts for tag, facts in page.elements if tag == "script"]
        own = [path.replace(".html", ".js")] if path in ("rows.html", "compare.html") else []
        assert [(facts["src"] or "").replace("../", "") for facts in scripts] == ["site.js", *own], path
        assert not any(name.startswith("on") for _, facts in page.elements for name in facts), path
        assert not any("evil.example/" in link or "//" in link for link in page.links()), path
        shown += HOSTILE in "".join(page.words)
    assert shown >= 4


def test_no_template_passes_text_through() -> None:
    templates = Path(__file__).parents[3] / "ecgbench" / "leaderboard" / "templates"
    assert not [path for path in templates.glob("*.html") if re.search(r"\bsafe\b|autoescape", path.read_text())]


def test_the_table_has_a_line_for_each_record_with_its_figures(leaderboard: Path, site: Path) -> None:
    lines = re.findall(r'<tr id="(.+?)".*?\n', (site / "rows.html").read_text())
    rows = read_results(leaderboard / "results")
    assert sorted(lines) == sorted(map(id_of, rows))
    text = (site / "rows.html").read_text()
    for one in rows:
        line = next(line for line in text.splitlines() if f'<tr id="{id_of(one)}"' in line)
        for eps in (0.0, one.record.headline):
            score = one.record.score(eps)
            assert f"<td>{'—' if score is None else figure(score.acc)}" in line
        assert all(flag in line for flag in one.record.flags)


def test_a_row_has_a_page_a_record_and_what_it_says_of_itself(leaderboard: Path, site: Path) -> None:
    records = bz2.decompress((site / "data" / "records.jsonl.bz2").read_bytes()).splitlines()
    assert sorted(records) == sorted(one.record.json() for one in read_results(leaderboard / "results"))
    for one in read_results(leaderboard / "results"):
        record = one.record
        page = Reader((site / "rows" / f"{id_of(one)}.html").read_text())
        text = "".join(page.words)
        assert record.key in text and all(check.note in text for check in record.checks)
        assert all(figure(score.acc) in text for score in record.scores)
        assert record.status == "ok" or f"{record.status}: {record.error}" in text
        assert ("svg" in {tag for tag, facts in page.elements if "curves" in (facts.get("class") or "")}) == bool(
            record.scores
        )


def test_confusion_on_a_page_is_that_of_the_outcomes(leaderboard: Path, site: Path) -> None:
    one = next(row for row in read_results(leaderboard / "results") if row.record.dataset == "weighted")
    text = (site / "rows" / f"{id_of(one)}.html").read_text()
    _, begin, matrices = text.partition('<div class="matrices">')
    shown = [float(share) for share in re.findall(r">(\d\.\d\d)", matrices.partition("</div>")[0])]
    assert begin and set(re.findall(r"--share:([\d.]+)", text)) == {f"{share:.2f}" for share in shown} - {"0.00"}
    expected = []
    for eps in (0.0, one.record.headline):
        table = confusion(outcomes(one).y, outcomes(one).at(eps), 2, outcomes(one).weight)
        expected += (table / table.sum(1, keepdims=True)).ravel().tolist()
    assert shown == pytest.approx(expected, abs=0.0051)


def test_the_command_gives_the_cell_of_the_row(leaderboard: Path, site: Path) -> None:
    """Read by the options of `ecgbench run`, a shell's quotes taken off."""
    import click

    @click.command()
    @grid_options
    def run(asked: Asked, place: Place) -> Asked:
        return asked

    for one in read_results(leaderboard / "results"):
        page = Reader((site / "rows" / f"{id_of(one)}.html").read_text())
        at = next(i for i, word in enumerate(page.words) if word.startswith("ecgbench run"))
        words = shlex.split(page.words[at])
        asked = run.main(words[2:], standalone_mode=False)
        record = one.record
        named = ("dataset", "model", "defense", "attack", "threat")
        assert [getattr(asked, name) for name in named] == [(getattr(record, name),) for name in named]
        assert (asked.protocol, asked.limit, asked.audit) == (record.protocol, record.limit, record.audited)
        assert [float(eps) for eps in asked.eps[0].split(",")] == list(record.eps)
        assert asked.seed == (str(record.seed),)


def test_a_row_takes_no_more_bytes_for_a_longer_identity(tmp_path: Path) -> None:
    one = drawn(0, 3)
    made = provenance_of(one)
    long = made.identity | {"sources": {f"elsewhere.module{at}": "0" * 16 for at in range(200)}}
    of_rows = []
    for name, identity in (("short", made.identity), ("long", long)):
        row = changed(one, provenance=msgspec.structs.replace(made, identity=identity))
        publish(row.record, row.outcomes, tmp_path / name / "results")
        of_rows.append([content for path, content in files(tmp_path / name).items() if path.startswith("rows/")])
    assert of_rows[0] == of_rows[1]


def test_three_hundred_rows_of_the_board_fit_into_fifteen_megabytes(tmp_path: Path) -> None:
    """One row of each dataset of the board; all but the pages and outcomes of rows takes 3 MB."""
    shown = [min(folder.glob("*.json")) for folder in sorted((LEADERBOARD / "results").iterdir())]
    for path in shown:
        (tmp_path / "results" / path.parent.name).mkdir(parents=True)
        for file in (path, path.with_suffix(".npz")):
            shutil.copy(file, tmp_path / "results" / path.parent.name)
    taken = sum(len(content) for path, content in files(tmp_path).items() if path.startswith("rows/"))
    assert len(shown) >= 5 and taken / len(shown) <= (15e6 - 3e6) / 300


def test_bibtex_is_closed_whatever_a_name_holds(site: Path, leaderboard: Path) -> None:
    one = next(row for row in read_results(leaderboard / "results") if row.record.dataset == HOSTILE)
    text = "".join(Reader((site / "rows" / f"{id_of(one)}.html").read_text()).words)
    entry = text[text.index("@misc") : text.rindex("}") + 1]
    bare = re.sub(r"\\[{}]", "", entry)
    assert bare.count("{") == bare.count("}") and r"\$\{7*7\}" in entry and "\\&" in entry


def test_two_keys_that_begin_alike_are_refused(tmp_path: Path) -> None:
    one, other = drawn(0, 3), drawn(1, 3, defense="madry")
    other = changed(other, key=one.record.key[:12] + other.record.key[12:])
    for row in (one, other):
        publish(row.record, row.outcomes, tmp_path / "results")
    with pytest.raises(StoreError, match=r"the keys of .* begin alike; expected one row of each key"):
        files(tmp_path)


def test_downloads_say_what_the_records_say(leaderboard: Path, site: Path) -> None:
    records = {row.record.key: row.record for row in read_results(leaderboard / "results")}
    long = list(csv.DictReader((site / "data" / "results.csv").read_text().splitlines()))
    assert len(long) == sum(max(len(record.scores), 1) for record in records.values())
    for line in long:
        score = line["eps"] and records[line["key"]].score(float(line["eps"]))
        assert not score or float(line["acc"]) == score.acc
    told_of = json.loads((site / "data" / "results.json").read_text())
    assert {one["key"]: [s["acc"] for s in one["scores"]] for one in told_of} == {
        key: [score.acc for score in record.scores] for key, record in records.items()
    }
    assert told(site / "data" / "results.js") == told_of


def test_bits_are_who_is_right_and_rows_on_the_same_samples_are_told(leaderboard: Path, site: Path) -> None:
    names: dict[str, set[str]] = {}
    for one in read_results(leaderboard / "results"):
        if one.outcomes is None:
            assert not (site / "rows" / f"{id_of(one)}.js").exists()
            continue
        row = told(site / "rows" / f"{id_of(one)}.js")
        n = len(one.outcomes.y)
        for eps, packed in zip(row["eps"], row["right"], strict=True):
            assert (bits(packed, n) == (one.outcomes.at(eps) == one.outcomes.y)).all()
        names.setdefault(one.record.dataset, set()).add(row["samples"])
    assert len(names["beats"]) == 1 and len(set.union(*names.values())) == len(names)


def test_draws_are_those_of_the_host(leaderboard: Path, site: Path) -> None:
    one = outcomes(next(row for row in read_results(leaderboard / "results") if row.record.dataset == "weighted"))
    drawn_of = told(site / "data" / "draws-5.js")
    times = (np.frombuffer(drawn_of["times"].encode(), np.uint8) - ord("0")).reshape(1000, 5)
    assert (times == Resamples.of(one, [one.weight], 1000, 0).times).all()


def test_pairs_without_patients_are_compared_as_the_host_compares(leaderboard: Path, site: Path) -> None:
    rows = [row for row in read_results(leaderboard / "results") if row.record.dataset == "alone"]
    samples = told(site / "rows" / f"{id_of(rows[0])}.js")["samples"]
    found = told(site / "data" / f"pairs-{samples}.js")["pairs"]
    assert len(found) == len(rows) * (len(rows) - 1)
    for one in rows:
        for other in rows:
            if one is not other:
                for eps, difference, interval, p in found[f"{id_of(one)} {id_of(other)}"]:
                    made = compare(outcomes(one), outcomes(other), eps)
                    assert (difference, tuple(interval), p) == (made.difference, made.interval, made.p_value)


def test_too_many_rows_without_patients_are_not_paired(monkeypatch: pytest.MonkeyPatch, leaderboard: Path) -> None:
    monkeypatch.setattr("ecgbench.leaderboard.site.paired.ROWS", 2)
    made = files(leaderboard)
    assert [len(json.loads(made[path][15:-3])["pairs"]) for path in made if "pairs" in path] == [0]
    assert sum(b'"paired":false,"unit":null' in content for path, content in made.items() if "samples" in path) == 1


def test_curves_stand_where_the_scores_are_and_labels_do_not_meet() -> None:
    record = drawn(0, 3).record
    chart = curves(record.scores, record.headline)
    assert chart is not None
    acc = chart.series[0]
    assert [x for x, _ in acc.dots] == [44.0, 279.0, 514.0]
    assert [y for _, y in acc.dots] == [round(12 + 236 * (1 - score.acc), 1) for score in record.scores]
    assert chart.headline == 279.0
    heights = sorted(one.label_y for one in chart.series)
    assert min(b - a for a, b in pairwise(heights)) >= 13.9
    assert curves(record.scores[:1], record.headline) is None


def test_the_command_line_writes_the_site_and_refuses_in_one_sentence(leaderboard: Path, tmp_path: Path) -> None:
    from tests.command_line import ecgbench

    made = ecgbench(tmp_path, "board", "site", str(tmp_path / "site"), "--leaderboard", str(leaderboard))
    assert (made.code, made.out.strip()) == (0, str(tmp_path / "site" / "index.html"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    refused = ecgbench(tmp_path, "board", "site", str(tmp_path / "mine"), "--leaderboard", str(leaderboard))
    assert refused.code == 1 and "holds other files" in refused.err and "Traceback" not in refused.err
    assert "site" in board.commands


def test_every_kind_of_row_is_among_those_tried() -> None:
    records = [row.record for row in small_board()]
    assert {record.status for record in records} == {"ok", "failed"}
    assert {record.groups is None for record in records if record.scores} == {True, False}
