"""A key is the digest of all that a result is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def key_of(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity's canonical JSON."""
    return hashlib.sha256(canonical_json(identity)).hexdigest()


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """Sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
