"""What can go wrong, each as one sentence for the person who typed the command.

Every error carries the exit status of the process it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


class NotInstalledError(EcgbenchError):
    """A plugin is made for a library that is not installed; says how to install it."""

    def __init__(self, library: str, advice: str) -> None:
        super().__init__(f"{library} is not installed; {advice}.")


class StoreError(EcgbenchError):
    """Something kept on disk is not what was written there."""

    exit_code = 1


class UnknownNameError(EcgbenchError):
    """No such name; says the one that was meant, or those that there are."""

    def __init__(self, kind: str, given: str, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(f"no {kind} is named {given!r}; {instead(given, names) if names else 'none is known.'}")


def instead(given: str, known: Iterable[str]) -> str:
    """What to write instead of `given`: the name that was meant, else all names that there are.

    Of names such as "library.name" those of the given library alone, or of another one none but the library.
    """
    names = sorted(known)
    library = given.partition(".")[0].lower() + "."
    kin = [name for name in names if name.lower().startswith(library)]
    near = _nearest(given, kin or names, start=len(library) if kin else 0)
    if near is not None:
        return f"did you mean {near!r}?"
    parts = (name.partition(".") for name in names)
    shown = kin or dict.fromkeys(f"{head}.*" if rest else head for head, _, rest in parts)
    return f"known: {', '.join(shown)}."


def _nearest(given: str, names: Sequence[str], start: int) -> str | None:
    """Of names compared from place `start` on, in any case: the shortest that begins so, or one spelt nearly so."""
    spelt = {name[start:].lower(): name for name in reversed(names)}
    word = given[start:].lower()
    begun = sorted((each for each in spelt if word and each.startswith(word)), key=len)
    near = begun or get_close_matches(word, spelt, n=1)
    return spelt[near[0]] if near else None
