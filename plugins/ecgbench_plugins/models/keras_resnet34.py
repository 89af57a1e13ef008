"""Weights that Keras saved of the CinC 2017 network, read into the module that `resnet34` builds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import BatchNorm1d, Conv1d, Linear, Module

from ecgbench import EcgbenchError
from ecgbench_plugins.models.resnet34 import BLOCKS, Network

Kind = Literal["conv1d", "batch_normalization", "dense"]
Layer = dict[str, Tensor]

LAYERS: dict[Kind, type[Module]] = {"conv1d": Conv1d, "batch_normalization": BatchNorm1d, "dense": Linear}
WEIGHTS: dict[Kind, dict[str, str]] = {
    "conv1d": {"kernel": "weight", "bias": "bias"},
    "batch_normalization": {
        **{"gamma": "weight", "beta": "bias"},
        **{"moving_mean": "running_mean", "moving_variance": "running_var"},
    },
    "dense": {"kernel": "weight", "bias": "bias"},
}
AXES: dict[Kind, int] = {"conv1d": 3, "dense": 2}
NAME = re.compile(r"(conv1d|batch_normalization|dense)(?:_(\d+))?")


def read_keras(path: str | Path, module: Module | None = None) -> Module:
    """The network of Andreotti et al. 2017 with the weights of a Keras file (.hdf5, .h5), in eval mode.

    `module` is what `ResNet34.build` gave, and is written into; left out, one is built for the width, leads,
    classes and length (in 256 samples) of the file. The file is a whole model or weights alone, of Keras 2 or 3
    in the HDF5 format. Logits are what Keras' softmax was given; the classes of the published file,
    `ResNet_30s_34lay_16conv.hdf5`, are A, N, O, ~ in this order.

    Layers are told by kind and number alone: Keras numbers them as they are made, the order of `Network`. Raises
    EcgbenchError where h5py is missing, the file cannot be read, or its layers and shapes are not the module's.
    """
    path = Path(path)
    found = _read(path)
    network = _built_for(path, found) if module is None else module
    if not isinstance(network, Network):
        raise EcgbenchError(f"a {type(network).__name__} was given to read {path} into; expected a module of resnet34.")
    places = {kind: [each for each in network.modules() if isinstance(each, of)] for kind, of in LAYERS.items()}
    _demand(path, found, {kind: len(each) for kind, each in places.items()})
    pairs = [
        (f"{kind} {number}, {name}", getattr(place, WEIGHTS[kind][name]), values)
        for kind in LAYERS
        for number, (place, layer) in enumerate(zip(places[kind], found[kind], strict=True), 1)
        for name, values in layer.items()
    ]
    for called, target, values in pairs:
        if target.shape != values.shape:
            raise EcgbenchError(
                f"{path} has shape {tuple(values.shape)} in {called} (as torch orders it), the module "
                f"{tuple(target.shape)}; expected a module of the file's width, leads, length and classes."
            )
    with torch.no_grad():
        for _, target, values in pairs:
            target.copy_(values)
    return network.eval()


def _built_for(path: Path, found: dict[Kind, list[Layer]]) -> Network:
    """A network of the shape of the first and the last layer; all others are compared with it later."""
    _demand(path, found, {"conv1d": 36, "batch_normalization": 33, "dense": 1})
    width, leads, _ = found["conv1d"][0]["kernel"].shape
    classes, inputs = found["dense"][0]["kernel"].shape
    steps = inputs // len(found["conv1d"][-1]["bias"])
    return Network(leads, steps << BLOCKS // 2, classes, width, dropout=0.5, precision="float32")


def _demand(path: Path, found: dict[Kind, list[Layer]], expected: dict[Kind, int]) -> None:
    counts = {kind: len(layers) for kind, layers in found.items()}
    if counts != expected:
        have, want = (", ".join(f"{n} {kind}" for kind, n in each.items()) for each in (counts, expected))
        raise EcgbenchError(f"{path} holds layers {have}; expected {want}, as the 34-layer network has.")


def _read(path: Path) -> dict[Kind, list[Layer]]:
    """The weights of every layer by their Keras names, in torch's order of axes; layers in order of creation."""
    try:
        import h5py
    except ImportError:
        raise EcgbenchError("h5py is not installed; `pip install 'ecgbench-robustness[keras]'`.") from None
    if not path.is_file():
        raise EcgbenchError(f"there is no file {path}; expected weights as Keras saves them (.hdf5, .h5).")
    try:
        with h5py.File(path, "r") as file:
            groups = file.get("model_weights", file)
            return {kind: [_layer(path, groups[name], kind) for name in _numbered(groups, kind)] for kind in LAYERS}
    except EcgbenchError:
        raise
    except Exception:  # a file of another layout leads h5py and numpy into any error
        raise EcgbenchError(f"{path} is damaged or no HDF5; expected weights as Keras saves them.") from None


def _numbered(names: Any, kind: Kind) -> list[str]:
    """Names of the layers of a kind, by number; the first has none in newer versions of Keras."""
    matches = [match for match in map(NAME.fullmatch, names) if match and match[1] == kind]
    return [match[0] for match in sorted(matches, key=lambda match: int(match[2] or 0))]


def _layer(path: Path, group: Any, kind: Kind) -> Layer:
    """One layer of a file; its weights are where the file says, and the last part of a place is the name."""
    places = [place.decode() if isinstance(place, bytes) else place for place in group.attrs.get("weight_names", ())]
    layer = {place.rpartition("/")[2].partition(":")[0]: torch.from_numpy(group[place][()]) for place in places}
    if layer.keys() != WEIGHTS[kind].keys():
        given = ", ".join(layer) or "nothing"
        raise EcgbenchError(f"{path} holds {given} in {group.name}; expected {', '.join(WEIGHTS[kind])}.")
    for name, values in layer.items():
        axes = AXES[kind] if name == "kernel" else 1
        if values.ndim != axes or not values.numel() or not bool(torch.isfinite(values).all()):
            raise EcgbenchError(
                f"{path} holds a {name} of shape {tuple(values.shape)} in {group.name}; expected {axes} axes and "
                "finite numbers."
            )
    return {name: values.permute(*reversed(range(values.ndim))) for name, values in layer.items()}
