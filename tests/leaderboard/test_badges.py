"""How far rows of others were checked, on the pages of the board and on the site."""

from __future__ import annotations

import pytest

from ecgbench.leaderboard.badges import FOLDER, MEANINGS, OWN, Badge, Report, Verdict, write_report
from ecgbench.leaderboard.board import write
from ecgbench.leaderboard.site import files
from ecgbench.results.published import publish
from tests.leaderboard.site.conftest import drawn

BADGES: dict[str, Badge | None] = {"none": None, "madry": "reproduced", "trades": "rescored", "nsr": "claimed"}
"""By defense, whose row it is."""
ROWS = {defense: drawn(at, 7, defense=defense) for at, defense in enumerate(BADGES)}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages of a board and its site, by path."""
    folder = tmp_path_factory.mktemp("leaderboard")
    for row in ROWS.values():
        publish(row.record, row.outcomes, folder / "results")
    verdicts = [
        Verdict(key=ROWS[defense].record.key, row=defense, badge=badge, why="made up")
        for defense, badge in BADGES.items()
        if badge is not None
    ]
    (folder / FOLDER).mkdir()
    report = Report(digest="d", nonce="n", rows=tuple(verdicts), faults=())
    (folder / FOLDER / "somebody.json").write_bytes(write_report(report))
    write(folder)
    pages = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.md")}
    return pages | {path: content.decode() for path, content in files(folder).items() if path.endswith(".html")}


def line(text: str, words: str) -> str:
    """The one line of a page that has these words."""
    (found,) = [line for line in text.splitlines() if words in line]
    return found


@pytest.mark.parametrize(("defense", "badge"), [(one, badge) for one, badge in BADGES.items() if badge != "claimed"])
def test_a_victim_that_ranks_has_its_badge_on_the_first_page(
    texts: dict[str, str], defense: str, badge: Badge | None
) -> None:
    for path, link in (("README.md", "pages/flags.md#badges"), ("index.html", "pages/flags.html#badges")):
        said = line(texts[path], f"pages/beats/mlp-{defense}.")
        assert (link in said) == (badge is not None)
        assert [one for one in MEANINGS if one in said] == ([] if badge is None else [badge])


def test_what_is_only_claimed_has_no_rank(texts: dict[str, str]) -> None:
    assert "mlp-nsr" not in texts["README.md"] + texts["index.html"]
    said = line(texts["pages/beats.md"], "beats/mlp-nsr.md").split("|")
    assert said[1].strip() == "—" and "claimed" in said[-2]


@pytest.mark.parametrize(("defense", "badge"), BADGES.items())
def test_a_row_has_its_badge_wherever_it_stands(texts: dict[str, str], defense: str, badge: Badge | None) -> None:
    key = ROWS[defense].record.key[:12]
    page, row = texts[f"pages/beats/mlp-{defense}.md"], texts[f"rows/{key}.html"]
    said = line(page, f"[{key}]")
    assert [one for one in MEANINGS if one in said] == ([] if badge is None else [badge])
    assert f"<dd>{badge or OWN}" in row and MEANINGS[badge or OWN] in row
    assert f"<td>{badge or OWN}<td>" in line(texts["rows.html"], f'<tr id="{key}"')


def test_every_badge_is_explained(texts: dict[str, str]) -> None:
    for path in ("pages/flags.md", "pages/flags.html"):
        assert all(badge in texts[path] and meaning in texts[path] for badge, meaning in MEANINGS.items())
