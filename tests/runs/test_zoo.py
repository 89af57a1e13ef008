"""A published victim is loaded by name, without recordings, and answers as it did when it was published."""

from __future__ import annotations

import shutil
from inspect import signature
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

import ecgbench
from ecgbench import api
from ecgbench.core.errors import EcgbenchError, StoreError, UnknownNameError
from ecgbench.core.fingerprint import digest
from ecgbench.core.progress import Progress, Started
from ecgbench.results.record import Provenance
from ecgbench.runs import zoo
from ecgbench.runs.suite import Grid, unfold
from ecgbench.runs.zoo import CARD, STAGE, cards, load_victim
from ecgbench.storage.store import Store

LEADERBOARD = Path(__file__).parents[2] / "leaderboard"
NAME = "synthetic-beats-beats-200-linear-none-epochs-1-seed3"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained victim, published."""
    home = tmp_path_factory.mktemp("home")
    runner = api.open_runner(data={}, store=home, device="cpu", plugins=(), tell=lambda _: None)
    grid = Grid(
        dataset=("synthetic-beats[beats=200]",),
        model=("linear",),
        defense=("none[epochs=1]",),
        attack=("identity",),
        eps=(0.1,),
        seed=(3,),
    )
    record = runner.execute(unfold((grid,), runner.catalog)[0])
    runner.publish_victim(record, Store(home / "checkpoints"))
    return home / "checkpoints"


def test_a_victim_is_loaded_by_name_and_is_the_one_that_was_published(checkpoints: Path) -> None:
    module = ecgbench.load_victim(NAME, checkpoints)
    ((key, _),) = Store(checkpoints).identities(STAGE)
    files = Store(checkpoints).get(STAGE, key)
    assert files is not None
    weights = load(files["weights.safetensors"])
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert not module.training and not any(weight.requires_grad for weight in module.parameters())


def test_a_name_that_is_not_there_is_said_with_the_nearest(checkpoints: Path) -> None:
    with pytest.raises(UnknownNameError, match="seed3"):
        load_victim(NAME.replace("seed3", "seed4"), checkpoints)


def test_a_folder_without_victims_knows_none(tmp_path: Path) -> None:
    assert cards(tmp_path) == {}


def test_loading_leaves_torchs_generator_alone(checkpoints: Path) -> None:
    state = torch.random.get_rng_state()
    load_victim(NAME, checkpoints)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ["weights.safetensors", CARD])
def test_a_damaged_victim_is_refused(name: str, checkpoints: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoints / STAGE, tmp_path / STAGE)
    (path,) = (tmp_path / STAGE).glob(f"*/{name}")
    path.write_bytes(b"{")
    with pytest.raises(StoreError, match=r"damaged|no card"):
        load_victim(NAME, tmp_path)


@pytest.mark.parametrize("name", cards(LEADERBOARD / "checkpoints"))
def test_every_victim_of_the_leaderboard_loads(name: str) -> None:
    _, card = cards(LEADERBOARD / "checkpoints")[name]
    victim, x = load_victim(name, LEADERBOARD / "checkpoints"), torch.rand(2, *card.shape)
    masked = "mask" in signature(victim.forward).parameters  # networks of volumes, of one logit for two classes
    logits = victim(x, torch.ones_like(x, dtype=torch.bool)) if masked else victim(x)
    assert logits.shape == (2, 1 if masked else len(card.classes)) and bool(logits.isfinite().all())


def test_a_victim_with_another_weight_is_refused_whatever_its_manifest_says(checkpoints: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    ((key, identity),) = Store(checkpoints).identities(STAGE)
    files = Store(checkpoints).get(STAGE, key)
    assert files is not None
    weights = load(files["weights.safetensors"])
    next(iter(weights.values())).view(-1)[0] += 1e-3
    store.put(STAGE, identity, files | {"weights.safetensors": save(weights)})
    with pytest.raises(StoreError, match=r"holds weights [0-9a-f]{12}, its card names [0-9a-f]{12}"):
        load_victim(NAME, tmp_path)
    store.put(STAGE, identity, {name: content for name, content in files.items() if name != "weights.safetensors"})
    with pytest.raises(StoreError, match="lacks"):
        load_victim(NAME, tmp_path)
    store.put(STAGE, identity, files | {"weights.safetensors": b"none"})
    with pytest.raises(StoreError, match="holds no readable tensors"):
        load_victim(NAME, tmp_path)


def test_the_checkout_is_the_folder_that_holds_the_leaderboard() -> None:
    assert zoo.CHECKOUT / "leaderboard" == LEADERBOARD


def test_a_card_says_what_the_record_said(checkpoints: Path) -> None:
    ((key, card),) = cards(checkpoints).values()
    files = Store(checkpoints).get(STAGE, key)
    assert files is not None and card.weights == digest(load(files["weights.safetensors"]))
    assert card.shape == (1, 187) and len(card.classes) == 5
    assert (card.dataset, card.model, card.defense, card.seed) == (
        "synthetic-beats[beats=200]",
        "linear",
        "none[epochs=1]",
        3,
    )


# where published victims are found


def board(folder: Path) -> Path:
    (folder / "leaderboard" / "checkpoints").mkdir(parents=True)
    return folder / "leaderboard"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a leaderboard, and no checkout."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv(zoo.VARIABLE, raising=False)
    monkeypatch.setattr(zoo, "CHECKOUT", tmp_path / "checkout")
    return tmp_path


def test_the_leaderboard_that_is_named_comes_before_that_of_the_variable_the_folder_and_the_checkout(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert zoo.checkpoints() is None
    checkout = board(elsewhere / "checkout")
    assert zoo.checkpoints() is None, "a leaderboard beside an installed package is anyone's"
    (elsewhere / "checkout" / "pyproject.toml").touch()
    assert zoo.checkpoints() == checkout / "checkpoints"
    board(elsewhere / "work")
    assert zoo.checkpoints() == Path("leaderboard/checkpoints")
    variable, named = board(elsewhere / "variable"), board(elsewhere / "named")
    monkeypatch.setenv(zoo.VARIABLE, str(variable))
    assert zoo.checkpoints() == variable / "checkpoints"
    assert zoo.checkpoints(named) == zoo.checkpoints(str(named)) == named / "checkpoints"
    monkeypatch.setenv(zoo.VARIABLE, "")
    assert zoo.checkpoints() == Path("leaderboard/checkpoints")


def test_a_leaderboard_that_is_named_and_has_no_victims_is_refused(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EcgbenchError, match="has no folder checkpoints; expected published victims"):
        zoo.checkpoints(elsewhere)
    monkeypatch.setenv(zoo.VARIABLE, str(elsewhere))
    with pytest.raises(EcgbenchError, match="has no folder checkpoints"):
        load_victim(NAME)


def test_a_victim_is_loaded_from_the_leaderboard_that_is_found(
    elsewhere: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownNameError, match="none is known"):
        load_victim(NAME)
    monkeypatch.setenv(zoo.VARIABLE, str(checkpoints.parent))
    assert load_victim(NAME)(torch.rand(2, 1, 187)).shape == (2, 5)


def test_run_uses_the_victims_of_the_leaderboard_it_is_given(elsewhere: Path, checkpoints: Path) -> None:
    told: list[Progress] = []

    def run(store: Path, leaderboard: Path | None = None, seed: int = 3) -> Provenance:
        (record,) = ecgbench.run(
            dataset="synthetic-beats[beats=200]",
            model="linear",
            defense="none[epochs=1]",
            attack="identity",
            eps=(0.1,),
            seed=seed,
            store=store,
            leaderboard=leaderboard,
            tell=told.append,
        )
        assert record.provenance is not None
        return record.provenance

    ((key, _),) = Store(checkpoints).identities(STAGE)
    assert run(elsewhere / "one", checkpoints.parent).checkpoint == key
    assert not [each for each in told if isinstance(each, Started)]
    assert run(elsewhere / "two").checkpoint is None
    (line,) = [each.text for each in told if isinstance(each, Started)]
    assert line == "training a victim: no published one like it is here (no leaderboard), see --leaderboard."
    assert run(elsewhere, checkpoints.parent, seed=4).checkpoint is None
    last = [each.text for each in told if isinstance(each, Started)][-1]
    assert last == f"training a victim: no published one like it is in {checkpoints}, see --leaderboard."
