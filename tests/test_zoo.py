"""A published victim is loaded by name, without recordings, and answers as it did when it was published."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

import ecgbench
from ecgbench import api
from ecgbench.errors import StoreError, UnknownNameError
from ecgbench.store import Store
from ecgbench.zoo import CARD, STAGE, cards, load_victim

LEADERBOARD = Path(__file__).parent.parent / "leaderboard"
NAME = "synthetic-beats-beats-200-linear-none-epochs-1-seed3"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained victim, published."""
    home = tmp_path_factory.mktemp("home")
    bench = api.open_bench(data={}, store=home, device="cpu", plugins=(), tell=lambda _: None)
    words = {"dataset": ("synthetic-beats[beats=200]",), "model": ("linear",), "defense": ("none[epochs=1]",)}
    grid = api.Grid(**words, attack=("identity",), eps=(0.1,), seed=(3,))
    record = bench.execute(api.unfold((grid,), bench.catalog)[0])
    bench.publish_victim(record, Store(home / "checkpoints"))
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
    logits = load_victim(name, LEADERBOARD / "checkpoints")(torch.rand(2, *card.shape))
    assert logits.shape == (2, len(card.classes)) and bool(logits.isfinite().all())


def test_a_card_says_what_the_record_said(checkpoints: Path) -> None:
    ((_, card),) = cards(checkpoints).values()
    assert card.shape == (1, 187) and len(card.classes) == 5
    assert (card.dataset, card.model, card.defense, card.seed) == (
        "synthetic-beats[beats=200]",
        "linear",
        "none[epochs=1]",
        3,
    )
