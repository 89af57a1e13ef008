"""What the things of a board are called on its pages, and where their pages are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ecgbench.leaderboard.ranking import RankedVictim
from ecgbench.leaderboard.sections import Section
from ecgbench.leaderboard.titles import Titles
from ecgbench.results.published import slug
from ecgbench.results.record import Record
from ecgbench.storage.store import key_of

PAGES, RESULTS = "pages", "results"
Who = tuple[str, str]
"""Model and defense of a victim."""


def who(victim: RankedVictim | Record) -> Who:
    """Which victim it is, or a record is about, whatever its section."""
    return victim.model, victim.defense


@dataclass(frozen=True)
class Names:
    """The names on a board with these sections."""

    titles: Titles
    parts: tuple[Section, ...]

    @classmethod
    def of(cls, titles: Titles, parts: Iterable[Section]) -> Names:
        """The names of a board."""
        return cls(titles, tuple(parts))

    @cached_property
    def datasets(self) -> dict[str, str]:
        """Every dataset's name."""
        return self.titles.names("dataset", (part.dataset for part in self.parts))

    @cached_property
    def victims(self) -> dict[str, dict[Who, str]]:
        """By dataset the name of every victim; its model is named where the dataset has several."""
        return {dataset: self._victims(dataset) for dataset in self.datasets}

    @cached_property
    def attacks(self) -> dict[str, str]:
        """Every attack's name."""
        return self.titles.names("attack", (row.record.attack for part in self.parts for row in part.rows))

    @cached_property
    def threats(self) -> dict[str, str]:
        """Every threat's name."""
        return self.titles.names("threat", (part.threat for part in self.parts))

    @cached_property
    def protocols(self) -> dict[str, str]:
        """Every protocol's name."""
        return self.titles.names("protocol", (part.protocol for part in self.parts))

    def victim(self, section: Section, victim: RankedVictim) -> str:
        """The name of a victim of a section."""
        return self.victims[section.dataset][who(victim)]

    def section(self, section: Section) -> str:
        """What sets a section apart from the others of its dataset."""
        return ", ".join(name for name in (self.threats[section.threat], self.protocols[section.protocol]) if name)

    def style(self, section: Section, victim: RankedVictim) -> int:
        """The number of a victim's line in every figure of its dataset: those that are drawn together differ most."""
        return self.styles[section.dataset].index(who(victim))

    @cached_property
    def styles(self) -> dict[str, list[Who]]:
        """By dataset its victims, in the order of the section where most rank."""
        return {dataset: self._ordered(dataset) for dataset in self.datasets}

    def _ordered(self, dataset: str) -> list[Who]:
        parts = sorted(self.of_dataset(dataset), key=lambda part: -sum(victim.ranks for victim in part.victims))
        return list(dict.fromkeys(who(victim) for part in parts for victim in part.victims))

    def of_dataset(self, dataset: str) -> list[Section]:
        """The sections of a dataset."""
        return [part for part in self.parts if part.dataset == dataset]

    def _victims(self, dataset: str) -> dict[Who, str]:
        every = {(row.record.model, row.record.defense) for part in self.of_dataset(dataset) for row in part.rows}
        models = self.titles.names("model", (model for model, _ in every))
        found: dict[Who, str] = {}
        for model, name in models.items():
            own = self.titles.names("defense", (defense for of, defense in every if of == model))
            found |= {(model, defense): f"{name}, {one}" if len(models) > 1 else one for defense, one in own.items()}
        return found


def dataset_page(dataset: str) -> str:
    """Where the page of a dataset is."""
    return f"{PAGES}/{_file(dataset)}.md"


def victim_page(dataset: str, who: Who) -> str:
    """Where the page of a victim is."""
    return f"{PAGES}/{_file(dataset)}/{_file(*who)}.md"


def study_page(study: str) -> str:
    """Where the page of a study is."""
    return f"{PAGES}/study-{_file(study)}.md"


def anchor(title: str) -> str:
    """The anchor that Markdown gives a heading."""
    kept = "".join(sign for sign in title.lower() if sign.isalnum() or sign in " -_")
    return kept.replace(" ", "-")


def _file(*words: str) -> str:
    """A readable name; with a digest where it is not the words themselves."""
    text = slug("-".join(words))
    return text if text == "-".join(words) else f"{text[:60]}-{key_of({'words': words})[:8]}"
