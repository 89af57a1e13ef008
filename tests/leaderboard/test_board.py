import hashlib
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from ecgbench.core.errors import StoreError
from ecgbench.core.fingerprint import digest
from ecgbench.leaderboard.board import BEGIN, END, check, older, pages, write
from ecgbench.leaderboard.markdown import markdown
from ecgbench.results.published import Published, outcomes_path, publish
from ecgbench.storage.arrays import pack_tensors
from ecgbench.storage.store import Store, key_of
from tests.made_up_rows import made_up, outcomes_of, provenance_of, raised, row


def small_board() -> list[Published]:
    """Rows of every kind."""
    return [
        row(made_up(["0", "01"])),
        row(made_up(["12", "123"]), attack="fgsm"),
        row(made_up(["3", "34"]), seed=1),
        row(made_up(["0", "04"]), attack="fgsm", seed=1),
        row(made_up(["", "5"]), defense="adaptive[attack=pgd[steps=10]]", checks=raised("LOSS")),
        row(made_up(["", ""]), model="cnn", limit=10),
        row(model="resnet"),
        row(made_up(["0123"], eps=(0.1,)), model="linear"),
        row(made_up(["0", "01"], groups=3), dataset="beats-2", synthetic=True, unit="1", notes=()),
        row(made_up(["0", "01"]), protocol="standard[success=last]", skip_unpredicted=True),
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    for one in small_board():
        publish(one.record, one.outcomes, folder / "results")
    write(folder)
    return folder


@pytest.fixture
def leaderboard(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


def figures(leaderboard: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (leaderboard / "figures").iterdir()}


def render(rows: Iterable[Published]) -> str:
    """All pages, one after the other."""
    return "".join(markdown(page) for page in pages(rows))


def page(rows: Iterable[Published], path: str) -> str:
    return next(markdown(page) for page in pages(rows) if page.path == path)


def lines(*rows: Published) -> list[str]:
    return render(rows).splitlines()


def table(rows: Iterable[Published], head: str, path: str = "pages/beats.md") -> list[list[str]]:
    """Cells of the first table of a page whose head begins so; a link is its text."""
    text = page(rows, path).splitlines()
    start = next(at for at, line in enumerate(text) if line.startswith(head))
    end = text.index("", start)
    bare = [re.sub(r"\[([^\[\]]+)\]\([^()]*\)", r"\1", line) for line in text[start + 2 : end]]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in bare]


def victims(*rows: Published) -> list[list[str]]:
    return table(rows, "| # |")


def test_the_order_of_results_does_not_matter() -> None:
    rows = small_board()
    assert render(reversed(rows)) == render(rows)


def test_the_board_of_the_same_results_is_the_same_bytes_anywhere(
    leaderboard: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(leaderboard / "results", copy / "results")
    write(copy)
    assert texts(copy) == texts(leaderboard) and "".join(texts(copy).values()).count("\n") > 100


def texts(leaderboard: Path) -> dict[str, str]:
    return {path.relative_to(leaderboard).as_posix(): path.read_text() for path in sorted(leaderboard.rglob("*.md"))}


def test_a_page_is_plain_lines_without_padding() -> None:
    for one in pages(small_board()):
        text = markdown(one)
        assert text.endswith("\n") and not text.endswith("\n\n") and "\r" not in text
        assert not any(line != line.rstrip() for line in text.splitlines())
        assert "nan" not in text and "-0.0" not in text


def test_every_page_is_led_to_from_the_first() -> None:
    made = {one.path: markdown(one) for one in pages(small_board())}
    seen: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.endswith(".md"):
            continue
        seen.add(path)
        for to in re.findall(r"\]\(([^()\s#]+)", made[path]):
            waiting.append(posixpath.normpath(posixpath.join(posixpath.dirname(path), to)))
    assert seen == set(made)


def test_a_victim_shows_the_worst_case_of_its_attacks_over_seeds() -> None:
    assert victims(*small_board()[:4]) == [
        ["1", "none", "2", "10", "1.000 ±0.000", "**0.750 ±0.071**", "[0.40, 0.94]", "fgsm", ""]
    ]


def test_each_attack_has_lines_of_its_own_that_lead_to_its_record() -> None:
    one = row(made_up(["0", "01"]))
    text = page([one], "pages/beats/mlp-none.md").splitlines()
    assert text[-3:] == [
        f"| pgd | 0 | ACC | 1.000 | 0.900 | 0.800 | | [{one.record.key[:12]}](../../results/beats/{one.path.name}) |",
        "| | | PREC | 1.000 | 0.917 | 0.800 | | `weights` |",
        "| | | F1 | 1.000 | 0.899 | 0.800 | | |",
    ]


def test_a_part_of_the_split_is_marked_and_does_not_rank() -> None:
    (cells,) = victims(row(made_up(["", ""]), limit=10))
    assert cells[0] == "—" and cells[-1] == "partial"
    assert "| rank |" not in page([row(made_up(["", ""]), limit=10)], "README.md")


def test_an_attack_that_another_chunking_would_change_is_marked() -> None:
    one, other = (row(made_up(["", ""]), determinism=state) for state in ("sample", "chunk"))
    assert "determinism" not in render([one]) and "determinism: chunk | [" in render([other])


def test_a_failed_row_is_shown_with_its_reason() -> None:
    text = render([row(error="out | of `memory`\nat batch 3")])
    assert victims(row()) == [["—", "none", "0 of 1", "—", "—", "failed", "—", "—", "failed: pgd"]]
    assert "failed: out \\| of \\`memory\\` at batch 3 | — | | | [" in text
    assert "No row of this section has scores." in text


def test_an_eps_that_was_not_run_is_a_dash() -> None:
    cells = table([row(made_up(["0"], eps=(0.2,)))], "| victim, robust accuracy")
    assert cells == [["none", "1.000", "—", "0.900"]]


def test_an_eps_is_printed_as_it_was_given() -> None:
    text = render([row(made_up([""] * 3, eps=(1e-05, 0.0313725, 100.0)), headline=100.0)])
    assert "| clean | 0.00001 | 0.0313725 | 100 |" in text and "eps 100 mV" in text


def test_names_cannot_break_a_table_or_place_markup() -> None:
    nasty = f"a|b`c<script>\nd\\|[x](http://y)*{END}\x1b"
    text = render([row(made_up(["0", "01"]), model=nasty, notes=(nasty,), weighting=nasty)])
    assert END not in text and "<script" not in text and "](http" not in text and "\x1b" not in text


# the answer


def test_the_first_page_says_who_is_best_by_how_much_and_how_sure() -> None:
    rows = [
        row(made_up([wrong], n=100, eps=(0.1,)), defense=name) for name, wrong in (("good", ""), ("bad", "0123456789"))
    ]
    text = page(rows, "README.md")
    assert "Good keeps 1.000 [0.96, 1.00] of its test samples right at eps 0.1 mV under every attack that ran" in text
    assert "the most of 2 victims, +0.180 [0.10, 0.26] beside bad. It is best at the 5 % level." in text
    assert table(rows, "| rank |", "README.md") == [
        ["1", "good", "1.000", "**1.000** [0.96, 1.00]", "1", "+0.180 [0.10, 0.26]"],
        ["2", "bad", "1.000", "**0.820** [0.73, 0.88]", "1", "—"],
    ]


def test_what_cannot_be_told_apart_is_said() -> None:
    rows = [row(made_up([wrong, wrong]), defense=name) for name, wrong in (("a", "0"), ("b", "1"))]
    text = page(rows, "README.md")
    assert "It is not distinguishable from b; it is best in 0.5" in text
    assert [cells[0] for cells in table(rows, "| rank |", "README.md")] == ["1 (1–2)", "1 (1–2)"]
    assert table(rows, "| rank |", "README.md")[0][-1].endswith(" ≈")


def test_flagged_victims_have_no_rank_interval_and_win_no_verdict() -> None:
    rows = [row(made_up(["0", "01"])), row(made_up(["", ""]), defense="odd", checks=raised("LOSS"))]
    text = page(rows, "README.md")
    assert "None keeps 0.900" in text and "no other victim without a flag stands beside it" in text
    assert table(rows, "| rank |", "README.md")[1][-1] == "LOSS"


@pytest.mark.parametrize("n", [100, 20])  # the interval of 20 samples reaches to 0.16
def test_a_victim_with_nothing_left_is_not_called_best(n: int) -> None:
    broken = [changed_to_wrong(row(made_up(["0123456789"], n=n, eps=(0.1,), clean="")))]
    assert "No victim withstands every attack that ran at eps 0.1 mV" in page(broken, "README.md")


def changed_to_wrong(one: Published) -> Published:
    outcomes = outcomes_of(one)
    return row(replace(outcomes, predicted=1 - outcomes.y[None]))


def test_the_strict_attack_decides_where_it_ran() -> None:
    rows = [row(made_up(["0", "0"]), attack="strict"), row(made_up(["01", "01"]), threat="other", attack="pgd")]
    assert "under the strict attack" in (text := page(rows, "README.md")) and "strict attack (" not in text


def test_a_victim_that_the_strict_attack_did_not_meet_is_not_said_to_withstand_it() -> None:
    rows = [
        row(made_up(["00011", "00011"]), attack="strict", defense="none"),
        row(made_up(["00001", "00001"]), attack="pgd", defense="best"),
    ]
    text = page(rows, "README.md")
    assert "under every attack that ran, the most of 2 victims" in text and "under the strict attack" not in text
    assert "The strict attack has not met best: what weaker attacks leave may be too high." in text
    both = page([*rows, row(made_up(["00011", "00001"]), attack="strict", defense="best")], "README.md")
    assert "under the strict attack, the most of 2 victims" in both and "has not met" not in both


def test_a_smaller_budget_of_the_strict_attack_is_said() -> None:
    rows = [row(made_up(["0", "0"]), attack="strict[budget=quick]")]
    assert "under the strict attack (budget=quick)" in page(rows, "README.md")


def test_patients_on_both_sides_are_said_to_flatter() -> None:
    rows = [
        row(made_up(["0", "0"]), notes=("intra-patient",)),
        row(made_up(["0", "0"], clean="0"), dataset="beats[split=inter-patient]", notes=("inter-patient",)),
    ]
    text = page(rows, "README.md")
    assert text.index("inter-patient") < text.index("flatters every figure")
    assert "1 defense of both splits score 1.000 when clean here, 0.900 on patients never met." in text


def test_splits_of_the_same_recordings_stand_together() -> None:
    rows = [
        row(made_up(["0", "0"]), dataset="alpha"),
        row(made_up(["0", "0"])),
        row(made_up(["0", "0"]), dataset="beats[split=inter-patient]", notes=("inter-patient",)),
    ]
    first, *others = [line for line in page(rows, "README.md").splitlines() if line.startswith("## ")]
    assert "inter-patient" in first and others == ["## beats", "## alpha"]


def test_few_patients_are_said() -> None:
    assert "Few patients (3)" in page([row(made_up(["0", "0"], groups=3))], "README.md")


def test_attacks_are_measured_against_all_together() -> None:
    rows = [row(made_up(["01", "01"]), attack="a"), row(made_up(["12", "12"]), attack="b")]
    assert table(rows, "| attack | victims") == [["a", "1", "0.100", "0"], ["b", "1", "0.100", "0"]]


def test_made_up_data_stands_at_the_end() -> None:
    text = page(small_board(), "README.md")
    assert text.index("## beats") < text.index("## beats-2") < text.index("The data is made up")


def headings(rows: list[Published]) -> list[str]:
    return [line[3:] for line in page(rows, "README.md").splitlines() if line.startswith("## ")]


def test_a_dataset_whose_victims_are_all_flagged_has_a_line_and_no_table() -> None:
    doubted = [row(made_up(["0", "0"]), dataset="alpha", checks=raised("LOSS"))]
    assert headings([*doubted, row(made_up(["0", "0"]))]) == ["beats"]
    text = page([*doubted, row(made_up(["0", "0"]))], "README.md")
    assert "- [alpha](pages/alpha.md): 1 row. No victim ranks without a flag at eps 0.1 mV.\n" in text
    assert headings(doubted) == ["alpha"]


def test_the_first_page_has_eight_tables_and_the_verdicts_of_the_rest() -> None:
    rows = [row(made_up(["0", "0"]), dataset=f"set{at}") for at in range(10)]
    assert headings(rows) == [f"set{at}" for at in range(8)]
    assert "- [set9](pages/set9.md): 1 row. None keeps 0.900 " in page(rows, "README.md")


def test_a_section_says_what_its_rows_have_in_common() -> None:
    text = page(small_board(), "pages/beats.md")
    assert (
        "- eps in mV; 10 samples; by class: N 5, V 5.\n- Weighting: every beat counts once.\n- Note: intra-patient."
        in text
    )
    assert "This protocol is not the standard one: its rows compare with each other alone." in text
    assert "- A class that nobody predicts is left out of PREC." in text


def test_every_flag_is_explained() -> None:
    assert "| `LOSS` | steps on another loss" in page(small_board(), "pages/flags.md")


def test_no_results_are_no_results(tmp_path: Path) -> None:
    assert write(tmp_path).read_text() == f"{BEGIN}\n# Leaderboard\n\nNo results yet.\n{END}\n"
    assert check(tmp_path) == []


def test_a_missing_leaderboard_is_not_an_empty_one(tmp_path: Path) -> None:
    for command in (check, write):
        with pytest.raises(StoreError, match="nowhere is no folder"):
            command(tmp_path / "nowhere")


def test_a_board_just_written_has_no_fault_and_is_not_written_anew(leaderboard: Path) -> None:
    assert check(leaderboard) == []
    before = (leaderboard / "README.md").read_bytes()
    assert write(leaderboard).read_bytes() == before


def test_text_by_hand_stays_where_it_is(leaderboard: Path) -> None:
    readme = leaderboard / "README.md"
    readme.write_text(f"By hand.\n\n{BEGIN}\nold\n{END}\n\nBelow.\n")
    text = write(leaderboard).read_text()
    assert text == f"By hand.\n\n{BEGIN}\n{page(small_board(), 'README.md')}{END}\n\nBelow.\n"
    assert check(leaderboard) == []


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{END}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_one_place_for_the_board_is_left_alone(leaderboard: Path, text: str) -> None:
    page = leaderboard / "README.md"
    page.write_text(text)
    with pytest.raises(StoreError, match="has no place for the board"):
        write(leaderboard)
    assert page.read_text() == text
    assert "has no place for the board" in check(leaderboard)[0]


@pytest.mark.parametrize("name", ["README.md", "pages/beats.md", "pages/beats/mlp-none.md", "pages/flags.md"])
def test_a_stale_page_is_found_with_its_first_line_and_a_diff(leaderboard: Path, name: str) -> None:
    path = leaderboard / name
    old = path.read_text()
    path.write_text(old.replace("|", "/", 1))
    (fault,) = check(leaderboard)
    assert f"{name} is stale: line " in fault and "\n-" in fault and "\n+" in fault
    write(leaderboard)
    assert path.read_text() == old and check(leaderboard) == []


def test_a_page_that_is_none_is_found_and_removed(leaderboard: Path) -> None:
    extra = leaderboard / "pages" / "extra.md"
    extra.write_text("by hand")
    (fault,) = check(leaderboard)
    assert fault == f"{extra.as_posix()} is no page of the board; build it."
    write(leaderboard)
    assert not extra.exists()


def test_a_missing_board_is_found(leaderboard: Path) -> None:
    (leaderboard / "README.md").unlink()
    assert check(leaderboard) == [f"{leaderboard.as_posix()}/README.md is missing; build the board."]


def test_a_row_removed_by_hand_is_found(leaderboard: Path) -> None:
    gone = next((leaderboard / "results" / "beats").glob("linear-*.json"))
    gone.unlink()
    outcomes_path(gone).unlink()
    faults = check(leaderboard)
    assert any("is shown nowhere; build the board." in fault for fault in faults)
    assert any("pages/beats/linear-none.md is no page of the board" in fault for fault in faults)
    assert any("is stale" in fault for fault in faults)


def test_a_digit_altered_in_a_record_is_found(leaderboard: Path) -> None:
    path = next((leaderboard / "results" / "beats").glob("linear-*.json"))
    path.write_text(path.read_text().replace('"acc": 0.6', '"acc": 0.9', 1))
    faults = check(leaderboard)
    assert any("scores[eps=0.1].acc is 0.9; recomputed from the outcomes it is 0.6." in fault for fault in faults)
    assert any("is stale" in fault for fault in faults)


def test_every_damaged_file_is_named(leaderboard: Path) -> None:
    paths = sorted((leaderboard / "results" / "beats").glob("mlp-*.json"))[:2]
    paths[0].write_bytes(b"{")
    outcomes_path(paths[1]).write_bytes(b"PK")
    faults = check(leaderboard)
    assert paths[0].as_posix() in faults[0] and outcomes_path(paths[1]).as_posix() in faults[1] and len(faults) == 2


def test_a_dataset_that_nobody_here_knows_the_labels_of_is_a_fault(leaderboard: Path) -> None:
    odd = row(made_up(["0", "01"]), dataset="mitbih")
    publish(odd.record, odd.outcomes, leaderboard / "results")
    write(leaderboard)
    (fault,) = check(leaderboard)
    assert "nothing here knows the labels of 'mitbih' in the recordings data" in fault


def test_a_row_of_an_embedded_dataset_is_compared_with_it(leaderboard: Path) -> None:
    data = hashlib.sha256(b"").hexdigest()
    odd = row(made_up(["0", "01"]), dataset="synthetic-beats[beats=200]", determinism="chunk", goes_on=True)
    made = provenance_of(odd)
    named = made.identity | {"victim": made.identity["victim"] | {"data": data}}
    facts = {"identity": named, "data": data, "outcomes": key_of(named), "victim": key_of(named["victim"])}
    record = msgspec.structs.replace(odd.record, provenance=msgspec.structs.replace(made, **facts))
    publish(record, odd.outcomes, leaderboard / "results")
    write(leaderboard)
    faults = check(leaderboard)
    assert any("ids of the samples are not those of its dataset" in fault for fault in faults)
    assert any("synthetic is False; its dataset says True." in fault for fault in faults)
    assert any("determinism is 'chunk'; its attack says 'sample'." in fault for fault in faults)
    assert any("goes_on is True; its attack says False." in fault for fault in faults)


def test_outcomes_altered_by_hand_are_found(leaderboard: Path) -> None:
    one, other = sorted((leaderboard / "results" / "beats").glob("*fgsm*.npz"))
    shutil.copyfile(one, other)
    assert any(f"{other.with_suffix('.json').as_posix()}: provenance.outcomes_digest" in f for f in check(leaderboard))


def test_rows_that_cannot_be_compared_are_a_fault_of_the_board(leaderboard: Path) -> None:
    odd = row(made_up(["0", "01"], start=50), model="odd")
    publish(odd.record, odd.outcomes, leaderboard / "results")
    assert "differ in ids" in check(leaderboard)[-1]


# figures


def test_the_pages_show_every_figure_and_no_other(leaderboard: Path) -> None:
    shown = re.findall(r"\((?:\.\./)*figures/([^()]+)\)", "".join(texts(leaderboard).values()))
    assert sorted(shown) == sorted(figures(leaderboard)) and len(shown) == len(set(shown)) == 4


def test_figures_just_drawn_are_not_drawn_anew(leaderboard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = figures(leaderboard)
    monkeypatch.setattr("ecgbench.figures.svg.draw", lambda figure: pytest.fail("drawn again"))
    write(leaderboard)
    assert figures(leaderboard) == before


def test_the_same_results_give_the_same_figures_anywhere(
    leaderboard: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(leaderboard / "results", copy / "results")
    write(copy)
    assert figures(copy) == figures(leaderboard)


def test_a_published_victim_that_is_damaged_or_gone_is_found(leaderboard: Path) -> None:
    victims = Store(leaderboard / "checkpoints")
    key = victims.put("victims", {"made": "up"}, victim())
    trained = row(made_up(["0", "01"]), model="linear")
    made = msgspec.structs.replace(provenance_of(trained), checkpoint=key)
    publish(msgspec.structs.replace(trained.record, provenance=made), trained.outcomes, leaderboard / "results")
    write(leaderboard)
    assert check(leaderboard) == []
    (leaderboard / "checkpoints/victims" / key / "weights.safetensors").write_bytes(b"other")
    (fault,) = check(leaderboard)
    assert "holds a weights.safetensors that was changed by hand; restore this published victim." in fault
    shutil.rmtree(leaderboard / "checkpoints/victims" / key)
    (fault,) = check(leaderboard)
    assert f"was made with the published victim {key[:12]}, which is missing; restore it." in fault


def victim(shift: float = 0.0, named: float = 0.0) -> dict[str, bytes]:
    """The files of a published victim of one weight, and of a card that names one."""
    weights, said = ({"weight": torch.tensor([1.0 + by])} for by in (shift, named))
    words = {"dataset": "beats", "model": "mlp", "defense": "none", "seed": 0, "classes": ["N", "V"], "shape": [1, 3]}
    words |= {"bounds": None, "rate": None, "weights": digest(said)}
    return {"weights.safetensors": pack_tensors(weights), "victim.json": msgspec.json.encode(words)}


def made_with(leaderboard: Path, files: dict[str, bytes], weights: str) -> str:
    """A board with one row of a published victim, which names these weights."""
    trained = row(made_up(["0", "01"]), model="wide")
    made = provenance_of(trained)
    victim = made.identity["victim"] | {"made": "with weights"}
    identity = made.identity | {"victim": victim, "weights": {"victim": weights}}
    key = Store(leaderboard / "checkpoints").put("victims", identity["victim"], files)
    facts = {"identity": identity, "outcomes": key_of(identity), "weights": weights, "checkpoint": key, "victim": key}
    record = msgspec.structs.replace(trained.record, provenance=msgspec.structs.replace(made, **facts))
    publish(record, trained.outcomes, leaderboard / "results")
    write(leaderboard)
    return key


def test_a_published_victim_has_the_weights_that_its_card_and_its_rows_name(leaderboard: Path) -> None:
    weights = digest({"weight": torch.tensor([1.0])})
    made_with(leaderboard, victim(), weights)
    assert check(leaderboard) == []
    key = made_with(leaderboard, victim(shift=1e-6), weights)
    (fault,) = check(leaderboard)
    assert f"{key} holds weights" in fault and f"its card names {weights[:12]}; restore it." in fault
    made_with(leaderboard, victim(shift=1e-6, named=1e-6), weights)
    (fault,) = check(leaderboard)
    assert f"names weights {weights[:12]} of {key[:12]}, which has others" in fault


def test_a_row_of_code_that_was_edited_since_says_so(leaderboard: Path) -> None:
    edited = row(made_up(["0", "01"]), model="wide")
    made = provenance_of(edited)
    identity = made.identity | {"sources": {"ecgbench.core.threat": "0" * 16}}
    facts = {"identity": identity, "outcomes": key_of(identity)}
    record = msgspec.structs.replace(edited.record, provenance=msgspec.structs.replace(made, **facts))
    assert "| older code | [" not in render([edited]) and "| older code | [" in render([replace(edited, record=record)])
    assert older(leaderboard)[0] == 0
    publish(record, edited.outcomes, leaderboard / "results")
    write(leaderboard)
    assert check(leaderboard) == [] and older(leaderboard)[0] == 1 < older(leaderboard)[1]


def test_a_row_names_the_weights_of_its_victim() -> None:
    assert "| `weights` |" in render([row(made_up(["", ""]))])


def test_a_check_needs_no_matplotlib(leaderboard: Path) -> None:
    code = "import sys; sys.modules['matplotlib'] = None; from pathlib import Path"
    code += "; from ecgbench.leaderboard.board import check; print(check(Path(sys.argv[1])), end='')"
    done = subprocess.run([sys.executable, "-c", code, str(leaderboard)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_text("<svg/>"), "has no seal"),
        (lambda path: path.write_bytes(b"\xff"), "cannot be read"),
        (lambda path: path.write_text(re.sub(r'y="\d', 'y="9', path.read_text(), count=1)), "was altered by hand"),
        (lambda path: shutil.copyfile(path, path.with_name("more.svg")), "is shown nowhere"),
        (lambda path: shutil.copyfile(sorted(path.parent.iterdir())[0], path), "shows something else"),
    ],
)
def test_a_figure_that_is_not_as_it_was_drawn_is_found_and_drawn_anew(
    leaderboard: Path, spoil: Callable[[Path], object], said: str
) -> None:
    before = figures(leaderboard)
    spoil(leaderboard / "figures" / sorted(before)[-1])
    (fault,) = check(leaderboard)
    assert f".svg {said}; build the board." in fault
    write(leaderboard)
    assert figures(leaderboard) == before and check(leaderboard) == []


def test_a_page_that_cannot_be_written_leaves_the_figures_alone(leaderboard: Path) -> None:
    before = figures(leaderboard)
    (leaderboard / "README.md").write_text("no place")
    shutil.rmtree(leaderboard / "results")
    with pytest.raises(StoreError):
        write(leaderboard)
    assert figures(leaderboard) == before
