"""What can go wrong, each as one sentence for the person who typed the command.

Every error carries the exit status of the process it ends.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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
        self.who, self.expected, self.got = who, expected, got


class NotInstalledError(EcgbenchError):
    """A plugin is made for a library that is not installed; says how to install it."""

    def __init__(self, library: str, advice: str) -> None:
        super().__init__(f"{library} is not installed; {advice}.")


class StoreError(EcgbenchError):
    """Something kept on disk is not what was written there, or the machine lets nobody read or write it.

    It ends the run: no cell has failed.
    """

    exit_code = 1


_ROOM = "free some space, or keep results elsewhere (--store, $ECGBENCH_HOME)"
_RIGHTS = "expected a place that may be written (--store, $ECGBENCH_HOME)"
_NEXT_STEP = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOTDIR: "a file stands where a folder is needed: move it away",
    errno.EEXIST: "a file stands where a folder is needed: move it away",
    errno.EISDIR: "a folder stands where a file is needed: move it away",
}


def refused(path: object, fault: OSError, method: str = "written") -> StoreError:
    """What the machine does not allow, as the error that ends the run: which path, why, and the next step."""
    step = _NEXT_STEP.get(fault.errno or 0, "what was finished is kept, and the same command goes on from there")
    return StoreError(f"{fault.filename or path} cannot be {method} ({fault.strerror or fault}); {step}.")


@contextmanager
def accessing(path: object, method: str = "written") -> Iterator[None]:
    """Turns an OSError inside into the StoreError of `path`."""
    try:
        yield
    except OSError as fault:
        raise refused(path, fault, method) from fault


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
