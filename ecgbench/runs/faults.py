"""Whose fault an exception is: the plugin's, named by selector, file and line, or the machine's, which ends the run."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any

import torch

from ecgbench.core.errors import ContractError, DataError, EcgbenchError, StoreError, refused
from ecgbench.core.interfaces import Dataset, Defense
from ecgbench.registry.catalog import Catalog
from ecgbench.registry.identity import nested
from ecgbench.registry.selector import INTERFACES
from ecgbench.registry.sources import HOST
from ecgbench.runs.cell import Cell

MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
"""What no plugin can help: whoever meets it, the run ends."""
LONGEST = 500  # characters of a reason
_NO_MEMORY = ("can't allocate memory", "not enough memory")

Place = tuple[FrameType, int]
"""A call that an exception went through, and the line it was at."""


@dataclass(frozen=True)
class Fault:
    """An exception that came out of a cell's work."""

    error: BaseException
    cell: Cell
    catalog: Catalog

    def ends_run(self) -> EcgbenchError | None:
        """The error to end the run with: recordings that cannot be used, or a machine that does not do its part.

        None where the cell alone has failed, and the others go on. Memory that a plugin asks for in vain, by itself
        or by what it calls, fails its cell; memory that the host asks for ends the run.
        """
        for error in _chain(self.error):
            if isinstance(error, StoreError) and _by_host(error):
                return error
            if isinstance(error, OSError) and error.errno in MACHINE:
                return refused("a file of this run", error)
        if isinstance(self.error, DataError):
            by = self._part()
            return self.error if by is None or isinstance(by, Dataset) else None
        if _no_memory(self.error) and not self._inside():
            return StoreError("this machine has not enough memory for the run; expected more of it, or fewer samples.")
        return None

    def reason(self) -> str:
        """One line for a record: what went wrong, in which plugin, file and line."""
        error, inside = self.error, self._inside()
        if isinstance(error, ContractError):
            return plain(ContractError(self._named(error.who), error.expected, error.got))
        if isinstance(error, EcgbenchError):
            return plain(error)
        frame, line = (inside or _places(error))[-1]
        part = self._part()
        whose = "ecgbench itself" if not inside else "" if part is None else self._named(part)
        where = f"{whose}, {Path(frame.f_code.co_filename).name} line {line}".removeprefix(", ")
        return f"{type(error).__name__} in {where}: {plain(error)}".removesuffix(": ")

    def _named(self, part: object) -> str:
        """A part of the cell as kind and selector; anything else as it is printed, beside the part at work."""
        if part not in _parts(self.cell):
            said = str(part)
            for one in sorted(_parts(self.cell), key=lambda one: -len(repr(one))):
                said = said.replace(repr(one), self._named(one))
            at_work = self._part()
            return said if said != str(part) or at_work is None else f"{self._named(at_work)} ({part})"
        kind = next(kind for kind, interface in INTERFACES.items() if isinstance(part, interface))
        return f"{kind} {self.catalog.words(part)}"

    def _inside(self) -> list[Place]:
        """The calls up to the innermost one in code of the cell's plugins; none where only the host ran."""
        plugins = {type(part).__module__.partition(".")[0] for part in _parts(self.cell)} - {HOST}
        places = _places(self.error)
        while places and _root(places[-1][0]) not in plugins:
            places.pop()
        return places

    def _part(self) -> Any:
        """The part of the cell that it happened in, None where that cannot be told."""
        inside, parts = self._inside(), _parts(self.cell)
        if not inside:
            return None
        last = inside[-1][0]
        for frame, _ in takewhile(lambda place: _root(place[0]) == _root(last), reversed(inside)):
            own = [part for part in parts if frame.f_locals.get("self") is part]
            if own:
                return own[0]
        same = [part for part in parts if type(part).__module__ == last.f_globals.get("__name__")]
        return same[0] if len(same) == 1 else None


def plain(error: object) -> str:
    """What an error says, on one line and of printable characters, cut where it is long."""
    try:
        said = str(error)
    except Exception:  # a plugin's own exception may fail at this, too
        said = "no reason can be read"
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in said).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def met_own_limit(error: BaseException) -> bool:
    """Whether it came of a limit that each process meets by itself: the files that it has open."""
    return any(isinstance(one, OSError) and one.errno == errno.EMFILE for one in _chain(error))


def _parts(cell: Cell) -> list[Any]:
    """All plugin values that a cell is made of."""
    found: list[Any] = []
    waiting: list[Any] = [cell.dataset, cell.model, cell.defense, cell.attack, cell.attack.surrogate]
    while waiting:
        value = waiting.pop(0)
        for part in nested(value):
            if isinstance(part, tuple(INTERFACES.values())):
                found.append(part)
                waiting += [part.base] if isinstance(part, Defense) else []
    return found


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, each once."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        yield following
        seen.append(following)
        following = following.__cause__ or following.__context__


def _places(error: BaseException) -> list[Place]:
    return list(walk_tb(error.__traceback__))


def _by_host(error: BaseException) -> bool:
    """Whether the host itself raised it: a plugin that raises a StoreError ends no run."""
    places = _places(error)
    return bool(places) and _root(places[-1][0]) == HOST


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _no_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
