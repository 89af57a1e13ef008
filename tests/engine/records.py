"""Records of runs that are to be the same."""

from __future__ import annotations

from typing import Any

from tests.command_line import Answer

PATIENCE = 1800
"""Seconds: on a machine with much else to do, a fresh interpreter alone may take a minute."""


def figures(answer: Answer, of: str = "ok") -> dict[str, dict[str, Any]]:
    """Records by what they are of, but for their cost."""
    chosen = [record for record in answer.records if record["status"] == of]
    return {
        " ".join(str(record[kind]) for kind in ("model", "defense", "attack", "seed")): record | {"cost": None}
        for record in chosen
    }
