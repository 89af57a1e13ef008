"""The four hooks a plugin module may implement. Each returns ready values by name and takes no argument."""

from __future__ import annotations

from collections.abc import Mapping

import pluggy

from ecgbench.core.interfaces import Attack, Dataset, Defense, Model

PROJECT = "ecgbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def datasets() -> Mapping[str, Dataset]:  # type: ignore[empty-body]
    """Recordings by name. Called once when the catalog is built; all implementations are merged."""


@hookspec
def models() -> Mapping[str, Model]:  # type: ignore[empty-body]
    """Architectures by name. Called once when the catalog is built; all implementations are merged."""


@hookspec
def attacks() -> Mapping[str, Attack]:  # type: ignore[empty-body]
    """Attacks by name, presets included. Called once when the catalog is built; all are merged."""


@hookspec
def defenses() -> Mapping[str, Defense]:  # type: ignore[empty-body]
    """Defenses by name, presets included. Called once when the catalog is built; all are merged."""
