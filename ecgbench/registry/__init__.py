"""Names become plugin values, and values get an identity."""

from __future__ import annotations

from ecgbench.registry.catalog import HOST, LOCAL, Catalog, discover
from ecgbench.registry.identity import Identity, alike, code_digests, differences, nested
from ecgbench.registry.loading import HOOKS
from ecgbench.registry.selector import INTERFACES
from ecgbench.registry.sources import closure

__all__ = [
    "HOOKS",
    "HOST",
    "INTERFACES",
    "LOCAL",
    "Catalog",
    "Identity",
    "alike",
    "closure",
    "code_digests",
    "differences",
    "discover",
    "nested",
]
