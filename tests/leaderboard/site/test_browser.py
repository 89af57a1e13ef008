"""The site in a headless chromium, from the disk: what its script does is what records and command line say."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ecgbench.evaluation.uncertainty import compare
from ecgbench.leaderboard.naming import Names
from ecgbench.leaderboard.sections import Section
from ecgbench.leaderboard.site.build import table_pages
from ecgbench.leaderboard.site.entries import Entry
from ecgbench.leaderboard.site.html import Html, assets
from ecgbench.leaderboard.titles import Titles
from ecgbench.leaderboard.wording import figure
from ecgbench.results.published import Published, read_results
from ecgbench.storage.store import key_of
from tests.command_line import ecgbench
from tests.leaderboard.site.conftest import drawn, outcomes
from tests.made_up_rows import changed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from ecgbench.results.record import Record

    Opener = Callable[..., Page]

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
MANY, FIRST, LARGEST = 5000, 500, 5_000_000
KINDS = ("index.html", "rows.html", "compare.html", "pages/flags.html", "pages/beats.html", "ROW", "FAILED")
"""One page of every kind; ROW and FAILED stand for pages of such rows."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed; install the extra `browser` to test the site in a browser")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium is found; install it (apt-get install chromium) to test the site in a browser")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """Opens a file; whatever goes wrong on the page, or is asked of the network, fails the test."""
    contexts, faults = [], []

    def opened(path: Path, fragment: str = "", **facts: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **facts})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(300_000)
        page.on("pageerror", lambda fault: faults.append(str(fault)))
        page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith(HERE) else None)
        page.goto(path.as_uri() + fragment)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


HERE = ("file:", "data:", "blob:")


def rows_of(leaderboard: Path, **facts: object) -> list[Published]:
    rows = read_results(leaderboard / "results")
    return [row for row in rows if all(getattr(row.record, name) == value for name, value in facts.items())]


def id_of(row: Published) -> str:
    return row.record.key[:12]


def shown(page: Page) -> list[str]:
    """The ids of the lines that are seen, in their order."""
    return page.eval_on_selector_all(
        "#rows tbody tr", "rows => rows.filter(row => row.offsetParent !== null).map(row => row.id)"
    )


def kind(leaderboard: Path, name: str) -> str:
    status = {"ROW": "ok", "FAILED": "failed"}.get(name)
    return name if status is None else f"rows/{id_of(rows_of(leaderboard, status=status)[0])}.html"


def test_no_request_leaves_the_disk(open_page: Opener, site: Path, leaderboard: Path) -> None:
    """`open_page` fails for any; here every kind of page is opened, its data are loaded and its buttons pressed."""
    for name in KINDS:
        page = open_page(site / kind(leaderboard, name))
        for button in page.query_selector_all("button:visible"):
            button.click()
    one, other = rows_of(leaderboard, dataset="beats", status="ok")[:2]
    page = open_page(site / "compare.html", f"#a={id_of(one)}&b={id_of(other)}")
    page.wait_for_selector("#differences tbody tr")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_serious(open_page: Opener, site: Path, leaderboard: Path, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    one, other = rows_of(leaderboard, dataset="beats", status="ok")[:2]
    opened = [(name, "") for name in KINDS] + [("compare.html", f"#a={id_of(one)}&b={id_of(other)}")]
    for name, fragment in opened:
        page = open_page(
            site / kind(leaderboard, name), fragment, color_scheme=scheme, viewport={"width": width, "height": 800}
        )
        if fragment:
            page.wait_for_selector("#differences tbody tr")
        for details in page.query_selector_all("summary"):
            details.click()
        found = [
            one
            for one in Axe().run(page, options={"preload": False}).response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        assert not found, (name, [(one["id"], one["nodes"][0]["html"]) for one in found])


@pytest.mark.parametrize("name", KINDS)
def test_nothing_but_tables_is_wider_than_a_narrow_window(
    open_page: Opener, site: Path, leaderboard: Path, name: str
) -> None:
    page = open_page(site / kind(leaderboard, name), viewport={"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_sorting_gives_the_order_of_the_records(open_page: Opener, site: Path, leaderboard: Path) -> None:
    page = open_page(site / "rows.html")
    by_id = {id_of(row): row.record for row in read_results(leaderboard / "results")}
    before = shown(page)
    head = page.locator("#rows th[data-name=robust]")
    for descending in (True, False):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == ("descending" if descending else "ascending")

        def place(one: str, descending: bool = descending) -> tuple[bool, float, int]:
            score = by_id[one].score(by_id[one].headline)
            value = 0.0 if score is None else float(figure(score.acc))
            return score is None, -value if descending else value, before.index(one)

        assert shown(page) == sorted(before, key=place)


@pytest.mark.parametrize(
    ("column", "word", "holds"),
    [
        ("dataset", "weighted", lambda record: record.dataset == "weighted"),
        ("defense", "madry", lambda record: record.defense == "madry"),
        ("attack", "fgsm", lambda record: record.attack == "fgsm"),
        ("threat", "linf", lambda record: record.threat == "linf"),
        ("seed", "1", lambda record: record.seed == 1),
        ("flags", "LOSS", lambda record: "LOSS" in record.flags),
        ("flags", "-", lambda record: not record.flags),
        ("marks", "failed", lambda record: record.status == "failed"),
    ],
)
def test_filters_leave_the_records_that_they_name(
    open_page: Opener, site: Path, leaderboard: Path, column: str, word: str, holds: Callable[[Record], bool]
) -> None:
    page = open_page(site / "rows.html")
    page.select_option(f"[data-filter={column}]", word)
    expected = {id_of(row) for row in read_results(leaderboard / "results") if holds(row.record)}
    assert set(shown(page)) == expected and expected
    assert page.inner_text("#count").startswith(f"{len(expected)} of ")


def test_filters_are_taken_together_and_with_words(open_page: Opener, site: Path, leaderboard: Path) -> None:
    page = open_page(site / "rows.html")
    page.select_option("[data-filter=dataset]", "beats")
    page.fill("#find", "MADRY")
    assert shown(page) == [id_of(row) for row in rows_of(leaderboard, dataset="beats", defense="madry")]
    page.click("#reset")
    assert len(shown(page)) == len(rows_of(leaderboard))


def test_a_link_shows_what_was_seen(open_page: Opener, site: Path, leaderboard: Path) -> None:
    page = open_page(site / "rows.html")
    page.select_option("[data-filter=dataset]", "beats")
    page.fill("#find", "m")
    page.click("#rows th[data-name=clean] button")
    page.click("summary")
    page.uncheck("[data-column][data-name=threat]")
    page.check("[data-column][data-name=f1]")
    one, other = shown(page)[:2]
    page.check(f"[id='{one}'] input")
    page.check(f"[id='{other}'] input")
    other_page = open_page(site / "rows.html", page.evaluate("location.hash"))
    for read in (
        shown,
        lambda page: page.locator("#rows thead").inner_text(),
        lambda page: page.locator("#picked").inner_text(),
        lambda page: page.locator("#rows th[data-name=clean]").get_attribute("aria-sort"),
        lambda page: page.evaluate("location.hash"),
    ):
        assert read(page) == read(other_page)
    assert "F1" in other_page.locator("#rows thead").inner_text()
    assert "threat" not in other_page.locator("#rows thead").inner_text()
    other_page.click("#compare")
    other_page.wait_for_selector("#differences tbody tr")
    assert [other_page.input_value("#a"), other_page.input_value("#b")] == [one, other]


def test_a_link_with_words_that_nobody_knows_shows_everything(open_page: Opener, site: Path, leaderboard: Path) -> None:
    page = open_page(site / "rows.html", "#dataset=%3Cb%3E&sort=-nothing&pick=x&columns=victim&seed=9")
    assert len(shown(page)) == len(rows_of(leaderboard))


def compared(page: Page) -> list[dict[str, Any]]:
    page.wait_for_selector("#differences tbody tr")
    return page.eval_on_selector_all(
        "#differences tbody tr",
        """lines => lines.map(line => ({eps: Number(line.dataset.eps), difference: Number(line.dataset.difference),
           interval: JSON.parse(line.dataset.interval), text: line.innerText}))""",
    )


@pytest.mark.parametrize("dataset", ["beats", "weighted", "alone"])
def test_two_rows_compare_as_on_the_command_line(
    open_page: Opener, site: Path, leaderboard: Path, tmp_path: Path, dataset: str
) -> None:
    """To 12 digits as the library compares, and in the digits that the command prints."""
    one, other, *_ = [row for row in rows_of(leaderboard, dataset=dataset) if row.outcomes is not None]
    for a, b in ((one, other), (other, one)):
        page = open_page(site / "compare.html", f"#a={id_of(a)}&b={id_of(b)}")
        found = compared(page)
        said = ecgbench(tmp_path, "results", "compare", str(a.path), str(b.path)).out
        printed = re.findall(r"eps (\S+): A - B = (\S+) \[(\S+), (\S+)\]", said)
        assert len(found) == len(printed) == 3
        for line, (eps, *words) in zip(found, printed, strict=True):
            made = compare(outcomes(a), outcomes(b), line["eps"])
            assert line["eps"] == float(eps)
            assert line["difference"] == pytest.approx(made.difference, rel=1e-12, abs=1e-15)
            assert line["interval"] == pytest.approx(list(made.interval), rel=1e-12, abs=1e-15)
            plain = line["text"].replace("−", "-")
            assert all(word.replace("-0.000", "+0.000") in plain for word in words), (words, plain)
            assert (made.p_value is None) == plain.rstrip().endswith("—")
        assert page.inner_text("#method").startswith(f"Method: {made.method}, 1000 draws")
        assert page.locator("#chart polyline").count() == 2


def test_rows_on_other_samples_are_not_compared(open_page: Opener, site: Path, leaderboard: Path) -> None:
    one, other = (rows_of(leaderboard, dataset=name, status="ok")[0] for name in ("beats", "weighted"))
    page = open_page(site / "compare.html", f"#a={id_of(one)}&b={id_of(other)}")
    page.wait_for_function("document.getElementById('said').textContent.includes('same samples')")
    assert page.locator("#differences").is_hidden()
    offered = page.eval_on_selector_all("#b option", "options => options.map(one => one.value)")
    same = {id_of(row) for row in rows_of(leaderboard, dataset="beats", status="ok")}
    assert set(offered) - {""} == same - {id_of(one)}


def test_swapping_turns_the_difference(open_page: Opener, site: Path, leaderboard: Path) -> None:
    one, other = rows_of(leaderboard, dataset="beats", status="ok")[:2]
    page = open_page(site / "compare.html", f"#a={id_of(one)}&b={id_of(other)}")
    before = [line["difference"] for line in compared(page)]
    page.click("#swap")
    page.wait_for_function(f"location.hash === '#a={id_of(other)}&b={id_of(one)}'")
    page.wait_for_function(f"document.querySelector('#differences tr[data-eps]').dataset.difference == {-before[0]}")
    assert [line["difference"] for line in compared(page)] == [-value for value in before]


def test_downloads_hold_what_is_shown(open_page: Opener, site: Path, tmp_path: Path) -> None:
    page = open_page(site / "rows.html", "#dataset=beats&sort=-robust")
    lines = shown(page)
    for button, name in (("#csv", "ecgbench.csv"), ("#json", "ecgbench.json")):
        with page.expect_download() as waited:
            page.click(button)
        assert waited.value.suggested_filename == name
        waited.value.save_as(tmp_path / name)
    table = list(csv.DictReader((tmp_path / "ecgbench.csv").read_text().splitlines()))
    assert [line["row"] for line in table] == lines and {line["dataset"] for line in table} == {"beats"}
    told = json.loads((tmp_path / "ecgbench.json").read_text())
    assert [one["id"] for one in told] == lines
    best = next(one for one in told if one["id"] == lines[0])
    robust = next(score["acc"] for score in best["scores"] if score["eps"] == best["headline"])
    assert table[0]["robust"] == figure(robust)


def test_bibtex_and_links_can_be_copied(open_page: Opener, site: Path, leaderboard: Path) -> None:
    page = open_page(site / kind(leaderboard, "ROW"))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("[data-copy=bibtex]")
    page.wait_for_function("document.querySelector('[data-copy=bibtex]').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == page.text_content("#bibtex")


def test_without_a_script_everything_but_tools_is_there(open_page: Opener, site: Path, leaderboard: Path) -> None:
    page = open_page(site / "rows.html", java_script_enabled=False)
    assert page.locator("#rows tbody tr").count() == len(rows_of(leaderboard))
    assert page.get_by_text("Sorting, filters and comparison need JavaScript").is_visible()
    assert not [one for one in page.locator("button, select, input").all() if one.is_visible()]
    one = rows_of(leaderboard, dataset="beats", status="ok")[0]
    page.click(f"[id='{id_of(one)}'] a")
    robust = one.record.score(one.record.headline)
    assert robust is not None and figure(robust.acc) in page.inner_text("dl.headline")
    assert page.locator("svg.curves polyline").count() == 3 and page.locator(".matrix").count() == 2
    assert not [one for one in page.locator("button").all() if one.is_visible()]
    page = open_page(site / "compare.html", java_script_enabled=False)
    assert page.get_by_text("This page needs JavaScript").is_visible()


def test_keys_alone_suffice(open_page: Opener, site: Path) -> None:
    page = open_page(site / "rows.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    button: Locator = page.locator("#rows th[data-name=clean] button")
    for _ in range(60):
        page.keyboard.press("Tab")
        if button.evaluate("one => one === document.activeElement"):
            break
    page.keyboard.press("Enter")
    assert page.locator("#rows th[data-name=clean]").get_attribute("aria-sort") == "descending"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_dark_is_chosen_and_kept(open_page: Opener, site: Path) -> None:
    page = open_page(site / "index.html", color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.click("[data-theme-switch]")
    dark = page.evaluate(paper)
    page.goto((site / "rows.html").as_uri())
    assert page.evaluate(paper) == dark != light
    page.click("[data-theme-switch]")
    assert page.evaluate(paper) == light
    assert open_page(site / "index.html", color_scheme="dark").evaluate(paper) == dark


def test_print_leaves_out_what_only_a_screen_can_use(open_page: Opener, site: Path, leaderboard: Path) -> None:
    for name in ("rows.html", kind(leaderboard, "ROW")):
        page = open_page(site / name, color_scheme="dark")
        page.emulate_media(media="print")
        assert not [one for one in page.locator(":not(th) > button, select, input").all() if one.is_visible()]
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def many(count: int) -> tuple[Html, list[Entry]]:
    """Lines of so many rows, each with figures and names of its own."""
    plain = [drawn(seed, 7, dataset=f"dataset {seed % 4}") for seed in range(20)]
    rows = [changed(plain[at % 20], key=key_of({"row": at}), defense=f"trades[beta={at}]") for at in range(count)]
    part = Section("beats", "linf", "standard", 0.1, (0.1, 0.2), tuple(rows), ())
    names = Names.of(Titles(), (part,))
    attacks, threats = names.attacks, names.threats
    made = [
        Entry(
            id=id_of(row),
            row=row,
            dataset=row.record.dataset,
            victim=row.record.defense,
            model="MLP",
            defense=row.record.defense,
            attack=attacks[row.record.attack],
            threat=threats[row.record.threat],
            protocol="162 beats of each class",
            older=at % 3 == 0,
        )
        for at, row in enumerate(rows)
    ]
    return Html({}), made


def test_five_thousand_rows_stay_usable(open_page: Opener, tmp_path: Path) -> None:
    html, rows = many(MANY)
    for path, content in {**table_pages(html, rows), **assets()}.items():
        (tmp_path / path).write_bytes(content)
    size = (tmp_path / "rows.html").stat().st_size
    page = open_page(tmp_path / "rows.html")
    ids = [id_of(one.row) for one in rows]
    assert size <= LARGEST and shown(page) == ids[:FIRST]
    assert page.inner_text("#count") == f"{MANY} of {MANY} rows, the first {FIRST} shown"
    took = {}
    for column in ("robust", "victim"):
        took[column] = page.evaluate(
            """name => {
                const begin = performance.now();
                document.querySelector(`#rows th[data-name=${name}] button`).click();
                document.body.offsetHeight;
                return performance.now() - begin;
            }""",
            column,
        )
    assert shown(page) == ids[:FIRST], "names are numbered in the order of the records"
    page.click("#all")
    assert shown(page) == ids
    page.click("#reset")
    find = """() => {
        const begin = performance.now(), field = document.getElementById("find");
        field.value = "beta=77";
        field.dispatchEvent(new Event("input"));
        document.body.offsetHeight;
        return performance.now() - begin;
    }"""
    took["find"] = page.evaluate(find)
    milliseconds = ", ".join(f"{name} {value:.0f}" for name, value in took.items())
    sys.stdout.write(f"\n{MANY} rows, {size / 1e6:.2f} MB; milliseconds until laid out: {milliseconds}\n")
    expected = [id_of(row.row) for row in rows if "beta=77" in row.victim]
    assert sorted(shown(page)) == sorted(expected)
