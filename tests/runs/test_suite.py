"""A suite is read from TOML, refused with one sentence, and unfolded into cells in order, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgbench.core.errors import EcgbenchError
from ecgbench.core.threat import Threat
from ecgbench.evaluation.sweep import Protocol
from ecgbench.registry.catalog import discover
from ecgbench.runs.cell import Cell
from ecgbench.runs.suite import Grid, parse_eps, parse_seeds, read_suite, unfold

CATALOG = discover()


def suite(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "suite.toml"
    path.write_text(text)
    return path


def cells(tmp_path: Path, text: str) -> list[Cell]:
    return unfold(read_suite(suite(tmp_path, text)), CATALOG)


def test_a_suite_is_its_grids_unfolded_in_order(tmp_path: Path) -> None:
    found = cells(
        tmp_path,
        """
        title = "small"

        [[grid]]
        dataset = "synthetic-beats[beats=200]"
        model = ["mlp", "linear"]
        attack = ["fgsm", "pgd[steps=5]"]
        defense = "none[epochs=2]"
        threat = "l2[mask=off]"
        eps = ["8/255", 0.5]
        seed = [2, 0]
        limit = 50
        protocol = "standard[success=last]"

        [[grid]]
        model = "mlp"
        attack = "fgsm"
        """,
    )
    names = [(CATALOG.canonical("model", c.model), CATALOG.canonical("attack", c.attack), c.seed) for c in found]
    grid = [
        (model, attack, seed) for model in ("mlp", "linear") for attack in ("fgsm", "pgd[steps=5]") for seed in (2, 0)
    ]
    assert names == [*grid, ("mlp", "fgsm", 0)]
    first = found[0]
    assert first.threat == Threat("l2", mask=False) and first.eps == (8 / 255, 0.5)
    assert first.limit == 50 and first.protocol == Protocol(success="last")
    assert CATALOG.canonical("dataset", first.dataset) == "synthetic-beats[beats=200]"


def test_what_a_grid_leaves_out_is_the_models_dataset_and_the_datasets_defaults() -> None:
    (cell,) = unfold((Grid(model=("mlp",), attack=("fgsm",)),), CATALOG)
    dataset = CATALOG.resolve("dataset", CATALOG.resolve("model", "mlp").default_dataset)
    assert cell.dataset == dataset and cell.defense == CATALOG.resolve("defense", "none")
    assert (cell.threat, cell.eps) == (dataset.defaults.threat, dataset.defaults.eps)
    assert (cell.seed, cell.limit, cell.protocol) == (0, None, Protocol())


def test_every_axis_is_a_product_and_a_cell_stands_once_however_it_is_spelled() -> None:
    grid = Grid(
        model=("mlp", "cnn"), attack=("pgd100", "pgd[steps=100]"), threat=("linf", "l2"), eps=(0.1,), seed=(0, 1)
    )
    assert len(unfold((grid,), CATALOG)) == 2 * 1 * 2 * 2
    assert unfold((grid, grid), CATALOG) == unfold((grid,), CATALOG)


@pytest.mark.parametrize("threat", ["l2", "linf[unit=physical]"])
def test_sizes_are_asked_for_where_the_datasets_own_are_in_another_norm_or_unit(threat: str) -> None:
    with pytest.raises(EcgbenchError, match="is given without eps"):
        unfold((Grid(model=("mlp",), attack=("fgsm",), threat=(threat,)),), CATALOG)
    (cell,) = unfold((Grid(model=("mlp",), attack=("fgsm",), threat=(threat,), eps=(0.5,)),), CATALOG)
    assert cell.eps == (0.5,)


def test_a_wrong_selector_of_any_cell_is_an_error_before_any_runs() -> None:
    with pytest.raises(EcgbenchError, match="did you mean 'mlp'"):
        unfold((Grid(model=("mlp", "mpl"), attack=("fgsm",)),), CATALOG)


GRID = '[[grid]]\nmodel = "mlp"\nattack = "fgsm"\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "lacks [[grid]]; expected at least [[grid]]."),
        ('title = "empty"', "lacks [[grid]]"),
        ("grid = 3", "gives grid = 3; expected tables [[grid]]."),
        ("grid = []", "gives grid = []; expected tables [[grid]]."),
        ("[grid]\nmodel = 'mlp'", "gives grid = {'model': 'mlp'}; expected tables [[grid]]."),
        ("[[grid]", "is not TOML"),
        (f"{GRID}[[gird]]", "suite.toml has the field 'gird'; did you mean 'grid'?"),
        (f"{GRID}atack = 'pgd'", "grid[0], has the field 'atack'; did you mean 'attack'?"),
        ("[[grid]]\nmodel = 'mlp'", "grid[0], lacks attack; expected at least model, attack."),
        ("[[grid]]\nattack = 'pgd'", "grid[0], lacks model"),
        ("[[grid]]\nmodel = []\nattack = 'pgd'", "grid[0]: no model is given"),
        (f"{GRID}defense = []", "grid[0]: no defense is given"),
        (f"{GRID}eps = [0.1, -0.1]", "grid[0]: eps -0.1 given"),
        (f"{GRID}eps = [nan]", "eps nan given"),
        (f"{GRID}eps = 'much'", "eps 'much' given"),
        (f"{GRID}eps = '1/0'", "eps '1/0' given"),
        (f"{GRID}eps = true", "gives grid[0].eps = True; expected a number or text or a list."),
        (f"{GRID}eps = [[0.1]]", "gives grid[0].eps[0] = [0.1]; expected a number or text."),
        (f"{GRID}seed = -1", "gives grid[0].seed = -1; expected a whole number >= 0."),
        (f"{GRID}seed = 0.5", "gives grid[0].seed = 0.5; expected a whole number or a list."),
        (f"{GRID}limit = 0", "gives grid[0].limit = 0; expected a whole number >= 1."),
        (f"{GRID}limit = 1.5", "gives grid[0].limit = 1.5; expected a whole number."),
        (f"{GRID}model = 'cnn'", "is not TOML"),
        (f"{GRID}defense = ['none', ' ']", "gives grid[0].defense[1] = ' '; expected text."),
        (f"{GRID}[[grid]]\nmodel = 'mlp'\nattack = 5", "gives grid[1].attack = 5; expected text or a list."),
        (f"{GRID}audit = 1", "gives grid[0].audit = 1; expected true or false."),
        (f"{GRID}save_perturbations = -1", "gives grid[0].save_perturbations = -1; expected a whole number >= 0."),
        (f"{GRID}keep_deltas = 1", "has the field 'keep_deltas'; known: attack, audit"),
        (f"{GRID}protocol = {list(range(99))}", "15, 16...; expected text."),
        ("grid = [1]", "gives grid[0] = 1; expected a table."),
        (f"{GRID}[[grid]]\nmodel = ['mlp', 'mpl']\nattack = 'pgd'", "suite.toml, grid[1]: no model is named 'mpl'"),
        (f"{GRID}threat = 'l2'", "suite.toml, grid[0]: threat 'l2' is given without eps"),
    ],
)  # fmt: skip
def test_what_is_no_suite_is_refused_in_one_sentence(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(EcgbenchError) as refused:
        cells(tmp_path, text)
    assert reason in str(refused.value) and "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_missing_file_a_folder_and_a_file_that_is_no_text_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(EcgbenchError, match="cannot be read"):
            read_suite(path)
    (tmp_path / "suite.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EcgbenchError, match="is not TOML"):
        read_suite(tmp_path / "suite.toml")


def test_sizes_are_sorted_once_each_and_exact_as_ratios() -> None:
    assert parse_eps(["0.1", "8/255", "0", "1e-1", "0.01"]) == (0.01, 8 / 255, 0.1)
    assert parse_eps([]) == ()


def test_eps_0_alone_is_no_grid() -> None:
    with pytest.raises(EcgbenchError, match="eps 0 alone"):
        parse_eps(["0"])


def test_seeds_keep_their_order_once_each() -> None:
    assert parse_seeds(["2", "0", "2", "1"]) == (2, 0, 1)
