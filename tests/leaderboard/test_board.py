import re
import shutil
import subprocess
import sys

import msgspec
import pytest

from ecgbench.core.errors import StoreError
from ecgbench.leaderboard.board import BEGIN, END, build, check, render, write
from ecgbench.results.published import outcomes_path, publish
from ecgbench.storage.store import Store
from tests.made_up_rows import made_up, raised, row


def small_board():
    """Rows of every kind."""
    return [
        row(made_up(["0", "01"])),
        row(made_up(["12", "123"]), attack="fgsm"),
        row(made_up(["3", "34"]), seed=1),
        row(made_up(["0", "04"]), attack="fgsm", seed=1),
        row(made_up(["", "5"]), defense="adaptive[attack=pgd[steps=10]]", checks=raised("LOSS")),
        row(made_up(["", ""]), model="cnn", limit=10),
        row(model="resnet"),
        row(made_up(["0123"], epsilons=(0.1,)), model="linear"),
        row(made_up(["0", "01"], groups=3), dataset="synthetic-beats", synthetic=True, unit="1", notes=()),
        row(made_up(["0", "01"]), protocol="last", skip_unpredicted=True),
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    for one in small_board():
        publish(one.record, one.outcomes, folder / "results")
    write(folder)
    return folder


@pytest.fixture
def leaderboard(written, tmp_path):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    return tmp_path


def figures(leaderboard):
    return {path.name: path.read_bytes() for path in (leaderboard / "figures").iterdir()}


def lines(*rows):
    return render(rows).splitlines()


def victims(*rows):
    """Cells of the first table of victims."""
    text = lines(*rows)
    start = next(at for at, line in enumerate(text) if line.startswith("| # |"))
    end = text.index("", start)
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text[start + 2 : end]]
    return [[re.sub(r"\[(.+)\]\(figures/.*\)", r"\1", rank), *cells] for rank, *cells in table]


def test_the_order_of_results_does_not_matter():
    rows = small_board()
    assert render(reversed(rows)) == render(rows)


def test_the_board_of_the_same_results_is_the_same_bytes_anywhere(leaderboard, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(leaderboard / "results", copy / "results")
    assert build(copy) == build(leaderboard) == render(small_board())


def test_a_board_is_plain_lines_without_padding():
    text = render(small_board())
    assert text.endswith("\n") and not text.endswith("\n\n") and "\r" not in text
    assert "  " not in text and not any(line != line.rstrip() for line in text.splitlines())
    assert "nan" not in text and "-0.0" not in text


def test_a_longer_name_changes_its_own_lines_only():
    rows = small_board()
    longer = [*rows[:-1], row(rows[-1].outcomes, protocol="last", skip_unpredicted=True, model="a-much-longer-name")]
    old, new = lines(*rows), lines(*longer)
    assert len(old) == len(new) and sum(a != b for a, b in zip(old, new, strict=True)) == 3


def test_a_victim_shows_the_worst_case_of_its_attacks_over_seeds():
    assert victims(*small_board()[:4]) == [
        ["1", "mlp", "none", "2", "10", "1.000 ±0.000", "0.750 ±0.071", "0.650 ±0.071", "[0.397, 0.943]", "fgsm", ""]
    ]


def test_each_attack_has_a_line_of_its_own_that_leads_to_its_record():
    one = row(made_up(["0", "01"]))
    assert lines(one)[-1] == (
        "| mlp | none | pgd | 0 | 10 | 1.000 / 1.000 / 1.000 | 0.900 / 0.917 / 0.899 | 0.800 / 0.800 / 0.800 | 0.900 | "
        f"| [{one.record.key[:12]}](results/beats/{one.path.name}) |"
    )


def test_a_part_of_the_split_is_marked_and_does_not_rank():
    (cells,) = victims(row(made_up(["", ""]), limit=10))
    assert cells[0] == "—" and cells[-1] == "partial"


def test_an_attack_that_another_chunking_would_change_is_marked():
    one, other = (row(made_up(["", ""]), determinism=state) for state in ("sample", "chunk"))
    assert "determinism" not in render([one]) and "| determinism: chunk | [" in lines(other)[-1]


def test_a_failed_row_is_shown_with_its_reason():
    text = render([row(error="out | of `memory`\nat batch 3")])
    assert "| — | mlp | none | 0 of 1 | — | — | failed | — | — | failed: pgd |" in text
    assert "failed: out \\| of \\`memory\\` at batch 3 | — | — | | [" in text
    assert "No row of this section has scores." in text


def test_an_eps_that_was_not_run_is_a_dash():
    (cells,) = victims(row(made_up(["0"], epsilons=(0.2,))))
    assert cells[6:8] == ["—", "0.900"]


def test_an_eps_is_printed_as_it_was_given():
    text = render([row(made_up([""] * 3, epsilons=(1e-05, 0.0313725, 100.0)), headline=100.0)])
    assert "| robust 0.00001 | robust 0.0313725 | **robust 100** | interval at 100 |" in text


def test_names_cannot_break_a_table_or_place_markup():
    nasty = f"a|b`c<script>\nd\\|[x](http://y)*{END}\x1b"
    text = render([row(made_up(["0", "01"]), model=nasty, notes=(nasty,), weighting=nasty)])
    assert "a\\|b\\`c&lt;script> d\\\\\\|[x]\\(http://y)\\*&lt;!-- board:end -->" in text
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.count("|") - line.count("\\|") for line in tables[-2:]] == [12, 12]
    assert END not in text and "<script" not in text and "](http" not in text and "\x1b" not in text


def test_made_up_data_stands_apart_at_the_end():
    text = render(small_board())
    before, _, after = text.partition("# Synthetic data")
    assert "## synthetic-beats" in after and "says nothing about ECG classifiers in the clinic" in after
    assert "## synthetic-beats" not in before and "## beats" in before and "## beats" not in after


def test_a_section_says_what_its_rows_have_in_common():
    text = render(small_board())
    assert (
        "## beats, linf, headline eps 0.1\n\n- eps in mV; classes N, V.\n- Weighting: every beat counts once." in text
    )
    assert "- Note: intra-patient." in text
    assert "- Protocol last is not the standard one: its rows compare with each other alone." in text
    assert "- A class that nobody predicts is left out of PREC." in text


def test_every_flag_is_explained():
    assert "| `LOSS` | steps on another loss" in render(small_board())


def test_no_results_are_no_results(tmp_path):
    assert build(tmp_path) == "# Leaderboard\n\nNo results yet.\n"
    assert write(tmp_path).read_text() == f"{BEGIN}\n# Leaderboard\n\nNo results yet.\n{END}\n"
    assert check(tmp_path) == []


def test_a_missing_leaderboard_is_not_an_empty_one(tmp_path):
    for command in (build, check, write):
        with pytest.raises(StoreError, match="nowhere is no folder"):
            command(tmp_path / "nowhere")


def test_a_board_just_written_has_no_fault_and_is_not_written_anew(leaderboard):
    assert check(leaderboard) == []
    before = (leaderboard / "README.md").read_bytes()
    assert write(leaderboard).read_bytes() == before


def test_text_by_hand_stays_where_it_is(leaderboard):
    page = leaderboard / "README.md"
    page.write_text(f"By hand.\n\n{BEGIN}\nold\n{END}\n\nBelow.\n")
    text = write(leaderboard).read_text()
    assert text == f"By hand.\n\n{BEGIN}\n{render(small_board())}{END}\n\nBelow.\n"
    assert check(leaderboard) == []


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{END}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_one_place_for_the_board_is_left_alone(leaderboard, text):
    page = leaderboard / "README.md"
    page.write_text(text)
    with pytest.raises(StoreError, match="has no place for the board"):
        write(leaderboard)
    assert page.read_text() == text
    assert "has no place for the board" in check(leaderboard)[0]


def test_a_stale_board_is_found_with_its_first_line_and_a_diff(leaderboard):
    page = leaderboard / "README.md"
    page.write_text(page.read_text().replace("0.750 ±0.071", "0.950 ±0.071", 1))
    (fault,) = check(leaderboard)
    assert "README.md is stale: line " in fault and "0.950 ±0.071" in fault
    for sign, figure in (("-", "0.950"), ("+", "0.750")):
        assert re.search(rf"\n\{sign}\| \[1\]\(\S+\) \| mlp \| none \| 2 \| 10 \| 1.000 ±0.000 \| {figure}", fault)


def test_a_missing_board_is_found(leaderboard):
    (leaderboard / "README.md").unlink()
    assert check(leaderboard) == [f"{leaderboard.as_posix()}/README.md is missing; build the board."]


def test_a_row_removed_by_hand_is_found(leaderboard):
    gone = next((leaderboard / "results" / "beats").glob("linear-*.json"))
    gone.unlink()
    outcomes_path(gone).unlink()
    *_, vanished, stale = faults = check(leaderboard)
    assert f"shows row {gone.stem[-12:]}, which no record in results has" in vanished and "is stale" in stale
    assert [fault.partition(".svg ")[2] for fault in faults[:-2]] == ["is shown nowhere; build the board."] * 2


def test_a_digit_altered_in_a_record_is_found(leaderboard):
    path = next((leaderboard / "results" / "beats").glob("linear-*.json"))
    path.write_text(path.read_text().replace('"acc": 0.6', '"acc": 0.9', 1))
    faults = check(leaderboard)
    assert any("scores[eps=0.1].acc is 0.9; recomputed from the outcomes it is 0.6." in fault for fault in faults)
    assert "is stale" in faults[-1]


def test_every_damaged_file_is_named(leaderboard):
    paths = sorted((leaderboard / "results" / "beats").glob("mlp-*.json"))[:2]
    paths[0].write_bytes(b"{")
    outcomes_path(paths[1]).write_bytes(b"PK")
    faults = check(leaderboard)
    assert paths[0].as_posix() in faults[0] and outcomes_path(paths[1]).as_posix() in faults[1] and len(faults) == 2


def test_outcomes_altered_by_hand_are_found(leaderboard):
    one, other = sorted((leaderboard / "results" / "beats").glob("*fgsm*.npz"))
    shutil.copyfile(one, other)
    assert any(f"{other.with_suffix('.json').as_posix()}: provenance.outcomes_digest" in f for f in check(leaderboard))


def test_rows_that_cannot_be_compared_are_a_fault_of_the_board(leaderboard):
    odd = row(made_up(["0", "01"], start=50), model="odd")
    publish(odd.record, odd.outcomes, leaderboard / "results")
    assert "differ in ids" in check(leaderboard)[-1]


# figures


def test_the_page_shows_every_figure_and_no_other(leaderboard):
    shown = re.findall(r"\(figures/([^()]+)\)", (leaderboard / "README.md").read_text())
    assert sorted(shown) == sorted(figures(leaderboard)) and len(shown) == len(set(shown)) == 9


def test_figures_just_drawn_are_not_drawn_anew(leaderboard, monkeypatch):
    before = figures(leaderboard)
    monkeypatch.setattr("ecgbench.figures.svg.draw", lambda figure: pytest.fail("drawn again"))
    write(leaderboard)
    assert figures(leaderboard) == before


def test_the_same_results_give_the_same_figures_anywhere(leaderboard, tmp_path_factory):
    copy = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(leaderboard / "results", copy / "results")
    write(copy)
    assert figures(copy) == figures(leaderboard)


def test_a_published_victim_that_is_damaged_or_gone_is_found(leaderboard):
    victims = Store(leaderboard / "checkpoints")
    key = victims.put("victims", {"made": "up"}, {"weights.safetensors": b"weights"})
    trained = row(made_up(["0", "01"]), model="linear")
    made = msgspec.structs.replace(trained.record.provenance, checkpoint=key)
    publish(msgspec.structs.replace(trained.record, provenance=made), trained.outcomes, leaderboard / "results")
    write(leaderboard)
    assert check(leaderboard) == []
    (leaderboard / "checkpoints/victims" / key / "weights.safetensors").write_bytes(b"other")
    (fault,) = check(leaderboard)
    assert "holds a weights.safetensors that was changed by hand; restore this published victim." in fault
    shutil.rmtree(leaderboard / "checkpoints/victims" / key)
    (fault,) = check(leaderboard)
    assert f"was made with the published victim {key[:12]}, which is missing; restore it." in fault


def test_a_check_needs_no_matplotlib(leaderboard):
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
def test_a_figure_that_is_not_as_it_was_drawn_is_found_and_drawn_anew(leaderboard, spoil, said):
    before = figures(leaderboard)
    spoil(leaderboard / "figures" / sorted(before)[-1])
    (fault,) = check(leaderboard)
    assert f".svg {said}; build the board." in fault
    write(leaderboard)
    assert figures(leaderboard) == before and check(leaderboard) == []


def test_a_page_that_cannot_be_written_leaves_the_figures_alone(leaderboard):
    before = figures(leaderboard)
    (leaderboard / "README.md").write_text("no place")
    shutil.rmtree(leaderboard / "results")
    with pytest.raises(StoreError):
        write(leaderboard)
    assert figures(leaderboard) == before
