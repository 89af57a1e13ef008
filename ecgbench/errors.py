"""What can go wrong, each as one sentence for the person who typed the command.

Every error carries the exit status of the process it ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class EcgbenchError(Exception):
    """Base of all errors that are shown without a traceback; exit status 2 (usage)."""

    exit_code = 2


class DataError(EcgbenchError):
    """A recording is missing, damaged or not what its dataset describes."""

    exit_code = 5


class ContractError(EcgbenchError):
    """A plugin broke a promise of its interface; the cell it ran in has failed."""

    exit_code = 3

    def __init__(self, who: object, expected: str, got: str) -> None:
        super().__init__(f"{who} broke its contract: expected {expected}, got {got}.")


class StoreError(EcgbenchError):
    """Something kept on disk is not what was written there."""

    exit_code = 1


class UnknownNameError(EcgbenchError):
    """No such name; says the nearest one that exists, or all of them."""

    def __init__(self, kind: str, given: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(given, names, n=1)
        if near:
            hint = f"did you mean {near[0]!r}?"
        elif names:
            hint = f"known: {', '.join(names)}."
        else:
            hint = "none is known."
        super().__init__(f"no {kind} is named {given!r}; {hint}")
