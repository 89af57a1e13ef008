"""Weights come back from a Keras file as they went in, by layer numbers alone, and no other file is taken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py
import pytest
import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Conv1d, Linear, Module

from ecgbench.core.errors import EcgbenchError
from ecgbench_plugins.models.keras_resnet34 import read_keras
from ecgbench_plugins.models.resnet34 import Network, ResNet34
from tests.plugins.models.test_resnet34 import X, blocks, network, task

Value = TypeVar("Value")
Weights = dict[str, Tensor]
Named = dict[str, Weights]


def made_in_turn(net: Network) -> list[tuple[str, Module]]:
    """Kind and layer in the order in which the published code makes them."""
    turns: list[tuple[str, Module]] = [("conv1d", net.stem), ("batch_normalization", net.norm)]
    for number, block in enumerate(blocks(net)):
        if number in (5, 9, 13):
            assert block.shortcut is not None
            turns.append(("conv1d", block.shortcut))
        if number:
            assert block.before is not None
            turns.append(("batch_normalization", block.before))
        turns += [("conv1d", block.first), ("batch_normalization", block.between), ("conv1d", block.second)]
    return [*turns, ("batch_normalization", net.last), ("dense", net.head)]


def keras_weights(layer: Module) -> Weights:
    match layer:
        case Conv1d():
            assert layer.bias is not None
            return {"kernel": layer.weight.detach().permute(2, 1, 0), "bias": layer.bias.detach()}
        case Linear():
            return {"kernel": layer.weight.detach().T, "bias": layer.bias.detach()}
        case BatchNorm1d():
            assert layer.running_mean is not None and layer.running_var is not None
            moving = {"moving_mean": layer.running_mean, "moving_variance": layer.running_var}
            return {"gamma": layer.weight.detach(), "beta": layer.bias.detach(), **moving}
    raise TypeError(layer)


def named(net: Network, first: int = 1) -> Named:
    """Weights by Keras' names; numbers begin at `first`, and 0 is not written."""
    layers: Named = {"input_1": {}, "dropout_1": {}, "flatten_1": {}}
    counts = {"conv1d": first, "batch_normalization": first, "dense": first}
    for kind, layer in made_in_turn(net):
        layers[f"{kind}_{counts[kind]}".removesuffix("_0")] = keras_weights(layer)
        counts[kind] += 1
    return layers


def write(path: Path, layers: Named, level: str = "model_weights", colon: str = ":0", *, text: bool = False) -> Path:
    """A file in the layout of Keras 2 (names are bytes) or 3 (no colon)."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.0.2"
        top = file.create_group(level) if level else file
        for name, weights in layers.items():
            group = top.create_group(name)
            places = [f"{name}/{weight}{colon}" for weight in weights]
            group.attrs["weight_names"] = places if text else [place.encode() for place in places]
            for place, values in zip(places, weights.values(), strict=True):
                group[place] = values.numpy()
    return path


@pytest.mark.parametrize("first", [0, 1, 37])
@pytest.mark.parametrize("level", ["model_weights", ""])
@pytest.mark.parametrize(("colon", "text"), [(":0", False), ("", True)])
def test_state_and_logits_come_back(tmp_path: Path, first: int, level: str, colon: str, text: bool) -> None:
    net = network()
    path = write(tmp_path / "weights.hdf5", named(net, first), level, colon, text=text)
    for module in (None, ResNet34(width=2).build(task(1, 515)).train()):
        back = read_keras(path, module)
        assert module is None or back is module
        assert not back.training
        torch.testing.assert_close(back.state_dict(), net.state_dict(), rtol=0, atol=0)
        assert torch.equal(back(X), net(X))


def test_kernels_of_one_tap_are_numbers_12_21_and_30(tmp_path: Path) -> None:
    layers = named(network())
    short = [name for name, weights in layers.items() if "kernel" in weights and weights["kernel"].shape[0] == 1]
    assert [name for name in short if name.startswith("conv")] == ["conv1d_12", "conv1d_21", "conv1d_30"]
    read_keras(write(tmp_path / "weights.hdf5", layers))


def test_a_network_of_the_size_in_the_file_is_built(tmp_path: Path) -> None:
    net = network(ResNet34(width=3), time=777, leads=2)
    back = read_keras(str(write(tmp_path / "weights.h5", named(net))))
    x = torch.randn(3, 2, 777)
    assert torch.equal(back(x), net(x))


def without(layers: dict[str, Value], name: str) -> dict[str, Value]:
    return {each: value for each, value in layers.items() if each != name}


SPOILT: dict[str, tuple[Callable[[Named], Any], str]] = {
    "a layer fewer": (lambda layers: without(layers, "conv1d_30"), "35 conv1d, 33 batch_normalization, 1 dense"),
    "a layer more": (lambda layers: layers | {"dense_2": layers["dense_1"]}, "1 dense, as the 34-layer"),
    "no bias": (
        lambda layers: layers | {"conv1d_7": without(layers["conv1d_7"], "bias")},
        "holds kernel in .*conv1d_7",
    ),
    "two layers exchanged": (
        lambda layers: layers | {"conv1d_12": layers["conv1d_13"], "conv1d_13": layers["conv1d_12"]},
        r"shape \(4, 2, 16\) in conv1d 12, kernel .* the module \(4, 2, 1\)",
    ),
    "a kernel of two axes": (
        lambda layers: layers | {"conv1d_1": layers["conv1d_1"] | {"kernel": torch.ones(2, 2)}},
        r"kernel of shape \(2, 2\) in .*conv1d_1; expected 3 axes and finite",
    ),
    "an empty bias": (
        lambda layers: layers | {"dense_1": layers["dense_1"] | {"bias": torch.ones(0)}},
        r"bias of shape \(0,\) in .*dense_1",
    ),
    "not a number": (
        lambda layers: layers | {"dense_1": layers["dense_1"] | {"bias": torch.full((4,), torch.nan)}},
        "expected 1 axes and finite numbers",
    ),
    "nothing": (lambda layers: {}, "0 conv1d, 0 batch_normalization, 0 dense"),
}


@pytest.mark.parametrize("fault", SPOILT)
@pytest.mark.parametrize("given", [True, False])
def test_a_file_of_another_network_is_refused_and_nothing_is_written(tmp_path: Path, fault: str, given: bool) -> None:
    spoil, said = SPOILT[fault]
    path = write(tmp_path / "weights.hdf5", spoil(named(network())))
    module = ResNet34(width=2).build(task(1, 515))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(EcgbenchError, match=said):
        read_keras(path, module if given else None)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(("model", "time"), [(ResNet34(width=3), 515), (ResNet34(width=2), 1024)])
def test_a_module_of_another_size_is_refused(tmp_path: Path, model: ResNet34, time: int) -> None:
    path = write(tmp_path / "weights.hdf5", named(network()))
    with pytest.raises(EcgbenchError, match=r"expected a module of the file's width, leads, length and classes\.$"):
        read_keras(path, model.build(task(1, time)))


def test_a_module_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.hdf5", named(network()))
    with pytest.raises(EcgbenchError, match=r"a Linear was given .* expected a module of resnet34"):
        read_keras(path, Linear(2, 2))


def test_what_is_no_file_or_no_hdf5_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.hdf5"):
        with pytest.raises(EcgbenchError, match=r"^there is no file .*; expected weights as Keras"):
            read_keras(path)
    (tmp_path / "text.hdf5").write_text("no HDF5", encoding="utf-8")
    with pytest.raises(EcgbenchError, match=r"text.hdf5 is damaged or no HDF5; expected weights as Keras"):
        read_keras(tmp_path / "text.hdf5")


def test_a_weight_that_is_named_but_absent_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "weights.hdf5", named(network()))
    with h5py.File(path, "a") as file:
        del file["model_weights/conv1d_3/conv1d_3/kernel:0"]
    with pytest.raises(EcgbenchError, match="is damaged"):
        read_keras(path)


@pytest.mark.parametrize(
    "group", ["model_weights", "model_weights/conv1d_3", "model_weights/conv1d_3/conv1d_3/kernel:0"]
)
def test_a_group_where_weights_should_be_and_the_other_way_round_is_refused(tmp_path: Path, group: str) -> None:
    path = write(tmp_path / "weights.hdf5", named(network()))
    with h5py.File(path, "a") as file:
        of_weights = isinstance(file[group], h5py.Group)
        del file[group]
        file.create_dataset(group, data=1.0) if of_weights else file.create_group(group)
    with pytest.raises(EcgbenchError, match=r"is damaged|holds"):
        read_keras(path)


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(EcgbenchError, match=r"h5py is not installed; .*'ecgbench-robustness\[keras\]'"):
        read_keras(tmp_path / "weights.hdf5")
