"""Short names for a page: titles of plugins, and selectors in words where a title alone would not be unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from ecgbench.core.errors import StoreError, accessing
from ecgbench.registry.grammar import Selector, SelectorError, parse, spell

FILE = "titles.toml"
Kind = Literal["dataset", "model", "defense", "attack", "threat", "protocol"]


class Titles(Struct, frozen=True, forbid_unknown_fields=True):
    """Titles by selector, or by the name that a selector begins with; `words` stand for a parameter, as "mask=false".

    What a selector says beyond its name is spelled out only where others with the same name stand beside it, and then
    only what they do not have in common.
    """

    dataset: dict[str, str] = {}
    model: dict[str, str] = {}
    defense: dict[str, str] = {}
    attack: dict[str, str] = {}
    threat: dict[str, str] = {}
    protocol: dict[str, str] = {}
    words: dict[str, str] = {}

    def names(self, kind: Kind, selectors: Iterable[str]) -> dict[str, str]:
        """A unique name for each of `selectors`."""
        every = sorted(set(selectors))
        short = {one: self._short(kind, one, every) for one in every}
        often = Counter(short.values())
        return {one: name if often[name] == 1 else one for one, name in short.items()}

    def _short(self, kind: Kind, selector: str, every: Collection[str]) -> str:
        given: dict[str, str] = getattr(self, kind)
        if selector in given:
            return given[selector]
        own = _read(selector)
        if own is None:
            return selector
        alike = [other for text in every if (other := _read(text)) and other.name == own.name]
        common = set.intersection(*(set(_spelled(other)) for other in alike))
        told = [self.words.get(pair, pair.replace("=", " ", 1)) for pair in _spelled(own) if pair not in common]
        return ", ".join([given.get(own.name, own.name), *told])


def read_titles(leaderboard: Path) -> Titles:
    """The titles of a leaderboard, none where it has no file of them. Raises StoreError for a damaged file."""
    path = leaderboard / FILE
    if not path.is_file():
        return Titles()
    with accessing(path):
        content = path.read_bytes()
    try:
        return msgspec.toml.decode(content, type=Titles)
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise StoreError(f"{path.as_posix()} is no file of titles: {fault}.") from None


def _read(selector: str) -> Selector | None:
    """The selector, None for the name of something that has none (a model given in Python)."""
    try:
        return parse(selector)
    except SelectorError:
        return None


def _spelled(selector: Selector) -> list[str]:
    return [f"{name}={spell(value)}" for name, value in selector.params]


def listed(titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names and the selectors that they stand for, by name, where the two differ."""
    return sorted((name, selector) for selector, name in titles.items() if name != selector)
